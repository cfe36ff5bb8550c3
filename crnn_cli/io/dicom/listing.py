"""Contents of a folder or archive: its series, the stacks that some of them are slices of, and what was left out.

Series are numbered in the order of their SeriesNumber. Those that are slices of a stack stand behind it: the stack
comes after all series, with the next number; a number or UID of one of its members still chooses that member.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from crnn_cli.io.dicom.frames.frame import FileContents, Frame
from crnn_cli.io.dicom.grid.grouping import group_frames
from crnn_cli.io.dicom.grid.left_out import EMPTY, may_miss, named, remarks_on, suspects
from crnn_cli.io.dicom.grid.timing import TimeOrder, is_cycle
from crnn_cli.io.dicom.series import Series, ranges, series_of
from crnn_cli.io.dicom.stacks.join import Stacks, Unjoined, find_stacks
from crnn_cli.io.dicom.stacks.reasons import is_in_line, why_not_in_stack
from crnn_cli.io.dicom.stacks.slices import StackSlice, by_place, stack_slice
from crnn_cli.notices import Doubt


@dataclass(frozen=True)
class Listing:
    """Contents of a folder or archive.

    Attributes
    ----------
    series : in the order of SeriesNumber, without those that are slices of a stack; then the stacks.
    left_out : files that were not read: not DICOM, cut, damaged, empty.
    objects : names of other DICOM objects, such as RT Dose, and the number of files of each.
    unjoined : series that look like slices of one stack, and why they are none.
    slices : every series of one place and several frames, those of stacks included.
    """

    series: tuple[Series, ...]
    left_out: tuple[FileContents, ...]
    objects: dict[str, int]
    unjoined: tuple[Unjoined, ...] = ()
    slices: tuple[StackSlice, ...] = ()

    @property
    def every(self) -> tuple[Series, ...]:
        """All series, with the members of stacks."""
        return (*self.series, *(member for stack in self.series for member in stack.members))

    @property
    def only_stack(self) -> Series | None:
        """The stack that is meant where no series is chosen: the only one, and no other cine has several slices."""
        stacks = [each for each in self.series if each.members]
        rivals = any(map(_may_be_stack, self.series)) or any(each.gated for each in self.unjoined)
        return stacks[0] if len(stacks) == 1 and not rivals else None

    @property
    def not_in_stack(self) -> str:
        """Numbers of the series that are none of the only stack, with the reasons; "" where there are none."""
        reasons: dict[str, list[int]] = defaultdict(list)
        for each in self.series:
            if each.not_in_stack:
                reasons[each.not_in_stack].append(each.number)
        return "; ".join(f"{ranges(numbers)} ({reason})" for reason, numbers in reasons.items())

    @property
    def damaged(self) -> dict[str, str]:
        """Name of each file that is DICOM, or empty, and cannot be read, and the reason."""
        return {
            each.source.name: each.left_out.removeprefix("damaged: ")
            for each in self.left_out
            if each.begins_as_dicom or each.left_out == EMPTY
        }

    @property
    def others(self) -> int:
        """Number of files that are whole, and hold no images."""
        return len(self.left_out) - len(self.damaged) + sum(self.objects.values())


def _may_be_stack(series: Series) -> bool:
    """Whether a series of its own is a cine of several slices, or may be one and cannot be read."""
    if series.members or series.slices < 2 or series.frames < 2:
        return False
    gated = series.ordered_by == "trigger time"
    return not series.grid or is_cycle(TimeOrder(series.ordered_by, series.grid, gated=gated))


def listing(files: Iterable[FileContents], *, slice_tolerance: float | None = None) -> Listing:
    """Group frames to series, in the order of their series numbers, and join those that are slices of one stack.

    Parameters
    ----------
    files : contents of each file.
    slice_tolerance : in mm, as of `crnn_cli.data.slice_stack.SliceStack`.
    """
    frames: list[Frame] = []
    left_out: list[FileContents] = []
    objects: Counter[str] = Counter()
    for file in files:
        frames += file.frames
        left_out += [file] if file.left_out else []
        objects.update([file.other] if file.other else [])
    siblings: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        siblings[frame.origin.series_uid].append(frame)
    beside = _Beside(tuple(left_out), dict(objects))
    found: dict[int, tuple[Series, Sequence[Frame]]] = {}
    for number, group in enumerate(group_frames(frames), 1):
        family = siblings[group.frames[0].origin.series_uid]
        series = series_of(number, group, family, slice_tolerance)
        found[number] = beside.told(series, group.frames, len(family)), group.frames
    return _with_stacks(found, beside, slice_tolerance)


@dataclass(frozen=True)
class _Beside:
    """What lies beside the series of a folder."""

    left_out: tuple[FileContents, ...]
    objects: dict[str, int]

    def told(self, series: Series, frames: Sequence[Frame], images: int) -> Series:
        """The series with what its folder says about it: remarks, or a problem where a file may be missing."""
        suspected = suspects(self.left_out, frames)
        remarks = (*series.remarks, *remarks_on(self.left_out, suspected, self.objects))
        if not series.grid or not may_miss(series.grid, len(suspected), images):
            return replace(series, remarks=remarks)
        verb = "may be a part" if len(suspected) == 1 else "may be parts"
        problem = f"{named(suspected)} cannot be read, and {verb} of it"
        remedy = ("replace the file, or remove it where it is none of this series",)
        return replace(
            series, grid=(), problems=(problem,), remedy=remedy, damaged=True, remarks=remarks, spacing=None,
            affine=None,
        )  # fmt: skip


def _with_stacks(
    found: dict[int, tuple[Series, Sequence[Frame]]], beside: _Beside, slice_tolerance: float | None
) -> Listing:  # fmt: skip
    slices = [each for series, frames in found.values() if (each := stack_slice(series, frames)) is not None]
    stacks = _whole(find_stacks(slices, len(found) + 1, slice_tolerance), beside)
    members = {member.number for stack in stacks.joined for member in stack.members}
    alone = [each for number, each in found.items() if number not in members]
    stacks = replace(
        stacks, joined=tuple(_with_neighbours(each, alone, stacks.replaced) for each in stacks.joined),
        unjoined=tuple(_between(each, alone) for each in stacks.unjoined),
    )  # fmt: skip
    if len(stacks.joined) == 1:
        line = [row[0] for row in stacks.joined[0].grid]
        rows = [
            replace(series, not_in_stack=why_not_in_stack(series, frames, line, stacks.replaced))
            for series, frames in alone
        ]
    else:
        rows = [series for series, _ in alone]
    return Listing((*rows, *stacks.joined), beside.left_out, beside.objects, stacks.unjoined, tuple(slices))


def _with_neighbours(
    stack: Series, alone: Sequence[tuple[Series, Sequence[Frame]]], replaced: dict[int, int]
) -> Series:  # fmt: skip
    """The stack, with a doubt where a cine that is none of it lies in the place of a further slice."""
    line = [row[0] for row in stack.grid]
    told = [
        f"series {series.number} ({why_not_in_stack(series, frames, line, replaced)})"
        for series, frames in alone if is_in_line(frames, line)
    ]  # fmt: skip
    if not told:
        return stack
    text = f"{', '.join(told)} lies in the place of a further slice of the stack, and is none of it: is it whole?"
    return replace(stack, remarks=(*stack.remarks, Doubt("stack-may-lack-slices", text)))


def _between(unjoined: Unjoined, alone: Sequence[tuple[Series, Sequence[Frame]]]) -> Unjoined:
    """The slices that are no stack, with the series that lie in their gaps and are none of them."""
    line = [place[0].first for place in by_place(unjoined.slices)] if unjoined.slices else []
    others = [
        f"series {series.number} in line with them is none: {why_not_in_stack(series, frames, line, {})}"
        for series, frames in alone
        if len(line) > 1 and series.number not in unjoined.numbers and is_in_line(frames, line)
    ]  # fmt: skip
    return replace(unjoined, problem="; ".join([unjoined.problem, *others]))


def _whole(stacks: Stacks, beside: _Beside) -> Stacks:
    """The stacks without those that may lack a slice: one of which no file can be read."""
    joined: list[Series] = []
    unjoined = list(stacks.unjoined)
    for stack in stacks.joined:
        frames = [frame for row in stack.grid for frame in row]
        told = beside.told(stack, frames, len(frames))
        if told.grid:
            joined.append(told)
        else:
            numbers = tuple(member.number for member in stack.members)
            unjoined.append(Unjoined(numbers, told.problems[0], told.remedy))
    return replace(stacks, joined=tuple(joined), unjoined=tuple(unjoined))
