"""The part of a slice that a picture shows: where the labels are, or where the heart moves.

Legend: T frame, Y row and X column of a slice as displayed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Region = tuple[slice, slice]
"""Rows and columns."""
WHOLE: Region = (slice(None), slice(None))
_SMALL = 0.6  # a region is worth a crop where it is, with its margin, at most this part of the slice
_MARGIN = 0.35  # around the region, in parts of its longer side
_SMOOTH = 5.0  # mm, standard deviation
_MOVING = 0.4  # of the strongest motion


def region_around(used_YX: NDArray[np.bool_], spacing: tuple[float, float]) -> Region | None:
    """Rows and columns around the pixels used, with a margin; None where all may as well be shown, or none is used.

    Parameters
    ----------
    spacing : row and column spacing in mm.
    """
    if not used_YX.any():
        return None
    indices = [np.flatnonzero(used_YX.any(axis=axis)) for axis in (1, 0)]
    margin = _MARGIN * max((along[-1] - along[0] + 1) * step for along, step in zip(indices, spacing, strict=True))
    rows, columns = (
        slice(max(0, along[0] - math.ceil(margin / step)), along[-1] + 1 + math.ceil(margin / step))
        for along, step in zip(indices, spacing, strict=True)
    )
    return (rows, columns) if used_YX[rows, columns].size <= _SMALL * used_YX.size else None


def moving_region(frames_TYX: NDArray[np.floating], spacing: tuple[float, float]) -> Region | None:
    """Rows and columns around the place that moves most, the heart in a cine; None to show all.

    It is the piece with the most motion among those where the standard deviation over time, smoothed by 5 mm, is at
    least 0.4 of its maximum.

    Parameters
    ----------
    frames_TYX : magnitudes.
    spacing : row and column spacing in mm.
    """
    from scipy import ndimage

    if len(frames_TYX) < 2:
        return None
    motion = ndimage.gaussian_filter(frames_TYX.std(axis=0, dtype=np.float64), [_SMOOTH / step for step in spacing])
    if not motion.max() > 0:
        return None
    pieces, count = ndimage.label(motion >= _MOVING * motion.max())
    sums = ndimage.sum_labels(motion, pieces, range(1, count + 1))
    return region_around(pieces == 1 + int(np.argmax(sums)), spacing)
