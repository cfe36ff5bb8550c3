"""Slice geometry: the anatomical order of the slices of a volume, and slices as a viewer shows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.image import Affine, Array, Image
from crnn_cli.data.orientation import patient_axes, radiological_directions, to_radiological
from crnn_cli.errors import UnsupportedDataError

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Anatomical planes and the patient axis (right, anterior, superior) along which their slices follow each other."""
THICKER = 1.5
"""Ratio of the widest to the next spacing from which on the widest axis is taken as the slice axis."""
SHEAR = 0.02
"""Largest cosine between two voxel axes that still count as perpendicular (1.1 degrees)."""


@dataclass(frozen=True)
class SliceOrder:
    """Anatomical order of a volume's slices, independent of how its axes are stored.

    Slices ascend along the patient axis of their plane (to the right, to anterior, to superior). Rows and columns
    ascend along the other two, in the cyclic order slice, column, row = right, anterior, superior: the system stays
    right-handed, so a reoriented volume is never mirrored.

    Attributes
    ----------
    plane : anatomical plane nearest to the slices, a key of `PLANES`.
    axes : array axes of slice, row and column.
    flips : which of them run the other way in the array.
    spacing : of slice, row and column, in mm.

    Examples
    --------
    >>> order = slice_order(Image(np.zeros((4, 5, 3)), np.diag([-1.0, -1.0, 8.0, 1.0])), "axial")
    >>> order.axes, order.flips, order.to_slices(np.zeros((4, 5, 3))).shape
    ((2, 1, 0), (False, True, True), (3, 5, 4))
    """

    plane: str
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    spacing: tuple[float, float, float]

    def to_slices(self, array: Array) -> Array:
        """Reorder an array (x, y, z) to (slice, row, column); a view."""
        return array.transpose(self.axes)[self._flip]

    def from_slices(self, slices: Array) -> Array:
        """Reorder an array (slice, row, column) to (x, y, z), the inverse of `to_slices`; a view."""
        return slices[self._flip].transpose(np.argsort(self.axes))

    @property
    def _flip(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flip else None) for flip in self.flips)

    def to_display(self, slices: Array) -> Array:
        """Orient slices (..., row, column) as a radiological viewer shows them; a view.

        Superior is on top, in axial slices anterior; the patient's right is on the left, in sagittal slices anterior.
        """
        rows_first = slices.swapaxes(-1, -2) if self.plane == "coronal" else slices
        return rows_first[..., ::-1, ::-1]

    def display_spacing(self) -> tuple[float, float]:
        """Row and column spacing of `to_display` in mm."""
        _, row, column = self.spacing
        return (column, row) if self.plane == "coronal" else (row, column)

    def display_directions(self) -> str:
        """Anatomical directions at the left and the top of `to_display`, such as ``left R, top A``."""
        return {"axial": "left R, top A", "coronal": "left R, top S", "sagittal": "left A, top S"}[self.plane]

    def numbers(self, count: int) -> list[int]:
        """Viewer numbers of ``count`` slices listed in anatomical order.

        Viewers call the first slice in the array 1, so the numbers descend where the slice axis is flipped.
        """
        return list(range(count, 0, -1) if self.flips[0] else range(1, count + 1))


def slice_order(image: Image, across: str | int) -> SliceOrder:
    """Determine the slice order of a volume.

    Parameters
    ----------
    across : a key of `PLANES`: slices lie across the array axis nearest to the patient axis of that plane, however
        oblique; or the number of the array axis itself.
    """
    patients, spacing = patient_axes(image.affine), image.spacing
    patient = PLANES[across] if isinstance(across, str) else patients[across][0]
    by_patient = {axis: voxel for voxel, (axis, _) in enumerate(patients)}
    slice_axis, row, column = (by_patient[axis % 3] for axis in (patient, patient + 2, patient + 1))
    name = next(name for name, axis in PLANES.items() if axis == patient)
    flips = (not patients[slice_axis][1], not patients[row][1], not patients[column][1])
    return SliceOrder(name, (slice_axis, row, column), flips, (spacing[slice_axis], spacing[row], spacing[column]))


def thickest_axis(image: Image) -> int | None:
    """Array axis with the widest spacing, if it is at least `THICKER` times the next; else None.

    >>> thickest_axis(Image(np.zeros((9, 9, 9)), np.diag([0.8, 0.8, 8.0, 1.0])))
    2
    """
    _, middle, widest = sorted(image.spacing)
    return image.spacing.index(widest) if widest >= THICKER * middle else None


def shortest_axis(image: Image) -> int | None:
    """Array axis with at most half the samples of each other axis; None where there is none.

    >>> shortest_axis(Image(np.zeros((9, 4, 9)), np.eye(4)))
    1
    """
    fewest, middle, _ = sorted(image.shape[:3])
    return image.shape.index(fewest) if 2 * fewest <= middle else None


def require_perpendicular(affine: Affine, name: str) -> None:
    """Refuse a sheared grid, whose slices would not lie above each other.

    Parameters
    ----------
    name : how the message calls the image.

    Raises
    ------
    UnsupportedDataError
        If the cosine between two voxel axes exceeds `SHEAR`.
    """
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    worst = float(np.abs(unit.T @ unit - np.eye(3)).max())
    if worst > SHEAR:
        raise UnsupportedDataError(
            f"{name} is sheared: two voxel axes are {np.degrees(np.arccos(worst)):.1f} degrees apart, not 90 (a tilted "
            "gantry, or a damaged header); resample it onto a rectangular grid first"
        )


ALONG_PATIENT_AXIS = 0.99
"""Component of a normal from which on slices count as axial, coronal or sagittal; a heart's short axis is oblique."""
NO_DIRECTIONS = "orientation not known"
"""What a caption says in place of directions."""


def knows_orientation(image: Image) -> bool:
    """Whether a header says how an image lies in the patient; without one its affine is an assumption."""
    return image.codes != (0, 0)


def displayed_slice(image: Image, z: int) -> NDArray[np.generic]:
    """Slice z of a series as a viewer shows it, (T, rows, columns); a view.

    Columns run along the first array axis, rows along the second. Both are flipped so that right, anterior and superior
    come first: the patient's right is on the left of the picture (radiological convention).
    """
    series = image.array if image.array.ndim == 4 else image.array[..., None]
    return to_radiological(series[:, :, z].transpose(2, 1, 0), image.affine)


def displayed_directions(image: Image) -> str:
    """Anatomical directions at the left and the top of `displayed_slice`, as ``left R, top A``; or `NO_DIRECTIONS`."""
    return radiological_directions(image.affine) if knows_orientation(image) else NO_DIRECTIONS
