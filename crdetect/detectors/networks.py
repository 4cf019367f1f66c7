"""Base class of the detectors that are neural networks, and their interface to torch.

The networks and their weights come from the packages deepCR and cosmic-conn (extra ``deep``). This
module loads each network once, runs it in threads or on a GPU, undoes side effects of the packages,
and turns a map of probabilities into a mask and a cleaned image.

The results do not depend on threads or tiles. On a GPU the rounding differs, which changes
probabilities by about 1e-6.
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

# A network works on one image at a time, which limits the memory.
_one_image_at_a_time = threading.Lock()


class NetworkDetector(Detector):
    """Detector that flags the pixels whose probability, given by a network, exceeds a threshold.

    The network gets the image in electrons, whatever the gain, with the bias subtracted.

    Attributes
    ----------
    packages : tuple of str
        Names of the modules that must be installed, beside torch.
    fill_half_px : int
        Half width, in pixels, of the box whose median replaces a flagged pixel.
    """

    divides_images = True
    packages: ClassVar[tuple[str, ...]]
    fill_half_px: ClassVar[int]

    def check(self, shape: tuple[int, int]) -> None:
        """Check that the detector can run; see `Detector.check`.

        Parameters
        ----------
        shape : tuple of int
            Rows and columns.

        Raises
        ------
        InputError
            If the images are too small, a package is not installed, or there is no GPU although
            ``device`` is ``cuda``.
        """
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
        """Compute the probability that a cosmic ray hit each pixel.

        Parameters
        ----------
        image_e : (rows, columns) array of float32
            The image, electrons, bias subtracted.

        Returns
        -------
        (rows, columns) array of float32
            The probabilities, from 0 to 1.
        """

    @property
    def threshold(self) -> float:
        """The probability above which a pixel is flagged."""
        return getattr(self.parameters, self.limits[0])

    def detect(self, image_adu: np.ndarray, noise: Noise) -> Cleaned:
        """Mask the cosmic rays of one image; see `Detector.detect`."""
        return self.detect_in_runs([self], image_adu, noise)[0]

    @classmethod
    def detect_in_runs(
        cls, runs: Sequence[Self], image_adu: np.ndarray, noise: Noise
    ) -> list[Cleaned]:
        """Apply each threshold to the same probabilities; see `Detector.detect_in_runs`."""
        gain = np.float32(noise.gain)
        image_e = image_adu * gain
        probability = runs[0].probability(image_e)
        masks = [probability > run.threshold for run in runs]
        return [
            Cleaned(mask, np.where(mask, fill(image_e, mask, cls.fill_half_px) / gain, image_adu))
            for mask in masks
        ]


def fill(image: np.ndarray, mask: np.ndarray, half: int) -> np.ndarray:
    """Replace masked pixels by the median of the unmasked pixels in a box around them.

    If a box holds no unmasked pixel, the median of the image is taken.

    Parameters
    ----------
    image : (rows, columns) array of float32
        The image; not changed.
    mask : (rows, columns) array of bool
        True at pixels that are replaced.
    half : int
        Half width of the box, whose sides are ``2 * half + 1`` pixels.

    Returns
    -------
    (rows, columns) array of float32
        The image with the masked pixels replaced.
    """
    y, x = np.nonzero(mask)
    median = median_around(np.where(mask, np.float32(np.nan), image), y, x, half, half)
    filled = image.copy()
    filled[y, x] = np.where(np.isnan(median), np.median(image), median)
    return filled


# ---------------------------------------------------------------------------------------------
# Threads and GPU


def pick_device(device: str) -> str:
    """Choose the device for torch, ``cpu`` or ``cuda``.

    Parameters
    ----------
    device : str
        ``cpu``, ``cuda``, or ``auto``, which takes a GPU if there is one.

    Raises
    ------
    InputError
        If device is ``cuda`` and torch finds no GPU.
    """
    if device == "cpu":
        return device
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise InputError("device: cuda, but torch finds no GPU here; accepted: auto or cpu")
    return "cpu"


@contextlib.contextmanager
def inference(resources: Resources) -> Iterator[Map]:
    """Yield a map function that runs pieces of one image through a network in threads.

    Other images wait until the context ends. Each thread works on one piece, without gradients, and
    torch's own threads are set to 1, for the whole process, until the context ends: they would
    split every operation and wait for each other after it, which took ten times as long on shared
    processors.

    Parameters
    ----------
    resources : Resources
        Processors that may be used, and the device.
    """
    import torch

    on_gpu = pick_device(resources.device) == "cuda"

    def in_threads(function: Callable, items: Iterable) -> list:
        return mapped(torch.inference_mode()(function), items)

    with (
        _one_image_at_a_time,
        _torch_threads(1),
        # TF32, the default on a GPU, would change masks: it rounds more coarsely than float32
        torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False),
        resources.pool(1 if on_gpu else None) as mapped,
    ):
        yield in_threads


@contextlib.contextmanager
def _torch_threads(number: int) -> Iterator[None]:
    """Set the number of torch's own threads until the context ends."""
    import torch

    # a new thread shows the setting of the process; the current thread may have a lower limit
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
    """Load a network with its weights, once per process.

    Parameters
    ----------
    loader : callable
        Function that makes the network from its name.
    name : str
        Name of the network.
    device : str
        ``cpu`` or ``cuda``.

    Returns
    -------
    torch.nn.Module
        The network, ready for inference.
    """
    import torch

    with _as_a_guest():
        network = loader(name)
    network.eval().requires_grad_(requires_grad=False)
    # convolutions take half the time if the channels of a pixel are adjacent in memory
    return network.to(device, memory_format=torch.channels_last)


@contextlib.contextmanager
def _as_a_guest() -> Iterator[None]:
    """Undo the side effects that the packages have when they are imported or load a network.

    - deepCR builds WFC3-UVIS with a normalisation that torch calls deprecated: the warning is
      suppressed.
    - cosmic-conn adds handlers to the root logger, and lets cuDNN choose convolutions by measured
      speed, so that results differ from run to run: both settings are restored.
    - Both packages may print: the text goes to the log.

    `tests/detectors/test_networks.py` fails when a package no longer has these side effects.
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
    """Import modules of a package without running the ``__init__`` of the package.

    The ``__init__`` of deepCR imports what training needs, such as matplotlib and tensorboard, but
    detection does not. A later import of the package is a complete one.

    Parameters
    ----------
    package : str
        Name of the package.
    """
    if package in sys.modules:
        yield
        return
    sys.modules[package] = module_from_spec(find_spec(package))
    try:
        yield
    finally:
        del sys.modules[package]
