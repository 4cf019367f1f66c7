"""Keys in the figure of MEDIANCR."""

import re

import numpy as np
import pytest
from person import NOISE, check, mouse, panel_of, press

import crdetect
from crdetect.errors import Stopped
from crdetect.interactive.diagnostic import look_at


@pytest.fixture(scope="module")
def detection(prepared):
    parameters = crdetect.Parameters()
    return prepared.flag(prepared.compare(parameters), parameters)


@pytest.fixture
def look(hands, detection, stack):
    """Look at the detection, do these things, and continue."""

    def look(*steps):
        hands.will(*steps, press("c"))
        assert look_at(detection, stack) == "continue"

    return look


def zoom(x, y, to_x, to_y, panel="(c)"):
    moves = (("press", x, y), ("move", to_x, to_y), ("release", to_x, to_y))
    return [press("o"), *(mouse(*move, panel=panel) for move in moves), press("o")]


def drawn(figure, panel):
    return panel_of(figure, panel).images[0]


def test_zoom_is_linked_between_panels(look):
    def zoomed(figure):
        for panel in ("(c)", "(d)"):
            assert panel_of(figure, panel).get_xlim() == pytest.approx((20, 60), abs=1)

    def planes(figure):
        a, b = (panel_of(figure, panel) for panel in ("(a)", "(b)"))
        assert a.get_xlim() == b.get_xlim() == pytest.approx((0, 300), abs=15)
        assert a.get_ylim() == b.get_ylim() == pytest.approx((5, 50), abs=3)

    def home(figure):
        assert panel_of(figure, "(d)").get_xlim() == pytest.approx((0.5, 128.5))

    look(
        *zoom(20, 20, 60, 50), check(zoomed), *zoom(0, 5, 300, 50, "(b)"), check(planes),
        press("h"), check(home), *zoom(20, 20, 60, 50), press("r"), check(home),
    )  # fmt: skip


def test_keys_stand_at_the_foot(look):
    feet = []
    look(check(lambda figure: feet.extend(part.get_supxlabel() for part in figure.subfigs)))
    assert any("[i] info" in foot and "[?] help" in foot for foot in feet)


def test_pixel_info_on_an_image(look, detection, stack, capsys):
    look(press("i", "(d)", 31.3, 45.8))
    text = capsys.readouterr().out
    assert "pixel x 31, y 46: " in text
    for name, image in {
        "median2d": detection.statistics.median2d,
        "exposure 2": stack.exposures[1],
    }.items():
        assert f"{name} {image[45, 30]:.5g}" in text


def test_pixel_info_in_the_diagram_is_of_the_nearest_flagged_pixel(look, detection, capsys):
    features, statistics = detection.features, detection.statistics
    height = statistics.median2d - statistics.min2d
    y, x = np.unravel_index(np.argmax(np.where(detection.codes > 0, height, 0)), height.shape)

    def marked(figure):
        for panel in ("(a)", "(b)", "(c)", "(d)"):
            ring = panel_of(figure, panel).lines[-1]
            assert ring.get_markersize() == 14
        assert ring.get_xydata().tolist() == [[x + 1, y + 1]]

    look(press("i", "(a)", statistics.min2d[y, x], height[y, x]), check(marked), press("i"))
    text = capsys.readouterr().out
    number = features.label[(features.y == y) & (features.x == x)][0]
    code, meanings = detection.codes[y, x], detection.code_meanings
    assert (
        f"pixel x {x + 1}, y {y + 1}: flagged in MEDIANCR, {meanings[code]} (code {code}); "
        f"feature {number}, with pixels found by both methods (any4)\n"
    ) in text
    assert "there is no pixel under the mouse" in text


def test_list_of_the_flagged_pixels_in_the_zoom(look, detection, capsys):
    look(press("&"), *zoom(1, 1, 64, 48), press("&"))
    text = capsys.readouterr().out
    everywhere, inside = re.findall(r"flagged pixels in the zoom: (\d+)", text)
    features = detection.features
    assert int(everywhere) == features.label.size
    assert "values of the mask: added by dilation or by the user (code 1), PyCosmic only" in text
    in_zoom = (features.x + 1 < 64) & (features.y + 1 < 48)
    assert 0 < int(inside) == np.count_nonzero(in_zoom)
    rows = [line.split()[:4] for line in text.splitlines() if re.fullmatch(r" +\d+ .*", line)]
    expected = np.column_stack([features.label, features.x + 1, features.y + 1, features.code])
    np.testing.assert_array_equal(np.array(rows[: len(expected)], int), expected)
    np.testing.assert_array_equal(np.array(rows[len(expected) :], int), expected[in_zoom])


def test_numbers_come_and_go(look, detection):
    total = sum(detection.features.counts().values())

    def count(wanted):
        def look_for(figure):
            numbers = [text.get_text() for text in panel_of(figure, "(c)").texts]
            assert numbers == [str(i) for i in range(1, wanted + 1)]

        return check(look_for)

    look(count(0), press("n"), count(total), press("n"), count(0))


def test_images_are_switched(look, detection, stack):
    def shows(panel, name, image):
        def look_for(figure):
            assert panel_of(figure, panel).get_title() == f"{panel} {name}"
            np.testing.assert_array_equal(drawn(figure, panel).get_array(), image)

        return check(look_for)

    statistics = detection.statistics
    look(
        shows("(c)", "median2d", statistics.median2d), shows("(d)", "mean2d", statistics.mean2d),
        press("2"), shows("(d)", "exposure 2", stack.exposures[1]),
        press("0"), shows("(d)", "mean2d", statistics.mean2d),
        press("t"), shows("(d)", "min2d", statistics.min2d),
        press("3", "(c)", 5, 5), shows("(c)", "exposure 3", stack.exposures[2]),
        press("t", "(c)", 5, 5), shows("(c)", "AUXCLEAN", detection.auxclean),
        press("9"), shows("(d)", "min2d", statistics.min2d),
    )  # fmt: skip


def test_grey_levels_of_the_zoom(look, detection):
    median = detection.statistics.median2d
    seen = []

    def limits(figure):
        seen.append(drawn(figure, "(c)").get_clim())

    look(check(limits), press(","), check(limits), *zoom(20, 20, 60, 50), press(","),
         check(limits), press("/"), check(limits))  # fmt: skip
    assert seen[1] == pytest.approx((median.min(), median.max()))
    part = median[17:53, 17:63]
    assert part.min() <= seen[2][0] < seen[2][1] <= part.max()
    assert seen[3] != seen[2]


def test_aspect_turns(look):
    seen = []
    look(*[check(lambda f: seen.append(panel_of(f, "(d)").get_aspect())), press("a")] * 3)
    assert seen[0] == seen[2] == 1.0
    assert seen[1] == "auto"


def test_back_and_stop(hands, detection, stack):
    hands.will(press("b"))
    assert look_at(detection, stack) == "back"
    hands.will(press("x"))
    with pytest.raises(Stopped):
        look_at(detection, stack)


def test_without_a_diagram_there_is_no_way_back(hands, stack):
    alone = crdetect.detect(
        stack, NOISE, crdetect.Parameters.from_mapping({"crmethod": "lacosmic"})
    )
    hands.will(press("b"), press("i", "(c)", 3, 3), press("c"))
    assert look_at(alone, stack) == "continue"
