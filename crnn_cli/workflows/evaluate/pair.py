"""Two images, or two label maps, brought onto one grid so that they can be compared voxel by voxel."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from crnn_cli import notices
from crnn_cli.data.alignment import SAME_PLACE_MM, is_unplaced, max_distance_mm, padded_to, reorient_to
from crnn_cli.data.image import Image
from crnn_cli.data.input_files import read_small
from crnn_cli.errors import CrnnError, Param, UnreadableError, UnsupportedDataError
from crnn_cli.labels.label_image import LabelImage
from crnn_cli.labels.overlap import as_labels, holds_few_labels
from crnn_cli.notices import STREAM
from crnn_cli.report.sidecar import sidecar_path
from crnn_cli.workflows.evaluate.options import EvaluateOptions, Kind

_LARGEST_LABEL = 65535


@dataclass(frozen=True)
class Candidate:
    """An image or a label map to be compared, and what tells which of the two it is.

    Parameters
    ----------
    name : of the image, in messages and in the report.
    dtype : of the voxels as stored; of DICOM after the rescale.
    declared_labels : whether it says of itself that it is a label map (NIfTI intent 1002, DICOM SEG, `LabelImage`).
    label_names : of the labels by value, where they are known.
    partial : whether what lies outside of it is background, as of a DICOM SEG, which may leave slices out.
    """

    image: Image
    name: str
    dtype: str
    declared_labels: bool
    label_names: dict[int, str] = field(default_factory=dict)
    partial: bool = False

    @classmethod
    def from_image(cls, image: Image, name: str) -> Candidate:
        """Candidate of an image in memory."""
        names = image.names if isinstance(image, LabelImage) else {}
        return cls(image, name, str(image.array.dtype), isinstance(image, LabelImage), names)

    @property
    def may_be_labels(self) -> bool:
        """Whether it can be a label map: it says so, or holds at most 64 distinct whole numbers from 0 to 65535.

        They may be stored in floating point, as much software does.
        """
        return self.declared_labels or holds_few_labels(self.image.array)


@dataclass(frozen=True)
class Pair:
    """A tested image and its reference on one grid.

    Parameters
    ----------
    labels : whether they are compared as label maps.
    geometry_ignored : whether they were not required to lie in one place.
    axes_turned : whether the axes of the tested image were brought to the order and direction of the reference's.
    """

    tested: Candidate
    reference: Candidate
    labels: bool
    geometry_ignored: bool = False
    axes_turned: bool = False

    @property
    def title(self) -> str:
        """Both names, for messages and tables."""
        return f"{self.tested.name} against {self.reference.name}"

    def facts(self) -> dict[str, Any]:
        """What a report says of the two."""
        return {
            "image": self.tested.name, "reference": self.reference.name, "geometry_ignored": self.geometry_ignored,
            "axes_turned": self.axes_turned, "compared": "labels" if self.labels else "images",
        }  # fmt: skip


def read_candidate(path: Path, axes: str | None, series: str | None, kind: Kind = "auto") -> Candidate:
    """Read an image or a label map; names of labels come from the report beside it, if there is one.

    Parameters
    ----------
    axes : what the stored axes of a NIfTI file are; None where it says so.
    series : number or UID of a DICOM series, where there are several.
    kind : what it is compared as.
    """
    from crnn_cli.io.formats import DICOM_SEG, NRRD
    from crnn_cli.io.images import load_image
    from crnn_cli.io.nifti.intent import LABELS
    from crnn_cli.workflows.label_scale import SCALE_CODES, with_label_values

    loaded = load_image(path, axes, series)
    if kind != "images":
        loaded = with_label_values(loaded, kind == "labels")
    notices.tell(*dict.fromkeys((*loaded.facts(), *(each for each in loaded.notes if each.code in SCALE_CODES))))
    name = "standard input" if path == STREAM else str(path)
    names = loaded.image.names if isinstance(loaded.image, LabelImage) else _names_beside(path)
    partial = loaded.format in (DICOM_SEG.name, NRRD.name) and isinstance(loaded.image, LabelImage)
    return Candidate(loaded.image, name, loaded.dtype, loaded.intent == LABELS, names, partial)


def read_reference(
    path: Path, axes: str | None, series: str | None, tested_axes: str | None, kind: Kind = "auto"
) -> Candidate:
    """Read the reference; its axes are those of the tested file, unless it has its own or is DICOM.

    Raises
    ------
    CrnnError
        As in `read_candidate`, in terms of the parameters ``reference_series`` and ``reference_axes``.
    """
    from crnn_cli.io.formats import is_dicom

    inherited = None if is_dicom(path) else tested_axes
    try:
        return read_candidate(path, axes or inherited, series, kind)
    except CrnnError as error:
        raise error.with_params({"series": "reference_series", "axes": "reference_axes"}) from None


def _names_beside(path: Path) -> dict[int, str]:
    """Names of labels in the report beside an image; what is malformed there is ignored."""
    try:
        listed = [] if path == STREAM else json.loads(read_small(sidecar_path(path)))["labels"]
        entries = [entry for entry in listed if isinstance(entry, dict)]
    except (UnreadableError, ValueError, TypeError, KeyError, RecursionError):
        return {}
    named = [(entry.get("value"), entry.get("name")) for entry in entries]
    return {v: n for v, n in named if type(v) is int and 0 < v <= _LARGEST_LABEL and isinstance(n, str) and n.strip()}


def make_pair(tested: Candidate, reference: Candidate, options: EvaluateOptions, uncertainty: bool = False) -> Pair:
    """Decide how the two are compared, and bring the tested one onto the axes of the reference.

    Axes that are stored in another order, or run the other way, are turned; nothing is resampled.

    Parameters
    ----------
    uncertainty : whether an uncertainty map was given.

    Raises
    ------
    UsageError
        If an option is for the other kind of data.
    UnsupportedDataError
        If only one of them is a label map, or they do not lie on one grid.
    """
    labels = options.kind == "labels" or (options.kind == "auto" and are_label_maps(tested, reference))
    options.require_fitting(labels, uncertainty)
    if labels and not options.ignore_geometry:
        tested = _completed(tested, reference)
        reference = _completed(reference, tested)
    turned = None if options.ignore_geometry else _turn(tested, reference, labels)
    pair = Pair(turned or tested, reference, labels, options.ignore_geometry, turned is not None)
    _require_same_grid(pair)
    return pair


def are_label_maps(tested: Candidate, reference: Candidate) -> bool:
    """Whether both are label maps.

    One is if it says so, or if it holds few whole numbers stored as integers. Few whole numbers in floating point count
    where the other is a label map.

    Raises
    ------
    UnsupportedDataError
        If only one of them is.
    """
    both = (tested, reference)
    possible = [each.may_be_labels for each in both]
    certain = [
        each.declared_labels or (may and np.dtype(each.dtype).kind in "ui")
        for each, may in zip(both, possible, strict=True)
    ]
    if all(possible) and not any(certain):
        text = "both hold few whole numbers, in floating point: they are compared as images, not as label maps"
        notices.note("compared-as-images", text)
    if not any(certain) or all(possible):
        return any(certain)
    label, other = both if possible[0] else reversed(both)
    raise UnsupportedDataError(
        f"{label.name} ({label.dtype}) looks like a label map and {other.name} ({other.dtype}) like an image",
        remedy=(
            "compare like with like, or say what both are with ",
            Param("kind", "labels"),
            " or ",
            Param("kind", "images"),
        ),
    )


def _turn(tested: Candidate, reference: Candidate, labels: bool) -> Candidate | None:
    """Bring the first onto the axes of the second; None where they are so already or the two lie apart."""
    image, grid = tested.image, reference.image
    shapes = [_shape(image), _shape(grid)]
    if is_unplaced(image, grid) and shapes[0] == shapes[1]:
        return None
    if shapes[0] == shapes[1] and max_distance_mm(image.affine, grid.affine, image.shape) <= SAME_PLACE_MM:
        return None
    turned = reorient_to(image, grid.affine, shapes[1])
    if turned is None:
        return None
    if labels:
        as_labels(image.array, tested.name)  # while an index in a message is still that of the file
    else:
        image.require_finite(tested.name)
    text = f"the axes of {tested.name} are turned to those of {reference.name}: both lie in the same place"
    notices.note("axes-turned", text)
    return replace(tested, image=turned)


def _require_same_grid(pair: Pair) -> None:
    first, second = pair.tested, pair.reference
    sizes = [_shape(each.image) for each in (first, second)]
    if sizes[0] != sizes[1]:
        texts = [
            f"{each.name} is {' x '.join(map(str, size))}" for each, size in zip((first, second), sizes, strict=True)
        ]
        raise UnsupportedDataError(
            f"{', '.join(texts)} (x, y, z, t): only images on one grid can be compared",
            remedy=("resample or crop one of them; if one is a time series stored in 3-D, say so with ",
                    Param("axes"), " or ", Param("reference_axes", "x,y,t")),
        )  # fmt: skip
    apart = max_distance_mm(first.image.affine, second.image.affine, first.image.shape)
    if apart > SAME_PLACE_MM and is_unplaced(first.image, second.image):
        unknown = first.name if first.image.codes == (0, 0) else second.name
        notices.warn("position-unknown", f"{unknown} does not say where it lies: compared voxel by voxel, as stored")
    elif apart > SAME_PLACE_MM:
        difference = ", ".join(f"{each.name} has {_geometry(each.image)}" for each in (first, second))
        difference += f"; corresponding corners lie up to {apart:.4g} mm apart"
        if not pair.geometry_ignored:
            remedy = ("resample one of them onto the other's grid, or compare voxel by voxel as stored with ",
                      Param("ignore_geometry"))  # fmt: skip
            raise UnsupportedDataError(difference, remedy=remedy)
        notices.warn("geometry-ignored", f"{difference}; ignored as asked")
    times = first.image.frame_time, second.image.frame_time
    if times[0] is not None and times[1] is not None and abs(times[0] - times[1]) > 1e-6:
        text = f"the frame times differ, {times[0]:g} s and {times[1]:g} s; frames are compared one by one"
        notices.warn("frame-times-differ", text)


def _completed(part: Candidate, whole: Candidate) -> Candidate:
    """Label map that leaves slices out, filled up with background on the grid of the other; itself if it is no part."""
    if not part.partial or _shape(part.image) == _shape(whole.image):
        return part
    completed = padded_to(part.image, whole.image.affine, _shape(whole.image))
    return part if completed is None else replace(part, image=completed)


def _shape(image: Image) -> tuple[int, ...]:
    """Size along x, y, z and t."""
    return (*image.shape[:3], image.frames)


def _geometry(image: Image) -> str:
    from crnn_cli.data.orientation import axis_codes

    origin = ", ".join(f"{v:.4g}" for v in image.affine[:3, 3])
    size = " x ".join(f"{v:.4g}" for v in image.spacing)
    return f"voxels of {size} mm running to {axis_codes(image.affine)} from ({origin})"
