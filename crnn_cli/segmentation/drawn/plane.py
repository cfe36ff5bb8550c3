"""In which plane labels were drawn: the array axis across which the drawn slices follow each other.

Drawn slices are sheets: a voxel of one has labelled neighbours along its two axes, and none across, unless the next
slice is drawn too. Labels that are sheets across two axes were drawn in two planes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crnn_cli.errors import Param, UnsupportedDataError

Mask = NDArray[np.bool_]
_SHEETS = 0.15
"""Share of the voxels that are sheets across an axis, from which on slices across it were drawn."""
_FEW = 0.5
"""Slices across the plane that was drawn, relative to those across any other axis, at most, where these alone tell."""


def drawn_axis(mask_XYZ: Mask, name: str) -> int | None:
    """Find the axis across which slices were drawn; None where the labels alone do not tell.

    Parameters
    ----------
    mask_XYZ : voxels with a label, at least one.
    name : of the drawn labels, for messages.

    Raises
    ------
    UnsupportedDataError
        If slices across two axes were drawn.
    """
    require_one_plane(mask_XYZ, name)
    counts, gaps = [], []
    for axis in range(3):
        occupied = np.flatnonzero(mask_XYZ.any(axis=tuple(other for other in range(3) if other != axis)))
        counts.append(len(occupied))
        gaps.append(bool((np.diff(occupied) > 1).any()))
    fewest, second, _ = sorted(counts)
    if fewest <= _FEW * second:
        return counts.index(fewest)
    return gaps.index(True) if sum(gaps) == 1 else None


def require_one_plane(mask_XYZ: Mask, name: str) -> None:
    """Refuse labels that are sheets across two axes.

    Parameters
    ----------
    mask_XYZ : voxels with a label, at least one.
    name : of the drawn labels, for messages.

    Raises
    ------
    UnsupportedDataError
        If slices across two axes were drawn.
    """
    shares = sheet_shares(mask_XYZ)
    found = [axis for axis in range(3) if shares[axis] >= _SHEETS]
    if len(found) > 1:
        listed = " and ".join("xyz"[axis] for axis in found)
        raise UnsupportedDataError(
            f"{name} has slices drawn in two planes, across the axes {listed} of the array",
            remedy=("keep the slices of one plane, and draw more of them",),
        )


def sheet_shares(mask_XYZ: Mask) -> tuple[float, float, float]:
    """Share of the labelled voxels, by axis, with labelled neighbours along the other two axes and none along it.

    >>> mask = np.zeros((9, 9, 9), bool)
    >>> mask[2:7, 2:7, [1, 5]] = True
    >>> sheet_shares(mask)
    (0.0, 0.0, 1.0)
    """
    x, y, z = (_has_neighbour(mask_XYZ, axis) for axis in range(3))
    sheets = (mask_XYZ & y & z & ~x, mask_XYZ & x & z & ~y, mask_XYZ & x & y & ~z)
    whole = max(1, int(mask_XYZ.sum()))
    across_x, across_y, across_z = (int(sheet.sum()) / whole for sheet in sheets)
    return across_x, across_y, across_z


def _has_neighbour(mask_XYZ: Mask, axis: int) -> Mask:
    """Voxels beside a labelled one along an axis."""
    lines = np.moveaxis(mask_XYZ, axis, 0)
    beside = np.zeros(lines.shape, bool)
    beside[1:] |= lines[:-1]
    beside[:-1] |= lines[1:]
    return np.moveaxis(beside, 0, axis)


def axis_unknown(name: str) -> UnsupportedDataError:
    """The error for labels of which nothing tells in which plane they were drawn."""
    return UnsupportedDataError(
        f"nothing tells in which plane the slices of {name} were drawn",
        remedy=("say ", Param("slices", "axial"), ", coronal or sagittal"),
    )
