"""Events as tables: for people, and as a CSV file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crnn_cli.io.atomic_write import Output
from crnn_cli.report.label_table import csv_text

COLUMNS = ("slice", "frames", "beat", "time", "surprise")
"""Headings of `event_rows`."""
_CSV = ("slice", "first_frame", "last_frame", "peak_frame", "beats", "first_s", "surprise")


def event_rows(report: dict[str, Any]) -> list[list[str]]:
    """A row for each event, frames and beats from 1."""
    rows = []
    for found in report["slices"]:
        for event in found["events"]:
            first, last = event["first_frame"] + 1, event["last_frame"] + 1
            frames = str(first) if first == last else f"{first} to {last}"
            seconds = event["first_s"]
            rows.append([
                str(found["slice"]), frames, " ".join(map(str, event["beats"])),
                "-" if seconds is None else f"{seconds:.2f} s", f"{event['surprise']:.1f}",
            ])  # fmt: skip
    return rows


def slice_rows(report: dict[str, Any]) -> list[list[str]]:
    """A row for each slice: beats, frames judged, events; or why it was not judged."""
    rows = []
    for found in report["slices"]:
        if found["not_judged"]:
            text = f"not judged: {found['not_judged']}"
        else:
            text = (
                f"{found['frames_judged']} frames of {found['beats_judged']} beats judged, "
                f"{len(found['events'])} event{'' if len(found['events']) == 1 else 's'}"
            )
        rows.append([f"slice {found['slice']}", text])
    return rows


def events_csv(report: dict[str, Any], target: Path) -> Output:
    """A heading, and a row for each event; frames from 0 as in the report, beats from 1."""
    records: list[dict[str, Any]] = []
    for found in report["slices"]:
        for event in found["events"]:
            known = event | {"slice": found["slice"], "beats": " ".join(map(str, event["beats"]))}
            records.append({name: known[name] for name in _CSV})
    text = csv_text(records) if records else f"{','.join(_CSV)}\n"
    return Output(target, text.encode())
