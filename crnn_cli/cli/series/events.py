"""``crnn events``: frames and beats that the forecast did not foresee."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crnn_cli.cli import console
from crnn_cli.cli.options import (
    INPUT,
    METHOD,
    OUTPUT,
    AsJson,
    DeviceName,
    Force,
    ForecastModel,
    SeriesChoice,
    SliceTolerance,
)

Source = Annotated[Path, typer.Argument(metavar="SERIES", help="Series of several beats: NIfTI, DICOM; - for a pipe.")]
Axes = Annotated[
    str | None,
    typer.Option(metavar="NAMES", rich_help_panel=INPUT, help="Stored axes of a NIfTI file, such as x,y,t."),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        metavar="FLOAT", rich_help_panel=METHOD,
        help="Deviations above the usual error from which a frame is an event. Default: 4.",
    ),
]  # fmt: skip
Out = Annotated[
    Path | None,
    typer.Option("--out", "--output", "-o", metavar="FILE", rich_help_panel=OUTPUT, help="All numbers, .json."),
]
Csv = Annotated[
    Path | None, typer.Option("--csv", metavar="FILE", rich_help_panel=OUTPUT, help="A row for each event, .csv.")
]
PlotFile = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", rich_help_panel=OUTPUT, help="Error over the frames, events marked, .png."),
]
Exclude = Annotated[
    Path | None,
    typer.Option(
        "--exclude", metavar="FILE", rich_help_panel=OUTPUT, help="Write the series without the events: NIfTI."
    ),
]
WholeBeats = Annotated[
    bool,
    typer.Option(
        "--whole-beats", rich_help_panel=OUTPUT, help="With --exclude: leave out whole beats, not frames alone."
    ),
]


def events(
    source: Source,
    threshold: Threshold = None,
    axes: Axes = None,
    series: SeriesChoice = None,
    slice_tolerance: SliceTolerance = None,
    model: ForecastModel = None,
    device: DeviceName = "auto",
    out: Out = None,
    csv: Csv = None,
    plot: PlotFile = None,
    exclude: Exclude = None,
    whole_beats: WholeBeats = False,
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Find frames and beats that do not follow from those before: a beat that comes early, a breath, a jump, a gap.

    Each frame is forecast from those before it, as by crnn forecast, each slice on its own. A frame is an event where
    its error is far above what is usual in the series. The error is taken relative to the noise and to the change that
    was expected; what is usual is the median of that, in dB, and its deviation. Nothing says what an event is: look.

    The first beat is not judged, as all is new in it, nor are frames after a jump until the new place is known; a
    series of one beat is refused. Gradual changes are foreseen.

    --exclude leaves the frames of events out of all slices.

    Examples: crnn events realtime.nii.gz --plot events.png;
    crnn events realtime.nii.gz --exclude steady.nii.gz --whole-beats --csv events.csv
    """
    from crnn_cli.workflows.events import options as of_events
    from crnn_cli.workflows.events import run, write

    options = of_events.EventsOptions(
        threshold=threshold, whole_beats=whole_beats, axes=axes, series=series, slice_tolerance=slice_tolerance,
        model=model, device=device, out=out, csv=csv, plot=plot, exclude=exclude, force=force,
    )  # fmt: skip
    of_events.check_options(options)
    of_events.check_paths(source, options)
    with console.progress_bar("following") as progress:
        found = run.events_of_file(source, options, progress)
    report = write.save(found, options)
    if as_json:
        console.print_json(report)
        return
    from crnn_cli.report.forecast.events_table import COLUMNS, event_rows, slice_rows

    console.table(str(source), COLUMNS, event_rows(report), result=True)
    console.table("", ["", ""], slice_rows(report), prose=[""], result=True)
