"""Outputs of `crnn events`: report, table, plot, and the series without the events; all or nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.workflows.events.options import EventsOptions
from crnn_cli.workflows.events.run import EventsRun

if TYPE_CHECKING:
    from crnn_cli.io.atomic_write import Output


def save(run: EventsRun, options: EventsOptions) -> dict[str, Any]:
    """Write what was asked for; the report as written.

    Raises
    ------
    UnsupportedDataError
        If no frame would be left in the series without the events.
    OutputError
        If it cannot be written.
    """
    from crnn_cli.io.atomic_write import write_together
    from crnn_cli.report.forecast.events_picture import events_picture
    from crnn_cli.report.forecast.events_table import events_csv
    from crnn_cli.report.provenance import command_facts
    from crnn_cli.report.sidecar import report_output

    outputs = [] if options.exclude is None else [_series_output(run, options.exclude)]
    report = command_facts() | run.report | notices.recorded()
    if options.csv is not None:
        outputs.append(events_csv(report, options.csv))
    if options.plot is not None:
        outputs.append(events_picture(report, options.plot, f"crnn events, {Path(run.series.name).name}"))
    if options.exclude is not None:
        report = report | {"output": str(options.exclude)}
        outputs.append(report_output(options.exclude, report, outputs))
    if options.out is not None:
        outputs.append(report_output(options.out, report | {"output": str(options.out)}, outputs))
    if outputs:
        write_together(outputs, options.force)
    return report


def _series_output(run: EventsRun, target: Path) -> Output:
    """The frames that are kept, in the type of the series."""
    from crnn_cli.io.nifti.image import image_output

    if not run.kept:
        raise UnsupportedDataError("every frame belongs to an event: no series is left to write")
    image = run.series.image
    if len(run.kept) < image.frames:
        text = (
            f"{image.frames - len(run.kept)} of {image.frames} frames are left out: frames are no longer evenly spaced"
        )
        notices.note("frames-left-out", text)
    description = f"{run.report['tool']} without events"
    return image_output(replace(image, array=image.array[..., run.kept]), target, description)
