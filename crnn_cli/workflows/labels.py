"""Label maps that exist already: their volumes, a table, a picture of their outlines."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import Param, UnsupportedDataError, UsageError
from crnn_cli.notices import STREAM

if TYPE_CHECKING:
    from crnn_cli.data.geometry import SliceOrder
    from crnn_cli.data.image import Image
    from crnn_cli.io.atomic_write import Output
    from crnn_cli.labels.label_image import LabelImage
    from crnn_cli.labels.names import Label
    from crnn_cli.labels.statistics import LabelStatistics

LARGEST = 255
"""Largest label value that a picture has room for."""
_PLANES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True)
class LabelsOptions:
    """What is wanted of a label map; see the help of `crnn labels`.

    image : the image that was labelled. model : whose names and colours the values have.
    slices : "auto", "axial", "coronal" or "sagittal", for the picture.
    """

    image: Path | None = None
    model: str | None = None
    slices: str = "auto"
    statistics: Path | None = None
    preview: Path | None = None
    force: bool = False


@dataclass(frozen=True)
class MeasuredLabels:
    """A label map and what was measured of it.

    Attributes
    ----------
    labels : the map, with the names of its labels.
    image : that was labelled; the map itself where none was given.
    statistics : of every label in every frame; without an image there are no intensities.
    report : plain values: ``labels`` with ``value``, ``name``, ``voxels`` and ``volume_ml`` by frame, None where
        the size of a voxel makes no sense.
    """

    labels: LabelImage
    image: Image
    statistics: list[LabelStatistics]
    report: dict[str, Any]


def measure_labels(file: Path, options: LabelsOptions) -> MeasuredLabels:
    """Read a label map and measure each label in each frame.

    Names and colours are those of a DICOM SEG, of the model named, or of the report beside the file.

    Raises
    ------
    UsageError
        If the model does not segment.
    UnsupportedDataError
        If the file is no label map, or the image does not lie on its grid.
    CrnnError
        As `crnn_cli.io.images.load_image`.
    """
    from crnn_cli.io.images import load_image
    from crnn_cli.labels.statistics import label_statistics
    from crnn_cli.workflows.label_scale import with_label_values

    loaded = with_label_values(load_image(file), certain=True)
    notices.tell(*loaded.remarks())
    labels = as_label_image(loaded.image, "standard input" if file == STREAM else str(file))
    labels = replace(labels, labels=named_labels(labels, file, options.model))
    image: Image = labels
    if options.image is not None:
        image = load_image(options.image).image
    lost = "implausible-spacing" in {doubt.code for doubt in labels.doubts()}
    rows = label_statistics(labels, image, labels.labels, sizes=not lost)
    if options.image is None:
        rows = [replace(row, mean=None, deviation=None) for row in rows]
    return MeasuredLabels(labels, image, rows, _report(file, options, labels, rows))


def outputs_of(measured: MeasuredLabels, options: LabelsOptions) -> list[Output]:
    """Table and picture, as far as they are asked for."""
    from crnn_cli.report.label_montage import labelled_slices, outlines_output
    from crnn_cli.report.label_table import statistics_output

    outputs = []
    if options.statistics is not None:
        outputs.append(statistics_output(measured.statistics, options.statistics))
    if options.preview is not None:
        image = _black(measured.labels) if options.image is None else measured.image
        array = measured.labels.array.astype("uint8")
        slices = labelled_slices(image, array, _order(measured.labels, options.slices))
        known = measured.labels.labels
        outputs.append(outlines_output(slices, known, measured.statistics, options.preview, "crnn labels"))
    return outputs


def _black(labels: LabelImage) -> Image:
    """Image of zeros on the grid of labels."""
    import numpy as np

    from crnn_cli.data.image import Image

    geometry = {each.name: getattr(labels, each.name) for each in fields(Image) if each.name != "array"}
    return Image(array=np.zeros(labels.shape, np.float32), **geometry)


def rows_of(report: dict[str, Any]) -> list[list[str]]:
    """Value, name, voxels and volume of each label, for people; from the least to the most over the frames."""
    return [
        [str(each["value"]), each["name"], _range(each["voxels"], "d"), _range(each["volume_ml"], ".4g")]
        for each in report["labels"]
    ]


COLUMNS = ("label", "name", "voxels", "volume (ml)")
"""Headings of `rows_of`."""


def _range(values: list[Any], digits: str) -> str:
    if None in values:
        return "not known"
    return " to ".join(dict.fromkeys(format(value, digits) for value in (min(values), max(values))))


def as_label_image(image: Image, name: str) -> LabelImage:
    """The image as a label map of bytes.

    Raises
    ------
    UnsupportedDataError
        If its values are not whole numbers from 0 to 255, or there are more than 64 different ones.
    """
    import numpy as np

    from crnn_cli.labels.label_image import LabelImage
    from crnn_cli.labels.overlap import FEW_LABELS, as_labels, label_values

    if isinstance(image, LabelImage) and int(image.array.max(initial=0)) <= LARGEST:
        return replace(image, array=image.array.astype(np.uint8))
    values = as_labels(image.array, name)
    if int(values.max(initial=0)) > LARGEST or len(label_values(values)) > FEW_LABELS:
        found = f"values up to {values.max()}" if values.max() > LARGEST else f"{len(label_values(values))} values"
        raise UnsupportedDataError(
            f"{name} is no label map: it holds {found}, and at most {FEW_LABELS} whole numbers from 0 to {LARGEST} are "
            "taken for one",
            remedy=(f"give labels values up to {LARGEST}; to label an image, use crnn segment",),
        )
    return LabelImage.on_grid(image, values.astype(np.uint8), ())


def named_labels(labels: LabelImage, file: Path, model: str | None) -> tuple[Label, ...]:
    """Labels of all values that occur or have a name, in the order of their values."""
    import numpy as np

    from crnn_cli.labels.names import Label

    known = {each.value: each for each in labels.labels} or labels_beside(file)
    if model is not None:
        known = _of_model(model)
    for value in np.unique(labels.array):
        if value and int(value) not in known:
            known[int(value)] = Label(int(value), f"label {value}", _colour(int(value)))
    return tuple(known[value] for value in sorted(known))


def _of_model(model: str) -> dict[int, Label]:
    from crnn_cli.bundles.store import find_bundle

    bundle = find_bundle(model, "segment")
    assert bundle.slices is not None  # a bundle of the task "segment" has it
    return {label.value: label for label in bundle.slices.labels}


def labels_beside(file: Path) -> dict[int, Label]:
    """Labels in the report beside a label map; none where there is no report, or an entry of it is malformed."""
    from crnn_cli.labels.names import label_of
    from crnn_cli.report.sidecar import sidecar_path

    try:
        listed = [] if file == STREAM else json.loads(sidecar_path(file).read_bytes())["labels"]
        return {label.value: label for label in map(label_of, listed)}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def _colour(value: int) -> tuple[int, int, int]:
    from crnn_cli.labels.names import COLOURS

    return COLOURS[(value - 1) % len(COLOURS)]


def _order(labels: LabelImage, slices: str) -> SliceOrder:
    """The plane asked for; else across the widest spacing, else across the axis with the fewest samples, else axial."""
    from crnn_cli.data.geometry import shortest_axis, slice_order, thickest_axis

    if slices != "auto":
        if slices not in _PLANES:
            raise UsageError(Param("slices", slices), " is not known", remedy=(f"use auto, {', '.join(_PLANES)}",))
        return slice_order(labels, slices)
    axis = thickest_axis(labels)
    if axis is None:
        axis = shortest_axis(labels)
    return slice_order(labels, "axial" if axis is None else axis)


def _report(file: Path, options: LabelsOptions, labels: LabelImage, rows: list[LabelStatistics]) -> dict[str, Any]:
    listed = [
        {
            "value": label.value, "name": label.name,
            "voxels": [row.voxels for row in rows if row.value == label.value],
            "volume_ml": [
                None if row.volume is None else round(row.volume, 4) for row in rows if row.value == label.value
            ],
        }
        for label in labels.labels
    ]  # fmt: skip
    image = None if options.image is None else str(options.image)
    return {"file": str(file), "image": image, "frames": labels.frames, "labels": listed} | notices.recorded()
