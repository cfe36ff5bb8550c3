"""Two images compared voxel by voxel in the patient's space, whatever the order and direction of their axes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations, product

import numpy as np

from crnn_cli.data.image import Affine, Array, Image

SAME_PLACE_MM = 5e-3
"""How far apart voxels of one place may lie: rounded positions in DICOM headers add up to half of it."""


@dataclass(frozen=True)
class ImageComparison:
    """How far two images differ; None where it cannot be said because the grids do not fit.

    shapes : as stored. distance_mm : between voxels that fall on each other, at most. difference : of values, at most.
    voxels : how many differ at all (two NaN are the same). frame_times : s.
    """

    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    distance_mm: float | None
    difference: float | None
    voxels: int | None
    frame_times: tuple[float | None, float | None]

    def differs(self, millimetres: float, values: float, *, times: bool = True) -> list[str]:
        """Return in words what is beyond the tolerances; frame times, if they count, may differ by a microsecond."""
        if self.distance_mm is None or self.difference is None:
            return [f"shapes {self.shapes[0]} and {self.shapes[1]} do not fit"]
        found = []
        if self.distance_mm > millimetres:
            found.append(f"voxels lie up to {self.distance_mm:.3g} mm apart")
        if not self.difference <= values:
            found.append(f"{self.voxels} values differ, by up to {self.difference:.6g}")
        one, other = self.frame_times
        if times and one is not None and other is not None and abs(one - other) > 1e-6:
            found.append(f"the frame times are {1000 * one:g} and {1000 * other:g} ms")
        return found


def compare_images(first: Image, second: Image) -> ImageComparison:
    """Compare two images after turning the axes of the second to where those of the first lie."""
    shapes, times = (first.shape, second.shape), (first.frame_time, second.frame_time)
    a, b = (i.array if i.array.ndim == 4 else i.array[..., None] for i in (first, second))
    if sorted(a.shape[:3]) != sorted(b.shape[:3]) or a.shape[3] != b.shape[3]:
        return ImageComparison(shapes, None, None, None, times)
    found = [turned for turned in _turned(b, second.affine) if turned[0].shape == a.shape]
    array, affine = min(found, key=lambda turned: _apart(first.affine, turned[1], a.shape))
    same = (a == array) | (np.isnan(a) & np.isnan(array))
    difference = 0.0
    if not same.all():
        wide = np.complex128 if first.is_complex or second.is_complex else np.float64
        difference = float(np.abs(a[~same].astype(wide) - array[~same].astype(wide)).max())
    return ImageComparison(shapes, _apart(first.affine, affine, a.shape), difference, int((~same).sum()), times)


def reorient_to(
    image: Image, affine: Affine, shape: tuple[int, ...], millimetres: float = SAME_PLACE_MM
) -> Image | None:
    """Return an image with its axes ordered and directed as those of a grid that it lies on, or None if it does not.

    shape : of the grid, (x, y, z, t). millimetres : how far a voxel may lie beside that of the grid.
    """
    array = image.array if image.array.ndim == 4 else image.array[..., None]
    for turned, moved in _turned(array, image.affine):
        if turned.shape == shape and _apart(affine, moved, shape) <= millimetres:
            return replace(image, array=turned if image.array.ndim == 4 else turned[..., 0], affine=affine, qform=None)
    return None


def _turned(array: Array, affine: Affine) -> list[tuple[Array, Affine]]:
    """Return every order and direction of the three spatial axes, with the affine that goes with it."""
    made = []
    for order, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        turned, moved = array.transpose(*order, 3), affine[:, [*order, 3]].copy()
        for axis in (axis for axis in range(3) if flips[axis]):
            turned = np.flip(turned, axis)
            moved[:, 3] += moved[:, axis] * (turned.shape[axis] - 1)
            moved[:, axis] *= -1
        made.append((turned, moved))
    return made


def _apart(one: Affine, other: Affine, shape: tuple[int, ...]) -> float:
    """Return the largest distance in mm between where two affines put a corner voxel of the grid."""
    corners = np.array([[*corner, 1.0] for corner in product(*((0, n - 1) for n in shape[:3]))]).T
    return float(np.linalg.norm(((one - other) @ corners)[:3], axis=0).max())
