"""Anatomy and array axes: which way the voxel axes of an affine point, and slices in the order of the body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.image import Affine, Array, Image
from crnn_cli.errors import UnsupportedDataError

_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))
PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Anatomical planes and the patient axis (right, anterior, superior) along which their slices follow each other."""
THICKER = 1.5
"""Slices lie across an axis whose spacing is this many times that of the next finest: nobody slices otherwise."""
SHEAR = 0.02
"""Largest cosine between two voxel axes that still count as perpendicular: 1.1 degrees."""
_HAIR = 1e-4  # rad; turns the patient axes a hair's breadth, so that an exactly diagonal scan has no ties


def axis_codes(affine: Affine) -> str:
    """Return the anatomical direction that each voxel axis runs to, such as ``RAS`` or ``LPS``.

    Each voxel axis takes the patient axis that it is nearest to, the clearest first, so that no letter is used twice.
    """
    return "".join(_LETTERS[patient][int(up)] for patient, up in _patient_axes(affine))


def _patient_axes(affine: Affine) -> list[tuple[int, bool]]:
    """Return for each voxel axis its patient axis (0 right, 1 anterior, 2 superior) and whether it runs up it.

    The same voxel axes in another order, or running the other way, get the same patient axes: ties are broken in
    space, by turning the patient axes by a hair.
    """
    a, b, c = _HAIR, 1.7 * _HAIR, 0.6 * _HAIR
    hair = np.array([[1, -c, b], [c, 1, -a], [-b, a, 1]])
    cosines = hair @ (affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    strength = np.abs(cosines)
    found = [(0, True)] * 3
    for _ in range(3):
        patient, voxel = (int(v) for v in np.unravel_index(int(np.argmax(strength)), (3, 3)))
        found[voxel] = (patient, bool(cosines[patient, voxel] > 0))
        strength[patient, :] = strength[:, voxel] = -1
    return found


@dataclass(frozen=True)
class SliceOrder:
    """How a volume is a sequence of slices, in an order that depends on the body and not on how it is stored.

    Slices ascend along the patient axis of their plane (to the right, to anterior, upwards). Rows and columns ascend
    along the other two, the cycle slice, column, row being right, anterior, superior: so a turned volume is never a
    mirrored one.

    plane : the anatomical plane nearest to the slices. axes : array axes of slice, row, column. flips : which of
    them run the other way in the array. spacing : of slice, row, column, in mm.
    """

    plane: str
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    spacing: tuple[float, float, float]

    def to_slices(self, array: Array) -> Array:
        """Return (slice, row, column) of an array (x, y, z); a view."""
        turned = array.transpose(self.axes)
        return turned[tuple(slice(None, None, -1 if flip else None) for flip in self.flips)]

    def from_slices(self, slices: Array) -> Array:
        """Return (x, y, z) of an array (slice, row, column): the inverse of `to_slices`; a view."""
        turned = slices[tuple(slice(None, None, -1 if flip else None) for flip in self.flips)]
        return turned.transpose(np.argsort(self.axes))

    def to_display(self, slices: Array) -> Array:
        """Return slices (..., row, column) as a viewer shows them: superior, else anterior, on top; right, else
        anterior, on the left (radiological convention); a view.
        """  # noqa: D205
        shown = slices.swapaxes(-1, -2) if self.plane == "coronal" else slices
        return shown[..., ::-1, ::-1]

    def display_spacing(self) -> tuple[float, float]:
        """Return row and column spacing in mm of `to_display`."""
        _, row, column = self.spacing
        return (column, row) if self.plane == "coronal" else (row, column)

    def display_directions(self) -> str:
        """Return what is on the left and on the top of `to_display`, such as ``left R, top A``."""
        return {"axial": "left R, top A", "coronal": "left R, top S", "sagittal": "left A, top S"}[self.plane]

    def numbers(self, count: int) -> list[int]:
        """Return what a viewer calls each of ``count`` slices in ascending order: 1 is the first in the array."""
        return list(range(count, 0, -1) if self.flips[0] else range(1, count + 1))


def slice_order(image: Image, across: str | int) -> SliceOrder:
    """Return how a volume is sliced.

    Parameters
    ----------
    across : a key of `PLANES`, for slices across the array axis nearest to that plane's patient axis, however oblique;
        or the array axis itself.
    """
    patient_axes, spacing = _patient_axes(image.affine), image.spacing
    patient = PLANES[across] if isinstance(across, str) else patient_axes[across][0]
    by_patient = {axis: voxel for voxel, (axis, _) in enumerate(patient_axes)}
    slice_axis, row, column = (by_patient[axis % 3] for axis in (patient, patient + 2, patient + 1))
    name = next(name for name, axis in PLANES.items() if axis == patient)
    flips = (not patient_axes[slice_axis][1], not patient_axes[row][1], not patient_axes[column][1])
    return SliceOrder(name, (slice_axis, row, column), flips, (spacing[slice_axis], spacing[row], spacing[column]))


def thickest_axis(image: Image) -> int | None:
    """Return the array axis whose spacing is so much the widest (`THICKER`) that slices lie across it, if any."""
    _, middle, widest = sorted(image.spacing)
    return image.spacing.index(widest) if widest >= THICKER * middle else None


def shortest_axis(image: Image) -> int | None:
    """Return the array axis that has at most half the samples of each of the others, if any."""
    fewest, middle, _ = sorted(image.shape[:3])
    return image.shape.index(fewest) if 2 * fewest <= middle else None


def require_perpendicular(affine: Affine, name: str) -> None:
    """Raise UnsupportedDataError where voxel axes are not perpendicular: slices would not lie above each other."""
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    worst = float(np.abs(unit.T @ unit - np.eye(3)).max())
    if worst > SHEAR:
        raise UnsupportedDataError(
            f"{name} is sheared: two voxel axes are {np.degrees(np.arccos(worst)):.1f} degrees apart, not 90 (a tilted "
            "gantry, or a damaged header); resample it onto a rectangular grid first"
        )


def displayed_slice(image: Image, z: int) -> NDArray[np.generic]:
    """Return one slice of a series as a viewer shows it, (T, rows, columns).

    Columns run along the first array axis, rows along the second; both are turned so that right, anterior and
    superior come first: the patient's right is on the left of the picture (radiological convention).
    """
    array = image.array if image.array.ndim == 4 else image.array[..., None]
    frames = array[:, :, z].transpose(2, 1, 0)
    codes = axis_codes(image.affine)
    if codes[1] in "RAS":
        frames = frames[:, ::-1]
    return frames[:, :, ::-1] if codes[0] in "RAS" else frames


def displayed_directions(image: Image) -> str:
    """Return what is on the left and on the top of a displayed slice, such as ``left R, top A``."""
    codes = axis_codes(image.affine)
    first = {letter: pair[1] for pair in _LETTERS for letter in pair}
    return f"left {first[codes[0]]}, top {first[codes[1]]}"
