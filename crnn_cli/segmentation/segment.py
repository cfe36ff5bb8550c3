"""Image to labels, slice by slice, with a network that is handed in.

Each frame on its own: intensities are brought to a common range, slices are put in anatomical order and resampled in
their plane to the spacing that the network was trained at; the probabilities are resampled back onto the input's grid,
where they become labels. Slices are never resampled across: an anisotropic stack keeps its slices.

Legend: S slice, Y row, X column, K class (0 background).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from crnn_cli.data.geometry import SliceOrder, shortest_axis, slice_order, thickest_axis
from crnn_cli.data.image import Array, Image
from crnn_cli.errors import UnsupportedDataError

_CLIP = (-0.25, 1.5)
_LARGEST_GRID = 2**26  # pixels of a slice after resampling; beyond it the header's spacing is absurd


@dataclass(frozen=True)
class SliceRecipe:
    """How a segmentation network is to be fed; a bundle says what it was trained with.

    spacing : of the network's pixels in the slice, in mm.
    rule : ``percentiles`` (of all voxels of the frame) or ``window`` (in the units of the image, such as HU).
    low, high : the percentiles or values that become 0 and 1; what lies beyond is clipped to -0.25 ... 1.5.
    """

    spacing: float
    rule: str
    low: float
    high: float


class SliceNetwork(Protocol):
    """What `class_probabilities` asks of a network: a stack (S, Y, X) in, class probabilities (S, K, Y, X) out."""

    def label(self, image_SYX: Tensor, progress: Callable[[int, int], None] = ...) -> Tensor:
        """Return the class probabilities."""
        ...


@dataclass(frozen=True)
class Segmentation:
    """Labels (x, y, z) or (x, y, z, t) on the image's grid, and what they were made from.

    probabilities : of the classes, (K, x, y, z) or (K, x, y, z, t), if they were asked for; 0 in slices left out.
    """

    labels: NDArray[np.uint8]
    probabilities: NDArray[np.float32] | None


def choose_order(image: Image, asked: str | None, trained: str | None) -> tuple[SliceOrder, list[str]]:
    """Return how an image is to be sliced, and what is doubtful about that, in words.

    Parameters
    ----------
    asked : a plane of `data.geometry.PLANES`; None for automatic: across the axis whose spacing is much the widest;
        if none is, in the plane the model was trained on; if that has no plane of its own, across the axis with much
        the fewest samples.
    trained : the plane of the slices that the model was trained on; None if they lay across the widest spacing.

    Raises
    ------
    UnsupportedDataError
        If nothing tells which axis the slices follow each other along.
    """
    thickest, shortest = thickest_axis(image), shortest_axis(image)
    doubts = []
    if asked is not None:
        order = slice_order(image, asked)
        if trained is None and thickest is not None and order.axes[0] != thickest:
            doubts.append(f"{asked} slices cut through the thick slices of this stack; the model was trained on those")
    elif thickest is not None:
        order = slice_order(image, thickest)
    elif trained is not None:
        order = slice_order(image, trained)
    elif shortest is not None:
        order = slice_order(image, shortest)
        doubts.append(f"no spacing is the widest; slices are taken across {'xyz'[shortest]}, the axis with the fewest")
    else:
        raise UnsupportedDataError(
            f"nothing tells how this volume of {' x '.join(map(str, image.shape[:3]))} voxels of "
            f"{' x '.join(f'{v:.4g}' for v in image.spacing)} mm is sliced; say --slices axial, coronal or sagittal"
        )
    if trained is not None and order.plane != trained:
        doubts.append(f"the model was trained on {trained} slices, these are nearest to {order.plane}")
    return order, doubts


def segment(
    image: Image,
    order: SliceOrder,
    network: SliceNetwork,
    recipe: SliceRecipe,
    device: torch.device,
    *,
    threshold: float = 0.5,
    chosen: slice = slice(None),
    keep_probabilities: bool = False,
    half: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Segmentation:
    """Label every frame of an image on its own.

    Parameters
    ----------
    image : finite. chosen : along the slice axis of the array; the other slices are not looked at, and stay 0.
    threshold : see `labels_from_probabilities`. half : convolutions in bfloat16. The rest as in `class_probabilities`.

    Raises
    ------
    UnsupportedDataError
        As in `class_probabilities`.
    """
    labels = np.zeros(image.shape, np.uint8)
    frames, probabilities = image.frames, None
    x, y, z = (chosen if axis == order.axes[0] else slice(None) for axis in range(3))
    for t in range(frames):
        place = (x, y, z) if image.array.ndim == 3 else (x, y, z, t)

        def tick(done: int, total: int, before: int = t) -> None:
            progress(before * total + done, frames * total)

        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            found = class_probabilities(image.array[place], order, network, recipe, device, tick)
        labels[place] = labels_from_probabilities(found, threshold)
        if keep_probabilities:
            if probabilities is None:
                probabilities = np.zeros((found.shape[0], *image.shape), np.float32)
            probabilities[(slice(None), *place)] = found
    return Segmentation(labels, probabilities)


def class_probabilities(
    volume: Array,
    order: SliceOrder,
    network: SliceNetwork,
    recipe: SliceRecipe,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.float32]:
    """Return class probabilities (K, x, y, z) of one frame, on its own grid.

    Parameters
    ----------
    volume : (x, y, z), finite; of a complex one the magnitude is used.
    order : which slices there are, and in which order.
    network : on ``device``, in evaluation mode.
    progress : called with (steps done, steps in all).

    Raises
    ------
    UnsupportedDataError
        If the spacing is absurd, or the probabilities come out not finite.
    """
    values = np.abs(volume) if np.iscomplexobj(volume) else volume
    slices = torch.from_numpy(np.ascontiguousarray(order.to_slices(normalise_intensity(values, recipe))))
    with torch.no_grad():
        grid = to_network_grid(slices, order, recipe.spacing)
        found_SKYX = network.label(grid.to(device), progress).cpu()
        back_SKYX = resample_slices(found_SKYX, (slices.shape[1], slices.shape[2]))
    if not bool(back_SKYX.isfinite().all()):
        raise UnsupportedDataError("the network produced values that are not finite: the input's range is not usable")
    return np.stack([order.from_slices(back_SKYX[:, k].numpy()) for k in range(back_SKYX.shape[1])])


def labels_from_probabilities(probabilities_K: NDArray[np.float32], threshold: float) -> NDArray[np.uint8]:
    """Return the label map of class probabilities (K, ...): where all structures together reach the threshold, the
    likeliest of them; elsewhere 0. Of equally likely structures the first is taken.
    """  # noqa: D205
    foreground = probabilities_K[1:]
    likeliest = foreground.argmax(axis=0) + 1
    return np.where(foreground.sum(axis=0) >= threshold, likeliest, 0).astype(np.uint8)


def normalise_intensity(values: Array, recipe: SliceRecipe, like: Array | None = None) -> NDArray[np.float32]:
    """Return the values by the recipe's rule: low becomes 0, high 1, what lies beyond is clipped to -0.25 ... 1.5.

    A constant image becomes 0. Percentiles do not depend on the order of the voxels; they are those of ``like``, where
    it is given, such as the volume that the values are a part of.
    """
    low, high = recipe.low, recipe.high
    if recipe.rule == "percentiles":
        low, high = (
            float(v) for v in np.percentile((values if like is None else like).astype(np.float64), (low, high))
        )
    if not high > low:
        return np.zeros(values.shape, np.float32)
    scaled: NDArray[np.float32] = ((values.astype(np.float64) - low) / (high - low)).clip(*_CLIP).astype(np.float32)
    return scaled


def to_network_grid(slices_SYX: Tensor, order: SliceOrder, spacing: float) -> Tensor:
    """Return the slices with pixels of ``spacing`` mm: bilinear, with averaging where they get coarser.

    The field of view stays the same, so the spacing is met to half a pixel over the whole side.

    Raises
    ------
    UnsupportedDataError
        If that would make slices of more than 2^26 pixels.
    """
    rows, columns = network_size(slices_SYX.shape, order, spacing)
    if rows * columns > _LARGEST_GRID:
        raise UnsupportedDataError(
            f"pixels of {order.spacing[1]:g} x {order.spacing[2]:g} mm would become slices of {rows} x {columns} at "
            f"the model's {spacing:g} mm: the spacing in the header cannot be right"
        )
    return resample_slices(slices_SYX[:, None], (rows, columns))[:, 0]


def network_size(shape: tuple[int, ...] | torch.Size, order: SliceOrder, spacing: float) -> tuple[int, int]:
    """Return (rows, columns) that slices of a shape (S, Y, X) have on the network's grid."""
    rows, columns = (max(1, round(n * mm / spacing)) for n, mm in zip(shape[1:], order.spacing[1:], strict=True))
    return rows, columns


def resample_slices(image_NCYX: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images resampled to (rows, columns) over the same field of view, bilinear, averaging on the way down."""
    if tuple(image_NCYX.shape[-2:]) == size:
        return image_NCYX
    return F.interpolate(image_NCYX, size, mode="bilinear", antialias=True, align_corners=False)
