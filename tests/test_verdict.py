"""Verdicts of checks: limits in numbers and in words, and what people read."""

import re

import pytest

from crdetect.verdict import AtMost, Check, NearOne, Quality, Verdict, WithinFactor


def numbers_in(text):
    return [float(number) for number in re.findall(r"[\d.]+(?:e-?\d+)?", text)]


@pytest.mark.parametrize(("good", "bad"), [(0.01, 0.1), (5e-4, 0.01), (2, 4), (24, 240)])
def test_a_small_value_is_judged_by_the_limits_in_the_text(good, bad):
    limits = AtMost(good, bad)
    assert numbers_in(str(limits)) == [good, bad]
    for value, verdict in (
        (good, Verdict.GOOD),
        (1.01 * good, Verdict.PARTIAL),
        (bad, Verdict.PARTIAL),
        (1.01 * bad, Verdict.BAD),
    ):
        assert limits.verdict(value) is verdict


def test_a_ratio_near_one_is_judged_by_the_per_cent_in_the_text():
    limits = NearOne(0.03, 0.1)
    assert str(limits) == "good within 3 % of 1, bad beyond 10 %"
    for value, verdict in (
        (1.0, Verdict.GOOD),
        (1.029, Verdict.GOOD),
        (0.971, Verdict.GOOD),
        (1.031, Verdict.PARTIAL),
        (0.901, Verdict.PARTIAL),
        (1.101, Verdict.BAD),
        (0.899, Verdict.BAD),
    ):
        assert limits.verdict(value) is verdict


@pytest.mark.parametrize(("good", "bad"), [(1.4, 2.5), (1.25, 2.0)])
def test_a_ratio_is_judged_by_the_factors_in_the_text(good, bad):
    limits = WithinFactor(good, bad)
    low, high, too_low, too_high = numbers_in(str(limits))
    assert (high, too_high) == (good, bad)
    assert (low, too_low) == pytest.approx((1 / good, 1 / bad), abs=0.005)
    for value, verdict in (
        (1.0, Verdict.GOOD),
        (0.99 * good, Verdict.GOOD),
        (1.01 / good, Verdict.GOOD),
        (1.01 * good, Verdict.PARTIAL),
        (0.99 / good, Verdict.PARTIAL),
        (1.01 * bad, Verdict.BAD),
        (0.99 / bad, Verdict.BAD),
        (0.0, Verdict.BAD),
    ):
        assert limits.verdict(value) is verdict


def test_a_check_is_not_worse_than_its_worst_verdict():
    limits = AtMost(1, 2)
    check = Check.of("width", 5.0, limits, "make it narrower", Verdict.PARTIAL)
    assert check.verdict is Verdict.PARTIAL
    assert str(check) == "PARTIAL: width is 5; good up to 1, bad above 2"
    assert Check.of("width", 5.0, limits, "make it narrower").verdict is Verdict.BAD
    assert Check.of("width", 0.5, limits, "make it narrower").verdict is Verdict.GOOD


def test_the_worst_check_decides_and_comes_first():
    checks = [
        Check(name, value, "good at 0", verdict, f"mend {name}")
        for name, value, verdict in (
            ("a", 0.0, Verdict.GOOD),
            ("b", 1.0, Verdict.PARTIAL),
            ("c", 2.23456, Verdict.BAD),
        )
    ]
    judged = Quality(tuple(checks))
    assert judged.verdict is Verdict.BAD
    assert judged.reasons == [
        "BAD: c is 2.23; good at 0. mend c",
        "PARTIAL: b is 1; good at 0. mend b",
    ]
    plain = judged.to_mapping()
    assert (plain["verdict"], plain["reasons"]) == ("BAD", judged.reasons)
    assert plain["checks"][2] == {
        "name": "c", "value": 2.235, "accepted": "good at 0", "verdict": "BAD", "advice": "mend c"
    }  # fmt: skip
    assert Quality().verdict is Verdict.GOOD
