"""Frames of ISMRMRD readouts and the time between them, from counters, time stamps and heart beats.

acquisition_time_stamp and physiology_time_stamp[0] (time since the R wave) count ticks of 2.5 ms, as Siemens scanners
and the converters of ISMRMRD write them. Frame times are in s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crnn_cli.errors import Param, UnreadableError, UnsupportedDataError
from crnn_cli.io.kspace.ismrmrd.file import ReadoutHeaders
from crnn_cli.io.kspace.ismrmrd.readouts import Whole
from crnn_cli.notices import Doubt, Fact, Remark

TICK = 2.5e-3
"""Seconds per tick of a time stamp."""
ARRHYTHMIC = 0.2
"""A beat is left out if its length differs from the median by more than this share."""
CARDIAC = "cardiac phase"
"""Name of frames that were sorted by the time since the R wave."""
_AGREE = 0.1
_JUMP = 40  # ticks by which two readouts of a beat may disagree about when its R wave was
_PAUSE = 0.5  # of a beat without readouts: how long the beat was is unknown


@dataclass(frozen=True)
class Frames:
    """Frames of readouts.

    Attributes
    ----------
    number : frame of each readout; without meaning where not ``kept``.
    kept : mask of the readouts that belong to a frame.
    count : number of frames.
    time : seconds from frame to frame, None if unknown.
    name : of the counter that was taken for time, "" for a single frame.
    remarks : source of the frame time, and oddities.
    """

    number: Whole
    kept: NDArray[np.bool_]
    count: int
    time: float | None
    name: str
    remarks: tuple[Remark, ...] = ()


def counted_frames(heads: ReadoutHeaders, lines: Whole, tr: float | None) -> Frames:
    """Frames by the counter that varies: phase (retrospective cine) or repetition (real time).

    Parameters
    ----------
    lines : number of the line of k-space and slice that each readout measured, equal for equal lines.
    tr : repetition time TR in ms, None if the header has none.

    Raises
    ------
    UnsupportedDataError
        If both counters vary.
    UnreadableError
        If a counter is larger than the number of readouts.
    """
    running = [name for name in ("phase", "repetition") if np.ptp(heads[name])]
    if len(running) > 1:
        sizes = " and ".join(f"{len(np.unique(heads[name]))} of {name}" for name in running)
        raise UnsupportedDataError(
            f"this scan has several values of both phase and repetition ({sizes}): which of them is time is ambiguous",
            remedy=("choose one repetition with ", Param("repetition", int(heads["repetition"].min())),
                    ", or one phase with ", Param("phase_number", int(heads["phase"].min()))),
        )  # fmt: skip
    kept = np.ones(len(heads), bool)
    if not running:
        return Frames(np.zeros(len(heads), np.int64), kept, 1, None, "", remarks=_unsorted_beats(heads, lines))
    name = running[0]
    number, stride = _without_stride(heads[name], name)
    count = int(number.max()) + 1
    if count > len(heads):
        raise UnreadableError(f"{name} runs to {count} frames, but there are {len(heads)} readouts: damaged counters")
    time, note = _phase_time(heads, number, lines) if name == "phase" else _repetition_time(heads, number, tr)
    source = (Fact("frame-time-source", note),) if note else ()
    return Frames(number, kept, count, time, name, (*source, *stride))


def _without_stride(values: Whole, name: str) -> tuple[Whole, tuple[Doubt, ...]]:
    """Frame of each readout from its counter; a counter that takes every n-th value counts consecutive frames."""
    present = np.unique(values)
    stride = int(np.gcd.reduce(np.diff(present)))
    if stride == 1 or len(present) < 3 or (np.diff(present) != stride).any():
        return values - present[0], ()
    text = f"the counter {name} takes every {stride}th value only: its values are taken as consecutive frames"
    return (values - present[0]) // stride, (Doubt("counter-stride", text),)


def _unsorted_beats(heads: ReadoutHeaders, lines: Whole) -> tuple[Doubt, ...]:
    """Doubt about a scan of one frame that measured its lines repeatedly, with stamps of several heart beats."""
    repeated = len(heads) >= 2 * len(np.unique(lines))
    beats = _beats(heads) if repeated and np.ptp(heads["since_r_wave"]) else None
    if beats is None:
        return ()
    text = f"all readouts are one frame, and they have ECG stamps of {len(beats.length)} heart beats: cardiac phases "
    return (Doubt("ecg-not-used", text + "can be sorted from them"),)


def full_frames(
    frames: Frames, number: Whole, slices: Whole, drop_empty: bool
) -> tuple[Frames, NDArray[np.bool_], Whole]:
    """Frames of which every slice has lines; others are left out if ``drop_empty``.

    Parameters
    ----------
    number, slices : frame of each readout that is kept, and place of its slice in the stack, from 0.

    Returns
    -------
    The frames, a mask of the readouts that belong to one, and their new numbers.

    Raises
    ------
    UnsupportedDataError
        If a frame has no line in some slice and ``drop_empty`` is false, or no frame is full.
    """
    there = np.zeros((int(slices.max()) + 1, frames.count), bool)
    there[slices, number] = True
    full: NDArray[np.bool_] = np.logical_and.reduce(there, axis=0)
    if full.all():
        return frames, np.ones(len(number), bool), number
    z, first = (int(v) for v in np.argwhere(~there)[0])
    lacking = f"{int((~full).sum())} of {frames.count} frames have no line in some slice"
    if not drop_empty or not full.any():
        fewer = (", or give fewer ", Param("phases")) if frames.name == CARDIAC else ()
        raise UnsupportedDataError(
            f"{lacking}, the first is frame {first + 1} of slice {z + 1}",
            remedy=("leave such frames out with ", Param("drop_empty"), *fewer) if full.any() else fewer[1:],
        )
    numbers = ", ".join(str(t + 1) for t in np.flatnonzero(~full)[:12])
    remarks = (*frames.remarks, Doubt("empty-frames", f"{lacking} and were left out: {numbers}"))
    new: Whole = (np.cumsum(full) - 1)[number]
    return replace(frames, count=int(full.sum()), remarks=remarks), full[number], new


def _phase_time(heads: ReadoutHeaders, number: Whole, lines: Whole) -> tuple[float | None, str]:
    """Time in s from cardiac phase to phase, and a note: RR / phases where it agrees with the stamps, else their slope.

    Prospective triggering covers a part of the beat only, so that RR / phases alone would be too long.
    """
    slope = _slope(number, heads["since_r_wave"])
    if slope is not None:
        beats = _beats(heads)
        whole = float(beats.mean) / (int(number.max()) + 1) if beats is not None else None
        if whole is not None and abs(whole - slope) <= _AGREE * slope:
            rate = 60 / (beats.mean * TICK) if beats is not None else 0
            return whole * TICK, f"frame time from the heart beat ({rate:.0f}/min, stamps of 2.5 ms) over the phases"
        return slope * TICK, "frame time from the stamps since the R wave, in ticks of 2.5 ms"
    slope = _slope_of_lines(heads, number, lines)
    if slope is None:
        slope = _slope(number, heads["acquisition_time_stamp"])
    return (None, "") if slope is None else (slope * TICK, "frame time from the time stamps, in ticks of 2.5 ms")


def _slope_of_lines(heads: ReadoutHeaders, number: Whole, lines: Whole) -> float | None:
    """Mean ticks from a line of one frame to the same line of the next one."""
    order = np.lexsort((number, heads["average"], lines))
    steps = np.diff(heads["acquisition_time_stamp"][order])
    steps = steps[(np.diff(number[order]) == 1) & (np.diff(lines[order]) == 0) & (steps > 0)]
    return float(steps[steps <= 2 * np.median(steps)].mean()) if len(steps) else None


def _repetition_time(heads: ReadoutHeaders, number: Whole, tr: float | None) -> tuple[float | None, str]:
    slices = heads["slice"]
    slopes = [_slope(number[slices == z], heads["acquisition_time_stamp"][slices == z]) for z in np.unique(slices)]
    known = [slope for slope in slopes if slope is not None]
    if known:
        return float(np.median(known)) * TICK, "frame time from the time stamps, in ticks of 2.5 ms"
    if tr is None:
        return None, ""
    per_frame = len(heads) / len(np.unique(slices)) / len(np.unique(number))
    return per_frame * tr / 1000, f"frame time is an estimate: TR of {tr:g} ms x {per_frame:g} lines of a frame"


def _slope(number: Whole, stamps: Whole) -> float | None:
    """Ticks per frame: median over pairs of frames of the slope between their median stamps; None if <= 0."""
    frames = np.unique(number)
    if len(frames) < 2 or not np.ptp(stamps):
        return None
    middle = np.array([np.median(stamps[number == frame]) for frame in frames])
    first, second = np.triu_indices(len(frames), max(1, len(frames) // 2))
    slope = float(np.median((middle[second] - middle[first]) / (frames[second] - frames[first])))
    return slope if slope > 0 else None


@dataclass(frozen=True)
class _Beats:
    """Heart beats: number of the beat of each readout; length in ticks and regularity of each; mean of regular ones."""

    of: Whole
    length: NDArray[np.float64]
    regular: NDArray[np.bool_]
    mean: float


def _beats(heads: ReadoutHeaders) -> _Beats | None:
    """Heart beats; a new one begins where the time since the R wave drops. None if it never does."""
    clock, since = heads["acquisition_time_stamp"], heads["since_r_wave"]
    order = np.lexsort((heads["scan_counter"], clock))
    r_wave = (clock - since)[order]
    timed = np.ptp(clock) > 0
    starts = (np.diff(since[order]) < 0) | (timed & (np.diff(r_wave) > _JUMP))
    if not starts.any():
        return None
    in_order = np.concatenate([[0], np.cumsum(starts)])
    first = np.flatnonzero(np.concatenate([[True], starts]))
    last_stamp = np.maximum.reduceat(since[order], first).astype(float)
    if timed:
        at = np.array([np.median(part) for part in np.split(r_wave, first[1:])])
        length = np.append(np.diff(at), np.nan)
    else:
        steps = np.diff(since[order])
        length = last_stamp + float(np.median(steps[steps >= 0]) if (steps >= 0).any() else 0)
        length[-1] = np.nan
    median = float(np.nanmedian(length))
    paused = length - last_stamp > _PAUSE * median
    length[paused | np.isnan(length)] = np.nan
    median = float(np.nanmedian(length)) if np.isfinite(length).any() else median
    unknown = np.isnan(length)
    good = ~unknown & (np.abs(length - median) <= ARRHYTHMIC * median)
    mean = float(length[good].mean()) if good.any() else median
    regular = good | (unknown & (last_stamp <= (1 + ARRHYTHMIC) * median))
    of = np.empty(len(heads), np.int64)
    of[order] = in_order
    return _Beats(of, np.where(unknown, np.maximum(mean, last_stamp + 1), length), regular, mean)


def heart_frames(heads: ReadoutHeaders, phases: int) -> Frames:
    """Frames by the time since the last R wave, each beat scaled linearly to the mean length (retrospective gating).

    A beat whose length differs from the median by more than 20 % is left out. A beat that was cut off by a pause counts
    as of mean length.

    Parameters
    ----------
    phases : number of frames.

    Raises
    ------
    UnsupportedDataError
        If there are no time stamps, no R wave in them, or no regular beat.
    """
    if phases < 1:
        raise UnsupportedDataError(f"{phases} cardiac phases cannot be: give 1 or more")
    beats = _beats(heads) if np.ptp(heads["since_r_wave"]) else None
    if beats is None:
        raise UnsupportedDataError(
            "the readouts have no times since an R wave (physiology_time_stamp 0 never starts again), so they cannot "
            "be sorted into cardiac phases: was the ECG connected? Without phases the frames are those of the file"
        )
    share = heads["since_r_wave"] / beats.length[beats.of]
    number = np.minimum((share * phases).astype(np.int64), phases - 1)
    kept = beats.regular[beats.of]
    if not kept.any():
        raise UnsupportedDataError("no readout is left: every heart beat differs too much from the median one")
    gated = (
        f"readouts sorted into {phases} cardiac phases by {int(beats.regular.sum())} beats of "
        f"{1000 * beats.mean * TICK:.0f} ms (stamps of 2.5 ms)"
    )
    remarks: list[Remark] = [Fact("gated", gated)]
    if not kept.all():
        text = (
            f"{int((~beats.regular).sum())} of {len(beats.regular)} beats left out with {int((~kept).sum())} readouts: "
            f"they differ from the median by more than {100 * ARRHYTHMIC:.0f} %"
        )
        remarks.append(Doubt("beats-left-out", text))
    return Frames(number, kept, phases, beats.mean * TICK / phases, CARDIAC, tuple(remarks))
