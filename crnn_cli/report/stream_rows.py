"""Rows of the table that sums up a stream."""

from __future__ import annotations

from typing import Any


def stream_rows(report: dict[str, Any]) -> list[list[str]]:
    """Rows (name, value) of the table at the end of a stream.

    Parameters
    ----------
    report : of `crnn_cli.workflows.stream.steps.run`.
    """
    stream, model = report["stream"], report["model"]
    latency, held = stream["latency_ms"], stream["held_out"]
    rows = [
        ["data", report["origin"]],
        ["acceleration", f"{report['acceleration']:.2f}"],
        ["method", f"{model['name']} ({model['licence']}), frame by frame"],
        ["frames", f"{stream['frames']}{' (ended early)' if stream['ended'] else ''}"],
        ["calibration", f"first {report['calibration_frames']} frames, then {stream['calibration_seconds']:.2f} s"],
        ["latency", "no frame after the calibration" if latency is None else _latency(latency)],
        ["frames late", _late(stream)],
        ["residual at lines held out", _held_out(held)],
        ["memory", f"{stream['memory']['bytes_at_end'] / 2**20:.0f} MiB at the end"],
    ]
    if "output" in report:
        rows.append(["written", report["output"]])
    return rows


def _latency(latency: dict[str, float]) -> str:
    return (
        f"median {latency['median']:.0f} ms, 99th percentile {latency['percentile_99']:.0f} ms, "
        f"worst {latency['worst']:.0f} ms"
    )


def _late(stream: dict[str, Any]) -> str:
    interval = stream["interval_ms"]
    if interval is None:
        return "not known: nothing says the time between frames"
    return f"{stream['frames_late']} (later than the next frame, {interval:.0f} ms)"


def _held_out(held: dict[str, Any]) -> str:
    if held["overall"] is None:
        return "not measured"
    return f"{held['overall']:.3f}, over {held['frames']} frame{'s' if held['frames'] != 1 else ''}"
