"""Network Cosmic-CoNN (Xu et al. 2023, ApJ 942, 73), which finds cosmic rays in one image."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from crdetect.detectors.networks import (
    NetworkDetector,
    inference,
    load,
    pick_device,
)
from crdetect.resources import Map
from crdetect.schema.block import Block, parameter
from crdetect.schema.kinds import Flag, PairOfProbability

if TYPE_CHECKING:
    import torch

_logger = logging.getLogger(__name__)

STAMP_PX = 1024
"""Side of the stamps that the network gets, in pixels. The package cuts images into
such stamps; they are those of the training."""

# The package cuts the sides of a stamp to multiples of this number of pixels.
_MODULO_PX = 16
# Minimum side of a stamp, in pixels: a narrower rest is extended by that many pixels of the image.
_LEAST_STAMP_PX = 256
# Number of rows of a strip: its data fit into the cache of a processor.
_STRIP_PX = 32

Rows = Callable[[int, int], "torch.Tensor"]
"""Function that returns rows of the input of a convolution, from the first row up to the last:
(1, channels, rows, columns)."""


class Conn(Block):
    """Cosmic-CoNN (Xu et al. 2023)."""

    prefix: ClassVar[str] = "nn"
    title: ClassVar[str] = "Cosmic-CoNN"

    nn_model: Literal["ground_imaging", "NRES", "HST_ACS_WFC"] = parameter(
        "ground_imaging", "network, named after the images that trained it"
    )
    nn_threshold: PairOfProbability = parameter(
        0.5, "probability above which a pixel is flagged; raise it to flag fewer pixels"
    )
    nn_verbose: Flag = parameter(
        True, "write the highest probability of each image to the log, at level debug"
    )


class ConnDetector(NetworkDetector):
    """Detector Cosmic-CoNN; see `crdetect.detectors.base.Detector`.

    Notes
    -----
    The median of each stamp is subtracted from it, so that a constant level does not matter. The
    gain matters. ground_imaging was trained on images of the LCO telescopes that BANZAI had
    reduced, HST_ACS_WFC on ``flc`` images of ACS, both in electrons. NRES was trained on raw frames
    of that spectrograph; it gets electrons here too, so that the result does not depend on the
    unit.

    ground_imaging and NRES normalise groups of channels by their mean and variance in the whole
    stamp, so that each pixel of a stamp affects all others. The result therefore depends on how the
    image is cut into stamps. They are those of the package: 1024 × 1024 pixels, from the first row
    and column on. If less than 256 rows or columns remain at the end of the image, the package
    leaves them out or makes them a narrow stamp; here they are part of a stamp that also holds the
    256 rows or columns before them.

    The layers of the network are computed one after the other, each in strips of rows. The mean and
    variance of a layer are those of all its strips, so that the result is that of the whole stamp.

    Masked pixels are replaced by the median of the unmasked pixels in a box of 7 × 7 pixels.
    """

    block = Conn
    limits = ("nn_threshold",)
    packages = ("cosmic_conn",)
    fill_half_px = 3
    least_size_px = _MODULO_PX

    def probability(self, image_e: np.ndarray) -> np.ndarray:
        """Compute the probability that a cosmic ray hit each pixel."""
        probability = np.empty_like(image_e)
        with inference(self.resources) as in_threads:
            device = pick_device(self.resources.device)
            unet = load(load_network, self.parameters.nn_model, device)
            network = _InStrips(unet, device, in_threads)
            for rows in stamps_along(image_e.shape[0]):
                for columns in stamps_along(image_e.shape[1]):
                    stamp = image_e[rows.seen, columns.seen]
                    result = network.probability(stamp, rows.size, columns.size)
                    probability[rows.kept, columns.kept] = result[rows.inner, columns.inner]
        if self.parameters.nn_verbose:
            _logger.debug("highest probability %.3f", probability.max())
        return probability


@dataclass(frozen=True)
class Span:
    """Position of a stamp along one axis, in pixels of the image, counted from 0.

    Attributes
    ----------
    start, stop : int
        First pixel of the stamp, and the pixel after its last one. The median of the whole stamp is
        subtracted.
    size : int
        Number of pixels that the network gets, from the first one on.
    own : int
        First pixel whose probability is kept, of the pixels that the network gets.
    """

    start: int
    stop: int
    size: int
    own: int

    @property
    def seen(self) -> slice:
        """The stamp, as a slice of the image."""
        return slice(self.start, self.stop)

    @property
    def kept(self) -> slice:
        """The pixels whose probability is kept, as a slice of the image."""
        return slice(self.own, self.start + self.size)

    @property
    def inner(self) -> slice:
        """The pixels whose probability is kept, as a slice of the output of the network."""
        return slice(self.own - self.start, self.size)


def stamps_along(length: int) -> Iterator[Span]:
    """Cut one axis of an image into stamps; see `ConnDetector`.

    Parameters
    ----------
    length : int
        Length of the axis, at least 16 pixels.

    Yields
    ------
    Span
        The position of each stamp.
    """
    done = 0
    for start in range(0, length, STAMP_PX):
        stop = min(start + STAMP_PX, length)
        size = (stop - start) // _MODULO_PX * _MODULO_PX
        if start and stop - start < _LEAST_STAMP_PX:
            break
        yield Span(start, stop, size, start)
        done = start + size
    if done < length:
        size = -(-(_LEAST_STAMP_PX + length - done) // _MODULO_PX) * _MODULO_PX
        size = min(size, length // _MODULO_PX * _MODULO_PX)
        yield Span(length - size, length, size, done)


def load_network(name: str) -> torch.nn.Module:
    """Load a network of Cosmic-CoNN and its weights."""
    from cosmic_conn import init_model

    return init_model(name).network


# ---------------------------------------------------------------------------------------------
# A stamp, layer by layer


@dataclass(frozen=True, eq=False)
class _Layer:
    """Output of a convolution, and the factor and addend of each channel that normalise it."""

    raw: torch.Tensor
    scale: torch.Tensor
    shift: torch.Tensor

    def rows(self, start: int, stop: int) -> torch.Tensor:
        return self.raw[:, :, start:stop].mul(self.scale).add_(self.shift).relu_()


class _InStrips:
    """Network of the package, which computes a stamp in strips of rows.

    The layers of a level write to two arrays in turn, which are used again for all stamps:
    allocating memory for each layer took longer than the convolutions.
    """

    def __init__(self, unet: torch.nn.Module, device: str, in_threads: Map):
        self._unet = unet
        self._device = device
        self._in_threads = in_threads
        self._strip_px = _STRIP_PX if device == "cpu" else STAMP_PX
        self._arrays: dict[tuple[int, int], torch.Tensor] = {}

    def probability(self, stamp: np.ndarray, rows: int, columns: int) -> np.ndarray:
        """Compute the probabilities of the first rows and columns of a stamp."""
        import torch

        unet = self._unet
        pixels = torch.from_numpy(stamp).to(self._device)
        image = (pixels - pixels.median())[None, None, :rows, :columns]

        full = self._twice(lambda a, b: image[:, :, a:b], 0, unet.inc.conv.conv, image.shape[2:])
        half = self._twice(_binned(full), 1, unet.down1.down_cov[1].conv, _half(full))
        quarter = self._twice(_binned(half), 2, unet.down2.down_cov[1].conv, _half(half))
        half = self._twice(
            _joined(half, quarter, unet.up2.up_conv), 1, unet.up2.conv.conv, half.raw.shape[2:]
        )
        full = self._twice(
            _joined(full, half, unet.up1.up_conv), 0, unet.up1.conv.conv, full.raw.shape[2:]
        )
        strips = self._in_threads(
            lambda rows: torch.sigmoid(unet.outc(full.rows(rows.start, rows.stop))),
            self._strips(rows),
        )
        return torch.cat(strips, dim=2)[0, 0].cpu().numpy()

    def _twice(self, rows: Rows, level: int, block: torch.nn.Sequential, shape) -> _Layer:
        """Apply two convolutions, each followed by its normalisation."""
        first = self._convolve(rows, (level, 0), block[0], block[1], shape)
        return self._convolve(first.rows, (level, 1), block[3], block[4], shape)

    def _convolve(self, rows: Rows, place, convolution, norm, shape) -> _Layer:
        import torch

        height = shape[0]
        raw = self._array(place, convolution.out_channels, shape)

        def run(strip: range) -> torch.Tensor:
            first, last = max(strip.start - 1, 0), min(strip.stop + 1, height)
            result = convolution(rows(first, last))[:, :, strip.start - first :][:, :, : len(strip)]
            raw[:, :, strip.start : strip.stop] = result
            return torch.stack([result.sum((0, 2, 3)), result.square().sum((0, 2, 3))]).double()

        sums = torch.stack(self._in_threads(run, self._strips(height))).sum(0)
        scale, shift = _normalisation(norm, sums / (height * shape[1]))
        return _Layer(raw, scale[:, None, None], shift[:, None, None])

    def _strips(self, height: int) -> Iterator[range]:
        for start in range(0, height, self._strip_px):
            yield range(start, min(start + self._strip_px, height))

    def _array(self, place: tuple[int, int], channels: int, shape) -> torch.Tensor:
        """Return an array of this shape, channels last in memory, in memory that is used again."""
        import torch

        size = channels * shape[0] * shape[1]
        if place not in self._arrays or self._arrays[place].numel() < size:
            self._arrays[place] = torch.empty(size, device=self._device)
        return self._arrays[place][:size].view(1, *shape, channels).permute(0, 3, 1, 2)


def _half(layer: _Layer) -> tuple[int, int]:
    return layer.raw.shape[2] // 2, layer.raw.shape[3] // 2


def _binned(layer: _Layer) -> Rows:
    """Bin a layer by the maximum of 2 × 2 pixels."""
    import torch

    return lambda a, b: torch.nn.functional.max_pool2d(layer.rows(2 * a, 2 * b), 2)


def _joined(skip: _Layer, below: _Layer, enlarge: torch.nn.Module) -> Rows:
    """Join the channels of a layer with those of the enlarged layer of the level below."""
    import torch

    def rows(a: int, b: int) -> torch.Tensor:
        enlarged = enlarge(below.rows(a // 2, (b + 1) // 2))
        return torch.cat([skip.rows(a, b), enlarged[:, :, a % 2 :][:, :, : b - a]], 1)

    return rows


def _normalisation(
    norm: torch.nn.Module, moments: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Express a normalisation as a factor and an addend for each channel.

    Parameters
    ----------
    norm : torch.nn.GroupNorm or torch.nn.BatchNorm2d
        The layer.
    moments : (2, channels) tensor of float64
        Mean and mean square of each channel of its input.
    """
    import torch

    if isinstance(norm, torch.nn.GroupNorm):
        channels = moments.shape[1] // norm.num_groups
        mean, square = moments.view(2, norm.num_groups, channels).mean(2)
        mean, variance = (v.repeat_interleave(channels) for v in (mean, square - mean**2))
    else:  # batch normalisation, with the mean and variance of the training
        mean, variance = norm.running_mean.double(), norm.running_var.double()
    scale = norm.weight / torch.sqrt(variance + norm.eps)
    return scale.float(), (norm.bias - mean * scale).float()
