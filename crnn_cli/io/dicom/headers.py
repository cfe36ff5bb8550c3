"""Headers of DICOM files, frame by frame, before any pixel is read.

Classic images are one frame each. Enhanced multi-frame images have the same attributes in
SharedFunctionalGroupsSequence and PerFrameFunctionalGroupsSequence. Nothing is judged here: problems are noted and left
to `crnn_cli.io.dicom.series`.

Lengths are in mm, times in ms, positions in the patient's LPS system, as in DICOM.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag
from pydicom.uid import UID, SegmentationStorage

from crnn_cli.io.dicom.pixels import DESCRIPTION, PixelLayout
from crnn_cli.io.dicom.sources import Source

_LOG = logging.getLogger("pydicom")
_MAGIC = b"DICM"
_SEGMENTATIONS = (SegmentationStorage, UID("1.2.840.10008.5.1.4.1.1.66.7"))  # the other is that of label maps
_MOST_FRAMES = 100_000
_TOP = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality",
    "SeriesNumber", "SeriesDescription", "ImageType", "InstanceNumber", "AcquisitionNumber",
    "TemporalPositionIdentifier", "TemporalResolution", "TriggerTime", "AcquisitionTime", "ContentTime", "EchoTime",
    "SliceThickness", "SpacingBetweenSlices", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows",
    "Columns", "NumberOfFrames", "SamplesPerPixel", "RescaleSlope", "RescaleIntercept",
    "RealWorldValueMappingSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    *DESCRIPTION,
)  # fmt: skip
_DEEPER = (
    "FrameType", "EffectiveEchoTime", "TemporalPositionIndex", "NominalCardiacTriggerDelayTime",
    "FrameAcquisitionNumber", "FrameAcquisitionDateTime", "RealWorldValueSlope", "RealWorldValueIntercept",
)  # fmt: skip
_TAGS = [Tag(keyword) for keyword in _TOP]
_KEYWORDS = {Tag(keyword): keyword for keyword in (*_TOP, *_DEEPER)}

Facts = dict[str, Any]
"""Attributes of a dataset by keyword, those of `_TOP` and `_DEEPER` only."""


@dataclass(frozen=True)
class Frame:
    """One frame of one file; None where the header lacks the attribute.

    Attributes
    ----------
    source, index : the file, and the index of the frame in it.
    series_uid, series_number, description, modality, instance : SeriesInstanceUID, SeriesNumber, SeriesDescription,
        Modality, SOPInstanceUID.
    position, orientation : ImagePositionPatient (LPS, mm) and ImageOrientationPatient (direction cosines).
    spacing : PixelSpacing, mm between rows and between columns.
    size : Rows and Columns.
    thickness, gap : SliceThickness and SpacingBetweenSlices, mm.
    times : by name, the most trusted first; clock times in ms since midnight, and numbers that only order frames.
    resolution : TemporalResolution, ms.
    part : image type and echo time, which tell frames of one position apart that are not different times.
    rescale : RescaleSlope and RescaleIntercept.
    layout : storage of the pixels.
    problem : why the frame cannot be read, "" if it can.
    """

    source: Source
    index: int
    series_uid: str
    series_number: int | None
    description: str
    modality: str
    instance: str
    position: tuple[float, float, float] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, float] | None
    size: tuple[int, int]
    thickness: float | None
    gap: float | None
    times: dict[str, float]
    resolution: float | None
    part: tuple[str, ...]
    rescale: tuple[float, float]
    layout: PixelLayout
    problem: str = ""


def frames_of(source: Source) -> list[Frame]:
    """Read the headers of a file, without its pixels.

    Returns
    -------
    One `Frame` for a classic image, one for each frame of an enhanced image. Empty if the file is no DICOM image, such
    as a report. A single one with a ``problem`` if the file is damaged.
    """
    try:
        with silence_pydicom(), source.open() as opened:
            if opened.read(132)[128:] != _MAGIC:
                return []
            opened.seek(0)
            data = dcmread(opened, stop_before_pixels=True, specific_tags=_TAGS)
            facts = _facts(data)
            return _frames(
                source, facts, PixelLayout.of(facts, str(data.file_meta.get("TransferSyntaxUID", "")), opened.tell())
            )
    except (InvalidDicomError, OSError) as error:
        return [_damaged(source, error)]
    except RecursionError:
        return [_damaged(source, "its sequences are nested too deeply")]
    except Exception as error:  # a parser of hostile files: whatever it raises, the file is what is wrong
        return [_damaged(source, error)]


def is_seg(path: Path) -> bool:
    """Whether a DICOM file is a Segmentation, by its SOPClassUID; False for damaged files."""
    try:
        with silence_pydicom():
            data = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
            return data.get("SOPClassUID") in _SEGMENTATIONS
    except Exception:  # a parser of hostile files: reading it as an image will name the damage
        return False


@contextmanager
def silence_pydicom() -> Iterator[None]:
    """Keep pydicom from printing: its warnings quote values, which may be a person's name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        disabled, _LOG.disabled = _LOG.disabled, True
        try:
            yield
        finally:
            _LOG.disabled = disabled


def _facts(data: Dataset) -> Facts:
    return {_KEYWORDS[tag]: data[tag].value for tag in data.keys() if tag in _KEYWORDS}  # noqa: SIM118


def _frames(source: Source, data: Facts, layout: PixelLayout) -> list[Frame]:
    rows, columns = _integer(data, "Rows"), _integer(data, "Columns")
    if not rows or not columns:
        return []  # a report, a segmentation's reference, a presentation state: no image
    count = _integer(data, "NumberOfFrames") or 1
    per_frame: Sequence[Dataset] = data.get("PerFrameFunctionalGroupsSequence") or []
    if not 1 <= count <= _MOST_FRAMES or (per_frame and len(per_frame) != count):
        return [_damaged(source, f"it promises {count} frames and describes {len(per_frame)}")]
    if not per_frame:
        frame = _frame(source, 0, [data], (rows, columns), layout)
        if count == 1:
            return [frame]
        return [_damaged(source, "it has several frames that say neither where nor when they are")]
    shared = [g for s in list(data.get("SharedFunctionalGroupsSequence") or [])[:1] for g in _groups(s)]
    return [
        _frame(source, i, [*_groups(group), *shared, data], (rows, columns), layout)
        for i, group in enumerate(per_frame)
    ]


def _groups(functional: Dataset) -> list[Facts]:
    """Attributes of the items of all functional groups of a frame."""
    items = [item for element in functional if element.VR == "SQ" for item in (element.value or [])[:1]]
    return [facts for facts in map(_facts, items) if facts]


def _frame(source: Source, index: int, where: list[Facts], size: tuple[int, int], layout: PixelLayout) -> Frame:
    problem, data = "", where[-1]
    if data.get("SOPClassUID") in _SEGMENTATIONS:
        problem = "a segmentation: name its file, not the folder"
    elif "MOSAIC" in _words(data, "ImageType"):
        problem = "a mosaic: many slices tiled into one picture"
    elif (_integer(data, "SamplesPerPixel") or 1) != 1:
        problem = "a colour picture, no measured values"
    echo = _number(where, "EchoTime", "EffectiveEchoTime")
    types = set(_words(data, "ImageType")) | {w for g in where for w in _words(g, "FrameType")}
    part = (*sorted(types.intersection(_IMAGE_TYPES)), "" if echo is None else f"echo {echo:g} ms")
    position, orientation = _numbers(where, "ImagePositionPatient", 3), _numbers(where, "ImageOrientationPatient", 6)
    spacing = _numbers(where, "PixelSpacing", 2)
    return Frame(
        source, index, str(data.get("SeriesInstanceUID", "")), _integer(data, "SeriesNumber"),
        str(data.get("SeriesDescription", "") or ""), str(data.get("Modality", "") or ""),
        str(data.get("SOPInstanceUID", "")),
        None if position is None else (position[0], position[1], position[2]), orientation,
        None if spacing is None else (spacing[0], spacing[1]), size,
        _number(where, "SliceThickness"), _number(where, "SpacingBetweenSlices"), _times(where, index),
        _number(where, "TemporalResolution"), part,
        _rescale(where), layout, problem,
    )  # fmt: skip


def _rescale(where: list[Facts]) -> tuple[float, float]:
    """Slope and intercept: the rescale, or else the only linear mapping to real-world values (Philips)."""
    slope = _number(where, "RescaleSlope")
    if slope is not None:
        return slope or 1.0, _number(where, "RescaleIntercept") or 0.0
    mappings = [_facts(mapping) for data in where for mapping in data.get("RealWorldValueMappingSequence") or []]
    if len(mappings) > 1:
        return 1.0, 0.0
    slope = _number([*mappings, *where], "RealWorldValueSlope")
    return (slope, _number([*mappings, *where], "RealWorldValueIntercept") or 0.0) if slope else (1.0, 0.0)


_IMAGE_TYPES = ("M", "P", "R", "I", "MAGNITUDE", "PHASE", "REAL", "IMAGINARY", "LOCALIZER")
_TIMES = {
    "temporal position": ("TemporalPositionIdentifier", "TemporalPositionIndex"),
    "trigger time": ("TriggerTime", "NominalCardiacTriggerDelayTime"),
    "acquisition number": ("AcquisitionNumber", "FrameAcquisitionNumber"),
    "acquisition time": ("AcquisitionTime", "FrameAcquisitionDateTime"),
    "content time": ("ContentTime",),
    "instance number": ("InstanceNumber",),
}


def _times(where: list[Facts], index: int) -> dict[str, float]:
    """Attributes that can order frames in time; clock times in ms since midnight."""
    times = {}
    for name, keywords in _TIMES.items():
        clock = name in ("acquisition time", "content time")
        value = _clock(where, *keywords) if clock else _number(where, *keywords)
        if value is not None:
            times[name] = value
    times["instance number"] = times.get("instance number", 0.0) * _MOST_FRAMES + index
    return times


def _clock(where: list[Facts], *keywords: str) -> float | None:
    for data in where:
        for keyword in keywords:
            text = str(data.get(keyword) or "")
            digits = text[8:] if "DateTime" in keyword else text
            try:
                hours, minutes, seconds = int(digits[:2]), int(digits[2:4]), float(digits[4:].split("+")[0] or 0)
            except ValueError:
                continue
            return 1000 * (3600 * hours + 60 * minutes + seconds)
    return None


def _number(where: list[Facts], *keywords: str) -> float | None:
    for data in where:
        for keyword in keywords:
            numbers = _finite(data.get(keyword), 1)
            if numbers is not None:
                return numbers[0]
    return None


def _numbers(where: list[Facts], keyword: str, count: int) -> tuple[float, ...] | None:
    values = (_finite(data.get(keyword), count) for data in where)
    return next((value for value in values if value is not None), None)


def _finite(value: Any, count: int) -> tuple[float, ...] | None:
    """Value as ``count`` finite numbers; None if it is anything else."""
    if value is None or value == "":
        return None
    try:
        numbers = tuple(float(v) for v in (value if count > 1 else [value]))
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(math.isfinite(v) for v in numbers) else None


def _integer(data: Facts, keyword: str) -> int | None:
    numbers = _finite(data.get(keyword), 1)
    return None if numbers is None else int(numbers[0])


def _words(data: Facts, *keywords: str) -> list[str]:
    values = (data.get(keyword) for keyword in keywords)
    return [str(word) for value in values if value for word in ([value] if isinstance(value, str) else value)]


def _damaged(source: Source, error: object) -> Frame:
    text = " ".join(str(error).split()) or type(error).__name__
    return Frame(
        source, 0, "", None, "", "", "", None, None, None, (0, 0), None, None, {}, None, (), (1.0, 0.0), PixelLayout(),
        f"damaged: {text[:200]}",
    )  # fmt: skip
