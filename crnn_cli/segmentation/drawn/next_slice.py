"""Which slice to draw next: the one that spares most wrong voxels.

A slice s of which e_s voxels are expected to be wrong has none once it is drawn. Slices near it get better too, the
nearer the better:

    gain of drawing s = sum over t of e_t * max(0, 1 - |t - s| / d_t)

where d_t is how many slices t is away from the nearest drawn one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crnn_cli.segmentation.drawn.stack import Known


def distance_to_drawn(known_S: Known) -> NDArray[np.int64]:
    """How many slices each slice is away from the nearest drawn one.

    >>> distance_to_drawn(np.array([False, True, False, False, False])).tolist()
    [1, 0, 1, 2, 3]

    Parameters
    ----------
    known_S : at least one slice is drawn.
    """
    drawn = np.flatnonzero(known_S)
    found: NDArray[np.int64] = np.abs(np.arange(len(known_S))[:, None] - drawn).min(axis=1)
    return found


def gain_of_drawing(doubtful_S: NDArray[np.float64], known_S: Known) -> NDArray[np.float64]:
    """Voxels that are expected to become right if a slice is drawn; 0 for those that are drawn.

    Parameters
    ----------
    doubtful_S : voxels of each slice that are expected to be wrong.
    known_S : which slices are drawn, at least one.
    """
    away_S = np.maximum(1, distance_to_drawn(known_S))
    slices = np.arange(len(known_S))
    nearness_TS = np.maximum(0.0, 1 - np.abs(slices[:, None] - slices) / away_S[:, None])
    open_S = np.where(known_S, 0.0, doubtful_S)
    gain_S: NDArray[np.float64] = np.where(known_S, 0.0, (open_S[:, None] * nearness_TS).sum(axis=0))
    return gain_S


def next_to_draw(doubtful_S: NDArray[np.float64], known_S: Known) -> int | None:
    """The slice whose drawing gains most; None where all are drawn, or nothing is in doubt."""
    gain_S = gain_of_drawing(doubtful_S, known_S)
    return int(gain_S.argmax()) if gain_S.max(initial=0.0) > 0 else None
