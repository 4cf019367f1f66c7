"""Figures, as images: whatever changes what they look like must be meant.

To make the references anew: ``pytest tests/test_images.py -o
mpl-baseline-path= --mpl-generate-path=tests/baseline``.
"""

import matplotlib.testing.compare  # noqa: F401 (starts programs when first imported, not in a test)
import pytest

from crdetect import Noise, Parameters, Stack, detect
from crdetect.plots import (
    Sheet,
    crmask,
    feature_figures,
    flux_factor,
    histogram2d,
    mediancr,
    number_at_median,
)
from crdetect.simulate import simulate_exposures

# Small and without texts: the references are small, and fonts are drawn alike by few versions of
# FreeType. A line that is missing differs by more than this.
alike = pytest.mark.mpl_image_compare(
    tolerance=5, remove_text=True, savefig_kwargs={"dpi": 36, "metadata": {"Software": None}}
)


@pytest.fixture(scope="module")
def sheet():
    simulation = simulate_exposures((120, 160), flux=(0.8, 1.0, 1.2), seed=4, double_hits=10)
    stack = Stack(simulation.exposures_adu)
    values = {"mm_seed": 1, "mm_nsimulations": 3, "mm_niter_boundary_extension": 2, "dilation": 1}
    values |= {"mm_fixed_points_in_boundary": [[300, 250]], "flux_factor": "auto"}
    found = detect(stack, Noise(1.0, 3.4), Parameters.from_mapping(values))
    return Sheet.of(found, found.combine(stack, Noise(1.0, 3.4)))


@alike
def test_histogram2d(sheet):
    return histogram2d(sheet.detection)


@alike
def test_mediancr(sheet):
    return mediancr(sheet.detection)


@alike
def test_crmask(sheet):
    return crmask(sheet.detection, 2)


@alike
def test_flux_factor(sheet):
    return flux_factor(sheet.detection.flux, 1)


@alike
def test_number_at_median(sheet):
    return number_at_median(sheet.detection.flux)


def largest(sheet):
    return max(sheet.detection.features, key=lambda feature: feature.x.size)


@alike
def test_page_of_images(sheet):
    return feature_figures(sheet, largest(sheet))[0]


@alike
def test_page_of_the_diagram(sheet):
    return feature_figures(sheet, largest(sheet))[1]
