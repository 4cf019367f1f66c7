import pytest

from crdetect.interactive.keys import DIAGNOSTIC, HISTOGRAM, VERIFY, WINDOWS, action_of, help_lines

ASKED_FOR = {
    "histogram": "f r c x ?",
    "diagnostic": "i & n a t 0 1 2 3 4 5 6 7 8 9 , / h r p o s c x",
    "verify": "? x",
}


@pytest.mark.parametrize("name", WINDOWS)
def test_no_key_does_two_things(name):
    keys = [key for item in WINDOWS[name] for key in item.names]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", WINDOWS)
def test_keys_that_people_know_are_there(name):
    for key in ASKED_FOR[name].split():
        assert action_of(WINDOWS[name], key), key


def test_what_no_window_knows_does_nothing():
    assert action_of(HISTOGRAM, "q") is None
    assert action_of(HISTOGRAM, None) is None


@pytest.mark.parametrize("keys", [HISTOGRAM, DIAGNOSTIC, VERIFY])
def test_help_tells_all(keys):
    lines = help_lines(keys)
    assert len(lines) == len(keys)
    for line, key in zip(lines, keys, strict=True):
        assert key.text in line
        assert line.split()
