"""Network deepCR (Zhang & Bloom 2020, ApJ 889, 24), which finds cosmic rays in one image."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator

from crdetect.detectors.networks import NetworkDetector, inference, load, pick_device, without_init
from crdetect.schema.block import Block, parameter
from crdetect.schema.kinds import Flag, PairOfProbability

if TYPE_CHECKING:
    import torch

_logger = logging.getLogger(__name__)

REACH_PX = 9
"""Largest distance, in pixels, at which a pixel affects the probability of another one. It follows
from the network: two convolutions of 3 × 3 pixels at the beginning and two at the end, and two
between them after binning 2 × 2."""

# The package pads the sides of an image to multiples of this number of pixels.
_MODULO_PX = 4
# Overlap of tiles, in pixels: at least REACH_PX, and a multiple of _MODULO_PX, so that the bins of
# the network are the same in each tile.
_OVERLAP_PX = 12
# Side of a tile, in pixels: its data fit into the cache of a processor.
_TILE_PX = 256
# Side of a tile on a GPU, in pixels: it limits the memory.
_TILE_ON_GPU_PX = 2048


def _with_dashes(value: Any) -> Any:
    """Replace underscores by dashes, since megaradrp writes ACS_WFC."""
    return value.replace("_", "-") if isinstance(value, str) else value


class DeepCR(Block):
    """The network deepCR (Zhang & Bloom 2020)."""

    prefix: ClassVar[str] = "dc"
    title: ClassVar[str] = "deepCR"

    dc_mask: Annotated[Literal["ACS-WFC", "WFC3-UVIS"], BeforeValidator(_with_dashes)] = parameter(
        "ACS-WFC", "network, named after the camera whose images trained it"
    )
    dc_threshold: PairOfProbability = parameter(
        0.5, "probability above which a pixel is flagged; raise it to flag fewer pixels"
    )
    dc_verbose: Flag = parameter(
        True, "write the highest probability of each image to the log, at level debug"
    )


class DeepCRDetector(NetworkDetector):
    """Detector deepCR; see `crdetect.detectors.base.Detector`.

    Notes
    -----
    Both networks were trained on ``flc`` images of HST, in electrons, without subtraction of the
    sky. ACS-WFC (Kwon, Zhang & Bloom 2021, RNAAS 5, 98) gets the image in electrons, and expects a
    background as in its training. WFC3-UVIS (Chen et al. 2024, ApJ 962, 7) gets the image minus its
    mean, divided by its standard deviation, so that neither the gain nor a constant level matters.

    The probability of a pixel depends on pixels up to `REACH_PX` away. Tiles overlap by more than
    this and start at multiples of 4 pixels, so that the probabilities are those of the whole image
    in one piece, which the package computes with ``segment=False``.

    Masked pixels are replaced by the median of the unmasked pixels in a box of 5 × 5 pixels, as in
    the package and in numina-crmasks.
    """

    block = DeepCR
    limits = ("dc_threshold",)
    packages = ("deepCR", "learned_models")
    fill_half_px = 2

    def probability(self, image_e: np.ndarray) -> np.ndarray:
        """Compute the probability that a cosmic ray hit each pixel."""
        name = self.parameters.dc_mask
        if name == "WFC3-UVIS":
            image_e = standardised(image_e)
        # zeros are added before the first row and column, as in the package
        before = [(-size % _MODULO_PX, 0) for size in image_e.shape]
        padded = np.pad(image_e, before)
        probability = self._in_tiles(padded)[before[0][0] :, before[1][0] :]
        if self.parameters.dc_verbose:
            _logger.debug("%s: highest probability %.3f", name, probability.max())
        return probability

    def _in_tiles(self, image: np.ndarray) -> np.ndarray:
        import torch

        probability = np.empty_like(image)

        def run(tile: tuple[slice, slice]) -> None:
            outer = tuple(
                slice(max(axis.start - _OVERLAP_PX, 0), axis.stop + _OVERLAP_PX) for axis in tile
            )
            inner = tuple(
                slice(axis.start - wide.start, axis.stop - wide.start)
                for axis, wide in zip(tile, outer, strict=True)
            )
            pixels = torch.from_numpy(image[outer])[None, None].to(device)
            probability[tile] = network(pixels)[0, 0, *inner].cpu().numpy()

        with inference(self.resources) as in_threads:
            device = pick_device(self.resources.device)
            network = load(load_network, self.parameters.dc_mask, device)
            in_threads(run, tiles(image.shape, _TILE_PX if device == "cpu" else _TILE_ON_GPU_PX))
        return probability


def tiles(shape: tuple[int, int], size: int) -> Iterator[tuple[slice, slice]]:
    """Cut an image into tiles whose sides are at most `size` pixels."""
    for y in range(0, shape[0], size):
        for x in range(0, shape[1], size):
            yield slice(y, min(y + size, shape[0])), slice(x, min(x + size, shape[1]))


def standardised(image: np.ndarray) -> np.ndarray:
    """Subtract the mean and divide by the standard deviation, as in the training of WFC3-UVIS.

    A constant image, whose standard deviation is 0, becomes 0.
    """
    deviation = image.std()
    return (image - image.mean()) / (deviation if deviation > 0 else np.float32(1))


def load_network(name: str) -> torch.nn.Module:
    """Load a network of deepCR and its weights."""
    import torch

    with without_init("deepCR"):
        from learned_models import default_model_path, mask_dict

    make, arguments, _ = mask_dict[name]
    network = make(*arguments)
    path = Path(default_model_path) / "mask" / f"{name}.pth"
    weights = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict({key.removeprefix("module."): w for key, w in weights.items()})
    return network
