"""Order of the frames of a DICOM series in time, holes in the grid of slices and times, and the frame time.

Numbers and times are those of `crnn_cli.io.dicom.frames.frame.Frame.times`, in ms; frame times are in s.

Trigger times order a series only if it is gated: if they run as the acquisition does, up to where the cycle begins. In
perfusion, T1 mapping and real-time series they differ from frame to frame too, and say nothing about the order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from crnn_cli.errors import Param, Words
from crnn_cli.io.dicom.frames import dimensions
from crnn_cli.io.dicom.frames.frame import Frame, Problem

_NAMES = (
    "temporal position", "time offset", "trigger time", "acquisition number", "acquisition time", "reference time",
    "dimension index", "content time", "instance number",
)  # fmt: skip
"""What orders frames, the most trusted first."""
_TRIGGER, _INDEX = "trigger time", "dimension index"
_ELAPSED = (_TRIGGER, "time offset", "acquisition time", "reference time", "content time")
"""Times whose differences are times between frames."""
_HALF_DAY_MS, _DAY_MS = 43_200_000.0, 86_400_000.0
_LONGEST_CYCLE_MS = 3000.0
_SHORTEST_STEP_MS = 5.0
_ENOUGH = 4
"""Number of frames from which on an even or rotated order is no accident."""


class TimeOrder(NamedTuple):
    """Frames in the order of time.

    Attributes
    ----------
    name : what orders them, "" for a single time.
    rows : by position and time; ragged where frames are missing, empty where nothing orders them.
    problem : why they are no grid.
    doubts : contradictions, as sentences.
    gated : whether the trigger times are those of a cycle.
    """

    name: str
    rows: tuple[tuple[Frame, ...], ...]
    problem: Problem | None = None
    doubts: tuple[str, ...] = ()
    gated: bool = False


def with_clocks(frames: Sequence[Frame]) -> list[Frame]:
    """Give frames their times of the day in `Frame.times`, in ms since the first midnight, across midnight too.

    Where dates are missing, or were not counted on, a series that spans more than half a day ran past midnight.
    """
    found = list(frames)
    for name in {name for frame in frames for name in frame.clocks}:
        have = [(n, frame.clocks[name]) for n, frame in enumerate(frames) if name in frame.clocks]
        first = min((clock.day for _, clock in have if clock.day is not None), default=0)
        times = [clock.since(first) for _, clock in have]
        late = len({clock.day for _, clock in have}) == 1 and max(times) - min(times) > _HALF_DAY_MS
        for (n, _), time in zip(have, times, strict=True):
            moved = time + _DAY_MS if late and time < min(times) + _HALF_DAY_MS else time
            found[n] = replace(found[n], times={**found[n].times, name: moved})
    return found


def sort_by_time(by_position: list[list[Frame]]) -> TimeOrder:
    """Sort the frames of each position in time.

    The first of the numbers and times in `Frame.times` orders them that every frame has and that differs between all
    frames of each position; trigger times only where the series is gated. A temporal position must be the same set of
    numbers everywhere; a trigger time may differ from slice to slice.

    Parameters
    ----------
    by_position : frames of each position.
    """
    count = max(len(group) for group in by_position)
    if count == 1:
        return TimeOrder("", tuple(tuple(group) for group in by_position))
    by_position, along = _with_dimension(by_position)
    telling = [name for name in _NAMES if _tells_apart(name, by_position)]
    gated, doubts = _gating(by_position, telling) if _TRIGGER in telling else (False, ())
    problem = _several_at_one_time(by_position, telling)
    names = [name for name in telling if gated or name != _TRIGGER]
    untold = [] if along else dimensions.varying([[frame.indices for frame in group] for group in by_position])
    if problem is None and len(untold) > 1 and names[:1] in ([], ["content time"], ["instance number"]):
        told = f"up to {count} images lie at one place, and differ in {' and '.join(untold)}: several kinds of image"
        problem = Problem(told, ("leave the images of one kind in the folder",))
    if problem is None and not names:
        told = f"up to {count} images lie at one place, and nothing in the headers tells their times apart"
        problem = Problem(told, ("leave the images of one time in the folder",))
    if problem is not None:
        return TimeOrder("", (), problem)
    name = names[0]
    rows = tuple(tuple(sorted(group, key=lambda frame: frame.times[name])) for group in by_position)
    missing = _missing(name, [[frame.times[name] for frame in row] for row in rows], count)
    if missing is None and name not in (_TRIGGER, "acquisition time"):
        doubts = (*doubts, *_against_times(name, rows))
    if name == _INDEX and along not in dimensions.TIMES:
        doubts = (*doubts, f"the frames are in the order of {along}, and nothing in the headers says that it is a time")
    return TimeOrder(name, rows, missing, doubts, gated)


def is_cycle(order: TimeOrder) -> bool:
    """Whether the frames of each position are the phases of a cardiac cycle.

    That is so where trigger times are gated, and where they rise evenly, within one cycle, with the temporal positions.
    """
    if order.gated:
        return True
    if order.name != "temporal position" or any(_TRIGGER not in f.times for row in order.rows for f in row):
        return False
    rows = [[frame.times[_TRIGGER] for frame in row] for row in order.rows]
    return all(len(row) > 1 and _is_even(row) and row[-1] - row[0] < _LONGEST_CYCLE_MS for row in rows)


def _tells_apart(name: str, by_position: list[list[Frame]]) -> bool:
    """Whether every frame has a number, and it differs between all frames of each position."""
    return all(
        all(name in frame.times for frame in group) and len({frame.times[name] for frame in group}) == len(group)
        for group in by_position
    )


def _with_dimension(by_position: list[list[Frame]]) -> tuple[list[list[Frame]], str]:
    """Give frames the number of the one dimension index that tells those of each place apart, and name it.

    Where only several indices together do, they are no times: images of a time may be of several kinds.
    """
    along = dimensions.telling_dimension([[frame.indices for frame in group] for group in by_position])
    if not along:
        return by_position, ""
    return [
        [replace(frame, times={**frame.times, _INDEX: float(frame.indices[along])}) for frame in group]
        for group in by_position
    ], along


def _several_at_one_time(by_position: list[list[Frame]], telling: list[str]) -> Problem | None:
    """Images that share each of several times: kinds of image in one, or images that are there twice.

    Some images may be missing, so that a few times have fewer.
    """
    if not {"temporal position", "time offset", _TRIGGER, "acquisition number", "acquisition time"}.isdisjoint(telling):
        return None
    names = [
        name for name in (_TRIGGER, "temporal position")
        if all(name in frame.times for group in by_position for frame in group)
    ]  # fmt: skip
    tallies = [Counter(tuple(frame.times[name] for name in names) for frame in group) for group in by_position]
    copies = max(times for tally in tallies for times in tally.values())
    different = sum(len(tally) for tally in tallies)
    lacking = copies * different - sum(len(group) for group in by_position)
    few = 0 if different < 3 * len(tallies) else max(1, different // 5)
    if copies == 1 or min(len(tally) for tally in tallies) == 1 or lacking > few:
        return None
    told = (
        f"{copies} images lie at one place at each {names[0]}, and nothing in the headers tells them apart: several "
        "kinds of image, or images that are there twice"
    )
    return Problem(told, ("leave one kind, and each image once, in the folder",))


def _gating(by_position: list[list[Frame]], telling: list[str]) -> tuple[bool, tuple[str, ...]]:
    """Whether trigger times are those of a gated series, and what contradicts them."""
    count = max(len(group) for group in by_position)
    groups = [group for group in by_position if len(group) == count]
    name = next((n for n in ("acquisition time", "acquisition number", "instance number") if n in telling), None)
    of_one_object = all(len({_object(frame) for frame in group}) == 1 for group in groups)
    if name is None or (name == "instance number" and of_one_object):
        return name is None or _may_be_cycle(
            groups, [n for n in ("temporal position", "time offset") if n in telling]
        ), ()
    acquired = [[f.times[_TRIGGER] for f in sorted(group, key=lambda f: f.times[name])] for group in groups]
    even = all(len(v) >= _ENOUGH and _is_even(sorted(v)) and max(v) - min(v) < _LONGEST_CYCLE_MS for v in acquired)
    if all(_is_rotation(v) and (len(v) >= _ENOUGH or _is_rising(v)) for v in acquired):
        if even or name == "instance number":
            return True, ()
        if name == "acquisition number":
            return all(np.diff(sorted(v)).min() >= _SHORTEST_STEP_MS for v in acquired), ()
        spans = [[max(v) - min(v) for v in ([f.times[n] for f in group] for n in (_TRIGGER, name))] for group in groups]
        return all(abs(trigger - clock) <= trigger / 2 for trigger, clock in spans), ()
    if name == "instance number" and all(_is_even(sorted(v)) and not _is_sawtooth(v) for v in acquired):
        return True, ("the instance numbers run in another order than the trigger times, which are followed",)
    return False, (f"the trigger times run in another order than the {name}s, which are followed: no gated series",)


def _object(frame: Frame) -> str:
    """What names the object of many frames that a frame is of: its file, or the concatenation of several."""
    return frame.part.uid or frame.source.name


def _may_be_cycle(groups: list[list[Frame]], orders: list[str]) -> bool:
    """Whether trigger times can be those of a cycle; the order of the frames in an object of many says nothing.

    Parameters
    ----------
    orders : names of the other times that order the frames, which those of a cycle rise with.
    """
    for group in groups:
        values = sorted(frame.times[_TRIGGER] for frame in group)
        if np.diff(values).min() < _SHORTEST_STEP_MS or values[-1] - values[0] >= _LONGEST_CYCLE_MS:
            return False
        by_order = [sorted((frame.times[name], frame.times[_TRIGGER]) for frame in group) for name in orders]
        if not all(_is_rotation([trigger for _, trigger in pairs]) for pairs in by_order):
            return False
    return True


def _is_rising(values: Sequence[float]) -> bool:
    return all(a < b for a, b in pairwise(values))


def _is_rotation(values: Sequence[float]) -> bool:
    """Whether values rise but for one place where they begin anew, below all others."""
    falls = sum(a > b for a, b in pairwise(values))
    return falls == 0 or (falls == 1 and values[-1] < values[0])


def _is_even(values: Sequence[float]) -> bool:
    """Whether rising values differ by about the same step, or, where one of several is missing, by twice that."""
    steps = np.diff(values)
    step = float(np.median(steps))
    if steps.min() < _SHORTEST_STEP_MS:
        return False
    if steps.max() - steps.min() <= step / 2:
        return True
    several = steps[steps > 1.25 * step] / step
    few = len(several) <= len(steps) / _ENOUGH
    return bool(few and steps.min() > 0.75 * step and (np.abs(several - np.round(several)) < 0.25).all())


def _is_sawtooth(values: Sequence[float]) -> bool:
    """Whether values rise evenly and begin anew several times, as those of a real-time series over several beats."""
    steps = np.diff(values)
    rising = steps[steps > 0]
    falls = int((steps < 0).sum())
    long_runs = len(rising) >= 2 * (falls + 1)
    return falls >= 1 and long_runs and bool(rising.max() - rising.min() <= np.median(rising) / 2)


def _against_times(name: str, rows: tuple[tuple[Frame, ...], ...]) -> list[str]:
    """Doubts where time offsets or acquisition times contradict the order, as sentences."""
    contradicting = [
        clock for clock in ("time offset", "acquisition time")
        if clock != name and _tells_apart(clock, [list(row) for row in rows])
        and not all(_is_rising([frame.times[clock] for frame in row]) for row in rows)
    ]  # fmt: skip
    return [f"the {clock}s run in another order than the {name}s, which are followed" for clock in contradicting]


def _missing(name: str, values: list[list[float]], count: int) -> Problem | None:
    """Holes of a grid, named as far as the times allow; the remedy is the first slice that is whole."""
    named = name in ("temporal position", _TRIGGER, "acquisition number")
    everywhere = sorted({v for row in values for v in row}) if named else []
    if len(everywhere) == count:
        holes = [f"slice {z + 1} lacks {name} {v:g}" for z, row in enumerate(values) for v in everywhere
                 if v not in set(row)]  # fmt: skip
    elif name == "temporal position":
        common = Counter(v for row in values for v in row)
        holes = [f"{name} {v:g} has {n} of {len(values)} slices" for v, n in sorted(common.items()) if n < len(values)]
    else:
        full = next(row for row in values if len(row) == count)
        holes = [f"slice {z + 1} has {len(row)} of {count} frames{_near(name, row, full)}"
                 for z, row in enumerate(values) if len(row) < count]  # fmt: skip
    if not holes:
        return None
    more = f" and {len(holes) - 6} more" if len(holes) > 6 else ""
    text = f"the grid of slices and times has holes: {', '.join(holes[:6])}{more}"
    return Problem(text, _whole_slices([z + 1 for z, row in enumerate(values) if len(row) == count]))


def _whole_slices(numbers: list[int]) -> tuple[Words, ...]:
    """Remedy of holes: reconstruct a slice that is whole."""
    if not numbers:
        return ("give the files that are missing",)
    shown = f"{', '.join(map(str, numbers[:8]))}{' and more' if len(numbers) > 8 else ''}"
    others = (f" (slices {shown} are whole)",) if len(numbers) > 1 else ()
    return ("take a whole slice alone with ", Param("slice_number", numbers[0]), *others)


def _near(name: str, row: list[float], full: list[float]) -> str:
    """Times of a full slice that have no near one in this slice, as text."""
    if name != _TRIGGER or not row:
        return ""
    half = float(np.median(np.diff(full))) / 2
    lacking = [f"{v:g}" for v in full if min(abs(v - w) for w in row) > half]
    return f" (none near {', '.join(lacking[:4])} ms)" if lacking else ""


def frame_time_of(order: TimeOrder) -> tuple[float | None, float | None]:
    """Median time from frame to frame and its spread over all slices, s; None where no header states times.

    The first of trigger time, time offset, acquisition, reference and content time is taken that rises with the order
    of the frames, then TemporalResolution. Trigger times count in gated series, and where they are even. A
    RepetitionTime is never taken for a frame time.

    Parameters
    ----------
    order : without holes.
    """
    rows = order.rows
    if len(rows[0]) < 2:
        return None, None
    for name in _ELAPSED:
        if not all(name in frame.times for row in rows for frame in row):
            continue
        times = [[frame.times[name] for frame in row] for row in rows]
        if name == _TRIGGER and not (order.gated or all(map(_is_even, times))):
            continue
        steps = np.diff(times, axis=1) / 1000
        if (steps > 0).all():
            return float(np.median(steps)), float(steps.max() - steps.min())
    resolution = rows[0][0].resolution
    return (resolution / 1000, None) if resolution and resolution > 0 else (None, None)
