"""Fourier convention of arrays: images where k-space is expected, and images rolled by half a field of view.

Arrays of k-space come from many hands. Along an axis of k-space energy is concentrated in few samples, and an inverse
transform spreads it; along an axis of an image it is the other way round. K-space made by ``fftshift(fft2(x))``,
without an ``ifftshift`` of the image, or with alternating signs, gives images whose object lies across the borders of
the field of view. Both show in the data.

Legend: C coil, T frame.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.acquisition import Complex
from crnn_cli.data.raw_scan import image_to_kspace_along, kspace_to_image_along
from crnn_cli.io.kspace.stored_array import Index, StoredArray, Values
from crnn_cli.notices import Doubt

_IMAGE = 0.9
"""Spread of the energy after an inverse transform over that before, below which an axis is one of an image."""
_BORDER = 0.1
"""Width of the border of the field of view, as a share of it."""
_EMPTIER, _EMPTIER_SOME = 0.75, 0.65
"""How much darker the border must be after a roll along all axes, and after one along some of them."""
_LEAST_LINES = 6
_MOST_SAMPLES = 2**22
"""Samples that are looked at."""
_TO_KSPACE = {"x": "kx", "y": "ky", "z": "kz"}


def image_axes(kspace: Complex, names: tuple[str, ...]) -> list[str]:
    """Names of the axes that begin with k along which an array looks like an image.

    Parameters
    ----------
    kspace : array whose axes have the ``names``, the first being the coils.
    """
    found = []
    kspace = _thinned(kspace)
    before = _spread(kspace)
    for axis, name in enumerate(names):
        if name[0] == "k" and _spread(kspace_to_image_along(kspace, axis)) < _IMAGE * before:
            found.append(name)
    return found


def _thinned(kspace_CT: Complex) -> Complex:
    """Every n-th coil and frame of a large array, so that a look at it takes a moment; at least 8 coils stay."""
    step = max(1, min(len(kspace_CT) // 8, -(-kspace_CT.size // _MOST_SAMPLES)))
    fewer: Complex = kspace_CT[::step]
    frames = kspace_CT.shape[1]
    later: Complex = fewer[:, :: max(1, min(frames, -(-fewer.size // _MOST_SAMPLES)))]
    return later if later.any() else kspace_CT


def _spread(array: Complex) -> float:
    """Number of samples, as a share of all, that would hold the energy if each had the same; coils together."""
    power = np.sum(np.abs(array / np.abs(array).max()) ** 2, axis=0, dtype=np.float64)
    return float(power.sum() ** 2 / (power.size * (power**2).sum()))


def rolled_axes(kspace: Complex, names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the axes along which the object lies across the border of the field of view, the middle being empty.

    The time average of the fully sampled centre is compared with copies of it that are rolled by half a field of view:
    one must leave the border much darker.

    Parameters
    ----------
    kspace : (C, T, ...) with the ``names``.
    """
    image = _image_of_centre(_thinned(kspace))
    k_names = names[2:]
    if image is None:
        return ()
    axes = tuple(range(image.ndim))
    borders = {
        rolled: _border(np.roll(image, [image.shape[a] // 2 for a in rolled], rolled))
        for n in range(image.ndim + 1) for rolled in itertools.combinations(axes, n)
    }  # fmt: skip
    best = min(borders, key=lambda rolled: borders[rolled])
    limit = _EMPTIER if best == axes else _EMPTIER_SOME
    return tuple(k_names[a] for a in best) if borders[best] < limit * borders[()] else ()


def _image_of_centre(kspace: Complex) -> NDArray[np.float64] | None:
    """Root of the sum of squares of the time-averaged centre of k-space; None where that is not fully sampled."""
    peak = np.abs(kspace).max()
    count = np.count_nonzero(kspace.any(axis=0), axis=0)
    mean = (kspace / peak).sum(axis=1) / np.maximum(count, 1)
    for axis in range(count.ndim):
        others = tuple(a for a in range(count.ndim) if a != axis)
        first, last = _central_run(count.any(axis=others))
        if last - first < min(_LEAST_LINES, count.shape[axis]):
            return None
        window = np.zeros(count.shape[axis], np.float32)
        window[first:last] = 1
        mean = mean * window.reshape([-1 if a == axis else 1 for a in range(count.ndim)])
        mean = kspace_to_image_along(mean.astype(np.complex64), axis + 1)
    image: NDArray[np.float64] = np.sqrt(np.sum(np.abs(mean) ** 2, axis=0, dtype=np.float64))
    return image


def _central_run(seen: NDArray[np.bool_]) -> tuple[int, int]:
    """First and one past the last index of the run of true values around the middle."""
    gaps = np.flatnonzero(~seen)
    middle = len(seen) // 2
    before, after = gaps[gaps < middle], gaps[gaps >= middle]
    return int(before[-1]) + 1 if len(before) else 0, int(after[0]) if len(after) else len(seen)


def _border(image: NDArray[np.float64]) -> float:
    """Mean brightness of the border of an image over that of the whole."""
    inside = image[tuple(slice(max(1, round(_BORDER * n)), n - max(1, round(_BORDER * n))) for n in image.shape)]
    return float((image.sum() - inside.sum()) / (image.size - inside.size) / image.mean())


def with_kspace_axes(stored: StoredArray, names: tuple[str, ...]) -> tuple[StoredArray, tuple[str, ...]]:
    """Array whose image axes x, y and z are transformed to k-space whenever a part is fetched, and its names.

    Parts must be whole along those axes.
    """
    axes = [axis for axis, name in enumerate(names) if name in _TO_KSPACE]
    if not axes:
        return stored, names

    def fetch(index: Index) -> Values:
        part = np.asarray(stored.fetch(index)).astype(np.complex64)
        for axis in axes:
            part = image_to_kspace_along(part, _place(axis, index))
        return part

    return replace(stored, fetch=fetch), tuple(_TO_KSPACE.get(name, name) for name in names)


def with_object_in_middle(stored: StoredArray, names: tuple[str, ...], rolled: tuple[str, ...]) -> StoredArray:
    """Array whose images are rolled back by half a field of view along axes, by the phase of its samples.

    Parts must be whole along those axes. The array itself where there are none.
    """
    if not rolled:
        return stored
    axes = [names.index(name) for name in rolled]

    def fetch(index: Index) -> Values:
        part: NDArray[Any] = np.asarray(stored.fetch(index)).astype(np.complex64)
        for axis in axes:
            at = _place(axis, index)
            part *= _half_turn(part.shape[at]).reshape([-1 if a == at else 1 for a in range(part.ndim)])
        return part

    text = (
        f"along {' and '.join(rolled)} the object lies across the border of the field of view, as in k-space made by "
        "fftshift(fft2(x)), whose signs alternate: the images were rolled by half a field of view"
    )
    return replace(stored, fetch=fetch, remarks=(*stored.remarks, Doubt("rolled-by-half", text)))


def _half_turn(n: int) -> Complex:
    """Phases of n samples of centred k-space that roll the image by - (n // 2) pixels; alternating signs for even n."""
    k = np.arange(n) - n // 2
    if n % 2 == 0:
        signs: Complex = np.where(k % 2, -1, 1).astype(np.complex64)
        return signs
    phases: Complex = np.exp(2j * np.pi * k * (n // 2) / n).astype(np.complex64)
    return phases


def _place(axis: int, index: Index) -> int:
    """Axis of a fetched part that is an axis of the array, of which integers in the index took out some."""
    return sum(isinstance(i, slice) for i in index[:axis])
