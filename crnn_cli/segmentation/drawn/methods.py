"""Methods that label a stack from its drawn slices: a network, interpolated signed distances, the nearest drawn slice.

Legend: K structure (from 1), S slice, Y row, X column.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from crnn_cli.errors import UnsupportedDataError
from crnn_cli.labels.shape_interpolation import interpolate_distances
from crnn_cli.segmentation.drawn.baselines import copy_nearest, interpolate_shapes
from crnn_cli.segmentation.drawn.frames import frame_logits
from crnn_cli.segmentation.drawn.guard import not_smaller
from crnn_cli.segmentation.drawn.motion import moved_shapes
from crnn_cli.segmentation.drawn.settle import BoxedLogits, settle
from crnn_cli.segmentation.drawn.stack import Certainty, DrawnStack, FilledStack, FillSettings, Known
from crnn_cli.segmentation.structure_grid import DrawnNetwork, StructureInput

Progress = Callable[[int, int], None]
_LONGEST_GAP = 8  # slices from one drawn slice to the next, as in training
_LARGEST = 100.0  # logits beyond are as certain


class FillMethod(Protocol):
    """Method that labels the slices that are not drawn."""

    def fill(self, stack: DrawnStack, settings: FillSettings, progress: Progress) -> FilledStack:
        """Label a stack in which at least one structure is drawn.

        Parameters
        ----------
        progress : called with (steps done, steps in all).
        """
        ...


class NearestSlice:
    """Copy of the nearest drawn slice; nothing is said of its certainty."""

    def fill(self, stack: DrawnStack, settings: FillSettings, progress: Progress) -> FilledStack:
        """Label a stack; see `FillMethod`."""
        del settings
        progress(1, 1)
        return FilledStack(copy_nearest(stack.drawn_SYX, stack.known_S))


class InterpolatedDistances:
    """Interpolation of signed distances; their depth in pixels is taken for logits."""

    def fill(self, stack: DrawnStack, settings: FillSettings, progress: Progress) -> FilledStack:
        """Label a stack; see `FillMethod`. The threshold does not count."""
        numbers, pixel = stack.structures, min(stack.spacing[1:])
        logits = []
        for done, number in enumerate(numbers):
            depth_SYX = interpolate_distances(stack.drawn_SYX == number, stack.known_S, stack.spacing) / pixel
            clipped_SYX = depth_SYX.clip(-_LARGEST, _LARGEST).astype(np.float16)
            logits.append(BoxedLogits(number, slice(None), slice(None), clipped_SYX))
            progress(done + 1, len(numbers))
        labels_SYX = interpolate_shapes(stack.drawn_SYX, stack.known_S, stack.spacing)
        return settle(stack, logits, settings, labels_SYX)


@dataclass(frozen=True)
class RecurrentNetwork:
    """The network, structure by structure.

    Attributes
    ----------
    network : in evaluation mode, on ``device``.
    bfloat16 : convolutions in bfloat16.
    others : networks for some structures, by their number, in place of it.
    guarded : interpolated distances are used where the network loses a part of a structure; see
        `crnn_cli.segmentation.drawn.guard`.
    """

    network: DrawnNetwork
    device: torch.device
    bfloat16: bool = False
    others: Mapping[int, DrawnNetwork] = field(default_factory=dict)
    guarded: bool = True

    def fill(self, stack: DrawnStack, settings: FillSettings, progress: Progress) -> FilledStack:
        """Label a stack; see `FillMethod`. Of long gaps between drawn slices a few slices are labelled first.

        The network learned from stacks of a few slices: those that it labels first then count as drawn for the others.
        Frames of one slice are labelled as `crnn_cli.segmentation.drawn.frames` says.

        Raises
        ------
        UnsupportedDataError
            If the logits come out not finite.
        """
        if stack.over_time:
            return self._fill_frames(stack, settings, progress)
        first = coarse_slices(stack.known_S)
        if first is None:
            return self._fill_at_once(stack, settings, progress)
        share = len(first) / (len(first) + len(stack.known_S))

        def part_progress(begin: float, width: float) -> Progress:
            return lambda done, total: progress(round(1000 * (begin + width * done / max(1, total))), 1000)

        few = replace(
            stack,
            image_SYX=stack.image_SYX[first],
            drawn_SYX=stack.drawn_SYX[first],
            known_S=stack.known_S[first],
        )
        coarse = self._fill_at_once(few, settings, part_progress(0, share))
        known_S, drawn_SYX = stack.known_S.copy(), stack.drawn_SYX.copy()
        known_S[first], drawn_SYX[first] = True, coarse.labels_SYX
        whole = replace(stack, drawn_SYX=drawn_SYX, known_S=known_S)
        return with_slices(self.fill(whole, settings, part_progress(share, 1 - share)), coarse, first)

    def _fill_at_once(self, stack: DrawnStack, settings: FillSettings, progress: Progress) -> FilledStack:
        """Label a stack in which no slice is far from a drawn one."""
        numbers = stack.structures
        logits = []
        for done, number in enumerate(numbers):

            def structure_progress(step: int, steps: int, done: int = done) -> None:
                progress(done * steps + step, len(numbers) * steps)

            logits.append(self._logits(stack, number, structure_progress))
        return settle(stack, logits, settings)

    def _fill_frames(self, stack: DrawnStack, settings: FillSettings, progress: Progress) -> FilledStack:
        """Label the frames of one slice; see `crnn_cli.segmentation.drawn.frames`."""
        numbers = stack.structures
        parts = len(numbers) + 1

        def share(begin: int) -> Progress:
            return lambda done, total: progress(round(1000 * (begin + done / max(1, total))), 1000 * parts)

        moved = moved_shapes(stack, share(0))
        logits = []
        for begin, number in enumerate(numbers, start=1):
            given = structure_input(stack, number)

            def follow(told: StructureInput, done: Progress, number: int = number) -> NDArray[np.float32]:
                return self._follow(told, number, done)

            made_SYX = frame_logits(stack, given, number, moved, follow, share(begin))
            logits.append(_boxed(number, given, made_SYX))
        return settle(stack, logits, settings)

    def _logits(self, stack: DrawnStack, number: int, progress: Progress) -> BoxedLogits:
        """Logits of one structure, on the grid of the stack."""
        given = structure_input(stack, number)
        found = _boxed(number, given, self._follow(given, number, progress))
        return not_smaller(stack, found) if self.guarded else found

    def _follow(self, given: StructureInput, number: int, progress: Progress) -> NDArray[np.float32]:
        """Logits (S, Y, X) of one structure in its window."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            made_SYX = given.follow(self.others.get(number, self.network), self.device, progress)
        if not bool(np.isfinite(made_SYX).all()):
            raise UnsupportedDataError(
                "the network produced values that are not finite: the input's range is not usable"
            )
        return made_SYX


def _boxed(number: int, given: StructureInput, made_SYX: NDArray[np.float32]) -> BoxedLogits:
    """Logits of a structure in its window, half precision."""
    clipped_SYX = made_SYX.clip(-_LARGEST, _LARGEST).astype(np.float16)
    return BoxedLogits(number, given.grid.rows, given.grid.columns, clipped_SYX)


def coarse_slices(known_S: Known) -> NDArray[np.int64] | None:
    """Slices to be labelled first: the drawn ones, and a few evenly within long gaps; None where no gap is long.

    >>> coarse_slices(np.array([True, *[False] * 15, True])).tolist()
    [0, 2, 4, 6, 8, 10, 12, 14, 16]

    Parameters
    ----------
    known_S : which slices are drawn, at least one.
    """
    drawn = [int(s) for s in np.flatnonzero(known_S)]
    last = len(known_S) - 1
    gaps = [pair for pair in itertools.pairwise(sorted({0, *drawn, last})) if pair[1] - pair[0] > _LONGEST_GAP]
    if not gaps:
        return None
    chosen = {*drawn}
    for begin, end in gaps:
        chosen.update(np.rint(np.linspace(begin, end, _LONGEST_GAP + 1)).astype(int).tolist())
    return np.array(sorted(chosen))


def with_slices(whole: FilledStack, few: FilledStack, places: NDArray[np.int64]) -> FilledStack:
    """A stack of which some slices were labelled before: what is known of those is taken from there.

    Parameters
    ----------
    whole : in which they counted as drawn.
    few, places : those slices, and where they are.
    """
    certainty, probability_KSYX = whole.certainty, whole.probability_KSYX
    if certainty is not None and few.certainty is not None:
        found = {}
        for each in fields(Certainty):
            found[each.name] = getattr(certainty, each.name).copy()
            found[each.name][places] = getattr(few.certainty, each.name)
        certainty = Certainty(**found)
    if probability_KSYX is not None and few.probability_KSYX is not None:
        probability_KSYX = probability_KSYX.copy()
        probability_KSYX[:, places] = few.probability_KSYX
    return FilledStack(whole.labels_SYX, certainty, probability_KSYX)


def structure_input(stack: DrawnStack, number: int) -> StructureInput:
    """What a network is given of one structure of a stack.

    Parameters
    ----------
    number : of the structure, which is drawn in some slice.
    """
    own_SYX = stack.drawn_SYX == number
    others_SYX = (stack.drawn_SYX > 0) & ~own_SYX
    return StructureInput.of(stack.image_SYX, own_SYX, others_SYX, stack.known_S, stack.spacing[1:])
