"""Heart beats of the slices of a gated cine: where they are unlike, frames of one number are not of one phase.

Slices are measured one after the other, each over beats of its own. In a short beat systole fills another share of the
cycle than in a long one (Weissler, Harris, Schoenfeld: "Systolic time intervals in heart failure in man", Circulation
37:149, 1968).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crnn_cli.io.dicom.frames.frame import Frame
from crnn_cli.notices import Doubt

_UNLIKE = 1.15
"""Ratio of the longest to the shortest heart beat, or frame time, of the slices above which the cycles are unlike."""
_TRIGGER = "trigger time"
_SYSTOLE = "frames are joined by their place in the cycle, and systole fills more of a short cycle than of a long one"

Rows = Sequence[Sequence[Frame]]


def unlike_cycles(rows: Rows) -> list[Doubt]:
    """Doubt that frames of one number are of one phase, by frame times, or else by the heart beats that headers say.

    Parameters
    ----------
    rows : frames of each slice of a gated cine, in the order of time.
    """
    steps = slice_steps(rows)
    if steps and max(steps) > _UNLIKE * min(steps):
        told = f"the time between frames is {min(steps):.1f} to {max(steps):.1f} ms, by slice"
        return [Doubt("stack-cycles-differ", f"{told}: {_SYSTOLE}")]
    beats = [[frame.beat for frame in row if frame.beat is not None] for row in rows]
    means = [float(np.median(row)) for row in beats if row]
    if len(means) < len(rows) or max(means) <= _UNLIKE * min(means):
        return []
    low, high = (60_000 / beat for beat in (max(means), min(means)))
    told = f"the headers say heart rates of {low:.0f} to {high:.0f} a minute, by slice"
    return [Doubt("stack-cycles-differ", f"{told}: {_SYSTOLE}")]


def slice_steps(rows: Rows) -> list[float]:
    """Median time between the frames of each slice, in ms, by trigger times; empty where one lacks them."""
    steps = []
    for row in rows:
        times = [frame.times[_TRIGGER] for frame in row if _TRIGGER in frame.times]
        if len(times) < len(row) or len(row) < 2:
            return []
        steps.append(float(np.median(np.diff(times))))
    return steps
