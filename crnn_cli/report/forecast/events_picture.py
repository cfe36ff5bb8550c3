"""Picture of events: the error of the forecast over the frames of each slice, with the findings marked.

Colours are those of Okabe and Ito, which the colour-blind tell apart; findings are larger dots with numbers as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from crnn_cli.io.atomic_write import Output
from crnn_cli.report.canvas import FAINT, Canvas, Point

_WIDTH, _ROW, _TOP = 960, 170, 40
_LEFT, _RIGHT = 70, 24
_MOST_ROWS = 12
_LINE, _EVENT, _FAINT_LINE = (0, 114, 178), (213, 94, 0), (150, 150, 150)


def events_picture(report: dict[str, Any], target: Path, title: str) -> Output:
    """Draw the slices of a report of `crnn events`, those with the most unusual frames where there are more than 12.

    Parameters
    ----------
    title : first line; "not for diagnostic use" follows it.
    """
    slices = [each for each in report["slices"] if each["frames"]]
    if len(slices) > _MOST_ROWS:
        worst = sorted(slices, key=lambda each: -max(v or 0 for v in each["frames"]["surprise"]))[:_MOST_ROWS]
        slices = sorted(worst, key=lambda each: each["slice"])
    canvas = Canvas((_WIDTH, _TOP + _ROW * max(1, len(slices)) + 10))
    canvas.text((12, 10), f"{title}, not for diagnostic use", 13)
    for number, each in enumerate(slices):
        _draw_slice(canvas, each, _TOP + number * _ROW)
    return Output(target, canvas.png())


def _draw_slice(canvas: Canvas, found: dict[str, Any], top: int) -> None:
    """Error in dB over the frames, the threshold, and the events."""
    errors, limits = (
        np.array([np.nan if v is None else v for v in found["frames"][name]]) for name in ("error_db", "limit_db")
    )
    both = np.concatenate([errors, limits])
    low = float(np.nanmin(both))
    high = max(float(np.nanmax(both)), low + 1)
    bottom, upper = top + _ROW - 34, top + 22

    def place(frame: float, value: float) -> Point:
        x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * frame / max(1, len(errors) - 1)
        return x, bottom - (bottom - upper) * (value - low) / (high - low)

    canvas.text(
        (12, top + 2), f"slice {found['slice']}: error of the forecast (dB), and the limit of an event (grey)", 12
    )
    for value in (low, high):
        canvas.line([place(0, value), place(len(errors) - 1, value)], FAINT)
        canvas.text((_LEFT - 8, place(0, value)[1]), f"{value:.0f}", 11, "rm")
    for values, ink, width in ((limits, _FAINT_LINE, 1.0), (errors, _LINE, 1.5)):
        known = np.flatnonzero(np.isfinite(values))
        canvas.line([place(int(t), float(values[t])) for t in known], ink, width)
    for event in found["events"]:
        for t in range(event["first_frame"], event["last_frame"] + 1):
            canvas.dot(place(t, float(errors[t])), 4, _EVENT)
        peak = event["peak_frame"]
        x, y = place(peak, float(errors[peak]))
        canvas.text((x, max(y - 6, top + 30)), f"{peak + 1}", 11, "mb", _EVENT)
    for frame in sorted({0, len(errors) // 2, len(errors) - 1}):
        canvas.text((place(frame, low)[0], bottom + 6), f"frame {frame + 1}", 11, "ma")
