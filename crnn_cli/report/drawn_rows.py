"""Rows of the table that sums up labels from drawn slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crnn_cli.report.rows import label_size, written_rows

_METHODS = {"distances": "interpolation of signed distances", "nearest": "copy of the nearest drawn slice"}


def drawn_rows(target: Path, report: dict[str, Any], outputs: Sequence[Path] = ()) -> list[list[str]]:
    """Rows (name, value) of the table at the end of a run.

    Parameters
    ----------
    target : the labels.
    report : of the run, with the key ``drawn``.
    outputs : all that may have been written.
    """
    drawn, model = report["drawn"], report["model"]
    method = _METHODS[drawn["method"]] if model is None else f"{model['name']} ({model['licence']})"
    rows = [["method", method], ["drawn", _drawn(report)]]
    rows += [[label["name"], label_size(label, report)] for label in report["labels"]]
    predicted = [each for each in drawn["slices"] if each["predicted_dice"] is not None]
    if predicted:
        least = min(predicted, key=lambda each: each["predicted_dice"])
        rows.append(["least certain", f"{_place(least, report)}, predicted Dice {least['predicted_dice']:.2f}"])
    if drawn["next"] is not None:
        rows.append(["draw next", _place(drawn["next"], report)])
    if drawn["expected_gain"] is not None:
        over = drawn["expected_gain"]["dice_over"]
        rows.append(["expected gain", f"Dice {over['distances']:+.2f} over interpolated distances, "
                     f"{over['nearest']:+.2f} over the nearest slice"])  # fmt: skip
    if drawn["tuning"] is not None:
        rows.append(["tuned", _tuned(drawn["tuning"], report["labels"])])
    interpolated = sorted({each["slice"] for each in drawn["slices"] if each["interpolated"]})
    if interpolated:
        rows.append(["interpolated", f"slice {_ranges(interpolated)}: the network lost a part of a structure there"])
    rows.append(["time", f"{report['seconds']:.1f} s on {report['device']}"])
    return rows + written_rows(target, outputs)


def _drawn(report: dict[str, Any]) -> str:
    """Which slices were drawn, in words."""
    listed = [each for each in report["drawn"]["slices"] if each["drawn"]]
    numbers = sorted({each["slice"] for each in listed})
    text = f"slice {_ranges(numbers)} of {report['slices']['in_stack']}, {report['slices']['plane']}"
    if report["frames"] == 1:
        return text
    return f"{text}, in frame {_ranges(sorted({each['frame'] + 1 for each in listed}))} of {report['frames']}"


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers as ranges.

    >>> _ranges([1, 2, 3, 7])
    '1-3, 7'
    """
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _place(entry: dict[str, Any], report: dict[str, Any]) -> str:
    frame = f", frame {entry['frame'] + 1}" if report["frames"] > 1 else ""
    return f"slice {entry['slice']}{frame}"


def _tuned(tuning: dict[str, Any], labels: Sequence[dict[str, Any]]) -> str:
    """What came of the tuning, in words."""
    what = f"{tuning['steps']} steps in {tuning['seconds']:.0f} s"
    judged = tuning["left_out_dice"]
    if judged is not None:
        what += f", Dice of drawn slices left out {judged['before']:.3f} before, {judged['after']:.3f} after"
    if not tuning["used"]:
        return f"not used: {tuning['why']} ({what})"
    better = [label["name"] for label in labels if label["tuned"]["used"]]
    return what if len(better) == len(labels) else f"{what}; used for {', '.join(better)} alone"
