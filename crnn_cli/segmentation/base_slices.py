"""Slices at the base of the heart through the frames of a cine: a slice does not leave for a frame or two.

`crnn_cli.labels.doubtful_base` judges each frame by itself. The base takes some 150 ms to move through a slice
of 8 to 10 mm, and stays beyond it for longer. So a slice that is doubtful in a few frames only is a doubt about these
frames, not about the slice: it keeps its labels there.

Legend: K class (0 background), S slice, W frame of the window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from crnn_cli.labels.base_rule import BaseRule
from crnn_cli.labels.doubtful_base import Slices, doubtful_slices, labelled_slices, without_slices
from crnn_cli.segmentation.frames import FrameWindow

Frame = tuple[int, NDArray[np.uint8], NDArray[np.float32]]
"""Number of a frame; its labels (x, y, z); its class probabilities (K, x, y, z)."""


def drop_over_frames(frames: Iterable[Frame], axis: int, rule: BaseRule, window: FrameWindow | None) -> Iterator[Frame]:
    """Drop the labels of doubtful slices at the base, in a cine those that are out in most of the frames around.

    A frame without doubtful slices comes at once, any other when all frames around it are known; only these are kept
    until then.

    Parameters
    ----------
    frames : in any order.
    axis : of the slices.
    window : of the series; None: each frame is judged by itself.

    Yields
    ------
    The frames, in another order, with the labels that stay.
    """
    kept_in: dict[int, Slices] = {}
    waiting: dict[int, tuple[NDArray[np.uint8], NDArray[np.float32], Slices]] = {}
    for number, labels, probabilities_K in frames:
        doubtful_KS = doubtful_slices(labels, probabilities_K, axis, rule)
        if window is None or not doubtful_KS.any():
            yield number, without_slices(labels, doubtful_KS, axis), probabilities_K
        else:
            waiting[number] = labels, probabilities_K, doubtful_KS
        if window is None:
            continue
        kept_in[number] = labelled_slices(labels, len(probabilities_K) - 1, axis) & ~doubtful_KS
        for ready in [one for one in waiting if all(around in kept_in for around in window.around(one))]:
            its_labels, its_probabilities_K, its_KS = waiting.pop(ready)
            left_KS = its_KS & is_out([kept_in[around] for around in window.around(ready)])
            yield ready, without_slices(its_labels, left_KS, axis), its_probabilities_K


def is_out(kept_WKS: Sequence[Slices]) -> Slices:
    """Whether a structure is kept in a slice in less than half of the frames of a window.

    >>> is_out([np.array([[kept, True]]) for kept in (True, False, False)]).tolist()
    [[True, False]]
    """
    out: Slices = 2 * np.sum(kept_WKS, axis=0) < len(kept_WKS)
    return out
