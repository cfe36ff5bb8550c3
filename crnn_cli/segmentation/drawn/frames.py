"""Frames of one slice that are labelled from the drawn ones: which the network sees together, and what it is told.

The network learned from stacks of a few slices. So the frames between two drawn ones are dealt out, like cards, to as
many stacks as it takes for at most `LONGEST_GAP` steps from one drawn frame to the next. Each stack goes the whole way,
in wider steps, and each frame is in one of them. In place of distances interpolated between drawn frames the network is
told those that the motion carries there (`crnn_cli.segmentation.drawn.motion`), which are added to its logits again:

    logit = logit_network + MOTION * D

with D in pixels of the image.

Legend: S frame (slice of the stack over time), Y row, X column.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from crnn_cli.segmentation.drawn.motion import Moved
from crnn_cli.segmentation.drawn.stack import DrawnStack, Known
from crnn_cli.segmentation.structure_grid import StructureInput

LONGEST_GAP = 8
"""Steps from one drawn frame to the next, at most, as in training."""
MOTION = 0.5
"""Logits per pixel of the distance that the motion carries; chosen on development cases."""
Places = NDArray[np.int64]
Progress = Callable[[int, int], None]
Follow = Callable[[StructureInput, Progress], NDArray[np.float32]]


def dealt_frames(known_S: Known) -> list[Places]:
    """Frames that the network sees together: all drawn ones, and of each gap every so many.

    >>> [frames.tolist() for frames in dealt_frames(np.isin(np.arange(11), [0, 10]))]
    [[0, 1, 3, 5, 7, 9, 10], [0, 2, 4, 6, 8, 10]]

    Parameters
    ----------
    known_S : which frames are drawn, at least one.
    """
    drawn = [int(s) for s in np.flatnonzero(known_S)]
    gaps = [range(a + 1, b) for a, b in itertools.pairwise([-1, *drawn, len(known_S)])]
    turns = max(-(-(len(gap) + 1) // LONGEST_GAP) for gap in gaps)
    return [np.array(sorted([*drawn, *(s for gap in gaps for s in gap[turn::turns])])) for turn in range(turns)]


def frame_logits(
    stack: DrawnStack, given: StructureInput, number: int, moved: Moved, follow: Follow, progress: Progress
) -> NDArray[np.float32]:
    """Logits (S, Y, X) of a structure, in the window of its grid.

    Parameters
    ----------
    given : of the structure, in all frames.
    moved : distances of every structure, in mm.
    follow : what a network makes of an input.
    progress : called with (steps done, steps in all).
    """
    others = [distance_SYX for other, distance_SYX in moved.items() if other != number]
    told = given.with_distances(moved[number], np.max(others, axis=0) if others else None)
    depth_SYX = moved[number][:, given.grid.rows, given.grid.columns] / min(stack.spacing[1:])
    found_SYX = (MOTION * depth_SYX).astype(np.float32)
    stacks = dealt_frames(stack.known_S)
    for turn, frames in enumerate(stacks):

        def part(done: int, total: int, turn: int = turn) -> None:
            progress(turn * total + done, len(stacks) * total)

        open_S = ~stack.known_S[frames]
        found_SYX[frames[open_S]] += follow(told.of_slices(frames), part)[open_S]
    return found_SYX
