"""Checks that an array is centred k-space, and detection of its measured samples.

Legend: C coil, T frame, Y phase encoding, X readout.

The energy of k-space has its peak in the middle along kx, ky and kz; along coils, frames and slices it has none. The
share of the energy in the middle quarter of an axis, less what a flat axis would have there, says which is which:
0 for a flat axis, 1 where all is in the middle; 0.5 and more for k-space, undersampled and noisy scans included.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.acquisition import ZERO, Complex
from crnn_cli.data.sampling_mask import Mask
from crnn_cli.errors import Param, UnsupportedDataError
from crnn_cli.io.kspace.convention import image_axes

Profile = NDArray[np.float64]
_SHORTEST = 8
"""Shortest axis along which a peak is told from chance."""
_FLAT = 0.05
_LOW = 0.15
_PEAKED = 0.5
_FAR = 0.4
_REMEDY = ("name the axes in their stored order with ", Param("axes"))
_AS_IT_IS = (*_REMEDY, " (x or y where an image lies along one), or say what the values are with ",
             Param("kind", "image"), " or ", Param("kind", "kspace"))  # fmt: skip
_DIFFERENT = 0.02
"""Share of the samples that one coil may have and another not."""


def require_kspace(kspace: Complex, names: tuple[str, ...], title: str, taken: str, certain: bool = False) -> None:
    """Refuse an array whose values say that an axis is not what it is called, or that it is not centred.

    Parameters
    ----------
    names : of the axes of the array, the first being the coils and the second time; those that begin with k are
        compared with the others.
    title, taken : name of the array, and the axes that it was taken to have, for the message.
    certain : the user says that it is k-space: only the lengths of the axes are looked at.

    Raises
    ------
    UnsupportedDataError
        If the peak along a k-space axis is not in the middle, or there is none; if the array holds images; if coils
        were sampled differently.
    """
    short = [
        f"{name} {n}" for name, n in zip(names, kspace.shape, strict=True) if name in ("ky", "kx") and n < _SHORTEST
    ]
    if short:
        raise UnsupportedDataError(f"{title}: the axes were taken as {taken}: {short[0]} is too short for an image")
    if certain:
        return
    start = f"{title}: the axes were taken as {taken}, but "
    _require_peaks(kspace, names, start)
    _require_no_image(kspace, names, start)
    _require_same_sampling(kspace, start)


def _require_no_image(kspace: Complex, names: tuple[str, ...], start: str) -> None:
    """Refuse images, and arrays that are transformed along some axes only."""
    found = image_axes(kspace, names)
    if not found:
        return
    wanted = tuple(name for name in names if name[0] == "k" and kspace.shape[names.index(name)] > 1)
    what = "images" if set(found) >= set(wanted) else f"an image along {' and '.join(found)}"
    renamed = ", ".join(f"{name[1:]} instead of {name}" for name in found)
    raise UnsupportedDataError(
        f"{start}the values are those of {what}, not of k-space: an inverse transform concentrates their energy",
        remedy=(f"name the axes so ({renamed}) with ", Param("axes"), ", or say what they are with ",
                Param("kind", "image"), " or ", Param("kind", "kspace")),
    )  # fmt: skip


def _require_same_sampling(kspace_CT: Complex, start: str) -> None:
    """Refuse coils of which one has samples where another has none; coils of zeros do not count."""
    measured_C = kspace_CT[kspace_CT.any(axis=tuple(range(1, kspace_CT.ndim)))] != 0
    ever = np.logical_or.reduce(measured_C, axis=0)
    worst = max(float((ever & ~each).sum() / ever.sum()) for each in measured_C)
    if worst > _DIFFERENT:
        raise UnsupportedDataError(
            f"{start}along coil the sampling differs: one lacks {100 * worst:.0f} % of the samples that others have. "
            "Receive coils measure at the same time; such an axis is time, or slices",
            remedy=_AS_IT_IS,
        )


def _require_peaks(kspace: Complex, names: tuple[str, ...], start: str) -> None:
    """Refuse energy that has no peak in the middle along kx, ky and kz."""
    power = np.abs(kspace / np.abs(kspace).max()) ** 2
    profiles = {name: _profile(power, axis) for axis, name in enumerate(names)}
    profiles = {name: profile for name, profile in profiles.items() if (profile > 0).sum() >= 3}
    chance = 2 / math.sqrt(np.count_nonzero(power))
    others = [name for name, profile in profiles.items() if name[0] != "k" and _peaked(name, profile)]
    for name in (name for name in profiles if name[0] == "k"):
        profile = profiles[name]
        middle = peakedness(profile)
        below = max((peakedness(profiles[other]) for other in others), default=0.0) - middle
        if others and (middle < _LOW or below > _FAR or not _peaks_in_the_middle(profile)):
            raise UnsupportedDataError(
                f"{start}along {name} the energy has no peak in the middle, as k-space must, and along {others[0]} it "
                "has one",
                remedy=_AS_IT_IS,
            )
        if len(profile) < _SHORTEST:
            continue
        _require_centred(profile, name, start)
        if middle < _FLAT - chance:
            raise UnsupportedDataError(
                f"{start}along {name} the energy is the same everywhere: that is time, coils, slices, an image, or "
                "noise, not k-space",
                remedy=_AS_IT_IS,
            )


def peaks_along(values: Complex) -> list[int]:
    """Axes of an array along which the energy has its peak in the middle, as k-space has."""
    power = np.abs(values / max(float(np.abs(values).max()), 1e-30)) ** 2
    return [axis for axis in range(power.ndim) if _peaked("", _profile(power, axis))]


def _profile(power: NDArray[np.floating], axis: int) -> Profile:
    """Mean energy of the measured samples along an axis; where none was measured, interpolated."""
    others = tuple(a for a in range(power.ndim) if a != axis)
    count = np.count_nonzero(power, axis=others)
    profile = power.sum(axis=others, dtype=np.float64) / np.maximum(1, count)
    sampled = np.flatnonzero(count)
    filled: Profile = np.interp(np.arange(len(profile)), sampled, profile[sampled], left=0.0, right=0.0)
    return filled


def peakedness(profile: Profile, index: int | None = None) -> float:
    """Share of the energy in the quarter of an axis around an index, above that of a flat axis.

    Parameters
    ----------
    profile : mean energy along the axis.
    index : None for the middle.

    Returns
    -------
    0 for a flat axis, 1 where all energy lies in the quarter; negative where less lies there than of a flat axis.
    """
    n = len(profile)
    half = max(1, n // 8)
    rolled = np.roll(profile, n // 2 - (n // 2 if index is None else index))
    flat = 2 * half / n
    share = float(rolled[n // 2 - half : n // 2 + half].sum() / profile.sum())
    return (share - flat) / (1 - flat) if flat < 1 else 0.0


def _require_centred(profile: Profile, name: str, start: str) -> None:
    n = len(profile)
    peaks = [peakedness(profile, index) for index in range(n)]
    best = int(np.argmax(peaks))
    if peaks[best] < 0.3 or peakedness(profile) > peaks[best] / 2 or abs(best - n // 2) <= n // 8:
        return
    if min(best, n - best) <= n // 8:
        advice = (
            f"along {name} the energy lies at the ends of the axis, not in the middle: the array is in the order of a "
            "plain FFT. Centre it first, with fftshift along the k-space axes; its images must be centred as well"
        )
    else:
        advice = (
            f"along {name} the energy has its peak at index {best} of {n}, not in the middle: pad it with zeros until "
            "the middle of k-space is in the middle of the axis"
        )
    raise UnsupportedDataError(start + advice)


def _peaked(name: str, profile: Profile) -> bool:
    n = len(profile)
    needed = _PEAKED if n >= 2 * _SHORTEST and name != "coil" else 0.8
    return n >= _SHORTEST and peakedness(profile) > needed and _peaks_in_the_middle(profile)


def _peaks_in_the_middle(profile: Profile) -> bool:
    n = len(profile)
    return abs(int(np.argmax(profile)) - n // 2) <= max(1, n // 8)


def measured(kspace_CTYX: Complex) -> Mask:
    """Sampling mask of zero-filled k-space, (T, Y, X), X of 1 where whole lines were measured; all False for zeros.

    A line counts as not measured where its r.m.s. over coils and samples is below `ZERO` of the strongest. Where lines
    do not explain the zeros, the same is decided for each sample, over coils alone.
    """
    peak = max(float(np.abs(kspace_TYX).max()) for kspace_TYX in kspace_CTYX)
    if not peak:
        return np.zeros((*kspace_CTYX.shape[1:3], 1), np.bool_)
    power_TYX = np.zeros(kspace_CTYX.shape[1:], np.float32)
    for kspace_TYX in kspace_CTYX:  # a coil at a time: memory for one is enough
        power_TYX += np.abs(kspace_TYX / np.float32(peak)) ** 2
    power_TYX /= np.float32(len(kspace_CTYX))
    lines_TY, lines_TX = (np.sqrt(power_TYX.mean(axis=axis)) for axis in (2, 1))
    floors = [ZERO * float(lines.max()) for lines in (lines_TY, lines_TX)]
    by_lines: Mask = (lines_TY > floors[0])[:, :, None] & (lines_TX > floors[1])[:, None, :]
    samples: Mask = np.sqrt(power_TYX) > max(floors)
    mask = by_lines if float(samples[by_lines].mean()) >= 0.95 else samples
    return np.ascontiguousarray(mask[..., :1] if (mask == mask[..., :1]).all() else mask)


def measured_exactly(kspace_CTYX: Complex, mask_TYX: Mask) -> Mask:
    """Part of a mask of readouts that is not exactly zero in all coils, (T, Y, X), X of 1 for whole lines.

    A single sample of zero is chance. Columns in which every readout is zero were not measured; and where more than
    5 % of the other samples are zero, each of these was not.
    """
    lines_TY = mask_TYX.any(-1)
    mask_NX = mask_TYX[lines_TY]
    nonzero_NX: Mask = np.logical_or.reduce([kspace_TYX[lines_TY] != 0 for kspace_TYX in kspace_CTYX])
    by_columns: Mask = mask_NX & nonzero_NX.any(0)
    if by_columns.any() and float(nonzero_NX[by_columns].mean()) < 0.95:
        by_columns &= nonzero_NX
    if (by_columns == mask_NX).all():
        return mask_TYX
    measured_TYX = np.zeros(kspace_CTYX.shape[1:], np.bool_)
    measured_TYX[lines_TY] = by_columns
    return measured_TYX


def require_every_frame(mask_TYX: Mask, title: str) -> None:
    """Raise UnsupportedDataError where some frames of a slice have samples and others none."""
    empty = np.flatnonzero(~mask_TYX.any(axis=(1, 2)))
    if 0 < len(empty) < len(mask_TYX):
        raise UnsupportedDataError(
            f"{title}: {len(empty)} of {len(mask_TYX)} frames have no measured sample, the first is frame "
            f"{int(empty[0]) + 1}",
            remedy=("leave such frames out with ", Param("drop_empty")),
        )


def has_gaps(mask: Mask) -> bool:
    """Whether a 1-D mask has a False between its first and its last True."""
    indices = np.flatnonzero(mask)
    return bool(len(indices) and indices[-1] - indices[0] + 1 > len(indices))
