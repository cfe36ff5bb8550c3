"""DICOM series: frames that belong together, in a grid of slices and times.

What belongs together is told by `crnn_cli.io.dicom.grid.grouping`. A series is readable if it has the same number of
times at each position along the normal, and no file beside it may be a part of it; otherwise it names its problems.
Nothing is sorted by file name; see `crnn_cli.io.dicom.grid.timing` for the order in time.

Positions are LPS in frames, mm; the affine of a series is RAS+.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from crnn_cli.data.image import Affine, affine_of_slice
from crnn_cli.data.orientation import axis_codes
from crnn_cli.data.slice_stack import LPS_TO_RAS
from crnn_cli.errors import Words
from crnn_cli.io.dicom.frames.frame import Frame, Problem
from crnn_cli.io.dicom.grid.completeness import incompleteness
from crnn_cli.io.dicom.grid.cycles import unlike_cycles
from crnn_cli.io.dicom.grid.grouping import Group
from crnn_cli.io.dicom.grid.positions import SlicePositions, group_by_position, is_perpendicular, moved_in_plane
from crnn_cli.io.dicom.grid.timing import TimeOrder, frame_time_of, sort_by_time, with_clocks
from crnn_cli.notices import Doubt, Fact, Remark

_MOST_PROBLEMS = 3
_ORIGINAL = ("take the series as the scanner made it",)
_EVEN = ("give each slice once, in even steps; a tilted stack must be resampled first",)


class Alone(NamedTuple):
    """A slice that is taken alone: its number, from 1, and the number of slices there are."""

    number: int
    of: int


@dataclass(frozen=True)
class Series:
    """Frames that belong together.

    Attributes
    ----------
    number : in the listing, from 1.
    uid, series_number, description, modality : SeriesInstanceUID, SeriesNumber, SeriesDescription, Modality.
    part : which part of the series, such as phase images or an echo time; "" where it is not split.
    files : number of files.
    size : Rows and Columns; of mosaics those of a slice.
    slices, frames : of the grid; where there are problems, as far as can be told.
    spacing : along x, y and z, mm.
    orientation : directions that the axes run to, such as LPS.
    affine : (column, row, slice) to RAS+ mm.
    ordered_by : the attribute that orders the times, "" for one time.
    frame_time : seconds from frame to frame, None if unknown.
    spread : largest difference between such times, s.
    grid : frames by slice (along the normal) and time; empty where there are problems.
    problems : why it cannot be read, as sentences.
    remarks : what is odd, but can be read.
    remedy : what makes it readable all the same; empty where nothing does.
    damaged : whether files that are broken are among the problems.
    ragged : frames by slice and time of a grid with holes, where these are the only problem.
    alone : the only slice that is taken of a grid with holes.
    members : the series that a stack was joined from, one for each slice, in their order; empty for a single series.
    not_in_stack : why it is no slice of the only stack beside it; "" where there is none.
    """

    number: int
    uid: str
    series_number: int | None
    description: str
    modality: str
    part: str
    files: int
    size: tuple[int, int]
    slices: int
    frames: int
    spacing: tuple[float, float, float] | None
    orientation: str
    affine: Affine | None
    ordered_by: str
    frame_time: float | None
    spread: float | None
    grid: tuple[tuple[Frame, ...], ...]
    problems: tuple[str, ...]
    remarks: tuple[Remark, ...]
    remedy: tuple[Words, ...] = ()
    damaged: bool = False
    ragged: tuple[tuple[Frame, ...], ...] = ()
    alone: Alone | None = None
    members: tuple[Series, ...] = ()
    not_in_stack: str = ""

    @property
    def title(self) -> str:
        """Description, part (or that it is of phase) and members, as far as there are any."""
        joined = f"(series {ranges(each.number for each in self.members)})" if self.members else ""
        phase = "phase" if self.is_phase and not self.part else ""
        return " ".join(word for word in (self.description, self.part, phase, joined) if word)

    @property
    def is_phase(self) -> bool:
        """Whether the headers say that the values are phases."""
        rows = self.grid or self.ragged
        return bool(rows) and self.modality == "MR" and rows[0][0].image_type.is_phase

    @property
    def kind(self) -> str:
        """Cine, time series, volume, image, or unreadable."""
        if not self.grid:
            return "unreadable"
        if self.frames > 1:
            return "cine" if self.ordered_by == "trigger time" else "time series"
        return "volume" if self.slices > 1 else "image"

    @property
    def whole_slices(self) -> tuple[int, ...]:
        """Numbers of the slices, from 1, that have every time; of a grid with holes only some."""
        if self.grid:
            return tuple(range(1, self.slices + 1))
        return tuple(z for z, row in enumerate(self.ragged, 1) if len(row) == self.frames)

    def off_grid(self) -> float:
        """Largest distance of a slice from its place by the affine, mm; the series must be readable."""
        assert self.affine is not None
        positions = np.array([row[0].position for row in self.grid]) @ LPS_TO_RAS
        even = self.affine[:3, 3] + np.outer(np.arange(len(positions)), self.affine[:3, 2])
        return float(np.abs(positions - even).max())

    def one_slice(self, z: int) -> Series:
        """Series of slice z alone, from 0; the series must be readable, or have every time of that slice."""
        assert self.affine is not None
        rows, affine = (self.grid or self.ragged)[z : z + 1], affine_of_slice(self.affine, z)
        if self.grid:
            return replace(self, slices=1, grid=rows, affine=affine, members=self.members[z : z + 1])
        order = TimeOrder(self.ordered_by, rows, gated=self.ordered_by == "trigger time")
        frame_time, spread = frame_time_of(order)
        text = f"one slice was read of a series with holes: {self.problems[0]}"
        doubt = Doubt("dicom-grid-holes", text)
        whole = replace(self, problems=(), remedy=(), ragged=(), alone=Alone(z + 1, self.slices))
        return replace(
            whole, slices=1, grid=rows, affine=affine, frame_time=frame_time, spread=spread,
            remarks=(*self.remarks, doubt),
        )  # fmt: skip


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers as a short text, runs with a dash.

    >>> ranges([3, 4, 5, 9, 11])
    '3-5,9,11'
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


def series_of(
    number: int, group: Group, siblings: Sequence[Frame] | None, slice_tolerance: float | None = None
) -> Series:  # fmt: skip
    """Place frames that belong together in a grid, or say why there is none.

    Parameters
    ----------
    siblings : all frames of their SeriesInstanceUID, to tell whether images are missing; None not to ask.
    slice_tolerance : in mm, as of `crnn_cli.data.slice_stack.SliceStack`.
    """
    frames = with_clocks(group.frames)
    first = frames[0]
    series = Series(
        number, first.origin.series_uid, first.origin.series_number, first.origin.description, first.origin.modality,
        group.label, len({frame.source.name for frame in frames}), first.size, len(frames), 1, None, "", None, "", None,
        None, (), (), (),
    )  # fmt: skip
    problems = _problems_of_headers(frames)
    return _with_problems(series, problems) if problems else _in_grid(series, frames, siblings, slice_tolerance)


def _with_problems(series: Series, problems: Sequence[Problem]) -> Series:
    """The series as one that cannot be read."""
    texts = [problem.text for problem in problems]
    more = len(texts) - _MOST_PROBLEMS
    shown = [*texts[:_MOST_PROBLEMS], *([f"and {more} more"] if more > 0 else [])]
    remedies = list(dict.fromkeys(problem.remedy for problem in problems if problem.remedy))
    remedy = tuple(word for each in remedies for word in ("; ", *each))[1:]
    return replace(series, problems=tuple(shown), remedy=remedy, damaged=any(problem.damaged for problem in problems))


def _problems_of_headers(frames: list[Frame]) -> list[Problem]:
    """What makes a place in a grid impossible, or the pixels unreadable."""
    first = frames[0]
    problems = sorted({frame.problem for frame in frames if frame.problem}, key=lambda problem: problem.text)
    if first.orientation is None or first.spacing is None or any(frame.position is None for frame in frames):
        problems.append(Problem("the headers lack position, orientation or pixel spacing", _ORIGINAL))
    elif not is_perpendicular(first.orientation):
        problems.append(Problem("the directions of rows and columns are not perpendicular unit vectors", _ORIGINAL))
    elif min(first.spacing) <= 0:
        told = f"the pixel spacing is {first.spacing[0]:g} x {first.spacing[1]:g} mm"
        problems.append(Problem(told, _ORIGINAL))
    return problems


def _in_grid(
    series: Series, frames: list[Frame], siblings: Sequence[Frame] | None, slice_tolerance: float | None
) -> Series:  # fmt: skip
    """The series with its frames in a grid of slices and times, or with the reasons why there is none."""
    by_position = group_by_position(frames)
    positions = SlicePositions(by_position, slice_tolerance)
    order = sort_by_time(by_position)
    remedy = positions.stack.remedy() or _EVEN
    uneven = [Problem(text, remedy) for text in positions.problems]
    other = [problem for problem in (*_doubled(by_position), moved_in_plane(by_position), order.problem) if problem]
    series = replace(series, slices=len(by_position), frames=max(map(len, by_position)))
    if uneven or other:
        refused = _with_problems(series, [*uneven, *other])
        if uneven or other != [order.problem] or not order.rows:
            return refused
        return replace(_placed(refused, positions), ragged=order.rows, ordered_by=order.name)
    frame_time, spread = frame_time_of(order)
    missing = [] if siblings is None else incompleteness(order.rows, siblings, order.gated)
    remarks = (*positions.remarks(), *_remarks(order, spread, frame_time), *missing)
    return replace(
        _placed(series, positions), ordered_by=order.name, frame_time=frame_time, spread=spread, grid=order.rows,
        remarks=remarks,
    )  # fmt: skip


def _placed(series: Series, positions: SlicePositions) -> Series:
    """The series with affine, spacing and orientation of its stack."""
    affine = positions.affine()
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return replace(series, affine=affine, spacing=(float(x), float(y), float(z)), orientation=axis_codes(affine))


def _doubled(by_position: list[list[Frame]]) -> list[Problem]:
    """Images that are there twice, by their SOP Instance UID, or that have the UID of another one."""
    found: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    for group in by_position:
        for frame in group:
            if frame.instance:
                found[frame.instance, frame.index, frame.tile].append(frame)
    shared = [frames for frames in found.values() if len(frames) > 1]
    if not shared:
        return []
    other = [frames for frames in shared if len({(each.position, *each.times.items()) for each in frames}) > 1]
    first, second = (each.source.name for each in (other or shared)[0][:2])
    if other:
        text = f"{sum(map(len, other))} images have the SOP Instance UID of another one, such as {first} and {second}"
        return [Problem(f"{text}: they lie elsewhere, or are of another time", ("give each image a UID of its own",))]
    count = sum(len(frames) - 1 for frames in shared)
    text = f"{count} image(s) are there twice (the same SOP Instance UID), such as {first} and {second}"
    return [Problem(text, ("remove one of each",))]


def _remarks(order: TimeOrder, spread: float | None, frame_time: float | None) -> list[Remark]:
    remarks: list[Remark] = [Doubt("dicom-time-order", text) for text in order.doubts]
    if order.name == "instance number":
        remarks.append(Doubt("ordered-by-instance", "only the instance numbers order the frames in time"))
    if spread and frame_time and spread > 0.5 * frame_time:
        text = f"the time between frames varies by {1000 * spread:.0f} ms"
        remarks.append(Doubt("uneven-frame-times", text))
    if order.gated and len(order.rows) > 1:
        remarks += unlike_cycles(order.rows)
    if len({frame.rescale for row in order.rows for frame in row}) > 1:
        text = "rescale slope or intercept differ between frames: each has its own"
        remarks.append(Fact("rescale-by-frame", text))
    return remarks
