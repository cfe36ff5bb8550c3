"""In which plane labels were drawn: the array axis across which the drawn slices follow each other.

Drawn slices are sheets: a voxel of one has labelled neighbours along its two axes, and none across, unless the next
slice is drawn too. Labels that are sheets across two axes were drawn in two planes. So were sheets with a stroke
through them: slices in a row that begin beside a drawn one with next to nothing of its area.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crnn_cli.errors import Param, UnsupportedDataError
from crnn_cli.notices import Doubt

Mask = NDArray[np.bool_]
_SHEETS = 0.15
"""Share of the voxels that are sheets across an axis, from which on slices across it were drawn."""
_STROKE, _LONG = 0.1, 3
"""Area of a slice over that of the drawn slice, below which it may be of a stroke; slices in a row that are one."""
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
    occupied = [np.flatnonzero(_areas(mask_XYZ, axis)) for axis in range(3)]
    counts, gaps = [len(each) for each in occupied], [_has_gaps(mask_XYZ, axis) for axis in range(3)]
    fewest, second, _ = sorted(counts)
    if fewest <= _FEW * second:
        return counts.index(fewest)
    return gaps.index(True) if sum(gaps) == 1 else None


def require_plane(mask_XYZ: Mask, axis: int, name: str) -> Doubt | None:
    """Compare the plane that was asked for with the one that was drawn in.

    Parameters
    ----------
    mask_XYZ : voxels with a label, at least one.
    axis : across the plane that was asked for.
    name : of the drawn labels, for messages.

    Returns
    -------
    A doubt where the labels look as if drawn in another plane; None where they do not.

    Raises
    ------
    UnsupportedDataError
        If they were: there are gaps between slices of another plane, and none between those that were asked for.
    """
    found = drawn_axis(mask_XYZ, name)
    if found is None or found == axis:
        return None
    across, asked = "xyz"[found], "xyz"[axis]
    gaps = _has_gaps(mask_XYZ, found), _has_gaps(mask_XYZ, axis)
    if gaps == (False, True):
        return None  # a structure as thin as few slices, drawn across its length
    if gaps == (True, False):
        raise UnsupportedDataError(
            f"the slices of {name} were drawn across the axis {across} of the array, and ", Param("slices"),
            f" asks for slices across {asked}", remedy=("leave ", Param("slices"), " out: the plane is found"),
        )  # fmt: skip
    text = f"{name} looks as if its slices were drawn across the axis {across} of the array, and slices across {asked}"
    return Doubt("drawn-in-another-plane", f"{text} are asked for: every one with a label counts as drawn")


def require_one_plane(mask_XYZ: Mask, name: str) -> None:
    """Refuse labels that are sheets across two axes, or sheets with a stroke through them.

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
    for axis in found:
        first, last = _stroke(mask_XYZ, axis)
        if last:
            raise UnsupportedDataError(
                f"{name} has slices drawn across the axis {'xyz'[axis]} of the array, and a stroke through them: "
                f"slices {first} to {last} hold under {100 * _STROKE:.0f} % of the area of the drawn slice beside them",
                remedy=("erase it; or, if it is meant, name the slices that are drawn with ", Param("fixed", "3,7,12")),
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


def _areas(mask_XYZ: Mask, axis: int) -> NDArray[np.intp]:
    """Labelled voxels of each slice across an axis."""
    areas: NDArray[np.intp] = np.count_nonzero(mask_XYZ, axis=tuple(other for other in range(3) if other != axis))
    return areas


def _has_gaps(mask_XYZ: Mask, axis: int) -> bool:
    """Whether a slice across an axis is empty between others that are not."""
    return bool((np.diff(np.flatnonzero(_areas(mask_XYZ, axis))) > 1).any())


def _stroke(mask_XYZ: Mask, axis: int) -> tuple[int, int]:
    """First and last slice, from 1, of the longest stroke beside a drawn slice; (0, 0) where there is none."""
    area_S = _areas(mask_XYZ, axis)
    longest = (0, 0)
    for drawn in np.flatnonzero(area_S):
        thin_S = (area_S > 0) & (area_S < _STROKE * area_S[drawn])
        after, before = (int(np.argmin([*beside, False])) for beside in (thin_S[drawn + 1 :], thin_S[:drawn][::-1]))
        for length, ends in ((after, (drawn + 2, drawn + 1 + after)), (before, (drawn + 1 - before, drawn))):
            if length >= max(_LONG, longest[1] - longest[0] + 2 if longest[1] else 0):
                longest = int(ends[0]), int(ends[1])
    return longest


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
