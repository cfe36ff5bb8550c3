"""Outputs of `crnn forecast`: frames, report, picture; all or nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.notices import STREAM
from crnn_cli.workflows.forecast.options import ForecastOptions
from crnn_cli.workflows.forecast.run import ForecastRun

if TYPE_CHECKING:
    from crnn_cli.io.atomic_write import Output


def save(run: ForecastRun, target: Path, options: ForecastOptions) -> dict[str, Any]:
    """Write the frames, the report beside them, and the picture where it is asked for; the report as written.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    from crnn_cli.io.atomic_write import write_together
    from crnn_cli.io.nifti.image import image_output, write_stream
    from crnn_cli.report.provenance import command_facts
    from crnn_cli.report.sidecar import report_output

    report = command_facts() | run.report
    description = f"{report['tool']} forecast, not for diagnostic use"
    outputs = [] if options.preview is None else [_picture(run, options)]
    if target == STREAM:
        write_together(outputs, options.force)
        write_stream(run.images, sys.stdout.buffer, description)
        return report
    report |= {"output": str(target)}
    outputs = [image_output(run.images, target, description), *outputs]
    write_together([*outputs, report_output(target, report, outputs)], options.force)
    return report


def _picture(run: ForecastRun, options: ForecastOptions) -> Output:
    """Forecast of the middle slice; where the frames that came are known, these and the error."""
    from dataclasses import replace

    import numpy as np

    from crnn_cli.data.geometry import displayed_directions, displayed_slice
    from crnn_cli.data.image import magnitude_of
    from crnn_cli.report.montage import Panel, preview_output
    from crnn_cli.report.provenance import slice_label

    assert options.preview is not None
    images, z = run.images, run.images.shape[2] // 2
    made = np.asarray(displayed_slice(images, z), np.float32)
    panels = [Panel("forecast", made)]
    if options.reference:
        following = run.series.image.array[..., run.read : run.read + made.shape[0]]
        came = magnitude_of(displayed_slice(replace(images, array=following), z)).astype(np.float32)
        panels = [Panel("frames that came", came), *panels, Panel("error x 5", np.abs(made - came), 5)]
    which = slice_label({}, z, images.shape[2])
    caption = f"FORECAST after frame {run.read}, {which}, not for diagnostic use, {displayed_directions(images)}"
    spacing = (images.spacing[1], images.spacing[0])
    return preview_output(panels, spacing, images.frame_time, options.preview, caption)
