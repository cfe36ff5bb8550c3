"""Events of a series: each slice followed, its events, and the frames that are left without them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.workflows.events.options import EventsOptions, check_options
from crnn_cli.workflows.forecast.engine import ForecastEngine, prepare
from crnn_cli.workflows.forecast.source import Series, open_series, with_progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from crnn_cli.data.image import Image
    from crnn_cli.forecasting.events import Event, FollowedSlice


@dataclass(frozen=True)
class EventsRun:
    """Events of a series.

    Attributes
    ----------
    series : that was followed.
    kept : frames without events, from 0, in order.
    report : as printed and written.
    """

    series: Series
    kept: list[int]
    report: dict[str, Any]


def events_of_source(source: Path | Image, options: EventsOptions, progress: notices.Progress) -> EventsRun:
    """Find the events of a file or in memory; errors as of `events_of_series`, `open_series` and `prepare`."""
    check_options(options)
    engine = prepare(options.model, options.device)
    series = open_series(source, options.axes, options.series, options.slice_tolerance)
    return events_of_series(series, options, engine, progress)


def events_of_series(
    series: Series, options: EventsOptions, engine: ForecastEngine, progress: notices.Progress
) -> EventsRun:
    """Find the events of a series, each slice on its own.

    Raises
    ------
    UnsupportedDataError
        If no slice can be judged: nothing comes back in any of them.
    """
    from crnn_cli.forecasting.events import THRESHOLD, follow_slice
    from crnn_cli.report.provenance import model_facts, tool_facts

    began, threshold = time.perf_counter(), THRESHOLD if options.threshold is None else options.threshold
    count, slices = series.image.frames, series.image.shape[2]
    facts, left_out = [], set[int]()
    for z in range(slices):
        frames = with_progress(series.frames(z, count), z * count, slices * count, progress)
        followed = follow_slice(frames, engine.network, engine.device)
        events = [] if _why_not_judged(followed) else followed.events(threshold)
        facts.append(_slice_facts(z, followed, events, threshold, series.image.frame_time))
        left_out |= _left_out(followed, events, options.whole_beats)
    reasons = [each["not_judged"] for each in facts]
    if all(reasons):
        raise UnsupportedDataError(
            f"{series.name} cannot be judged: {reasons[0]}", remedy=("give a series of two beats or more",)
        )
    kept = [t for t in range(count) if t not in left_out]
    report = tool_facts() | model_facts(engine.bundle) | {
        "input": series.source, "device": str(engine.device), "seconds": round(time.perf_counter() - began, 2),
        "frames": count, "frame_time_s": series.image.frame_time, "threshold": threshold,
        "events": sum(len(each["events"]) for each in facts), "slices": facts,
        "left_out_frames": sorted(left_out), "kept_frames": kept,
    } | notices.recorded()  # fmt: skip
    return EventsRun(series, kept, report)


def _why_not_judged(followed: FollowedSlice) -> str:
    """Reason for which a slice cannot be judged; empty where it can."""
    from crnn_cli.forecasting.events import LEAST_JUDGED

    judged = int(followed.judged_T.sum())
    if not judged:
        return "no frame looks like an earlier one after a change: it has one beat, or nothing moves"
    if judged < LEAST_JUDGED:
        return f"{judged} frames follow the first beat, {LEAST_JUDGED} or more say what is usual"
    return ""


def _slice_facts(
    z: int, followed: FollowedSlice, events: list[Event], threshold: float, frame_time: float | None
) -> dict[str, Any]:
    """What the report says of a slice; frames from 0, beats from 1."""
    import numpy as np

    reason = _why_not_judged(followed)
    return {
        "slice": z + 1, "not_judged": reason or None, "frames_judged": int(followed.judged_T.sum()),
        "beats_judged": followed.beats, "frames_a_beat": followed.period,
        "events": [
            {
                "first_frame": each.first, "last_frame": each.last, "peak_frame": each.peak,
                "first_s": None if frame_time is None else round(each.first * frame_time, 6),
                "surprise": round(each.surprise, 4), "beats": list(each.beats),
            }
            for each in events
        ],
        "frames": {
            "error_db": _plain(followed.errors_T), "expected_change_db": _plain(followed.changes_T),
            "surprise": _plain(followed.surprises),
            "limit_db": _plain(followed.limits_db(threshold)),
            "beat": [int(b) for b in np.floor(followed.beats_T) + 1],
        },
    }  # fmt: skip


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    """Numbers for JSON, which has no NaN."""
    import math

    return [round(float(v), 4) if math.isfinite(v) else None for v in values]


def _left_out(followed: FollowedSlice, events: list[Event], whole_beats: bool) -> set[int]:
    """Frames of the events, or of the beats that they lie in."""
    if not whole_beats:
        return {t for each in events for t in range(each.first, each.last + 1)}
    marked = {beat for each in events for beat in each.beats}
    return {t for t, passed in enumerate(followed.beats_T) if int(passed) + 1 in marked}
