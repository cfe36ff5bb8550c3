"""``crnn function``: volumes, ejection fraction, mass and wall thickness of a heart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crnn_cli.cli import console
from crnn_cli.cli.options import (
    INPUT,
    OUTPUT,
    AsJson,
    DeviceName,
    Force,
    SegmentationModel,
    SeriesChoice,
    SliceTolerance,
)

Source = Annotated[
    Path, typer.Argument(metavar="SOURCE", help="Label map or cine: NIfTI, DICOM, DICOM SEG; - for standard input.")
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|LIST", rich_help_panel=INPUT,
        help="What the values of a label map are: acdc, mnms, ukbb, or a list such as 1=RV,2=MYO,3=LV. Default: by the "
        "names of the labels.",
    ),
]  # fmt: skip
ImageFile = Annotated[
    Path | None,
    typer.Option(
        "--image", metavar="FILE", rich_help_panel=INPUT, help="The images of a label map, on its grid, for --page."
    ),
]
RunsFolder = Annotated[
    Path | None,
    typer.Option(
        "--runs", metavar="DIR", rich_help_panel=INPUT,
        help="Runs of the reconstruction that the cine is of, from crnn reconstruct --save-runs.",
    ),
]  # fmt: skip
EndDiastole = Annotated[
    int | None,
    typer.Option("--ed", min=1, metavar="INTEGER", rich_help_panel=INPUT, help="Frame of end diastole, from 1."),
]
EndSystole = Annotated[
    int | None,
    typer.Option(
        "--es",
        min=1,
        metavar="INTEGER",
        rich_help_panel=INPUT,
        help="Frame of end systole, from 1; 1 of a single volume that is of end systole.",
    ),
]
Height = Annotated[float | None, typer.Option(metavar="CM", rich_help_panel=INPUT, help="Height of the person.")]
Weight = Annotated[float | None, typer.Option(metavar="KG", rich_help_panel=INPUT, help="Weight of the person.")]
Formula = Annotated[
    str, typer.Option("--bsa", metavar="mosteller|dubois", rich_help_panel=INPUT, help="Formula of the body surface.")
]
HeartRate = Annotated[
    float | None,
    typer.Option(metavar="BPM", rich_help_panel=INPUT, help="Heart rate. Default: of the header, or of the frames."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "--output", "-o", metavar="FILE", rich_help_panel=OUTPUT, help="All numbers, .json."),
]
Csv = Annotated[
    Path | None, typer.Option("--csv", metavar="FILE", rich_help_panel=OUTPUT, help="A heading and one row, .csv.")
]
PlotFile = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", rich_help_panel=OUTPUT, help="Curves and bull's eye, .png.")
]
PageFile = Annotated[
    Path | None,
    typer.Option(
        "--page", metavar="FILE", rich_help_panel=OUTPUT,
        help="A page to look through frames and slices with outlines, .html.",
    ),
]  # fmt: skip
StructuredReport = Annotated[
    Path | None,
    typer.Option(
        "--sr", metavar="FILE", rich_help_panel=OUTPUT,
        help="DICOM structured report (TID 1500) for the archive, .dcm; of a DICOM source.",
    ),
]  # fmt: skip


def function(
    source: Source,
    labels: Labels = None,
    image: ImageFile = None,
    runs: RunsFolder = None,
    series: SeriesChoice = None,
    slice_tolerance: SliceTolerance = None,
    ed: EndDiastole = None,
    es: EndSystole = None,
    height: Height = None,
    weight: Weight = None,
    bsa: Formula = "mosteller",
    heart_rate: HeartRate = None,
    model: SegmentationModel = None,
    device: DeviceName = "auto",
    out: Out = None,
    csv: Csv = None,
    plot: PlotFile = None,
    page: PageFile = None,
    sr: StructuredReport = None,
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Measure a heart: volumes, ejection fraction, mass, heart rate, wall thickness.

    SOURCE is a label map of a short-axis cine, or the cine itself, which is then labelled by --model first. A number
    that the data do not carry is refused, and the reason stands in its place; with --strict the exit code is then 6.

    Volumes are sums of discs: area times the distance from slice to slice. Every slice with a label counts; base and
    apex are as labelled. Mass is the volume of the myocardium times 1.05 g/ml. End diastole and end systole are the
    frames of the largest and the smallest left cavity. Peak rates are of the curve smoothed by four harmonics; nothing
    else is smoothed. The heart rate of the frames is that of one beat that they cover once.

    From a cine, numbers have intervals where the model of the labels has limits for them: 90 of 100 hold the number of
    manual labels. They are wider where the labels look worse. --runs adds what the reconstruction leaves open: each of
    its runs is labelled and measured, and the table says which part comes from where.

    Examples: crnn function labels.nii.gz -o function.json --csv function.csv --plot curves.png;
    crnn function cine.nii.gz --height 178 --weight 80; crnn function images.nii.gz --runs runs;
    crnn function manual.nii.gz --labels acdc;
    crnn function SEG_FOLDER --sr report.dcm;
    crnn segment cine.nii.gz --slices -o - | crnn function -
    """
    from crnn_cli.workflows.function import steps
    from crnn_cli.workflows.function.options import FunctionOptions

    options = FunctionOptions(
        labels=labels, image=image, runs=runs, series=series, slice_tolerance=slice_tolerance, ed=ed, es=es,
        height=height, weight=weight, bsa=bsa, heart_rate=heart_rate, model=model, device=device, out=out, csv=csv,
        plot=plot, page=page, sr=sr, force=force,
    )  # fmt: skip
    plan = steps.plan(source, options, as_json)
    engine = steps.prepare(options)
    data = steps.read(plan, engine)
    with console.progress_bar("measuring") as progress:
        measured = steps.compute(plan, engine, data, progress)
    report = steps.save(plan, measured)
    if as_json:
        console.print_json(report)
    else:
        from crnn_cli.report.function.table import COLUMNS, heart_rows, refusal_rows, ventricle_rows

        console.table(str(source), COLUMNS, ventricle_rows(measured.function), result=True)
        console.table("", ["", ""], [*heart_rows(measured.function), *refusal_rows(measured.function)], result=True)
    steps.check_threshold(plan, report)
