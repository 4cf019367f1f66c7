"""What the detectors that are neural networks share.

The networks and their weights are those of the packages deepCR and cosmic-conn (extra ``deep``).
Here stand how they are found, loaded once, and kept; what these packages do that a library should
not; threads and GPU; and how a map of probabilities becomes a mask and a cleaned image.

No result depends on threads or tiles. On a GPU rounding differs, by about 1e-6 of a probability.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import sys
import threading
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from crdetect.detectors.base import Cleaned, Detector
from crdetect.errors import InputError
from crdetect.fill import median_around
from crdetect.noise import Noise
from crdetect.resources import Map, Resources

if TYPE_CHECKING:
    import torch

_logger = logging.getLogger(__name__)

_one_image_at_a_time = threading.Lock()  # memory stays bounded


class NetworkDetector(Detector):
    """A detector that gives each pixel a probability; one above the threshold is a cosmic ray.

    Electrons go in, whatever the gain, and the bias is removed before.
    """

    divides_images = True
    packages: ClassVar[tuple[str, ...]]
    fill_half_px: ClassVar[int]

    def check(self, shape: tuple[int, int]) -> None:
        """Raise InputError also where the packages or the GPU asked for are missing."""
        missing = [name for name in ("torch", *self.packages) if find_spec(name) is None]
        if missing:
            raise InputError(
                f"{self.parameters.title} is not installed (no {', '.join(missing)}): it comes "
                'with the extra deep, pip install "crdetect[deep]"'
            )
        if self.resources.device == "cuda":
            pick_device("cuda")
        super().check(shape)

    @abstractmethod
    def probability(self, image_e: np.ndarray) -> np.ndarray:
        """Map the probability that a cosmic ray hit.

        Parameters
        ----------
        image_e : (rows, columns) array of float32
            Electrons, bias removed.

        Returns
        -------
        (rows, columns) array of float32
        """

    @property
    def threshold(self) -> float:
        """The probability above which a pixel is flagged."""
        return getattr(self.parameters, self.limits[0])

    def detect(self, image_adu: np.ndarray, noise: Noise) -> Cleaned:
        """Find and clean the cosmic rays of one image; see `Detector.detect`."""
        return self.detect_in_runs([self], image_adu, noise)[0]

    @classmethod
    def detect_in_runs(
        cls, runs: Sequence[Self], image_adu: np.ndarray, noise: Noise
    ) -> list[Cleaned]:
        """Apply each threshold to the same probabilities: the network works once."""
        gain = np.float32(noise.gain)
        image_e = image_adu * gain
        probability = runs[0].probability(image_e)
        masks = [probability > run.threshold for run in runs]
        return [
            Cleaned(mask, np.where(mask, fill(image_e, mask, cls.fill_half_px) / gain, image_adu))
            for mask in masks
        ]


def fill(image: np.ndarray, mask: np.ndarray, half: int) -> np.ndarray:
    """Replace masked pixels by the median of the others around, or of the image in wide gaps.

    Parameters
    ----------
    image : (rows, columns) array of float32
        The image; not changed.
    mask : (rows, columns) array of bool
        True where a pixel is to be replaced.
    half : int
        The window is ``2 * half + 1`` pixels on each side.
    """
    y, x = np.nonzero(mask)
    median = median_around(np.where(mask, np.float32(np.nan), image), y, x, half, half)
    filled = image.copy()
    filled[y, x] = np.where(np.isnan(median), np.median(image), median)
    return filled


# ---------------------------------------------------------------------------------------------
# Threads and GPU


def pick_device(device: str) -> str:
    """Return ``cpu`` or ``cuda``, whichever is meant and there.

    Raises
    ------
    InputError
        If ``cuda`` is asked for and torch sees no GPU.
    """
    if device == "cpu":
        return device
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise InputError("device: cuda, but torch sees no GPU here; accepted: auto or cpu")
    return "cpu"


@contextlib.contextmanager
def inference(resources: Resources) -> Iterator[Map]:
    """Give what runs pieces of one image through a network, and keep other images waiting.

    Each thread works on a piece of its own, without gradients. torch's own threads split every
    operation and wait for each other after it: on processors that are shared this took ten times
    as long. Their number is a setting of the process; it is 1 meanwhile.
    """
    import torch

    on_gpu = pick_device(resources.device) == "cuda"

    def in_threads(function: Callable, items: Iterable) -> list:
        return mapped(torch.inference_mode()(function), items)

    with (
        _one_image_at_a_time,
        _torch_threads(1),
        # full float32: with TF32, the default of a GPU, masks would differ
        torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False),
        resources.pool(1 if on_gpu else None) as mapped,
    ):
        yield in_threads


@contextlib.contextmanager
def _torch_threads(number: int) -> Iterator[None]:
    """Set the number of torch's own threads, and set it back at the end."""
    import torch

    # a new thread has the setting of the process; this one may be limited beyond it
    with ThreadPoolExecutor(1) as pool:
        before = pool.submit(torch.get_num_threads).result()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------------------------------------
# The packages


@functools.cache
def load(loader: Callable[[str], torch.nn.Module], name: str, device: str) -> torch.nn.Module:
    """Load a network with its weights, once for the life of the process.

    Parameters
    ----------
    loader : callable
        Makes the network from its name.
    name : str
        Name of the network.
    device : str
        ``cpu`` or ``cuda``.
    """
    import torch

    with _as_a_guest():
        network = loader(name)
    network.eval().requires_grad_(requires_grad=False)
    # with the channels of a pixel side by side convolutions take half the time
    return network.to(device, memory_format=torch.channels_last)


@contextlib.contextmanager
def _as_a_guest() -> Iterator[None]:
    """Undo what the packages do to their surroundings when they are imported or load a network.

    - deepCR builds WFC3-UVIS with a normalisation that torch calls deprecated.
    - cosmic-conn makes the root logger write to the terminal, and lets cuDNN choose convolutions
      by how fast they happen to be, so that results differ from run to run.
    - Either may print: that goes to the log.

    `tests/detectors/test_networks.py` tells when a package does it no more.
    """
    import torch

    root, cudnn = logging.getLogger(), torch.backends.cudnn
    handlers, level, benchmark = root.handlers[:], root.level, cudnn.benchmark
    chatter = io.StringIO()
    try:
        with contextlib.redirect_stdout(chatter), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*weight_norm.*", category=FutureWarning)
            yield
    finally:
        root.handlers[:], cudnn.benchmark = handlers, benchmark
        root.setLevel(level)
        for line in chatter.getvalue().splitlines():
            _logger.debug("%s", line)


@contextlib.contextmanager
def without_init(package: str) -> Iterator[None]:
    """Import modules of a package without running its ``__init__``.

    That of deepCR imports all it needs for training: matplotlib, tensorboard and more, of which
    detection needs nothing. What else imports the package later gets it whole.
    """
    if package in sys.modules:
        yield
        return
    sys.modules[package] = module_from_spec(find_spec(package))
    try:
        yield
    finally:
        del sys.modules[package]
