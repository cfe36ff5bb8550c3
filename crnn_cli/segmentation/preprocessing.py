"""Preprocessing of slices for a segmentation network: intensity range and pixel spacing.

Slices are resampled in their plane only: an anisotropic stack keeps its slices.

Legend: N any, S slice, C channel, Y row, X column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from crnn_cli.data.geometry import SliceOrder
from crnn_cli.data.image import Array
from crnn_cli.errors import UnsupportedDataError

_CLIP = (-0.25, 1.5)
_LARGEST_GRID = 2**26  # pixels of a slice after resampling; beyond it the header's spacing is absurd


@dataclass(frozen=True)
class SlicePreprocessing:
    """Preprocessing that a segmentation network was trained with.

    Attributes
    ----------
    spacing : pixel spacing in the slice, mm.
    rule : "percentiles" (of all voxels of the frame) or "window" (in the units of the image, such as HU).
    low, high : the percentiles or values that become 0 and 1; values beyond are clipped to -0.25 ... 1.5.
    """

    spacing: float
    rule: str
    low: float
    high: float


def normalise_intensity(
    values: Array, preprocessing: SlicePreprocessing, like: Array | None = None
) -> NDArray[np.float32]:
    """Scale intensities so that low becomes 0 and high 1; clip to -0.25 ... 1.5.

    Percentiles do not depend on the order of the voxels. A constant image becomes 0.

    Parameters
    ----------
    values : real, any shape.
    like : the volume that percentiles are taken from; None for ``values`` themselves. A part of a volume gets the
        values that it has in the whole only if the whole is given here.
    """
    low, high = preprocessing.low, preprocessing.high
    if preprocessing.rule == "percentiles":
        whole = values if like is None else like
        low, high = (float(v) for v in np.percentile(whole.astype(np.float64), (low, high)))
    if not high > low:
        return np.zeros(values.shape, np.float32)
    scaled: NDArray[np.float32] = ((values.astype(np.float64) - low) / (high - low)).clip(*_CLIP).astype(np.float32)
    return scaled


def to_network_grid(slices_SYX: Tensor, order: SliceOrder, spacing: float) -> Tensor:
    """Resample slices to pixels of ``spacing`` mm: bilinear, with averaging where they get coarser.

    The field of view stays the same, so the spacing is met to half a pixel over the whole side.

    Raises
    ------
    UnsupportedDataError
        If slices would have more than 2^26 pixels.
    """
    rows, columns = network_size(slices_SYX.shape, order, spacing)
    if rows * columns > _LARGEST_GRID:
        raise UnsupportedDataError(
            f"pixels of {order.spacing[1]:g} x {order.spacing[2]:g} mm would become slices of {rows} x {columns} at "
            f"the model's {spacing:g} mm: the spacing in the header cannot be right"
        )
    return resample_slices(slices_SYX[:, None], (rows, columns))[:, 0]


def network_size(shape: tuple[int, ...] | torch.Size, order: SliceOrder, spacing: float) -> tuple[int, int]:
    """Rows and columns that slices of a shape (S, Y, X) have at a pixel spacing of ``spacing`` mm."""
    rows, columns = (max(1, round(n * mm / spacing)) for n, mm in zip(shape[1:], order.spacing[1:], strict=True))
    return rows, columns


def resample_slices(image_NCYX: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample images to (rows, columns) over the same field of view: bilinear, averaging on the way down."""
    if tuple(image_NCYX.shape[-2:]) == size:
        return image_NCYX
    return F.interpolate(image_NCYX, size, mode="bilinear", antialias=True, align_corners=False)
