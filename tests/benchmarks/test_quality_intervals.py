"""Intervals of benchmarks/quality: known values, and coverage."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchmarks.quality.intervals import bootstrap, garwood, interval, wilson
from benchmarks.quality.metrics import Score

EMPTY = Score(*[0.0] * 15)


def scores(**columns):
    rows = zip(*columns.values(), strict=True)
    return [
        replace(EMPTY, px=1e6, exposure_px=3e6, **dict(zip(columns, row, strict=True)))
        for row in rows
    ]


@pytest.mark.parametrize(("found", "among"), [(0, 10), (10, 10), (340, 350), (3, 7)])
def test_wilson(found, among):
    expected = stats.binomtest(found, among).proportion_ci(method="wilson")
    assert wilson(found, among) == pytest.approx(tuple(expected), abs=1e-9)


def test_garwood():
    assert garwood(0) == (0, pytest.approx(-math.log(0.025)))
    low, high = garwood(7)
    assert stats.poisson.sf(6, low) == pytest.approx(0.025)
    assert stats.poisson.cdf(7, high) == pytest.approx(0.025)


def test_without_a_false_pixel_the_upper_limit_is_not_zero():
    low, high = interval(scores(false_px=[0.0] * 10), "false_px")
    assert low == 0
    assert high == pytest.approx(-math.log(0.025) / 10)


def test_seeds_that_differ_widen_the_interval():
    same = scores(double_px=[100.0] * 10, double_found=[90.0] * 10)
    different = scores(double_px=[100.0] * 10, double_found=[80.0, 100.0] * 5)
    assert interval(same, "double") == pytest.approx(wilson(900, 1000))
    low, high = interval(different, "double")
    assert low < wilson(900, 1000)[0]
    assert high > wilson(900, 1000)[1]


def test_bootstrap_covers_the_truth():
    rng = np.random.default_rng(5)
    covered = []
    for _ in range(60):
        bias = rng.normal(0.5, 0.2, 12)
        low, high = bootstrap(scores(once_px=[1.0] * 12, bias_sum=bias), "bias_e")
        covered.append(low < 0.5 < high)
    assert np.mean(covered) > 0.8  # 0.95 for many seeds; with 12 resampling is a little short


def test_nothing_is_known_from_too_little():
    assert all(map(math.isnan, interval(scores(once_px=[1.0], bias_sum=[2.0]), "bias_e")))
    assert all(map(math.isnan, wilson(0, 0)))
