"""Whether the frames of a beating heart follow each other: a closed way through all of them that is hardly too long.

In a cine each frame is most like its neighbours. Frames that were shuffled make a longer way than some other order of
the same frames does. Of 42 human cines and one of a pig, whole or cut to 5 to 11 frames, the way was at most 9 % longer
than the best that was found, in single slices 19 %. Shuffled frames make it more than 10 % longer in 7 of 10 cuts to
five frames, 8 of 10 to six, 95 of 100 to seven, and nearly always from eight on.

Legend: X, Y in a slice, T frame.

References
----------
Croes: "A method for solving traveling-salesman problems", Operations Research 6(6), 1958, for the search (2-opt).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FEWEST = 5
"""Frames from which on their order can be told."""
MOST = 100
"""Frames up to which the search takes less than a second."""
TOO_LONG = 0.1
"""Detour of a stack above which its frames are not in order."""
_BLOCK = 4  # pixels of a block that count by their mean: noise goes, motion stays

Distances = NDArray[np.float64]


def image_distances(slice_XYT: NDArray[Any]) -> Distances:
    """Mean absolute difference of every two frames of a slice, of means over blocks; (T, T)."""
    x, y = (size - size % _BLOCK if size >= _BLOCK else size for size in slice_XYT.shape[:2])
    width, height = (min(_BLOCK, size) for size in (x, y))
    blocks = np.abs(slice_XYT[:x, :y]).astype(np.float32).reshape(x // width, width, y // height, height, -1)
    frames_T = blocks.mean(axis=(1, 3)).reshape(-1, slice_XYT.shape[2]).T
    return np.array([np.abs(frames_T - one).mean(axis=1) for one in frames_T], np.float64)


def label_distances(slice_XYT: NDArray[Any]) -> Distances:
    """Voxels whose label differs, of every two frames of a slice; (T, T)."""
    frames_T = slice_XYT.reshape(-1, slice_XYT.shape[2]).T
    frames_T = frames_T[:, (frames_T != frames_T[0]).any(axis=0)]
    return np.array([np.count_nonzero(frames_T != one, axis=1) for one in frames_T], np.float64)


def detour(distances_TT: Distances) -> float:
    """How much longer the closed way through the frames in their order is than the best that is found; 0 for none.

    More frames than `MOST` are not judged: 0.

    >>> place = np.array([0.0, 1, 2, 3, 2.5, 1.5, 0.5])
    >>> detour(np.abs(place[:, None] - place))
    0.0
    >>> shuffled = place[[0, 4, 1, 5, 2, 6, 3]]
    >>> round(detour(np.abs(shuffled[:, None] - shuffled)), 2)
    1.0
    """
    count = len(distances_TT)
    if count > MOST:
        return 0.0
    starts = [np.arange(count), *(_nearest(distances_TT, first) for first in range(count))]
    own, best = _length(distances_TT, starts[0]), min(_shortened(distances_TT, order) for order in starts)
    return own / best - 1 if best > 0 else 0.0


def _length(distances_TT: Distances, order: NDArray[np.intp]) -> float:
    return float(distances_TT[order, np.roll(order, -1)].sum())


def _nearest(distances_TT: Distances, first: int) -> NDArray[np.intp]:
    """Order in which the nearest frame of those that are left comes next."""
    order, left = [first], [each for each in range(len(distances_TT)) if each != first]
    while left:
        order.append(min(left, key=lambda each: distances_TT[order[-1], each]))
        left.remove(order[-1])
    return np.array(order)


def _shortened(distances_TT: Distances, order: NDArray[np.intp]) -> float:
    """Length of the way after turning parts of it round as long as that makes it shorter."""
    order = order.copy()
    least = 1e-9 * _length(distances_TT, order)
    while True:
        after = np.roll(order, -1)
        step = distances_TT[order, after]
        gain = step[:, None] + step - distances_TT[np.ix_(order, order)] - distances_TT[np.ix_(after, after)]
        gain[np.tril_indices(len(order), 1)] = 0
        first, last = np.unravel_index(gain.argmax(), gain.shape)
        if gain[first, last] <= least:
            return _length(distances_TT, order)
        order[first + 1 : last + 1] = order[first + 1 : last + 1][::-1].copy()
