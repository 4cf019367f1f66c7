"""What the detectors do that look for sharp edges, and networks do not.

To these a single bright pixel is a hot one, or a star: so they learnt.
"""

import numpy as np
import pytest

from crdetect import Noise, Parameters
from crdetect.detectors import REGISTRY, make_detector
from crdetect.detectors.networks import NetworkDetector

SHAPE = (64, 72)
NOISE = Noise(1.0, 3.0)


@pytest.fixture(scope="module")
def smooth():
    """A broad slope with photon and read noise."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return NOISE.draw_adu(200.0 + 2.0 * x + y, np.random.default_rng(3))


@pytest.mark.parametrize(
    "name", [name for name, kind in REGISTRY.items() if not issubclass(kind, NetworkDetector)]
)
@pytest.mark.parametrize("place", [(32, 36), (10, 60), (0, 30), (63, 30), (30, 0), (30, 71)])
def test_isolated_spike_is_found_and_removed(name, smooth, place):
    image = smooth.copy()
    image[place] += 20000.0
    result = make_detector(Parameters.from_mapping({"crmethod": name})).detect(image, NOISE)
    assert result.mask[place]
    assert result.mask.sum() < 20
    assert abs(result.image_adu[place] - smooth[place]) < 200.0
