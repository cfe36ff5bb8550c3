"""Ends of a structure that the network is unsure of, such as a ventricle in the slice of the valves.

At the base a slice shows ventricle or atrium, at the apex cavity or none. There a network says a little of both, and
half a slice is labelled that by the convention of its training counts whole or not at all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST = 2
"""Slices that an end can lose."""


def drop_unsure_ends(
    labels: NDArray[np.uint8], probabilities_K: NDArray[np.float32], axis: int, share: float
) -> NDArray[np.uint8]:
    """Drop the labels of a structure from its outermost slices while they are much less sure than in the others.

    How sure a slice is, is the mean probability of the structure where it is labelled in that slice. A slice is dropped
    if that is below ``share`` of the median over the slices; of each end at most `MOST` are, and one slice is left.

    Parameters
    ----------
    labels : (x, y, z); not changed.
    probabilities_K : (K, x, y, z), of the classes, that the labels were made of.
    axis : of the slices.
    share : from 0, which drops nothing, to 1.

    Returns
    -------
    The labels that stay.
    """
    kept = labels.copy()
    slices_S = np.moveaxis(kept, axis, 0)
    for value in range(1, len(probabilities_K)):
        probability_S = np.moveaxis(probabilities_K[value], axis, 0)
        labelled = [s for s in range(len(slices_S)) if (slices_S[s] == value).any()]
        sure = {s: float(probability_S[s][slices_S[s] == value].mean()) for s in labelled}
        if not sure:
            continue
        least = share * float(np.median(list(sure.values())))
        for ends in (labelled[:MOST], labelled[: -MOST - 1 : -1]):
            for s in ends:
                if sure[s] >= least or len(sure) == 1:
                    break
                slices_S[s][slices_S[s] == value] = 0
                del sure[s]
    return kept
