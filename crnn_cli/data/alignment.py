"""Comparison of two images voxel by voxel in patient space, whatever the order and direction of their axes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.image import Affine, Array, Image

Mask = NDArray[np.bool_]

SAME_PLACE_MM = 5e-3
"""Largest distance between voxels that count as one position: rounded positions in DICOM headers reach half of it."""


@dataclass(frozen=True)
class ImageComparison:
    """Differences between two images; None where their grids do not fit, so that no difference is defined.

    Attributes
    ----------
    shapes : as stored.
    distance_mm : largest distance between corresponding voxels; None also where nobody knows where one of them lies.
    difference : largest absolute difference of corresponding values; NaN where one of them is NaN.
    voxels : number of voxels whose values differ; two NaN count as equal.
    frame_times : of both, in s.
    """

    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    distance_mm: float | None
    difference: float | None
    voxels: int | None
    frame_times: tuple[float | None, float | None]

    def differs(self, millimetres: float, values: float, *, times: bool = True) -> list[str]:
        """List, in words, the differences beyond the tolerances; empty where the images agree.

        Parameters
        ----------
        millimetres, values : tolerances of voxel positions and of values.
        times : compare the frame times too, to a microsecond.
        """
        if self.difference is None:
            return [f"shapes {self.shapes[0]} and {self.shapes[1]} do not fit"]
        differences = []
        if self.distance_mm is not None and self.distance_mm > millimetres:
            differences.append(f"voxels lie up to {self.distance_mm:.3g} mm apart")
        if not self.difference <= values:
            differences.append(f"{self.voxels} values differ, by up to {self.difference:.6g}")
        first, second = self.frame_times
        if times and first is not None and second is not None and abs(first - second) > 1e-6:
            differences.append(f"the frame times are {1000 * first:g} and {1000 * second:g} ms")
        return differences


def compare_images(first: Image, second: Image) -> ImageComparison:
    """Compare two images after reorienting the second: axes in the order and direction that lies nearest to the first.

    Nothing is interpolated: corresponding voxels may still lie apart, by the ``distance_mm`` of the result.
    """
    a, b = _series_of(first), _series_of(second)
    if sorted(a.shape[:3]) != sorted(b.shape[:3]) or a.shape[3] != b.shape[3]:
        return ImageComparison((first.shape, second.shape), None, None, None, (first.frame_time, second.frame_time))
    candidates = [view for view in _reorientations(b, second.affine) if view[0].shape == a.shape]
    array, affine = min(candidates, key=lambda view: max_distance_mm(first.affine, view[1], a.shape))
    compared = compare_as_stored(first, replace(second, array=array))
    shapes = (first.shape, second.shape)
    return replace(compared, shapes=shapes, distance_mm=max_distance_mm(first.affine, affine, a.shape))


def compare_as_stored(first: Image, second: Image) -> ImageComparison:
    """Compare two images of one shape voxel by voxel as stored, wherever they lie; no distance is measured."""
    a, b = _series_of(first), _series_of(second)
    same = _equal(a, b)
    difference = 0.0 if same.all() else _largest_difference(a[~same], b[~same])
    times = (first.frame_time, second.frame_time)
    return ImageComparison((first.shape, second.shape), None, difference, int((~same).sum()), times)


def _series_of(image: Image) -> Array:
    """Voxels with axes x, y, z, t."""
    return image.array if image.array.ndim == 4 else image.array[..., None]


def _equal(first: Any, second: Any) -> Mask:
    """Where values are equal, each in its own type: 64-bit integers are not rounded to doubles; NaN equals NaN."""
    kinds = first.dtype.kind + second.dtype.kind
    if kinds in ("iu", "ui"):
        signed, unsigned = (first, second) if kinds == "iu" else (second, first)
        return np.asarray((signed >= 0) & (signed.astype(np.uint64) == unsigned.astype(np.uint64)))
    same: Mask = np.asarray((first == second) | (np.isnan(first) & np.isnan(second)))
    for whole, other in ((first, second), (second, first)):
        if whole.dtype.kind in "iu" and whole.dtype.itemsize == 8 and other.dtype.kind == "f" and same.any():
            info = np.iinfo(whole.dtype)
            inside = same & (other >= float(info.min)) & (other < float(info.max))
            same = inside & (np.where(inside, other, 0).astype(whole.dtype) == whole)
    return same


def _largest_difference(first: Any, second: Any) -> float:
    """Largest absolute difference of values that differ; exact for integers, and never 0."""
    kinds = {first.dtype.kind, second.dtype.kind}
    if kinds <= {"i", "u", "b"}:
        low, high = np.minimum(first.astype(object), second), np.maximum(first.astype(object), second)
        return float(max(high - low))
    wide = np.complex128 if "c" in kinds else np.longdouble
    found = float(np.abs(first.astype(wide) - second.astype(wide)).max())
    return found or float(np.finfo(np.float64).tiny)


def reorient_to(
    image: Image, affine: Affine, shape: tuple[int, ...], millimetres: float = SAME_PLACE_MM
) -> Image | None:
    """Permute and flip the axes of an image to those of a grid on which it lies; None where it lies on another grid.

    Parameters
    ----------
    affine, shape : of the grid; the shape is (x, y, z, t).
    millimetres : tolerance of the voxel positions.

    Returns
    -------
    The image as a view, with the affine of the grid.
    """
    array = image.array if image.array.ndim == 4 else image.array[..., None]
    for view, candidate in _reorientations(array, image.affine):
        if view.shape == shape and max_distance_mm(affine, candidate, shape) <= millimetres:
            return replace(image, array=view if image.array.ndim == 4 else view[..., 0], affine=affine, qform=None)
    return None


def padded_to(image: Image, affine: Affine, shape: tuple[int, ...], millimetres: float = SAME_PLACE_MM) -> Image | None:
    """Put an image that is a part of a grid into zeros of the whole grid; None where it is no part of it.

    For label maps that leave out what has no label, such as a DICOM SEG of the labelled slices alone. Zeros may lie
    beyond the grid.

    Parameters
    ----------
    affine, shape : of the grid; the shape is (x, y, z, t).
    millimetres : tolerance of the voxel positions.
    """
    array = image.array if image.array.ndim == 4 else image.array[..., None]
    if array.shape[3] != shape[3]:
        return None
    for view, candidate in _reorientations(array, image.affine):
        first = np.rint((np.linalg.inv(affine) @ candidate[:, 3])[:3]).astype(int)
        start, stop = np.maximum(first, 0), np.minimum(first + view.shape[:3], shape[:3])
        if (stop <= start).any():
            continue
        part = affine.copy()
        part[:, 3] = affine @ [*first, 1]
        if max_distance_mm(part, candidate, view.shape) <= millimetres:
            inside = view[tuple(slice(*ends) for ends in zip(start - first, stop - first, strict=True))]
            if np.count_nonzero(inside) < np.count_nonzero(view):
                return None
            whole = np.zeros(shape, array.dtype)
            whole[tuple(slice(*ends) for ends in zip(start, stop, strict=True))] = inside
            return replace(image, array=whole if image.array.ndim == 4 else whole[..., 0], affine=affine, qform=None)
    return None


def on_one_grid(image: Image, labels: Image) -> tuple[Image, Image] | None:
    """Bring an image and its labels onto one grid; None where they do not lie in one place, or have other frames.

    The axes of the image are turned to those of the labels. Labels that leave slices out are filled up with background
    instead. Where nobody knows where one of the two lies, equal shapes and voxel sizes will do.
    """
    turned = turned_to(image, labels)
    if turned is not None:
        return turned, labels
    whole = padded_to(labels, image.affine, (*image.shape[:3], image.frames))
    return None if whole is None else (image, whole)


def turned_to(image: Image, grid: Image) -> Image | None:
    """Turn the axes of an image to those of another one; None where they differ in place or number of frames.

    Where nobody knows where one of the two lies, equal shapes and voxel sizes will do.
    """
    shapes = [(*each.shape[:3], each.frames) for each in (image, grid)]
    same = shapes[0] == shapes[1] and is_unplaced(image, grid)
    return image if same else reorient_to(image, grid.affine, shapes[1])


def is_unplaced(first: Image, second: Image) -> bool:
    """Whether nobody knows where one of two images lies, and their voxels are of one size."""
    unknown = (0, 0) in (first.codes, second.codes)
    return unknown and bool(np.allclose(first.spacing, second.spacing, rtol=1e-3))


def _reorientations(array: Array, affine: Affine) -> list[tuple[Array, Affine]]:
    """All 48 orders and directions of the three spatial axes, each with its affine."""
    views = []
    for order, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        view, matrix = array.transpose(*order, 3), affine[:, [*order, 3]].copy()
        for axis in (axis for axis in range(3) if flips[axis]):
            view = np.flip(view, axis)
            matrix[:, 3] += matrix[:, axis] * (view.shape[axis] - 1)
            matrix[:, axis] *= -1
        views.append((view, matrix))
    return views


def max_distance_mm(first: Affine, second: Affine, shape: tuple[int, ...]) -> float:
    """Largest distance in mm between the positions that two affines give a corner voxel of the grid."""
    corners = np.array([[*corner, 1.0] for corner in product(*((0, n - 1) for n in shape[:3]))]).T
    return float(np.linalg.norm(((first - second) @ corners)[:3], axis=0).max())
