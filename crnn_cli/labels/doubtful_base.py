"""Slices at the base of the heart in which a network labels what annotators leave out, such as an atrium.

The base moves towards the apex in systole: a slice that shows a ventricle in end diastole may show an atrium or an
outflow tract in end systole. There a network says a little of both, or labels a part of the ventricle that the next
slice shows whole. Two measures tell, each of a slice and a structure:

certainty  the mean probability of the structure where it is labelled in the slice, relative to the median over its
           slices
cover      the mean probability of the structure in the slice over the region that is labelled in the next slice
           towards the apex; an atrium lies over a part of the ventricle only

The base is the end of the stack at which all structures together are clearly wider. In the manual labels of 65 patients
(ACDC, two frames each) it is the wider end in all, clearly so in 129 of 130. In seven slices from the middle of these
hearts an end is clearly wider in 120, and it is the base in 119. Where none is, nothing is dropped.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from crnn_cli.labels.base_rule import BaseRule

MOST = 2
"""Slices that the base of a structure can lose."""
CLEARLY = 0.1
"""Difference of the halves of the stack, relative to both together, from which on one end is the wider one."""

Slices = NDArray[np.bool_]
Labels = NDArray[np.uint8]
Probabilities = NDArray[np.float32]


def drop_doubtful_base(labels: Labels, probabilities_K: Probabilities, axis: int, rule: BaseRule) -> Labels:
    """Drop the labels of a structure from its outermost slices at the base while they break a rule.

    Parameters
    ----------
    labels, probabilities_K, axis : as of `doubtful_slices`.

    Returns
    -------
    The labels that stay.
    """
    return without_slices(labels, doubtful_slices(labels, probabilities_K, axis, rule), axis)


def doubtful_slices(labels: Labels, probabilities_K: Probabilities, axis: int, rule: BaseRule) -> Slices:
    """Find the slices at the base in which a structure breaks a rule, outermost first, up to the first that does not.

    At most `MOST` slices of a structure are, and one is not. Where neither end of the stack is clearly wider, none is.

    Parameters
    ----------
    labels : (x, y, z); not changed.
    probabilities_K : (K, x, y, z), of the classes, that the labels were made of.
    axis : of the slices.

    Returns
    -------
    (K - 1, S) of structure 1, 2, ..., and slice in the order of the array.
    """
    slices_S = np.moveaxis(labels, axis, 0)
    probabilities_KS = np.moveaxis(probabilities_K, axis + 1, 1)
    found_KS: Slices = np.zeros((len(probabilities_K) - 1, len(slices_S)), bool)
    direction = _from_base(slices_S)
    if direction == 0:
        return found_KS
    slices_S, probabilities_KS = slices_S[::direction], probabilities_KS[:, ::direction]
    for found_S, value, certainty, cover in zip(
        found_KS[:, ::direction], range(1, len(probabilities_K)), rule.certainty, rule.cover, strict=True
    ):
        found_S[_doubtful(slices_S == value, probabilities_KS[value], certainty, cover)] = True
    return found_KS


def without_slices(labels: Labels, dropped_KS: Slices, axis: int) -> Labels:
    """Labels without those of structures in slices that are dropped; a copy."""
    kept = labels.copy()
    slices_S = np.moveaxis(kept, axis, 0)
    for k, s in np.argwhere(dropped_KS):
        slices_S[s][slices_S[s] == k + 1] = 0
    return kept


def labelled_slices(labels: Labels, structures: int, axis: int) -> Slices:
    """Whether a slice has a label of a structure, (K - 1, S)."""
    slices_S = np.moveaxis(labels, axis, 0)
    return np.stack([(slices_S == value).any(axis=(1, 2)) for value in range(1, structures + 1)])


def _from_base(slices_S: Labels) -> int:
    """Step from the base to the apex in the order of the slices, 1 or -1; 0 where neither end is clearly wider."""
    area_S = (slices_S > 0).sum(axis=(1, 2))
    area_S = area_S[area_S > 0]
    half = len(area_S) // 2
    first, last = int(area_S[:half].sum()), int(area_S[len(area_S) - half :].sum())
    return int(np.sign(first - last)) if abs(first - last) > CLEARLY * (first + last) else 0


def _doubtful(mask_S: NDArray[np.bool_], probability_S: Probabilities, certainty: float, cover: float) -> list[int]:
    """Slices of a structure, base first, that break the rule."""
    labelled = [int(s) for s in np.flatnonzero(mask_S.any(axis=(1, 2)))]
    if len(labelled) < 2:
        return []
    sure = [float(probability_S[s][mask_S[s]].mean()) for s in labelled]
    least = certainty * float(np.median(sure))
    found: list[int] = []
    for (s, following), certain in zip(pairwise(labelled), sure, strict=False):
        covered = float(probability_S[s][mask_S[following]].mean())
        if len(found) == MOST or (certain >= least and covered >= cover):
            break
        found.append(s)
    return found
