"""DICOM Segmentation objects (SEG, PS3.3 A.51; LABELMAP: A.80) as label maps.

Binary, fractional and labelmap segments are read, of one volume or of a series in time. The value of a voxel is the
number of its segment, 0 where there is none: frames that an object leaves out are background. A fraction counts from
one half on. Planes may lie in any order; their affine comes from their positions (LPS in the file, RAS+ mm here).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from highdicom.color import CIELabColor
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from crnn_cli.data.image import Affine
from crnn_cli.data.slice_stack import LPS_TO_RAS, ROUNDING, SAME_PLACE, TILT, UNEVEN, Vector
from crnn_cli.errors import CrnnError, UnreadableError, UnsupportedDataError
from crnn_cli.io.dicom.headers import silence_pydicom
from crnn_cli.io.dicom.instances import Instance, instance_of
from crnn_cli.io.dicom.seg_series import read_objects, require_same_segments
from crnn_cli.io.loaded_image import LoadedImage
from crnn_cli.io.nifti.intent import LABELS
from crnn_cli.labels.label_image import LabelImage
from crnn_cli.labels.names import Label
from crnn_cli.notices import Fact

_PARALLEL = 1e-4
_LENGTHS = {"ImageOrientationPatient": 6, "PixelSpacing": 2}
_MOST_PLANES = 10_000
_TIMES = ("TemporalPositionIndex", "TemporalPositionTimeOffset", "NominalCardiacTriggerDelayTime")
_GREY = (160, 160, 160)
Pixels = NDArray[np.unsignedinteger[Any]]


def load_seg(path: Path) -> LoadedImage:
    """Read a SEG, or those of all phases of a cine, as a label map, with the facts about its source.

    Parameters
    ----------
    path : file, or a folder or archive of SEG files alone; see `crnn_cli.io.dicom.seg_series`.

    Raises
    ------
    UnreadableError, UnsupportedDataError
        See `read_seg` and `crnn_cli.io.dicom.seg_series.read_objects`.
    """
    objects, sha256, doubts = read_objects(path, pixels=True)
    image = _parsed(objects, path.name)
    source = {"file": str(path), "format": "DICOM SEG", "sha256": sha256}
    text = "the segments are fractions: a voxel has the label of the largest one, from one half on"
    facts = [Fact("fractional-labels", text)] if _kind(objects[0]) == "FRACTIONAL" else []
    return LoadedImage(
        image, source, image.array.ndim, dtype=str(image.array.dtype), intent=LABELS, format="DICOM SEG",
        notes=(*doubts, *facts),
    )  # fmt: skip


def read_seg(file: Path) -> LabelImage:
    """Read the segment numbers (x, y, z) or (x, y, z, t) of a SEG, 0 where there is no segment, with their names.

    Returns
    -------
    uint8, or uint16 where numbers exceed 255; the affine is RAS+ mm. Its times have no frame time.

    Raises
    ------
    UnsupportedDataError
        If segments overlap, or the planes are no stack of even spacing in the patient's coordinates.
    UnreadableError
        If the file is damaged.
    """
    return _parsed(read_objects(file, pixels=True)[0], file.name)


def _parsed(objects: Sequence[Dataset], name: str) -> LabelImage:
    try:
        with silence_pydicom():
            require_same_segments(objects)
            return _label_image(objects, name)
    except (CrnnError, MemoryError):
        raise
    except Exception as error:  # a parser of hostile files: whatever it raises, the file is what is wrong
        raise UnreadableError(f"{name} is no DICOM SEG that can be read: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Kind of error alone: the words of a parser may quote values of the patient."""
    if isinstance(error, KeyError | AttributeError):
        return "an attribute is missing or misplaced"
    return f"it is damaged ({type(error).__name__})"


@dataclass(frozen=True)
class SegFrame:
    """What one frame shows.

    Attributes
    ----------
    position : of its plane, LPS, mm.
    segment : None in a labelmap.
    time : by which the frames are ordered; 0 of a volume.
    images : that it was made from, as it names them.
    """

    position: tuple[float, ...]
    segment: int | None
    time: float
    images: tuple[Instance, ...] = ()


def seg_frames(data: Dataset, name: str) -> list[SegFrame]:
    """Frames of a SEG in the order of the file, from its header.

    Raises
    ------
    UnreadableError, UnsupportedDataError
        If they lack their place or segment.
    """
    return [_frame(groups, data, _kind(data), name) for groups in _functional_groups(data, name)]


def _kind(data: Dataset) -> str:
    return str(data.get("SegmentationType", "BINARY")).strip().upper()


def _label_image(objects: Sequence[Dataset], name: str) -> LabelImage:
    kind = _kind(objects[0])
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise UnsupportedDataError(f"{name} is a segmentation of the type {kind[:16]}; binary, fractional and labelmap "
                                   "segments are read")  # fmt: skip
    groups = [group for data in objects for group in _functional_groups(data, name)]
    described = [seg_frames(data, name) for data in objects]
    frames = [frame for part in described for frame in part]
    pixels = np.concatenate([_pixels(data, len(part), name) for data, part in zip(objects, described, strict=True)])
    orientation = _common(groups, "PlaneOrientationSequence", "ImageOrientationPatient", name)
    _common(groups, "PixelMeasuresSequence", "PixelSpacing", name)
    planes, affine = _stack(frames, orientation, groups, name)
    when = [(order, frame.time) for order, part in enumerate(described) for frame in part]
    times = sorted(set(when))
    at = [(times.index(time), plane) for time, plane in zip(when, planes, strict=True)]
    _require_one_each(frames, at, name)
    shape = (len(times), max(planes) + 1, *pixels.shape[1:])
    maximum = int(objects[0].get("MaximumFractionalValue") or 255) if kind == "FRACTIONAL" else None
    labels = _combined(pixels, frames, at, shape, maximum, name)
    array = labels.transpose(3, 2, 1, 0)
    return LabelImage(
        array=array if len(times) > 1 else array[..., 0], affine=affine, labels=_labels(objects, int(labels.max()))
    )  # fmt: skip


def _functional_groups(data: Dataset, name: str) -> list[list[Dataset]]:
    """Functional groups of each frame: its own, then the shared ones."""
    per_frame = data.get("PerFrameFunctionalGroupsSequence") or []
    shared = list(data.get("SharedFunctionalGroupsSequence") or [])
    count = int(data.get("NumberOfFrames") or 1)
    if len(per_frame) != count or not count:
        raise UnreadableError(f"{name} promises {count} frames and describes {len(per_frame)}")
    return [[group, *shared] for group in per_frame]


def _item(groups: Sequence[Dataset], sequence: str) -> Dataset | None:
    """First item of a functional group, None where neither the frame nor the shared groups have it."""
    for group in groups:
        if group.get(sequence):
            item: Dataset = group[sequence].value[0]
            return item
    return None


def _frame(groups: list[Dataset], data: Dataset, kind: str, name: str) -> SegFrame:
    place = _item(groups, "PlanePositionSequence")
    if place is None or not place.get("ImagePositionPatient"):
        raise UnsupportedDataError(f"{name} has segments without a place in the patient, such as those of a slide")
    identified = _item(groups, "SegmentIdentificationSequence")
    if kind != "LABELMAP" and identified is None:
        raise UnreadableError(f"{name} has frames that belong to no segment")
    segment = None if kind == "LABELMAP" or identified is None else int(identified.ReferencedSegmentNumber)
    position = tuple(float(v) for v in place.ImagePositionPatient)
    return SegFrame(position, segment, _time(groups, data), _source_images(groups))


def _source_images(groups: list[Dataset]) -> tuple[Instance, ...]:
    derived = _item(groups, "DerivationImageSequence")
    items = [] if derived is None else derived.get("SourceImageSequence") or []
    return tuple(instance_of(item) for item in items if item.get("ReferencedSOPInstanceUID"))


def _time(groups: list[Dataset], data: Dataset) -> float:
    """Value that orders the times of a series: a temporal position, or the dimension index of one. 0 for a volume."""
    content = _item(groups, "FrameContentSequence")
    for item in (content, _item(groups, "TemporalPositionSequence"), _item(groups, "CardiacSynchronizationSequence")):
        for keyword in _TIMES:
            if item is not None and item.get(keyword) is not None:
                return float(item[keyword].value)
    pointers = [Tag(item.DimensionIndexPointer) for item in data.get("DimensionIndexSequence") or []]
    for keyword in _TIMES:
        if content is not None and Tag(keyword) in pointers:
            values = content.DimensionIndexValues
            return float((values if isinstance(values, Sequence) else [values])[pointers.index(Tag(keyword))])
    return 0.0


def _pixels(data: Dataset, frames: int, name: str) -> Pixels:
    """Stored values (frame, row, column)."""
    pixels = np.asarray(data.pixel_array)
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    if pixels.shape != (frames, int(data.Rows), int(data.Columns)) or pixels.dtype.kind not in "ui":
        raise UnreadableError(f"{name} has pixels of shape {pixels.shape}, which its header does not describe")
    return pixels


def _common(groups: list[list[Dataset]], sequence: str, keyword: str, name: str) -> Vector:
    """Values that all frames share: directions of the rows and the columns (LPS), or the spacing of the pixels."""
    items = [_item(group, sequence) for group in groups]
    values = np.array([[float(v) for v in item[keyword].value] for item in items if item is not None])
    what = "an orientation in the patient" if keyword == "ImageOrientationPatient" else "a pixel spacing"
    if len(values) < len(groups) or values.shape[1:] != (_LENGTHS[keyword],):
        raise UnsupportedDataError(f"{name} has segments without {what}")
    if np.abs(values - values[0]).max() > _PARALLEL:
        differ = "directions" if keyword == "ImageOrientationPatient" else "pixel spacings"
        raise UnsupportedDataError(f"the planes of {name} are no stack: their {differ} differ")
    first: Vector = values[0]
    return first


def _stack(
    frames: list[SegFrame], orientation: Vector, groups: list[list[Dataset]], name: str
) -> tuple[list[int], Affine]:
    """Index of the plane of each frame along the normal, and the affine of the stack.

    Planes may be missing between others: the smallest distance is the step.
    """
    measures = _item(groups[0], "PixelMeasuresSequence")
    assert measures is not None  # `_common` has seen it
    rows, columns = (float(v) for v in measures.PixelSpacing)
    row, column = (part / np.linalg.norm(part) for part in (orientation[:3], orientation[3:]))
    normal = np.cross(row, column)
    positions = np.array([frame.position for frame in frames])
    along = (positions - positions[0]) @ normal
    first = positions[int(along.argmin())]
    along -= along.min()
    distinct = np.sort(along)
    gaps = np.diff(distinct)
    gaps = gaps[gaps >= SAME_PLACE]
    step = _step(gaps, measures)
    planes = np.rint(along / step).astype(int)
    if planes.max() >= _MOST_PLANES:
        raise UnsupportedDataError(f"the planes of {name} are no stack: they lie {step:.3g} mm and far more apart")
    last = int(planes.argmax())
    if planes[last]:  # the whole length is known better than one step
        step = float(along[last]) / int(planes[last])
    shift = _shift_of_a_step(positions[last] - first, normal, int(planes[last]))
    expected = first + planes[:, None] * (normal * step + shift)
    worst = float(np.linalg.norm(positions - expected, axis=1).max())
    if worst > max(UNEVEN * step, 0.05) or float(np.linalg.norm(shift)) > TILT:
        raise UnsupportedDataError(f"the planes of {name} are no stack: they lie up to {worst:.2f} mm off even places")
    affine = np.eye(4)
    affine[:3] = LPS_TO_RAS @ np.column_stack([row * columns, column * rows, normal * step + shift, first])
    return planes.tolist(), affine


def _shift_of_a_step(length: Vector, normal: Vector, steps: int) -> Vector:
    """In-plane offset from one plane to the next, mm; 0 where it is within the rounding of the positions."""
    offset: Vector = length - (length @ normal) * normal
    if not steps or float(np.linalg.norm(offset)) <= ROUNDING:
        return np.zeros(3)
    return offset / steps


def _step(gaps: Vector, measures: Dataset) -> float:
    """Distance in mm from one plane to the next: as stated where all gaps are whole numbers of it, else the least gap.

    An object that leaves empty planes out has gaps of several steps, perhaps no other.
    """
    stated = abs(float(measures.get("SpacingBetweenSlices") or 0))
    if not gaps.size:
        return stated or abs(float(measures.get("SliceThickness") or 0)) or 1.0
    steps = gaps / stated if stated > 0 else np.zeros(1)
    if steps.min() > 0.5 and np.abs(steps - np.rint(steps)).max() < UNEVEN:
        return stated
    return float(gaps.min())


def _require_one_each(frames: list[SegFrame], at: list[tuple[int, int]], name: str) -> None:
    """Refuse two frames of one segment in one place whose times nothing tells apart."""
    places = [(*place, frame.segment) for frame, place in zip(frames, at, strict=True)]
    if len(set(places)) < len(places):
        raise UnsupportedDataError(f"{name} has several frames of a segment in one place, and no times of them")


def _combined(
    pixels: Pixels, frames: list[SegFrame], at: list[tuple[int, int]], shape: tuple[int, ...], maximum: int | None,
    name: str,
) -> Pixels:  # fmt: skip
    """Segment numbers (t, z, row, column); ``maximum`` is the value of a whole where the segments are fractions."""
    largest = max(int(pixels.max()) if frame.segment is None else frame.segment for frame in frames)
    labels: Pixels = np.zeros(shape, np.uint8 if largest < 256 else np.uint16)
    strongest = None if maximum is None else np.zeros(shape, np.uint16)
    for frame, (t, z), picture in zip(frames, at, pixels, strict=True):
        if frame.segment is None:
            labels[t, z] = picture
        elif strongest is not None:  # of two fractions the larger one counts, of equal ones the first
            wins = (2 * picture.astype(np.uint32) >= (maximum or 1)) & (picture > strongest[t, z])
            labels[t, z][wins] = frame.segment
            strongest[t, z][wins] = picture[wins]
        else:
            inside = picture > 0
            if labels[t, z][inside].any():
                raise UnsupportedDataError(
                    f"the segments of {name} make no label map: they overlap",
                    remedy=("write each segment to a file of its own, with the software that made them",),
                )
            labels[t, z][inside] = frame.segment
    return labels


def _labels(objects: Sequence[Dataset], largest: int) -> tuple[Label, ...]:
    """Segments as labels: number, name, colour and code."""
    found: dict[int, Label] = {}
    for segment in (segment for data in objects for segment in data.get("SegmentSequence") or []):
        number = int(segment.SegmentNumber)
        if 0 < number <= max(largest, 255):
            name = " ".join(str(segment.get("SegmentLabel") or f"segment {number}").split())
            found.setdefault(number, Label(number, name, _colour(segment), _code(segment)))
    return tuple(found.values())


def _code(segment: Dataset) -> tuple[str, str, str] | None:
    items = segment.get("SegmentedPropertyTypeCodeSequence") or []
    if not items or not items[0].get("CodeValue"):
        return None
    code = items[0]
    return str(code.CodingSchemeDesignator), str(code.CodeValue), str(code.CodeMeaning)


def _colour(segment: Dataset) -> tuple[int, int, int]:
    stored = segment.get("RecommendedDisplayCIELabValue")
    if stored is None:
        return _GREY
    red, green, blue = CIELabColor.from_dicom_value(list(stored)).to_rgb()
    return int(red), int(green), int(blue)
