"""Runs made of results that tests make up, and what they write."""

import io

import numpy as np
from astropy.io import fits

from crdetect import Detection, Masks, Noise, Parameters, Stack
from crdetect.detectors.each_image import DetectorHits
from crdetect.equivalence.flux import FluxFactors, divided
from crdetect.equivalence.observation import Observation
from crdetect.exposures import Exposures
from crdetect.identity import Identity
from crdetect.masks import Hits, ImageHits
from crdetect.run import DetectionRun

SHAPE = (6, 8)
CODES = np.array(
    [
        [4, 3, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 3, 3, 0, 0],
        [0, 0, 0, 0, 0, 1, 0, 0],
        [0, 2, 0, 0, 0, 0, 0, 0],
        [0, 2, 1, 0, 0, 0, 2, 0],
        [0, 0, 0, 0, 0, 0, 3, 1],
    ],
    np.uint8,
)


NOISE = Noise(1.0, 5.0)


def make_stack(n=3):
    return Stack(np.random.default_rng(n).normal(100, 5, (n, *SHAPE)).astype(np.float32))


def make_detection(parameters=None, n=3, factors=None, noise=NOISE):
    """What a run may give, without a run; divided by the factors where parameters ask for it."""
    parameters = parameters or Parameters()
    rng = np.random.default_rng(5)
    crmasks = rng.random((n, *SHAPE)) < 0.2
    meancr = rng.random(SHAPE) < 0.1
    masks = Masks(CODES > 0, crmasks.any(axis=0) | (CODES > 0), crmasks, meancr)
    given, flux = make_stack(n), FluxFactors(factors or (1.0,) * n)
    is_divided = parameters.general.divides_by_flux
    stack = divided(given, flux.factors) if is_divided else given
    noises = tuple(noise.divided(factor) for factor in flux.factors) if is_divided else (noise,) * n
    statistics = stack.statistics(parameters.general.mm_cr_coincidences)
    factors = (1.0,) * n if is_divided else flux.factors
    auxclean = statistics.median2d - 1
    nothing = np.zeros(SHAPE, bool)
    hits = Hits(nothing, nothing)
    return Detection(
        parameters,
        Observation(given, noise, flux, stack, statistics, noises, factors),
        DetectorHits(nothing, nothing, [nothing] * n, auxclean, [None] * n),
        None,
        masks,
        CODES,
        ImageHits(hits, hits, (hits,) * n),
        auxclean,
    )


def rich_header():
    """Make a header with cards of every kind."""
    header = fits.Header()
    header["OBJECT"] = "NGC 1"
    header["INSTRUME"] = "MEGARA"
    header["DATE-OBS"] = "2026-01-02T03:04:05"
    header["CTYPE1"], header["CRVAL1"], header["CDELT1"] = "WAVE", 5000.0, 0.25
    header["HIERARCH ESO DET GAIN"] = 1.5
    header["LONG"] = "x" * 200
    header.add_history("flat fielded")
    header.add_comment("a comment")
    return header


def through_a_file(hdul):
    """Write a FITS file into memory, and open it again."""
    content = io.BytesIO()
    hdul.writeto(content)
    content.seek(0)
    return fits.open(content)


def silent(_step):
    """Progress that nobody follows."""


def run_of(detection, header=None, progress=silent, **more):
    """Make a run of a detection, with one header for all exposures."""
    observation = detection.observation
    n = len(observation.given)
    identities = tuple(Identity(f"exposure_{i + 1}.fits", "", "", f"{i:032x}") for i in range(n))
    headers = (fits.Header() if header is None else header,) * n
    values = {
        "exposures": Exposures(observation.given, observation.noise, headers, identities),
        "masks": detection.masks,
        "uuid": "00000000-0000-4000-8000-000000000000",
        "combined": detection.combine(),
        "quality": detection.quality,
        "history": ("crdetect 1.0",),
        "progress": progress,
        "detection": detection,
        "preamble": "# a comment\n",
    }
    return DetectionRun(**values | more)


def write(detection, folder, *shelves, progress=silent):
    """Write the products of some shelves; return their paths."""
    return run_of(detection, progress=progress).write(folder, set(shelves))
