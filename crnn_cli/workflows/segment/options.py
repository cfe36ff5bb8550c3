"""Options of `crnn segment`, and how the texts among them are understood."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crnn_cli.errors import Param, UsageError
from crnn_cli.workflows.segment.spacing import parse_spacing

if TYPE_CHECKING:
    from crnn_cli.labels.names import Label

Span = tuple[int, int]
"""First and last slice of a range, counted from 1."""

_SLICES = re.compile(r"(auto|axial|coronal|sagittal)(?::(\d{1,6})-(\d{1,6}))?")
_PRECISIONS = (None, "fp32", "bf16")


@dataclass(frozen=True)
class SegmentOptions:
    """Everything that `crnn segment` can be asked for, but ``--json``; the help of the command explains each.

    For an image in memory (`crnn_cli.workflows.segment.steps.segment_image`) these count: ``slices``, ``model``,
    ``device``, ``labels``, ``threshold``, ``keep_largest`` and ``precision``, and those about drawn slices. The others
    are about files.

    Parameters
    ----------
    slices : "auto", "axial", "coronal" or "sagittal", perhaps with a range of slices from 1: "axial:10-40".
    slice_tolerance : how far slices of a DICOM series may lie off even positions, in mm.
    model : name of a published model or a bundle folder; None for the default of the task.
    labels : names or values to keep, separated by commas; None for all.
    threshold : probability that all structures together must reach in a voxel for it to be labelled.
    keep_largest : keep only the largest connected piece of each label, in each frame.
    frame_by_frame : label each frame on its own, where the model would settle it with its neighbours.
    precision : "fp32" or "bf16"; None for "fp32".
    format_name : "nifti" or "dicom"; None for what the name of the output says.
    spacing : voxel size "x,y,z" in mm, perhaps "x,y,z,t" with the frame time in s; None for that of the file.
    require_quality : least predicted Dice of every structure and frame; None for none.
    seg : type of a DICOM SEG, "binary" or "labelmap"; None for "binary".
    seg_whole_series : one DICOM SEG for all frames, in place of one for each.
    drawn : labels of some slices, from which the others are labelled; None for labels of a model.
    empty, fixed, frames, fill, minutes, steps, seed, save_adapted : about drawn slices, see
        `crnn_cli.workflows.segment.drawn.request`.
    """

    slices: str = "auto"
    out: Path | None = None
    series: str | None = None
    slice_tolerance: float | None = None
    spacing: str | None = None
    model: str | None = None
    device: str = "auto"
    labels: str | None = None
    threshold: float = 0.5
    keep_largest: bool = False
    frame_by_frame: bool = False
    precision: str | None = None
    probabilities: Path | None = None
    statistics: Path | None = None
    preview: Path | None = None
    format_name: str | None = None
    seg: str | None = None
    seg_whole_series: bool = False
    require_labels: bool = False
    require_quality: float | None = None
    drawn: Path | None = None
    empty: str | None = None
    fixed: str | None = None
    frames: str | None = None
    fill: str | None = None
    minutes: float | None = None
    steps: int | None = None
    seed: int | None = None
    save_adapted: Path | None = None
    force: bool = False


def check_options(options: SegmentOptions) -> tuple[str | None, Span | None]:
    """Check what can be checked before any file or network is touched.

    Returns
    -------
    Plane (None for automatic) and range of slices (None for all), see `parse_slices`.

    Raises
    ------
    UsageError
        If ``slices``, ``spacing``, ``threshold``, ``precision`` or ``require_quality`` has no meaning.
    """
    plane, span = parse_slices(options.slices)
    if not 0 < options.threshold <= 1:
        raise UsageError(Param("threshold", options.threshold), ": a probability above 0, up to 1")
    parse_spacing(options.spacing)
    if options.require_quality is not None and not 0 < options.require_quality <= 1:
        raise UsageError(Param("require_quality", options.require_quality), ": a Dice above 0, up to 1")
    if options.precision not in _PRECISIONS:
        raise UsageError(Param("precision", options.precision), ": fp32 or bf16")
    return plane, span


def parse_slices(text: str) -> tuple[str | None, Span | None]:
    """Split ``slices`` into plane and range.

    >>> parse_slices("axial:10-40"), parse_slices("auto")
    (('axial', (10, 40)), (None, None))

    Returns
    -------
    Plane, None for automatic; first and last slice counted from 1, None for all.

    Raises
    ------
    UsageError
        If the text is neither a plane nor a plane with a range, or the range is empty.
    """
    match = _SLICES.fullmatch(text)
    if match is None:
        raise UsageError(
            Param("slices", text), " is not understood: auto, axial, coronal or sagittal, perhaps with :10-40"
        )
    plane, first, last = match.groups()
    span = None if first is None else (int(first), int(last))
    if span is not None and not 1 <= span[0] <= span[1]:
        raise UsageError(
            Param("slices", text), ": slices are counted from 1, and the first must not come after the last"
        )
    return (None if plane == "auto" else plane), span


def select_labels(known: Sequence[Label], asked: str | None) -> list[Label]:
    """Labels of a model that are named in ``asked``, in the model's order; all where it is None.

    Parameters
    ----------
    asked : names (upper and lower case alike) or values, separated by commas.

    Raises
    ------
    UsageError
        If the model has no such label; the message lists those it has.
    """
    if asked is None:
        return list(known)
    wanted = [word.strip().lower() for word in asked.split(",") if word.strip()]
    table = {str(label.value): label for label in known} | {label.name.lower(): label for label in known}
    unknown = [word for word in wanted if word not in table]
    if unknown or not wanted:
        listed = ", ".join(f"{label.value} {label.name}" for label in known)
        missing = repr(unknown[0] if unknown else "")
        raise UsageError(Param("labels", asked), f": the model has no label {missing}; it has: {listed}")
    values = {table[word].value for word in wanted}
    return [label for label in known if label.value in values]
