"""Guard against structures that a network loses between two drawn slices that both show them.

Interpolated distances make a structure too small rather than too large: where the outlines of two drawn slices do not
lie over each other little of it is left between them. So a network that makes it clearly smaller still has lost a part,
as of a cavity whose papillary muscles are drawn as cavity. In such a slice the distances are used:

    area(logit_s > 0) < LEAST_AREA * area(d_s > 0)   ->   logit_s = STEEPNESS * d_s

with d_s in pixels. Not for frames of a series, through which a structure contracts.

Legend: S slice, Y row, X column.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from crnn_cli.labels.shape_interpolation import interpolate_distances
from crnn_cli.segmentation.drawn.settle import BoxedLogits
from crnn_cli.segmentation.drawn.stack import DrawnStack, Known

LEAST_AREA = 0.85
"""Area relative to that of interpolated distances, below which these are used; chosen on validation cases."""
STEEPNESS = 3.0
"""Logits per pixel of distance, about as steep as those of the network."""
_LARGEST = 100.0  # logits beyond are as certain


def not_smaller(stack: DrawnStack, found: BoxedLogits) -> BoxedLogits:
    """Logits of a structure, of interpolated distances in slices in which the network has lost a part of it.

    Parameters
    ----------
    found : logits of the network in a box that holds all that is drawn of the structure.
    """
    box = (slice(None), found.rows, found.columns)
    drawn_SYX = stack.drawn_SYX[box] == found.number
    depth_SYX = interpolate_distances(drawn_SYX, stack.known_S, stack.spacing) / min(stack.spacing[1:])
    area_S, least_S = ((each > 0).sum(axis=(1, 2)) for each in (found.logits_SYX, depth_SYX))
    lost_S: Known = between_drawn(drawn_SYX.any(axis=(1, 2)), stack.known_S) & (area_S < LEAST_AREA * least_S)
    if not lost_S.any():
        return found
    steep_SYX = (STEEPNESS * depth_SYX).clip(-_LARGEST, _LARGEST)
    logits_SYX = np.where(lost_S[:, None, None], steep_SYX, found.logits_SYX).astype(found.logits_SYX.dtype)
    return replace(found, logits_SYX=logits_SYX, interpolated_S=lost_S)


def between_drawn(shows_S: Known, known_S: Known) -> Known:
    """Slices that are not drawn, of which the nearest drawn ones before and after both show a structure.

    >>> between_drawn(np.array([1, 0, 0, 1, 0, 0], bool), np.array([1, 0, 0, 1, 0, 1], bool)).tolist()
    [False, True, True, False, False, False]

    Parameters
    ----------
    shows_S : which slices show it; only drawn ones are looked at.
    known_S : which slices are drawn.
    """
    found_S = ~known_S
    for s in np.flatnonzero(~known_S):
        before, after = np.flatnonzero(known_S[:s]), np.flatnonzero(known_S[s:])
        found_S[s] = bool(len(before) and len(after) and shows_S[before[-1]] and shows_S[s + after[0]])
    return found_S
