"""Shapes between drawn slices: interpolation of signed distances, the usual way to fill the slices between drawn ones.

Each drawn slice of a structure becomes its signed distance to the outline, positive inside. Between two drawn slices
distances are interpolated linearly, beyond the first and the last one they are copied. Where one of the two slices is
drawn empty the structure ends half-way between them. A slice is labelled where its distance is positive.

Legend: S slice, Y row, X column.

References
----------
Raya, Udupa: "Shape-based interpolation of multidimensional objects", IEEE Transactions on Medical Imaging 1990.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from SimpleITK import GetArrayFromImage, GetImageFromArray, SignedMaurerDistanceMapImageFilter

Mask = NDArray[np.bool_]
Distances = NDArray[np.float32]
_ABSENT = -1e4
"""Distance, in pixels, in a stack in which no drawn slice has the structure."""


def signed_distance(mask_YX: Mask, spacing: tuple[float, float] = (1.0, 1.0)) -> Distances:
    """Signed distance of pixel centres to the outline of a mask, positive inside; the outline runs between pixels.

    Parameters
    ----------
    mask_YX : at least one pixel inside.
    spacing : of rows and of columns; distances are in its unit.

    Raises
    ------
    ValueError
        If the mask is empty.
    """
    if not mask_YX.any():
        raise ValueError("an empty mask has no outline")
    image = GetImageFromArray(np.pad(mask_YX, 1).astype(np.uint8))
    image.SetSpacing((spacing[1], spacing[0]))
    measured = SignedMaurerDistanceMapImageFilter()
    measured.SquaredDistanceOff()
    measured.UseImageSpacingOn()
    measured.SetNumberOfThreads(1)  # a slice is small
    outside = GetArrayFromImage(measured.Execute(image))[1:-1, 1:-1]
    signed: Distances = (min(spacing) / 2 - outside).astype(np.float32)
    return signed


def interpolate_distances(
    drawn_SYX: Mask, known_S: Mask, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> Distances:
    """Signed distances of a structure in every slice, interpolated between the drawn ones.

    Parameters
    ----------
    drawn_SYX : the structure in the drawn slices; other slices are not looked at.
    known_S : which slices are drawn, at least one.
    spacing : between slices, of rows, of columns.

    Returns
    -------
    (S, Y, X) in the unit of the spacing, positive inside; far below zero everywhere if all drawn slices are empty.

    Raises
    ------
    ValueError
        If no slice is drawn.
    """
    drawn = [int(s) for s in np.flatnonzero(known_S)]
    if not drawn:
        raise ValueError("no slice is drawn")
    pixel = (spacing[1], spacing[2])
    full = {s: signed_distance(drawn_SYX[s], pixel) for s in drawn if drawn_SYX[s].any()}
    found_SYX = np.full(drawn_SYX.shape, _ABSENT * max(pixel), np.float32)
    for s in range(len(drawn_SYX)):
        before = max((d for d in drawn if d <= s), default=drawn[0])
        after = min((d for d in drawn if d >= s), default=drawn[-1])
        if before in full or after in full:
            share = 0.0 if before >= after else (s - before) / (after - before)
            found_SYX[s] = between_distances(full.get(before), full.get(after), share)
    return found_SYX


def nearest_drawn(known_S: Mask) -> NDArray[np.int64]:
    """Index of the drawn slice nearest to each slice; of two as near, the one before.

    Parameters
    ----------
    known_S : which slices are drawn, at least one.
    """
    drawn = np.flatnonzero(known_S)
    slices = np.arange(len(known_S))
    nearest: NDArray[np.int64] = drawn[np.abs(slices[:, None] - drawn[None]).argmin(axis=1)]
    return nearest


def between_distances(before_YX: Distances | None, after_YX: Distances | None, share: float) -> Distances:
    """Signed distances at a share of the way between two slices.

    Parameters
    ----------
    before_YX, after_YX : of the two slices; None for the one that is empty, if one is.
    share : 0 at the slice before, 1 at the one after.
    """
    if before_YX is None:
        assert after_YX is not None
        before_YX = after_YX - 2 * after_YX.max()
    if after_YX is None:
        after_YX = before_YX - 2 * before_YX.max()
    return (1 - share) * before_YX + share * after_YX
