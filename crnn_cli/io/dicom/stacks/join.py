"""One stack of slices and cardiac phases from series of one slice each.

Frames are joined by their index in the cycle: frame 3 of every slice is phase 3. Where the cycle of every slice is cut
into the same number of frames, as retrospective gating does, that is the same fraction of each cycle. Numbers of frames
that differ, gaps, and slices whose first frames lie at other delays after the R wave are refused: what to pair would be
a guess.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, takewhile

import numpy as np

from crnn_cli.errors import Param, Words
from crnn_cli.io.dicom.frames.frame import Frame, Problem
from crnn_cli.io.dicom.grid.cycles import slice_steps
from crnn_cli.io.dicom.grid.grouping import Group
from crnn_cli.io.dicom.series import Series, ranges, series_of
from crnn_cli.io.dicom.stacks.repeats import Chosen, choose_latest
from crnn_cli.io.dicom.stacks.slices import LEAST_SLICES, StackSlice, by_place, in_order, kin, normal_through
from crnn_cli.notices import Doubt, Fact, Remark

_TRIGGER, _POSITION = "trigger time", "temporal position"
_SAME_STEP = 0.5
"""Frame times of slices that differ by less, in ms, are one."""
_EVEN = 0.01
"""Gaps that differ by this fraction of their median are even."""


@dataclass(frozen=True)
class Unjoined:
    """Slices of one stack that cannot be joined.

    Attributes
    ----------
    numbers : of their series.
    problem : why, as part of a sentence.
    remedy : what would help.
    gated : whether they are cines; others do not stand in the way of a stack.
    slices : the slices.
    """

    numbers: tuple[int, ...]
    problem: str
    remedy: tuple[Words, ...] = ()
    gated: bool = True
    slices: tuple[StackSlice, ...] = ()

    @property
    def told(self) -> str:
        """The reason as a sentence."""
        return f"series {ranges(self.numbers)} are slices of one stack, and are not joined: {self.problem}"


@dataclass(frozen=True)
class Stacks:
    """The stacks of a folder.

    Attributes
    ----------
    joined : each a readable series with members.
    unjoined : slices that are no readable stack together.
    replaced : number of each series that another replaces, and of that one.
    """

    joined: tuple[Series, ...] = ()
    unjoined: tuple[Unjoined, ...] = ()
    replaced: dict[int, int] = field(default_factory=dict)


def find_stacks(slices: Sequence[StackSlice], first_number: int, slice_tolerance: float | None = None) -> Stacks:
    """Join the series of one slice each that belong together.

    Parameters
    ----------
    slices : all of a folder, each listed as a series.
    first_number : number of the first stack in the listing.
    slice_tolerance : in mm, as of `crnn_cli.data.slice_stack.SliceStack`.
    """
    joined: list[Series] = []
    unjoined: list[Unjoined] = []
    replaced: dict[int, int] = {}
    for group in kin(each for each in slices if each.gated or not each.series.grid):
        if len(by_place(group)) < LEAST_SLICES or not any(each.gated for each in group):
            continue
        for chosen in choose_latest(group):
            stack = _joined(chosen, first_number + len(joined), slice_tolerance)
            if isinstance(stack, Unjoined):
                unjoined.append(stack)
            else:
                joined.append(stack)
                replaced |= chosen.replaced
    for group in kin(each for each in slices if each.series.grid and not each.gated):
        if len(by_place(group)) >= LEAST_SLICES:
            told = "nothing says that their frames are the phases of a cardiac cycle"
            unjoined.append(Unjoined(_numbers(group), told, _together(group), gated=False))
    return Stacks(tuple(joined), tuple(unjoined), replaced)


def _joined(chosen: Chosen, number: int, slice_tolerance: float | None) -> Series | Unjoined:
    numbers = _numbers(chosen.slices)
    if chosen.problem is not None:
        return Unjoined(numbers, chosen.problem.text, ("choose the slices with ", Param("series", ranges(numbers))))
    stack = join(chosen.slices, number, slice_tolerance)
    if stack.grid:
        return replace(stack, remarks=(*stack.remarks, *_on_repeats(chosen.replaced)))
    order = ", ".join(str(member.number) for member in stack.members)
    problem = f"{'; '.join(stack.problems)} (slices in order: series {order})"
    whole = all(each.series.grid for each in chosen.slices)
    return Unjoined(numbers, problem, _remedy(stack, _whole_part(chosen.slices), whole), slices=tuple(chosen.slices))


def _remedy(stack: Series, part: tuple[Words, ...], whole: bool) -> tuple[Words, ...]:
    """What would help: what a broken member needs, the tolerance that makes the slices even, or else to take a part."""
    if not whole and part:
        return (*stack.remedy, ", or ", *part)
    has_parameter = any(isinstance(word, Param) for word in stack.remedy)
    return stack.remedy if has_parameter or not part else part


def _numbers(slices: Sequence[StackSlice]) -> tuple[int, ...]:
    return tuple(sorted(each.series.number for each in slices))


def _together(slices: Sequence[StackSlice]) -> tuple[Words, ...]:
    return ("join them by the order of their frames with ", Param("series", ranges(_numbers(slices))))


def join(slices: Sequence[StackSlice], number: int, slice_tolerance: float | None = None) -> Series:
    """Join slices to one series; one without a grid, and with its problems, where they are no stack.

    Parameters
    ----------
    slices : parallel, one for each place.
    number : in the listing.
    slice_tolerance : in mm, as of `crnn_cli.data.slice_stack.SliceStack`.
    """
    ordered = in_order(slices)
    frames = _with_own_positions(ordered)
    problems = _problems(ordered)
    stack = series_of(number, Group(frames), None, slice_tolerance)
    members = tuple(each.series for each in ordered)
    first = min(members, key=lambda each: (each.series_number is None, each.series_number))
    stack = replace(
        stack, uid="", series_number=first.series_number, description=_common([each.description for each in members]),
        members=members, remarks=(*stack.remarks, *_of_members(members)),
    )  # fmt: skip
    if not problems:
        return replace(stack, remarks=(*stack.remarks, _on_places(stack), *_on_times(stack))) if stack.grid else stack
    remedy = tuple(word for problem in problems[:1] for word in problem.remedy)
    damaged = any(problem.damaged for problem in problems)
    return replace(
        stack, grid=(), problems=tuple(each.text for each in problems), remedy=remedy, ragged=(), damaged=damaged
    )


def _with_own_positions(ordered: Sequence[StackSlice]) -> list[Frame]:
    """The frames, with temporal positions that count from 1 in each slice: some count through the slices."""
    found: list[Frame] = []
    for each in ordered:
        if not all(_POSITION in frame.times for frame in each.frames):
            found += each.frames
            continue
        numbers = sorted({frame.times[_POSITION] for frame in each.frames})
        rank = {number: float(n) for n, number in enumerate(numbers, 1)}
        found += [
            replace(frame, times=frame.times | {_POSITION: rank[frame.times[_POSITION]]}) for frame in each.frames
        ]
    return found


def _problems(ordered: Sequence[StackSlice]) -> list[Problem]:
    """Why slices are no stack, beyond what is wrong with the grid of their frames."""
    broken = [each.series for each in ordered if not each.series.grid]
    if broken:
        first = broken[0]
        told = f"series {first.number} cannot be read: {first.problems[0]}"
        return [Problem(told, first.remedy, first.damaged)]
    counts = Counter(len(each.frames) for each in ordered)
    if len(counts) > 1:
        by_count = {
            count: ranges(each.series.number for each in ordered if len(each.frames) == count)
            for count, _ in counts.most_common()
        }
        told = ", ".join(f"{count} in series {numbers}" for count, numbers in by_count.items())
        return [Problem(f"their numbers of frames differ, and which phases belong together is not known: {told}")]
    return _late(ordered)


def _late(ordered: Sequence[StackSlice]) -> list[Problem]:
    """Slices whose first frame lies more than a frame after that of the others in the cycle."""
    rows = [sorted(frame.times[_TRIGGER] for frame in each.frames if _TRIGGER in frame.times) for each in ordered]
    if not all(each.gated and len(row) == len(each.frames) for each, row in zip(ordered, rows, strict=True)):
        return []
    first = np.array([row[0] for row in rows])
    step = float(np.median(np.diff(rows, axis=1)))
    late = int(np.argmax(np.abs(first - np.median(first))))
    if abs(first[late] - np.median(first)) <= step:
        return []
    told = (
        f"series {ordered[late].series.number} begins {first[late]:.0f} ms after the R wave, the others about "
        f"{np.median(first):.0f} ms: frames of one number are not of one phase"
    )
    return [Problem(told)]


def _whole_part(slices: Sequence[StackSlice]) -> tuple[Words, ...]:
    """Remedy: the longest run of slices that are evenly spaced and have as many frames; empty where none is long."""
    ordered = [each for each in in_order(slices) if each.series.grid]
    normal = normal_through(ordered) if ordered else np.zeros(3)
    along = [each.along(normal) for each in ordered]
    gap = float(np.median(np.diff(along))) if len(along) > 1 else 0.0
    runs: list[list[StackSlice]] = [ordered[:1]]
    for (before, each), (low, high) in zip(pairwise(ordered), pairwise(along), strict=True):
        even = abs(high - low - gap) <= max(_EVEN * gap, 0.05) and len(before.frames) == len(each.frames)
        if even:
            runs[-1].append(each)
        else:
            runs.append([each])
    longest = max(runs, key=len)
    if len(longest) < LEAST_SLICES or not join(longest, 0).grid:
        return ()
    return ("join a part of them with ", Param("series", ranges(_numbers(longest))))


def _common(descriptions: Sequence[str]) -> str:
    """The beginning that all descriptions share, without the numbers that end it; else the first.

    >>> _common(["cine_sax_1", "cine_sax_2"])
    'cine_sax'
    """
    if len(set(descriptions)) == 1:
        return descriptions[0]
    columns = takewhile(lambda letters: len(set(letters)) == 1, zip(*descriptions, strict=False))
    return "".join(letters[0] for letters in columns).rstrip(" _-.#0123456789") or descriptions[0]


def _of_members(members: Sequence[Series]) -> list[Remark]:
    """What was odd about members and is not seen in the stack: files that may be missing."""
    doubtful = [
        (each, remark) for each in members for remark in each.remarks if remark.code == "dicom-series-incomplete"
    ]
    if not doubtful:
        return []
    series, remark = doubtful[0]
    text = f"{len(doubtful)} of the {len(members)} series may lack images, such as series {series.number}: {remark}"
    return [Doubt("dicom-series-incomplete", text)]


def _on_repeats(replaced: dict[int, int]) -> list[Remark]:
    if not replaced:
        return []
    told = ", ".join(f"series {later} in place of {earlier}" for earlier, later in sorted(replaced.items()))
    return [Fact("stack-slices-repeated", f"slices that were measured again are taken from the later series: {told}")]


def _on_places(stack: Series) -> Remark:
    """What the stack is made of, and how true its places are."""
    numbers = ranges(each.number for each in stack.members)
    places = f"they lie within {max(stack.off_grid(), 1e-3):.2g} mm of even places"
    return Fact("stack-joined", f"series {numbers} were joined to a stack of {stack.slices} slices; {places}")


def _on_times(stack: Series) -> list[Remark]:
    """The range of the frame times of the slices, of which the stack has the median."""
    steps = slice_steps(stack.grid)
    if not steps or max(steps) - min(steps) < _SAME_STEP or stack.frame_time is None:
        return []
    told = (
        f"the time between frames is {min(steps):.1f} to {max(steps):.1f} ms in the slices of the stack, and "
        f"{1000 * stack.frame_time:.1f} ms is taken, the median: frames are joined by their place in the cycle"
    )
    return [Fact("stack-frame-times", told)]
