"""``crnn forecast``: the next frames of a series."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crnn_cli.cli import console
from crnn_cli.cli.options import (
    INPUT,
    METHOD,
    OUTPUT,
    RELIABILITY,
    DeviceName,
    Force,
    ForecastModel,
    ReportAsJson,
    SeriesChoice,
    SliceTolerance,
)

Source = Annotated[Path, typer.Argument(metavar="SERIES", help="Cine or other series: NIfTI, DICOM; - for a pipe.")]
Axes = Annotated[
    str | None,
    typer.Option(metavar="NAMES", rich_help_panel=INPUT, help="Stored axes of a NIfTI file, such as x,y,t."),
]
Frames = Annotated[
    int,
    typer.Option(min=1, max=100, metavar="INTEGER", rich_help_panel=METHOD, help="Frames to forecast, 1 to 100."),
]
FromFrame = Annotated[
    int | None,
    typer.Option(
        "--from-frame", min=1, metavar="INTEGER", rich_help_panel=METHOD,
        help="Read the series up to this frame, from 1, and forecast from there. Default: to its end.",
    ),
]  # fmt: skip
AgainstReference = Annotated[
    bool,
    typer.Option(
        "--reference", rich_help_panel=RELIABILITY, help="Measure against the frames that follow --from-frame."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "--output", "-o", metavar="FILE", rich_help_panel=OUTPUT,
        help="The frames: NIfTI, or - for standard output. Default: SERIES_forecast.nii.gz beside the series.",
    ),
]  # fmt: skip
PreviewFile = Annotated[
    Path | None,
    typer.Option(
        "--preview", metavar="FILE", rich_help_panel=OUTPUT, help="Picture of the middle slice: .png, or .gif movie."
    ),
]


def forecast(
    source: Source,
    frames: Frames = 4,
    from_frame: FromFrame = None,
    reference: AgainstReference = False,
    axes: Axes = None,
    series: SeriesChoice = None,
    slice_tolerance: SliceTolerance = None,
    model: ForecastModel = None,
    device: DeviceName = "auto",
    out: Out = None,
    preview: PreviewFile = None,
    as_json: ReportAsJson = False,
    force: Force = False,
) -> None:
    """Forecast the next frames of a series, each slice on its own.

    A recurrent network reads the frames one by one, each with the frame of the last 64 that looked most like it, and
    the one that followed: in a second beat it knows the first. Where no frame comes back, as in a first beat, it has
    the last frames alone, and says so.

    The error to expect of each frame is that of earlier forecasts in the same series, root mean square in the units of
    the series. A beat that comes early is not foreseen, and not in it unless one came before; see crnn events.

    --reference measures against the frames that follow: PSNR of the forecast, of the last frame repeated, and of what
    followed the recalled frame. The data range is the largest value of these frames.

    Examples: crnn forecast cine.nii.gz --frames 4 -o next.nii.gz;
    crnn forecast realtime.nii.gz --from-frame 60 --reference --preview next.png
    """
    from crnn_cli.workflows.forecast import options as of_forecast
    from crnn_cli.workflows.forecast import run, write

    options = of_forecast.ForecastOptions(
        frames=frames, from_frame=from_frame, reference=reference, axes=axes, series=series,
        slice_tolerance=slice_tolerance, model=model, device=device, out=out, preview=preview, force=force,
    )  # fmt: skip
    of_forecast.check_options(options)
    target = of_forecast.plan_paths(source, options, as_json)
    with console.progress_bar("forecasting") as progress:
        made = run.forecast_file(source, options, progress)
    report = write.save(made, target, options)
    from crnn_cli.report.forecast.table import forecast_rows

    columns, rows = forecast_rows(report)
    console.table(str(source), columns, rows)
    if as_json:
        console.print_json(report)
