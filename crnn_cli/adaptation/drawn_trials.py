"""Whether a tuned network labels a structure better: drawn slices are left out in turn, and found again.

A slice that is left out is labelled from the drawn ones around it by the network as it is, and by a copy that was tuned
without it. Structures that gain `LEAST_GAIN` of Dice on the mean are labelled by the tuned network, others are not.

Legend: S slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from crnn_cli.adaptation.drawn_examples import Example, example_of
from crnn_cli.segmentation.drawn.stack import DrawnStack

LEAST_GAIN = 0.005
"""Gain of the mean Dice from which on a tuned network is used."""
_JUDGED_FROM = 3  # drawn slices


@dataclass(frozen=True)
class LeftOutSlice:
    """A drawn slice that is left out.

    Attributes
    ----------
    index : of its stack.
    shown : the stack, in which the slice is not drawn.
    examples : of each structure that is drawn in another slice, by its number.
    """

    index: int
    shown: DrawnStack
    examples: dict[int, Example]


@dataclass(frozen=True)
class Trial:
    """Dice of a structure in a slice that was left out.

    Attributes
    ----------
    number : of the structure.
    before, after : Dice of the network as it is, and of one that was tuned without this slice.
    """

    number: int
    before: float
    after: float


def leave_out(stacks: Sequence[DrawnStack], most: int) -> list[LeftOutSlice]:
    """Drawn slices, each left out of its stack; slices between others first. None where there are too few.

    Parameters
    ----------
    most : how many, at most.
    """
    places = []
    for index, stack in enumerate(stacks):
        full = np.flatnonzero(stack.drawn_SYX.any(axis=(1, 2)) & stack.known_S)
        if len(full) >= _JUDGED_FROM:
            places += [(s in (full[0], full[-1]), index, int(s)) for s in full]
    return [_left_out(stacks[index], index, s) for _, index, s in sorted(places)[:most]]


def _left_out(stack: DrawnStack, index: int, s: int) -> LeftOutSlice:
    visible_S = stack.known_S.copy()
    visible_S[s] = False
    drawn_SYX = np.where(visible_S[:, None, None], stack.drawn_SYX, 0).astype(np.uint8)
    shown = replace(stack, drawn_SYX=drawn_SYX, known_S=visible_S)
    examples = {number: example_of(stack, number, visible_S) for number in shown.structures}
    return LeftOutSlice(index, shown, examples)


def gains(trials: Iterable[Trial]) -> dict[int, tuple[float, float]]:
    """Mean Dice of each structure before and after, by its number; none of structures that were not tried.

    >>> gains([Trial(1, 0.5, 0.75), Trial(2, 0.5, 0.25), Trial(1, 0.5, 0.5)])
    {1: (0.5, 0.625), 2: (0.5, 0.25)}
    """
    by_number: dict[int, list[tuple[float, float]]] = {}
    for each in trials:
        by_number.setdefault(each.number, []).append((each.before, each.after))
    return {
        number: (float(np.mean([b for b, _ in pairs])), float(np.mean([a for _, a in pairs])))
        for number, pairs in by_number.items()
    }


def better_tuned(numbers: Iterable[int], trials: Sequence[Trial]) -> frozenset[int]:
    """Structures that the tuned network labels better; without trials all, as nothing speaks against it."""
    found = gains(trials)
    if not trials:
        return frozenset(numbers)
    return frozenset(n for n in numbers if n in found and found[n][1] >= found[n][0] + LEAST_GAIN)
