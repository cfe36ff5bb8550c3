"""Which slice to draw next: the one that spares most wrong voxels.

A slice s of which e_s voxels are expected to be wrong has none once it is drawn. Slices near it get better too, the
nearer the better:

    gain of drawing s = sum over t of e_t * max(0, 1 - |t - s| / d_t)

where d_t is how many slices t is away from the nearest drawn one. A method is surer of itself than it should be far
from drawn slices, and cannot know where a structure ends beyond the last slice in which it is drawn. So, of the voxels
in doubt, D_t, and those of the nearest slice in which a structure is drawn, A_t,

    e_t = D_t * d_t + (A_t * d_t / 2 if t lies beyond the slices in which a structure is drawn)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crnn_cli.segmentation.drawn.stack import Known

_BEYOND = 0.5
"""Share of the nearest drawn slice that is expected to be wrong one slice beyond it; chosen on validation cases."""


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


def expected_wrong(doubtful_S: NDArray[np.float64], size_S: NDArray[np.int64], known_S: Known) -> NDArray[np.float64]:
    """Voxels of each slice that are expected to be wrong: the formula at the top of this file.

    Parameters
    ----------
    doubtful_S : voxels of each slice that are in doubt, by the method that labelled it.
    size_S : labelled voxels of each slice; only those of drawn slices count.
    known_S : which slices are drawn; a structure is drawn in at least one.
    """
    away_S, slices = distance_to_drawn(known_S), np.arange(len(known_S))
    full = np.flatnonzero(known_S & (size_S > 0))
    beyond_S = (slices < full[0]) | (slices > full[-1])
    nearest_S = full[np.abs(slices[:, None] - full).argmin(axis=1)]
    wrong_S: NDArray[np.float64] = doubtful_S * away_S + np.where(beyond_S, _BEYOND * size_S[nearest_S] * away_S, 0.0)
    return wrong_S


def gain_of_drawing(wrong_S: NDArray[np.float64], known_S: Known) -> NDArray[np.float64]:
    """Voxels that are expected to become right if a slice is drawn; 0 for those that are drawn.

    Parameters
    ----------
    wrong_S : voxels of each slice that are expected to be wrong.
    known_S : which slices are drawn, at least one.
    """
    away_S = np.maximum(1, distance_to_drawn(known_S))
    slices = np.arange(len(known_S))
    nearness_TS = np.maximum(0.0, 1 - np.abs(slices[:, None] - slices) / away_S[:, None])
    open_S = np.where(known_S, 0.0, wrong_S)
    gain_S: NDArray[np.float64] = np.where(known_S, 0.0, (open_S[:, None] * nearness_TS).sum(axis=0))
    return gain_S


def next_to_draw(wrong_S: NDArray[np.float64], known_S: Known, asked_S: Known | None = None) -> int | None:
    """The slice whose drawing gains most; None where all are drawn, or nothing is in doubt.

    Parameters
    ----------
    asked_S : slices that labels are asked for; the others neither count nor are drawn. None for all.
    """
    asked_S = np.ones_like(known_S) if asked_S is None else asked_S
    gain_S = np.where(asked_S, gain_of_drawing(np.where(asked_S, wrong_S, 0.0), known_S), 0.0)
    return int(gain_S.argmax()) if gain_S.max(initial=0.0) > 0 else None
