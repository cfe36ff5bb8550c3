"""Segmentations of 3D Slicer (.seg.nrrd): segments with names, in one layer or several, often cut to what is labelled.

Each segment is a value in a layer. Layers become one label map where no two segments hold the same voxel. The file
holds the labelled part of the images alone and says where that begins (``ReferenceImageExtentOffset``): it gets the
background before it back, and a voxel of background behind it, so that its ends are not taken for edges of the images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from crnn_cli.data.image import Image
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.labels.label_image import LabelImage
from crnn_cli.labels.names import LARGEST, Label

_OFFSET = "Segmentation_ReferenceImageExtentOffset"
_MOST_BEFORE = 4096
_GREY = (0.6, 0.6, 0.6)


@dataclass(frozen=True)
class Segment:
    """A segment: its name, its value and layer in the file, and its colour, 0 to 255 each."""

    name: str
    value: int
    layer: int
    colour: tuple[int, int, int]


def segments_of(facts: Mapping[str, str]) -> list[Segment]:
    """Segments by the keys of a header; empty for other images.

    >>> [each.name for each in segments_of({"Segment0_LabelValue": "2", "Segment0_Name": "LV"})]
    ['LV']
    """
    found = []
    for number in range(LARGEST + 1):
        value, layer = (facts.get(f"Segment{number}_{key}", "") for key in ("LabelValue", "Layer"))
        if value.isdigit() and int(value) > 0:
            given = [float(v) for v in facts.get(f"Segment{number}_Color", "").split()[:3]]
            red, green, blue = (round(255 * v) for v in (given if len(given) == 3 else _GREY))
            name = facts.get(f"Segment{number}_Name", f"segment {number}")
            at = int(layer) if layer.isdigit() else 0
            found.append(Segment(name, int(value), at, (red, green, blue)))
    return found


def as_labels(image: Image, segments: Sequence[Segment], path: Path) -> LabelImage:
    """Label map of a segmentation.

    Values of one layer stay as they are, if at most 255; else they count from 1, in the order of the segments.

    Parameters
    ----------
    image : values (x, y, z), or (x, y, z, layer).

    Raises
    ------
    UnsupportedDataError
        If values are not whole numbers, those of layers are none of a segment, or two segments hold the same voxel.
    """
    layers = image.array if image.array.ndim == 4 else image.array[..., None]
    if layers.dtype.kind not in "uib":
        whole = np.isfinite(layers) & (layers == np.floor(layers))
        if layers.dtype.kind == "c" or not whole.all():
            raise UnsupportedDataError(f"{path} is a segmentation whose values are not whole numbers")
    kept = layers.shape[3] == 1 and layers.min(initial=0) >= 0 and layers.max(initial=0) <= LARGEST
    if kept and all(each.value <= LARGEST for each in segments):
        labels = [Label(each.value, each.name, each.colour) for each in segments]
        return LabelImage.on_grid(replace(image, array=layers[..., 0]), layers[..., 0].astype(np.uint8), labels)
    merged = np.zeros(layers.shape[:3], np.uint8)
    for value, each in enumerate(segments, 1):
        held = layers[..., each.layer] == each.value if each.layer < layers.shape[3] else np.zeros(merged.shape, bool)
        if (held & (merged > 0)).any():
            other = segments[int(merged[held & (merged > 0)][0]) - 1].name
            raise UnsupportedDataError(
                f"{path} holds segments that overlap: {other} and {each.name}",
                remedy=("save them without overlap, as one label map",),
            )
        merged[held] = value
    if np.count_nonzero(merged) < np.count_nonzero(layers):
        raise UnsupportedDataError(f"{path} is a segmentation with values that are none of its segments'")
    labels = [Label(value, each.name, each.colour) for value, each in enumerate(segments, 1)]
    return LabelImage.on_grid(replace(image, array=merged), merged, labels)


def with_background(labels: LabelImage, facts: Mapping[str, str]) -> LabelImage:
    """The background that the file leaves out before the labelled part, and a voxel of it behind; see the top."""
    words = facts.get(_OFFSET, "").split()
    if len(words) != 3 or not all(word.isdigit() and int(word) <= _MOST_BEFORE for word in words):
        return labels
    before = [int(word) for word in words]
    array = np.pad(labels.array, [(size, 1) for size in before])
    affine = labels.affine.copy()
    affine[:3, 3] -= labels.affine[:3, :3] @ np.array(before)
    return replace(labels, array=array, affine=affine, qform=None)
