"""The steps of `crnn segment`, one after the other: plan, prepare, read, compute, save; see `reconstruct_job`."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import QualityError, UnsupportedDataError, UsageError
from crnn_cli.notices import STREAM
from crnn_cli.workflows.segment.paths import SegmentPaths, require_writable_all
from crnn_cli.workflows.segment.paths import plan as plan_targets

if TYPE_CHECKING:
    import torch

    from crnn_cli.bundles.store import Bundle
    from crnn_cli.data.geometry import SliceOrder
    from crnn_cli.data.image import Image
    from crnn_cli.io.dicom.series import Series
    from crnn_cli.labels.names import Label
    from crnn_cli.networks.slice_clstm import SliceCLSTM
    from crnn_cli.workflows.segment.write import LabelledVolume

READS_RAW = False
OUTPUTS: tuple[str, ...] = ("probabilities", "statistics", "preview")
INPUTS: tuple[str, ...] = ()
_SLICES = re.compile(r"(auto|axial|coronal|sagittal)(?::(\d{1,6})-(\d{1,6}))?")
_FAR = 4  # times outside the plausible spacing: no longer a doubt


@dataclass(frozen=True)
class SegmentOptions:
    """What the options of the command say, but for --json; see the help of each."""

    slices: str = "auto"
    out: Path | None = None
    series: str | None = None
    slice_tolerance: float | None = None
    model: str | None = None
    device: str = "auto"
    labels: str | None = None
    threshold: float = 0.5
    keep_largest: bool = False
    precision: str | None = None
    probabilities: Path | None = None
    statistics: Path | None = None
    preview: Path | None = None
    format_name: str | None = None
    require_labels: bool = False
    force: bool = False


@dataclass(frozen=True)
class SegmentPlan:
    """The volume, how it is to be sliced, and where the labels go. span : first and last slice, counted from 1."""

    volume: Path
    plane: str | None
    span: tuple[int, int] | None
    targets: SegmentPaths
    options: SegmentOptions

    @property
    def target(self) -> Path:
        """Return where the labels go."""
        return self.targets.labels

    @property
    def outputs(self) -> list[Path]:
        """Return what is written and known by now, the labels first."""
        return self.targets.all()


@dataclass(frozen=True)
class SegmentEngine:
    """What labels, loaded once for all volumes of the same options. kept : the labels asked for."""

    bundle: Bundle
    network: SliceCLSTM
    kept: Sequence[Label]
    place: torch.device

    @property
    def weights(self) -> str | None:
        """Return the sha256 of the weights."""
        return self.bundle.sha256


@dataclass(frozen=True)
class Volume:
    """A volume ready to be labelled. series : of DICOM. part : the slices to look at."""

    image: Image
    source: dict[str, Any]
    series: Series | None
    targets: SegmentPaths
    order: SliceOrder
    part: slice


@dataclass(frozen=True)
class SegmentationRun:
    """A finished segmentation, and what the report says of it."""

    data: Volume
    run: LabelledVolume
    report: dict[str, Any]


def output_name(stem: str, options: SegmentOptions) -> str:
    """Return the name of the labels of a volume."""
    return f"{stem}_labels.dcm" if options.format_name == "dicom" else f"{stem}_labels.nii.gz"


def plan(volume: Path, options: SegmentOptions, as_json: bool = False) -> SegmentPlan:
    """Return what is to be done, after checking that the volume is there, the options agree, and all can be written."""
    plane, span = parse_slices(options.slices)
    _check_threshold(options.threshold)
    if options.precision not in (None, "fp32", "bf16"):
        raise UsageError(f"--precision {options.precision}: fp32 or bf16")
    others = (options.probabilities, options.statistics, options.preview)
    targets = plan_targets(volume, options.out, options.format_name, others, as_json, options.force)
    return SegmentPlan(volume, plane, span, targets, options)


def prepare(options: SegmentOptions) -> SegmentEngine:
    """Return the model, loaded, on its device."""
    from crnn_cli.bundles.store import find_bundle, load_segmentation
    from crnn_cli.compute.device import choose_device

    place = choose_device(options.device)
    bundle = find_bundle(options.model, "segment")
    assert bundle.slices is not None
    kept = chosen_labels(bundle.slices.labels, options.labels)
    return SegmentEngine(bundle, load_segmentation(bundle, place), kept, place)


def read(planned: SegmentPlan, engine: SegmentEngine) -> Volume:
    """Return the volume, and how its slices are ordered."""
    from crnn_cli.segmentation.segment import choose_order

    targets, options = planned.targets, planned.options
    require_writable_all(planned.volume, targets.all(engine.kept), options.force)
    image, source, series = _load(planned.volume, options.series, options.slice_tolerance)
    if targets.dicom:
        targets = targets.of_series(image, series)
        require_writable_all(planned.volume, targets.all(engine.kept), options.force)
    assert engine.bundle.slices is not None
    order, doubts = choose_order(image, planned.plane, engine.bundle.slices.plane)
    part = _part(planned.span, image.shape[order.axes[0]])
    for doubt in [*doubts, *_implausible(order, engine.bundle)]:
        notices.warn(doubt)
    return Volume(image, source, series, targets, order, part)


def compute(planned: SegmentPlan, engine: SegmentEngine, data: Volume, progress: notices.Progress) -> SegmentationRun:
    """Return the labels and the report."""
    from crnn_cli.segmentation.segment import SliceRecipe, segment
    from crnn_cli.workflows.segment.write import LabelledVolume, report

    use, options = engine.bundle.slices, planned.options
    assert use is not None
    recipe = SliceRecipe(use.spacing, use.rule, use.low, use.high)
    began = time.perf_counter()
    result = segment(
        data.image, data.order, engine.network, recipe, engine.place, threshold=options.threshold, chosen=data.part,
        keep_probabilities=options.probabilities is not None, half=options.precision == "bf16", progress=progress,
    )  # fmt: skip
    seconds = round(time.perf_counter() - began, 2)
    made = LabelledVolume(engine.bundle, data.image, data.order, data.part, engine.kept, result).finished(
        options.keep_largest
    )
    found = report(made) | {"input": data.source, "device": str(engine.place), "seconds": seconds}
    return SegmentationRun(
        data, made, found | {"threshold": options.threshold, "precision": options.precision or "fp32"}
    )


def save(planned: SegmentPlan, made: SegmentationRun) -> None:
    """Write the labels, the report, and what was asked for beside them."""
    from crnn_cli.workflows.segment.write import save as write

    write(made.data.targets, made.run, made.report, made.data.series, planned.options.force)


def check_threshold(planned: SegmentPlan, report: dict[str, Any]) -> None:
    """Say so if nothing was labelled.

    Raises
    ------
    QualityError
        If labels are required.
    """
    if any(any(label["voxels"]) for label in report["labels"]):
        return
    notices.warn("nothing was labelled: everything is background")
    if planned.options.require_labels:
        raise QualityError("nothing was labelled, and --require-labels was given")


def _check_threshold(threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise UsageError(f"--threshold {threshold:g}: a probability above 0, up to 1")


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

    from crnn_cli.data.geometry import require_perpendicular
    from crnn_cli.io.images import load_image

    found = load_image(volume, None, series, uneven=uneven)
    name = "standard input" if volume == STREAM else str(volume)
    image = found.image
    if found.stored_axes < 3:
        raise UnsupportedDataError(f"{name} is a 2-D picture {image.shape}; slices are labelled in a stack, x, y, z")
    image.require_finite(name)
    require_perpendicular(image.affine, name)
    if image.is_complex:
        notices.note(f"{name} is complex: its magnitude is labelled")
        image = replace(image, array=np.abs(image.array))
    for doubt in found.doubts():
        notices.warn(doubt)
    return image, dict(found.source), found.series


def _part(span: tuple[int, int] | None, count: int) -> slice:
    """Return the slices of a range along their axis in the array."""
    if count == 1:
        notices.note("the volume has one slice: the recurrent part of the network has nothing to walk through")
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
