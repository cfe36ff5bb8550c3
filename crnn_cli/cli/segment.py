"""``crnn segment``: a volume, or every frame of a series, becomes a label map."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from crnn_cli.cli import console
from crnn_cli.cli.console import STREAM
from crnn_cli.cli.options import SeriesChoice, Uneven
from crnn_cli.cli.segment_targets import plan, require_writable_all
from crnn_cli.errors import QualityError, UnsupportedDataError, UsageError

if TYPE_CHECKING:
    from crnn_cli.bundles import Bundle
    from crnn_cli.geometry import SliceOrder
    from crnn_cli.image import Image
    from crnn_cli.io.dicom_series import Series
    from crnn_cli.labels.names import Label

_SLICES = re.compile(r"(auto|axial|coronal|sagittal)(?::(\d{1,6})-(\d{1,6}))?")
_SLICES_VALUE = re.compile(r"(auto|axial|coronal|sagittal)(:.*)?")  # meant as one, right or wrong
_FAR = 4  # times outside the plausible spacing: no longer a doubt


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
    plane, span = parse_slices(slices)
    _check_threshold(threshold)
    targets = plan(volume, out, format_name, (probabilities, statistics, preview), as_json, force)

    from crnn_cli.bundles import find_bundle, load_segmentation
    from crnn_cli.cli.segment_output import Run, report, save, tell
    from crnn_cli.reconstruction import choose_device
    from crnn_cli.segmentation import SliceRecipe, choose_order
    from crnn_cli.segmentation import segment as run

    place = choose_device(device)
    bundle = find_bundle(model, "segment")
    assert bundle.slices is not None
    use = bundle.slices
    kept = chosen_labels(use.labels, labels)
    require_writable_all(volume, targets.all(kept), force)
    image, source, whole = _load(volume, series, uneven)
    if targets.dicom:
        targets = targets.of_series(image, whole)
        require_writable_all(volume, targets.all(kept), force)
    order, doubts = choose_order(image, plane, use.plane)
    part = _part(span, image.shape[order.axes[0]])
    for doubt in [*doubts, *_implausible(order, bundle)]:
        console.warn(doubt)
    network = load_segmentation(bundle, place)
    recipe = SliceRecipe(use.spacing, use.rule, use.low, use.high)
    began = time.perf_counter()
    with console.progress_bar("segmenting") as progress:
        result = run(
            image,
            order,
            network,
            recipe,
            place,
            threshold=threshold,
            chosen=part,
            keep_probabilities=probabilities is not None,
            progress=progress,
        )
    seconds = round(time.perf_counter() - began, 2)
    made = Run(bundle, image, order, part, kept, result).finished(keep_largest)
    found = report(made) | {"input": source, "device": str(place), "seconds": seconds, "threshold": threshold}
    save(targets, made, found, whole, force)
    tell(targets.labels, found)
    if as_json:
        console.print_json(found)
    if made.is_empty():
        _empty(require_labels)


def _check_threshold(threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise UsageError(f"--threshold {threshold:g}: a probability above 0, up to 1")


def _empty(require_labels: bool) -> None:
    console.warn("nothing was labelled: everything is background")
    if require_labels:
        raise QualityError("nothing was labelled, and --require-labels was given")


def parse_slices(text: str) -> tuple[str | None, tuple[int, int] | None]:
    """Return the plane, None for automatic, and the range (first, last), counted from 1; UsageError otherwise."""
    match = _SLICES.fullmatch(text)
    if match is None:
        raise UsageError(f"--slices {text} is not understood: auto, axial, coronal or sagittal, perhaps with :10-40")
    plane, first, last = match.groups()
    span = None if first is None else (int(first), int(last))
    if span is not None and not 1 <= span[0] <= span[1]:
        raise UsageError(f"--slices {text}: slices are counted from 1, and the first must not come after the last")
    return (None if plane == "auto" else plane), span


def chosen_labels(known: Sequence[Label], asked: str | None) -> list[Label]:
    """Return the labels asked for by name or value, all where nothing is asked.

    Raises
    ------
    UsageError
        If the model has no such label; the message lists those it has.
    """
    if asked is None:
        return list(known)
    wanted = [part.strip().lower() for part in asked.split(",") if part.strip()]
    table = {str(label.value): label for label in known} | {label.name.lower(): label for label in known}
    unknown = [part for part in wanted if part not in table]
    if unknown or not wanted:
        have = ", ".join(f"{label.value} {label.name}" for label in known)
        raise UsageError(f"--labels {asked}: the model has no label {unknown[0] if unknown else ''!r}; it has: {have}")
    values = {table[part].value for part in wanted}
    return [label for label in known if label.value in values]


def _load(volume: Path, series: str | None, uneven: float | None) -> tuple[Image, dict[str, Any], Series | None]:
    """Return the image, real, what was read, and the DICOM series if it was one."""
    from dataclasses import replace

    import numpy as np

    from crnn_cli.geometry import require_perpendicular
    from crnn_cli.io.read import read

    found = read(volume, None, series, uneven=uneven)
    name = "standard input" if volume == STREAM else str(volume)
    image = found.image
    if found.stored_axes < 3:
        raise UnsupportedDataError(f"{name} is a 2-D picture {image.shape}; slices are labelled in a stack, x, y, z")
    image.require_finite(name)
    require_perpendicular(image.affine, name)
    if image.is_complex:
        console.say(f"{name} is complex: its magnitude is labelled")
        image = replace(image, array=np.abs(image.array))
    for doubt in found.doubts():
        console.warn(doubt)
    return image, dict(found.source), found.series


def _part(span: tuple[int, int] | None, count: int) -> slice:
    """Return the slices of a range along their axis in the array."""
    if count == 1:
        console.say("the volume has one slice: the recurrent part of the network has nothing to walk through")
    if span is None:
        return slice(0, count)
    if span[1] > count:
        raise UsageError(f"--slices: the range {span[0]}-{span[1]} reaches beyond the stack, which has {count} slices")
    return slice(span[0] - 1, span[1])


def _implausible(order: SliceOrder, bundle: Bundle) -> list[str]:
    """Return, in words, where the spacing is not one that the model was made for.

    Raises
    ------
    UnsupportedDataError
        If pixels are several times larger or smaller than any that make sense.
    """
    assert bundle.slices is not None
    doubts = []
    between, *in_slice = order.spacing
    for what, values, (least, most) in (
        ("pixels", in_slice, bundle.slices.in_slice),
        ("a slice spacing", [between], bundle.slices.between_slices),
    ):
        if all(least <= value <= most for value in values):
            continue
        given = " x ".join(f"{value:.4g}" for value in values)
        said = f"{what} of {given} mm; {bundle.name} is for {least:g} to {most:g} mm"
        if what == "pixels" and not all(least / _FAR <= value <= most * _FAR for value in values):
            raise UnsupportedDataError(f"the header says {said}: correct the header, or use another model")
        doubts.append(f"the header says {said}: has it lost its spacing?")
    return doubts
