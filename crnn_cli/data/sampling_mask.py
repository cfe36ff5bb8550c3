"""Sampling masks: acceleration, undersampled axes, and a description in words.

Masks are boolean (Z, T, Y, X): Z slice, T frame, Y phase encoding, X readout (1 where whole lines were measured).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def acceleration(mask_ZTYX: Mask) -> float:
    """Nominal acceleration: grid samples per measured sample, over the slices that are not empty.

    >>> mask_ZTYX = np.zeros((1, 2, 8, 1), bool)
    >>> mask_ZTYX[0, 0, 2:6:2] = mask_ZTYX[0, 1, 3:7:2] = True
    >>> acceleration(mask_ZTYX), effective_acceleration(mask_ZTYX)
    (4.0, 2.0)
    """
    return 1 / float(drop_empty_slices(mask_ZTYX).mean())


def effective_acceleration(mask_ZTYX: Mask) -> float:
    """Acceleration inside the measured region, from the first to the last line that any frame measured.

    Lines beyond it that no frame measured (zero-filled interpolation, partial Fourier) do not count. Outermost lines
    that a random pattern happened to skip do not count either, so the value may be slightly too small.
    """
    return 1 / measured_fraction(drop_empty_slices(mask_ZTYX))


def undersampled_axes(mask_ZTYX: Mask) -> int:
    """Number of undersampled axes: 2 if, inside the measured region, the pattern also varies along the readout."""
    region = crop_to_measured(mask_ZTYX)
    return 1 if (region == region[..., :1]).all() else 2


def describe_pattern(mask_ZTYX: Mask) -> str:
    """Describe a mask in words: lines per frame, central lines common to all frames, and whether it varies over time.

    A line counts if any of its samples was measured. For masks of single samples, their share is given instead.

    >>> mask_ZTYX = np.zeros((1, 2, 8, 1), bool)
    >>> mask_ZTYX[0, :, 4] = mask_ZTYX[0, 0, 1] = mask_ZTYX[0, 1, 6] = True
    >>> describe_pattern(mask_ZTYX)
    '2 of 8 lines a frame, 1 in the middle always, changing over time'
    """
    filled = drop_empty_slices(mask_ZTYX)
    same = "the same in every frame" if (filled == filled[:, :1]).all() else "changing over time"
    if filled.all():
        return "everything was measured"
    if undersampled_axes(mask_ZTYX) == 2:
        return f"{100 * filled.mean():.3g} % of the samples of a frame, along both axes, {same}"
    lines_ZTY: Mask = np.logical_or.reduce(filled, axis=-1)
    fewest, most = int(lines_ZTY.sum(-1).min()), int(lines_ZTY.sum(-1).max())
    always = np.pad(np.logical_and.reduce(lines_ZTY, axis=(0, 1)), 1)
    middle = lines_ZTY.shape[-1] // 2 + 1  # index in the padded axis
    after = int(np.argmin(always[middle:]))
    centre = after + int(np.argmin(always[middle::-1])) - 1 if after else 0
    count = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return f"{count} of {lines_ZTY.shape[-1]} lines a frame, {centre} in the middle always, {same}"


def measured_fraction(mask_ZTYX: Mask) -> float:
    """Fraction of the samples of the measured region that were measured, over all slices and frames."""
    any_frame_YX: Mask = np.logical_or.reduce(mask_ZTYX, axis=(0, 1))
    region = _fill_between(any_frame_YX, 0) | _fill_between(any_frame_YX, 1)
    return float((mask_ZTYX & region).sum() / max(1, mask_ZTYX[:, :, 0, 0].size * int(region.sum())))


def _fill_between(mask: Mask, axis: int) -> Mask:
    """Fill from the first to the last True along an axis."""
    after = np.maximum.accumulate(mask, axis)
    before = np.flip(np.maximum.accumulate(np.flip(mask, axis), axis), axis)
    between: Mask = after & before
    return between


def drop_empty_slices(mask_ZT01: Mask) -> Mask:
    """Mask of the slices in which anything was measured."""
    filled: Mask = mask_ZT01[mask_ZT01.any(axis=(1, 2, 3))]
    return filled


def crop_to_measured(mask_ZT01: Mask) -> Mask:
    """Mask of the slices that are not empty, cropped to the bounding box of all measured samples.

    The box is what the scanner covered; outside it lie zero-filled interpolation and the missing side of partial
    Fourier.
    """
    filled = drop_empty_slices(mask_ZT01)
    boxes = [np.flatnonzero(filled.any(axis=(0, 1, other))) for other in (3, 2)]
    rows, columns = (slice(int(where[0]), int(where[-1]) + 1) for where in boxes)
    region: Mask = filled[..., rows, columns]
    return region
