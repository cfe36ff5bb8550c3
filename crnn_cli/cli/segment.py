"""``crnn segment``: a volume, or every frame of a series, becomes a label map."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from crnn_cli.cli import console
from crnn_cli.cli.options import SeriesChoice, Uneven
from crnn_cli.notices import STREAM
from crnn_cli.workflows.segment import steps as job
from crnn_cli.workflows.segment.steps import SegmentOptions

_SLICES_VALUE = re.compile(r"(auto|axial|coronal|sagittal)(:.*)?")  # meant as one, right or wrong


class SegmentCommand(TyperCommand):
    """The command whose ``--slices`` may stand without a value, in front of a file name or at the end."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give ``--slices`` the value ``auto`` where what follows is not one of its values."""
        return super().parse_args(ctx, with_slices_value(args))


def with_slices_value(args: Sequence[str]) -> list[str]:
    """Return the arguments with ``auto`` behind every ``--slices`` that is not followed by a plane or range."""
    given: list[str] = []
    for place, argument in enumerate(args):
        if argument == "--":
            return [*given, *args[place:]]
        given.append(argument)
        following = args[place + 1] if place + 1 < len(args) else ""
        if argument == "--slices" and not _SLICES_VALUE.fullmatch(following):
            given.append("auto")
    return given


Volume = Annotated[Path, typer.Argument(help="NIfTI or DICOM; standard input if there is none, or -.")]
Slices = Annotated[str, typer.Option(help="auto, axial, coronal, sagittal, or a range: axial:10-40, auto:3-8.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="NIfTI, - for standard output, or NAME.dcm: DICOM SEG.")]
FormatName = Annotated[str | None, typer.Option("--format", help="nifti, or dicom (SEG); else by the name of -o.")]
Model = Annotated[str | None, typer.Option(help="A published model, or a bundle folder.")]
DeviceName = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Only = Annotated[str | None, typer.Option("--labels", help="Names or values to keep, such as 'left ventricle,2'.")]
Threshold = Annotated[float, typer.Option(help="Label where the structures together reach this probability.")]
KeepLargest = Annotated[bool, typer.Option("--keep-largest", help="Keep the largest piece of each label and frame.")]
Precision = Annotated[str | None, typer.Option(help="fp32 (the default), or bf16: faster, few voxels differ.")]
Probabilities = Annotated[Path | None, typer.Option(help="Also write P_NAME.nii.gz for each label, for P.nii.gz.")]
Statistics = Annotated[Path | None, typer.Option(help="Volumes, intensities, places: .csv or .json.")]
Preview = Annotated[Path | None, typer.Option(help="Slices with outlines: .png, or .gif of all frames.")]
RequireLabels = Annotated[bool, typer.Option("--require-labels", help="Exit with 6 if everything is background.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report to standard output too.")]
Force = Annotated[bool, typer.Option("--force", help="Replace outputs that exist.")]


def segment(
    volume: Volume = STREAM,
    slices: Slices = "auto",
    out: Out = None,
    series: SeriesChoice = None,
    uneven: Uneven = None,
    model: Model = None,
    device: DeviceName = "auto",
    labels: Only = None,
    threshold: Threshold = 0.5,
    keep_largest: KeepLargest = False,
    precision: Precision = None,
    probabilities: Probabilities = None,
    statistics: Statistics = None,
    preview: Preview = None,
    format_name: FormatName = None,
    require_labels: RequireLabels = False,
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Label a volume slice by slice; of a series (4-D), every frame.

    The label map lies on the input's own grid, uint8; its names and colours are in the report, OUT.json. From a DICOM
    source it can be a DICOM SEG instead; of a series, one for each frame (NAME_01.dcm ...). --slices auto takes the
    slices across the widest spacing, or else the model's plane. Slices of a range are counted from 1 along the axis as
    stored, as most viewers show them; the others are not looked at.

    Examples: crnn segment cine.nii.gz --slices -o labels.nii.gz --preview heart.gif --statistics volumes.csv;
    crnn segment t1.nii.gz --slices axial --model hippocampus-clstm -o labels.nii.gz;
    crnn segment DICOM_FOLDER --slices -o seg.dcm;
    crnn reconstruct scan.nii -o - | crnn segment - --slices -o labels.nii.gz
    """
    options = SegmentOptions(
        slices=slices, out=out, series=series, slice_tolerance=uneven, model=model, device=device, labels=labels,
        threshold=threshold, keep_largest=keep_largest, precision=precision, probabilities=probabilities,
        statistics=statistics, preview=preview, format_name=format_name, require_labels=require_labels, force=force,
    )  # fmt: skip
    planned = job.plan(volume, options, as_json)
    engine = job.prepare(options)
    data = job.read(planned, engine)
    with console.progress_bar("segmenting") as progress:
        made = job.compute(planned, engine, data, progress)
    job.save(planned, made)
    from crnn_cli.report.rows import segmentation_rows

    console.table("crnn segment", ["", ""], segmentation_rows(planned.targets.labels, made.report))
    if as_json:
        console.print_json(made.report)
    job.check_threshold(planned, made.report)
