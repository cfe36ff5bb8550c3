"""Order of the frames of a DICOM series in time, holes in the grid of slices and times, and the frame time.

TriggerTime, TemporalPositionIdentifier and clock times are in ms here, as in `crnn_cli.io.dicom.headers.Frame`; frame
times are in s.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from crnn_cli.io.dicom.headers import Frame


def sort_by_time(by_position: list[list[Frame]]) -> tuple[str, tuple[tuple[Frame, ...], ...], list[str]]:
    """Sort the frames of each position in time.

    The first of `Frame.times` orders them that every frame has and that differs between all frames of each position. A
    temporal position must be the same set of numbers everywhere; a trigger time may differ from slice to slice.

    Parameters
    ----------
    by_position : frames of each position.

    Returns
    -------
    Name of the time that orders the frames, "" for a single time; the grid by position and time; and holes in it, as
    sentences.
    """
    count = max(len(group) for group in by_position)
    if count == 1:
        return "", tuple(tuple(group) for group in by_position), []
    names = [name for name in by_position[0][0].times if all(name in f.times for group in by_position for f in group)]
    for name in names:
        values = [[frame.times[name] for frame in group] for group in by_position]
        if all(len(set(v)) == len(v) for v in values):
            rows = tuple(tuple(sorted(group, key=lambda frame: frame.times[name])) for group in by_position)
            return name, rows, _missing(name, [sorted(v) for v in values], count)
    return "", (), [f"up to {count} images lie at one place, and nothing in the headers tells their times apart"]


def _missing(name: str, values: list[list[float]], count: int) -> list[str]:
    """Holes of a grid as sentences, named as far as the times allow."""
    named = name in ("temporal position", "trigger time", "acquisition number")
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
        return []
    more = f" and {len(holes) - 6} more" if len(holes) > 6 else ""
    return [f"the grid of slices and times has holes: {', '.join(holes[:6])}{more}"]


def _near(name: str, row: list[float], full: list[float]) -> str:
    """Times of a full slice that have no near one in this slice, as text."""
    if name != "trigger time" or not row:
        return ""
    half = float(np.median(np.diff(full))) / 2
    lacking = [f"{v:g}" for v in full if min(abs(v - w) for w in row) > half]
    return f" (none near {', '.join(lacking[:4])} ms)" if lacking else ""


def frame_time_of(grid: tuple[tuple[Frame, ...], ...]) -> tuple[float | None, float | None]:
    """Median time from frame to frame and its spread over all slices, s; None where no header states times.

    The first of trigger time, acquisition time and content time is taken that rises with the order of the frames, then
    TemporalResolution. A RepetitionTime is never taken for a frame time.
    """
    if len(grid[0]) < 2:
        return None, None
    for name in ("trigger time", "acquisition time", "content time"):
        if not all(name in frame.times for row in grid for frame in row):
            continue
        steps = np.diff([[frame.times[name] for frame in row] for row in grid], axis=1) / 1000
        if (steps > 0).all():
            return float(np.median(steps)), float(steps.max() - steps.min())
    resolution = grid[0][0].resolution
    return (resolution / 1000, None) if resolution and resolution > 0 else (None, None)
