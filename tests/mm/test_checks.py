"""Checks of the boundary: clean pixels above it, and its height."""

from types import SimpleNamespace

import numpy as np
import pytest

from crdetect import Parameters
from crdetect.mm.checks import boundary_checks, number_above
from crdetect.mm.diagram import BINS, Diagram, Limits
from crdetect.verdict import Verdict


def level(height):
    """Make a boundary of constant height."""
    return lambda x: np.full(np.shape(x), float(height))


def diagram_of(height, points=((50.0, 10.0),), counts=None, expected_above=None):
    """Make a diagram of 100 × 100 ADU with a constant boundary: bins have sides of 1 ADU."""
    counts = np.zeros((BINS, BINS)) if counts is None else counts
    boundary = level(height)
    boundary.curve = level(height)
    x, y = np.transpose(points)
    boundary.points = SimpleNamespace(x=x, y=y)
    return SimpleNamespace(
        clean=Diagram(Limits(0.0, 100.0, 100.0), counts, 10),
        criterion=SimpleNamespace(boundary=boundary),
        expected_above=expected_above,
    )


def test_simulated_pixels_above_the_boundary_are_counted():
    counts = np.zeros((BINS, BINS))
    counts[19, 5], counts[20, 5], counts[40, 70] = 7.0, 2.0, 0.5  # rows are y
    assert number_above(diagram_of(20.0, counts=counts)) == 2.5
    assert number_above(diagram_of(19.0, counts=counts)) == 9.5
    assert number_above(diagram_of(90.0, counts=counts)) == 0


def test_a_computed_number_goes_before_the_simulated_one():
    counts = np.full((BINS, BINS), 3.0)
    assert number_above(diagram_of(20.0, counts=counts, expected_above=1.25)) == 1.25


@pytest.mark.parametrize(
    ("above", "verdict"), [(19.0, Verdict.GOOD), (21.0, Verdict.PARTIAL), (201.0, Verdict.BAD)]
)
def test_limits_are_multiples_of_what_was_asked_for(above, verdict):
    mm = Parameters.from_mapping({"mm_nsimulations": 10}).mm  # 100 columns / 10 sets: 10 pixels
    check, _ = boundary_checks(diagram_of(20.0, expected_above=above), mm)
    assert check.verdict is verdict
    assert check.accepted == "good up to 20, bad above 200"


@pytest.mark.parametrize(
    ("height", "verdict"), [(10.0, Verdict.GOOD), (30.0, Verdict.PARTIAL), (41.0, Verdict.BAD)]
)
def test_height_is_relative_to_the_points(height, verdict):
    _, check = boundary_checks(diagram_of(height, expected_above=0.0), Parameters().mm)
    assert check.value == pytest.approx(height / 10)
    assert check.verdict is verdict


def test_points_at_zero_have_no_relative_height():
    checks = boundary_checks(diagram_of(5.0, ((50.0, 0.0),), expected_above=0.0), Parameters().mm)
    assert len(list(checks)) == 1
