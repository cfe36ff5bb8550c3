"""``crnn segment``: a volume, or every frame of a series, becomes a label map."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from crnn_cli.cli import console, values
from crnn_cli.cli.command import Command
from crnn_cli.cli.options import (
    ADAPTATION,
    DRAWN,
    INPUT,
    METHOD,
    NETWORK,
    OUTPUT,
    RELIABILITY,
    DeviceName,
    Force,
    LabelPreview,
    LabelStatistics,
    ReportAsJson,
    SegmentationModel,
    SeriesChoice,
    SliceTolerance,
)
from crnn_cli.notices import STREAM
from crnn_cli.workflows.segment import steps as workflow
from crnn_cli.workflows.segment.options import SegmentOptions

_SLICES_VALUE = re.compile(r"(auto|axial|coronal|sagittal)(:.*)?")
_SLICES_MEANT = re.compile(r"(\w*:)?\d{1,6}(-\d{1,6})?")  # wrong, but meant as a value


class SegmentCommand(Command):
    """The command whose ``--slices`` may stand without a value, in front of a file name or at the end."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give ``--slices`` the value ``auto`` where what follows is not one of its values."""
        return super().parse_args(ctx, args if ctx.resilient_parsing else with_slices_value(args))


def with_slices_value(args: Sequence[str]) -> list[str]:
    """Put ``auto`` behind every ``--slices`` that is not followed by a plane or range."""
    given: list[str] = []
    for index, argument in enumerate(args):
        if argument == "--":
            return [*given, *args[index:]]
        given.append(argument)
        if argument == "--slices" and not _is_slices_value(args[index + 1] if index + 1 < len(args) else ""):
            given.append("auto")
    return given


def _is_slices_value(text: str) -> bool:
    """Whether a word is meant as planes, perhaps mistyped, and not as the name of the volume."""
    if _SLICES_VALUE.fullmatch(text):
        return True
    if "/" in text or "." in text or Path(text).exists():
        return False
    if _SLICES_MEANT.fullmatch(text):
        return True
    return values.suggestion(text.partition(":")[0], values.PLANES) != ""


Volume = Annotated[
    Path, typer.Argument(metavar="VOLUME", help="NIfTI or DICOM; standard input if there is none, or -.")
]
Slices = Annotated[
    str,
    typer.Option(
        metavar="PLANE[:FIRST-LAST]", rich_help_panel=INPUT, callback=values.check_slices,
        autocompletion=values.complete(values.PLANES),
        help="auto, axial, coronal or sagittal, perhaps with a range: axial:10-40, auto:3-8.",
    ),
]  # fmt: skip
Only = Annotated[
    str | None,
    typer.Option(
        "--labels", metavar="NAMES", rich_help_panel=METHOD,
        help="Labels to keep, by name or value, such as 'left ventricle,2'. Default: all.",
    ),
]  # fmt: skip
Threshold = Annotated[
    float,
    typer.Option(
        metavar="FLOAT 0-1", rich_help_panel=METHOD,
        help="Label a voxel where the structures together reach this probability.",
    ),
]  # fmt: skip
KeepLargest = Annotated[
    bool,
    typer.Option("--keep-largest", rich_help_panel=METHOD, help="Keep the largest piece of each label and frame."),
]
FrameByFrame = Annotated[
    bool,
    typer.Option(
        "--frame-by-frame", rich_help_panel=METHOD,
        help="Label each frame of a cine on its own; else models of the heart settle it with its neighbours.",
    ),
]  # fmt: skip
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="fp32|bf16", rich_help_panel=NETWORK, callback=values.one_of("--precision", values.SEGMENT_PRECISIONS),
        autocompletion=values.complete(values.SEGMENT_PRECISIONS),
        help="fp32 (default), or bf16: faster, few voxels differ.",
    ),
]  # fmt: skip
Spacing = Annotated[
    str | None,
    typer.Option(
        metavar="X,Y,Z[,T]", rich_help_panel=INPUT,
        help="Voxel size in mm, perhaps with the frame time in s, of a file that has lost it: 1.4,1.4,8.",
    ),
]  # fmt: skip
RequireQuality = Annotated[
    float | None,
    typer.Option(
        metavar="FLOAT 0-1", rich_help_panel=RELIABILITY,
        help="Exit with code 6 if the predicted Dice of any label and frame is lower.",
    ),
]  # fmt: skip
RequireLabels = Annotated[
    bool,
    typer.Option(
        "--require-labels", rich_help_panel=RELIABILITY, help="Exit with code 6 if everything is background."
    ),
]  # fmt: skip
Drawn = Annotated[
    Path | None,
    typer.Option(
        "--from", metavar="LABELS", rich_help_panel=DRAWN,
        help="Label map with some slices drawn, of any structures: the other slices are labelled from them.",
    ),
]  # fmt: skip
Empty = Annotated[
    str | None,
    typer.Option(metavar="SLICES", rich_help_panel=DRAWN, help="Slices meant empty, counted from 1: 1,2,14-16."),
]
Fixed = Annotated[
    str | None,
    typer.Option(
        metavar="SLICES", rich_help_panel=DRAWN,
        help="Of a whole, corrected label map: the slices that count as drawn. Default: those changed since the last "
        "result, and those drawn for it.",
    ),
]  # fmt: skip
Frames = Annotated[
    str | None,
    typer.Option(
        metavar="FRAMES", rich_help_panel=DRAWN,
        help="Of a series: the frames that are drawn, counted from 1. Default: those with labels.",
    ),
]  # fmt: skip
Fill = Annotated[
    str | None,
    typer.Option(
        metavar="network|distances|nearest", rich_help_panel=DRAWN, callback=values.one_of("--fill", values.FILLS),
        autocompletion=values.complete(values.FILLS),
        help="How the other slices are labelled: by the network (default), by interpolated signed distances, or as the "
        "nearest drawn slice.",
    ),
]  # fmt: skip
Minutes = Annotated[
    float | None,
    typer.Option(
        metavar="FLOAT", rich_help_panel=ADAPTATION, help="Tune the network to the drawn slices of this scan so long."
    ),
]  # fmt: skip
Steps = Annotated[
    int | None,
    typer.Option(min=1, metavar="INTEGER", rich_help_panel=ADAPTATION, help="The same, for a number of steps."),
]  # fmt: skip
Seed = Annotated[
    int | None,
    typer.Option(
        min=0, max=2**62, metavar="INTEGER", rich_help_panel=ADAPTATION, help="Seed of the tuning (default: 0)."
    ),
]  # fmt: skip
SaveAdapted = Annotated[
    Path | None,
    typer.Option(metavar="DIR", rich_help_panel=ADAPTATION, help="Write the tuned network as a bundle."),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "--output", "-o", metavar="FILE", rich_help_panel=OUTPUT,
        help="Label map: NIfTI, - for standard output, NAME.dcm for DICOM SEG, or with --format dicom a folder of "
        "them. Default: VOLUME_labels.nii.gz beside the volume.",
    ),
]  # fmt: skip
FormatName = Annotated[
    str | None,
    typer.Option(
        "--format", metavar="nifti|dicom", rich_help_panel=OUTPUT, callback=values.one_of("--format", values.FORMATS),
        autocompletion=values.complete(values.FORMATS), help="nifti, or dicom (SEG). Default: by the name of -o.",
    ),
]  # fmt: skip
SegType = Annotated[
    str | None,
    typer.Option(
        "--seg", metavar="binary|labelmap", rich_help_panel=OUTPUT, callback=values.one_of("--seg", values.SEG_TYPES),
        autocompletion=values.complete(values.SEG_TYPES),
        help="Type of a DICOM SEG: binary (default), or labelmap: smaller, for readers from 2025 on.",
    ),
]  # fmt: skip
SegWholeSeries = Annotated[
    bool,
    typer.Option(
        "--seg-whole-series", rich_help_panel=OUTPUT,
        help="One DICOM SEG for all frames, which few readers take, in place of one for each.",
    ),
]  # fmt: skip
Probabilities = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", rich_help_panel=OUTPUT,
        help="Write the probabilities of each label: P.nii.gz gives P_NAME.nii.gz.",
    ),
]  # fmt: skip


def segment(
    volume: Volume = STREAM,
    slices: Slices = "auto",
    series: SeriesChoice = None,
    slice_tolerance: SliceTolerance = None,
    spacing: Spacing = None,
    drawn: Drawn = None,
    empty: Empty = None,
    fixed: Fixed = None,
    frames: Frames = None,
    fill: Fill = None,
    labels: Only = None,
    threshold: Threshold = 0.5,
    keep_largest: KeepLargest = False,
    frame_by_frame: FrameByFrame = False,
    model: SegmentationModel = None,
    precision: Precision = None,
    device: DeviceName = "auto",
    minutes: Minutes = None,
    steps: Steps = None,
    seed: Seed = None,
    save_adapted: SaveAdapted = None,
    require_labels: RequireLabels = False,
    require_quality: RequireQuality = None,
    out: Out = None,
    format_name: FormatName = None,
    seg: SegType = None,
    seg_whole_series: SegWholeSeries = False,
    probabilities: Probabilities = None,
    statistics: LabelStatistics = None,
    preview: LabelPreview = None,
    as_json: ReportAsJson = False,
    force: Force = False,
) -> None:
    """Label a volume slice by slice; of a series (4-D), every frame.

    The labels go to VOLUME_labels.nii.gz beside the volume, or to -o: uint8, on the grid of the input. Names and
    colours are in the report, OUT.json. From a DICOM source the labels can be a DICOM SEG instead; of a series, one for
    each frame (NAME_01.dcm ...).

    --slices auto takes the slices across the widest spacing, or else the model's plane. Slices of a range are counted
    from 1 along the axis as stored, as most viewers show them; the others stay unlabelled.

    --from takes a label map in which some slices are drawn, of any structures, and labels the others from them; of a
    series, it follows the labels of one frame through the others. What is drawn stays as it is, to the voxel. The plane
    is found from the labels. The report says how sure each slice is, and which to draw next. To correct a result, draw
    over it, and give it to --from.

    Examples: crnn segment cine.nii.gz --slices -o labels.nii.gz --preview heart.gif --statistics volumes.csv;
    crnn segment t1.nii.gz --slices axial --model hippocampus-clstm -o labels.nii.gz;
    crnn segment DICOM_FOLDER --slices -o seg.dcm;
    crnn segment scan.nii.gz --from drawn.nii.gz -o all.nii.gz --minutes 2 --preview all.png;
    crnn segment cine.nii.gz --from ed_labels.nii.gz --frames 1 -o followed.nii.gz;
    crnn reconstruct scan.nii -o - | crnn segment - --slices -o labels.nii.gz
    """
    options = SegmentOptions(
        slices=slices, out=out, series=series, slice_tolerance=slice_tolerance, spacing=spacing, model=model,
        device=device, labels=labels, threshold=threshold, keep_largest=keep_largest,
        frame_by_frame=frame_by_frame, precision=precision,
        probabilities=probabilities, statistics=statistics, preview=preview, format_name=format_name,
        seg=seg, seg_whole_series=seg_whole_series, drawn=drawn, empty=empty, fixed=fixed, frames=frames, fill=fill,
        minutes=minutes, steps=steps, seed=seed, save_adapted=save_adapted, require_labels=require_labels,
        require_quality=require_quality, force=force,
    )  # fmt: skip
    plan = workflow.plan(volume, options, as_json)
    engine = workflow.prepare(options)
    data = workflow.read(plan, engine)
    with console.progress_bar("segmenting") as progress:
        run = workflow.compute(plan, engine, data, progress)
    report = workflow.save(plan, run)
    console.table("crnn segment", ["", ""], workflow.table_rows(run, report))
    if as_json:
        console.print_json(report)
    workflow.check_threshold(plan, report)
