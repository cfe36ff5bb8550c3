"""Forecast as a table for people."""

from __future__ import annotations

from typing import Any


def forecast_rows(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row for each frame ahead: its expected error, and what was measured.

    Parameters
    ----------
    report : of `crnn forecast`.
    """
    measured = "psnr_db" in report["frames"][0]
    columns = ["frame", "ahead", "expected error (rms)", "9 of 10 below", "of forecasts"]
    columns += ["PSNR (dB)", "last frame", "recalled"] if measured else []
    rows = []
    for each in report["frames"]:
        seconds = each["seconds_ahead"]
        row = [
            str(each["frame"] + 1), "-" if seconds is None else f"{1000 * seconds:.0f} ms",
            _number(each["expected_rms"], ".4g"), _number(each["expected_rms_90"], ".4g"), str(each["measured_on"]),
        ]  # fmt: skip
        if measured:
            row += [_number(each[f"psnr{name}_db"], ".2f") for name in ("", "_last_frame", "_recalled")]
        rows.append(row)
    return columns, rows


def _number(value: float | None, digits: str) -> str:
    return "-" if value is None else format(value, digits)
