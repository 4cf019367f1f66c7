"""The network Cosmic-CoNN: cosmic rays in one image (Xu et al. 2023, ApJ 942, 73)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from crdetect.detectors.networks import (
    InThreads,
    NetworkDetector,
    inference,
    load,
    pick_device,
)
from crdetect.schema.block import Block, parameter
from crdetect.schema.kinds import Flag, PairOfProbability

if TYPE_CHECKING:
    import torch

_logger = logging.getLogger(__name__)

STAMP_PX = 1024
"""The package gives the network stamps of this size, as in its training."""

_MODULO_PX = 16  # and cuts them to multiples of this
_LEAST_STAMP_PX = 256  # what is narrower gets so much of its surroundings
_STRIP_PX = 32  # rows; what a strip needs fits into a processor's cache

Rows = Callable[[int, int], "torch.Tensor"]
"""Gives some rows of what a convolution works on: (1, channels, rows, columns)."""


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
    """The detector with its parameters; see `crdetect.detectors.base.Detector`.

    Notes
    -----
    The median of a stamp is taken off it before, so a constant level does not matter. The gain
    does. ground_imaging was trained on images of the LCO telescopes reduced by BANZAI, and
    HST_ACS_WFC on ``flc`` images of ACS: electrons both. NRES was trained on raw frames of that
    spectrograph; here it gets electrons too, so that no result depends on the unit.

    ground_imaging and NRES normalise the channels by groups, with the mean and variance of all
    that the network sees at once: any pixel of a stamp matters for any other. The result is
    defined by the stamps, therefore, and these are the package's: 1024 × 1024 pixels from the
    first row and column on. What the package leaves out or gives to the network alone, less than
    256 rows or columns at the end of the image, comes from stamps that end there and hold the 256
    before.

    Within a stamp the network goes layer by layer, each in strips of rows, and the statistics of
    a layer are those of all its strips: results are those of the stamp in one piece.

    Masked pixels are replaced by the median of the unmasked ones in the 7 × 7 around.
    """

    block = Conn
    limits = ("nn_threshold",)
    packages = ("cosmic_conn",)
    fill_half_px = 3
    least_size_px = _MODULO_PX

    def probability(self, image_e: np.ndarray) -> np.ndarray:
        """Map the probability that a cosmic ray hit; see `NetworkDetector.probability`."""
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
    """Where a stamp stands along one axis, in pixels of the image from 0.

    Attributes
    ----------
    start, stop : int
        What the median is taken of.
    size : int
        What the network sees, from the start on.
    own : int
        The first pixel whose probability is kept; the last one is the last that the network sees.
    """

    start: int
    stop: int
    size: int
    own: int

    @property
    def seen(self) -> slice:
        """Of the image: what the median is taken of."""
        return slice(self.start, self.stop)

    @property
    def kept(self) -> slice:
        """Of the image: whose probability is kept."""
        return slice(self.own, self.start + self.size)

    @property
    def inner(self) -> slice:
        """Of what the network gives: the same."""
        return slice(self.own - self.start, self.size)


def stamps_along(length: int) -> Iterator[Span]:
    """Cut one axis of an image, at least 16 pixels long, into stamps; see `ConnDetector`."""
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
    """Make a network of Cosmic-CoNN, with its weights."""
    from cosmic_conn import init_model

    return init_model(name).network


# ---------------------------------------------------------------------------------------------
# A stamp, layer by layer


@dataclass(frozen=True, eq=False)
class _Layer:
    """What a convolution gave, and what its normalisation makes of it."""

    raw: torch.Tensor
    scale: torch.Tensor
    shift: torch.Tensor

    def rows(self, start: int, stop: int) -> torch.Tensor:
        return self.raw[:, :, start:stop].mul(self.scale).add_(self.shift).relu_()


class _InStrips:
    """The network of the package, run over one stamp after the other in strips of rows.

    The layers of a level write to two arrays in turn, which serve for all stamps: to allocate
    anew for each layer took longer than the convolutions.
    """

    def __init__(self, unet: torch.nn.Module, device: str, in_threads: InThreads):
        self._unet = unet
        self._device = device
        self._in_threads = in_threads
        self._strip_px = _STRIP_PX if device == "cpu" else STAMP_PX
        self._arrays: dict[tuple[int, int], torch.Tensor] = {}

    def probability(self, stamp: np.ndarray, rows: int, columns: int) -> np.ndarray:
        """Map the probability, of so many rows and columns of the stamp."""
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
        """Lay out rows, columns, channels in an array that is there, or in a new one."""
        import torch

        size = channels * shape[0] * shape[1]
        if place not in self._arrays or self._arrays[place].numel() < size:
            self._arrays[place] = torch.empty(size, device=self._device)
        return self._arrays[place][:size].view(1, *shape, channels).permute(0, 3, 1, 2)


def _half(layer: _Layer) -> tuple[int, int]:
    return layer.raw.shape[2] // 2, layer.raw.shape[3] // 2


def _binned(layer: _Layer) -> Rows:
    """Take the largest of each 2 × 2."""
    import torch

    return lambda a, b: torch.nn.functional.max_pool2d(layer.rows(2 * a, 2 * b), 2)


def _joined(skip: _Layer, below: _Layer, enlarge: torch.nn.Module) -> Rows:
    """Put what comes from the level below beside what is there."""
    import torch

    def rows(a: int, b: int) -> torch.Tensor:
        enlarged = enlarge(below.rows(a // 2, (b + 1) // 2))
        return torch.cat([skip.rows(a, b), enlarged[:, :, a % 2 :][:, :, : b - a]], 1)

    return rows


def _normalisation(
    norm: torch.nn.Module, moments: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Write a normalisation as factor and addend of each channel.

    Parameters
    ----------
    norm : torch.nn.GroupNorm or torch.nn.BatchNorm2d
        The layer.
    moments : (2, channels) tensor of float64
        Mean, and mean square, of what it normalises.
    """
    import torch

    if isinstance(norm, torch.nn.GroupNorm):
        channels = moments.shape[1] // norm.num_groups
        mean, square = moments.view(2, norm.num_groups, channels).mean(2)
        mean, variance = (v.repeat_interleave(channels) for v in (mean, square - mean**2))
    else:  # batch normalisation, with what it learnt
        mean, variance = norm.running_mean.double(), norm.running_var.double()
    scale = norm.weight / torch.sqrt(variance + norm.eps)
    return scale.float(), (norm.bias - mean * scale).float()
