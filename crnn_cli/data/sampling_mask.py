"""What a sampling mask says: how much was measured, and along which axes it is undersampled.

Legend: Z slice, T frame, Y phase encoding, X readout (1 where whole lines were measured).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def acceleration(mask_ZTYX: Mask) -> float:
    """Return samples of the grid over samples measured, in slices that are not empty."""
    return 1 / float(drop_empty_slices(mask_ZTYX).mean())


def effective_acceleration(mask_ZTYX: Mask) -> float:
    """Return the same inside the measured region: without what no frame measured at the edge.

    Zero-filled interpolation and partial Fourier are left out; so are outermost lines that chance left out.
    """
    return 1 / measured_fraction(drop_empty_slices(mask_ZTYX))


def undersampled_axes(mask_ZTYX: Mask) -> int:
    """Return 2 if, inside the measured region, the pattern also changes along the readout, else 1."""
    cut = crop_to_measured(mask_ZTYX)
    return 1 if (cut == cut[..., :1]).all() else 2


def describe_pattern(mask_ZTYX: Mask) -> str:
    """Return in words how many lines a frame has, how many in the middle every frame has, and whether they change.

    A line counts where any of its samples was measured; where single samples were, their share is said instead.
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
    middle = lines_ZTY.shape[-1] // 2 + 1  # of the padded axis
    after = int(np.argmin(always[middle:]))
    centre = after + int(np.argmin(always[middle::-1])) - 1 if after else 0
    count = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return f"{count} of {lines_ZTY.shape[-1]} lines a frame, {centre} in the middle always, {same}"


def measured_fraction(mask_ZTYX: Mask) -> float:
    """Return the share of the measured region that was measured."""
    ever: Mask = np.logical_or.reduce(mask_ZTYX, axis=(0, 1))
    region = _between(ever, 0) | _between(ever, 1)
    return float((mask_ZTYX & region).sum() / max(1, mask_ZTYX[:, :, 0, 0].size * int(region.sum())))


def _between(ever: Mask, axis: int) -> Mask:
    """Return what lies between the first and the last True along an axis, both included."""
    after = np.maximum.accumulate(ever, axis)
    before = np.flip(np.maximum.accumulate(np.flip(ever, axis), axis), axis)
    between: Mask = after & before
    return between


def drop_empty_slices(mask_ZT01: Mask) -> Mask:
    """Return the mask of the slices of which anything was measured."""
    filled: Mask = mask_ZT01[mask_ZT01.any(axis=(1, 2, 3))]
    return filled


def crop_to_measured(mask_ZT01: Mask) -> Mask:
    """Return the mask of the slices that are not empty, cut to the box that holds every measured sample."""
    filled = drop_empty_slices(mask_ZT01)
    boxes = [np.flatnonzero(filled.any(axis=(0, 1, other))) for other in (3, 2)]
    rows, columns = (slice(int(where[0]), int(where[-1]) + 1) for where in boxes)
    cut: Mask = filled[..., rows, columns]
    return cut
