"""Headers of DICOM files, frame by frame, before any pixel is read.

Classic images are one frame each; a mosaic is one frame for each of its slices. Enhanced multi-frame images have the
same attributes in SharedFunctionalGroupsSequence and PerFrameFunctionalGroupsSequence. Files without preamble or meta
header are read as well. Nothing is judged here: problems are noted and left to `crnn_cli.io.dicom.series`.

Lengths are in mm, times in ms, positions in the patient's LPS system, as in DICOM.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO

from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from crnn_cli.errors import DeviceError
from crnn_cli.io.dicom.frames.attributes import (
    TAGS,
    Clock,
    Facts,
    clock,
    date_time,
    facts_of,
    integer,
    number,
    numbers,
    patient_digest,
    text,
    words,
)
from crnn_cli.io.dicom.frames.dimensions import dimension_indices
from crnn_cli.io.dicom.frames.frame import Counts, FileContents, Frame, Origin, Part, Problem
from crnn_cli.io.dicom.frames.image_type import image_type_of
from crnn_cli.io.dicom.frames.mosaic import is_mosaic, unpack
from crnn_cli.io.dicom.frames.objects import has_pixels, is_known, is_mr_ct_pet, is_never_read, object_name
from crnn_cli.io.dicom.frames.values import lookup_table, rescale_of
from crnn_cli.io.dicom.pixels import PixelLayout, StoredElement
from crnn_cli.io.dicom.sources import Source
from crnn_cli.io.limits import require_inflated
from crnn_cli.io.signature import PREAMBLE, START_LENGTH, begins_as_dicom, is_cut_preamble, is_text

_LOG = logging.getLogger("pydicom")
_MOST_FRAMES = 100_000
_META_GROUP = b"\x02\0"
_TRANSFER_SYNTAX = b"\x02\0\x10\0"
_UNPACK = ("unpack it first, such as with dcm2niix",)


def read_headers(source: Source) -> FileContents:
    """Read the headers of a file, without its pixels.

    Returns
    -------
    One `Frame` for a classic image, one for each frame of an enhanced image or slice of a mosaic. No frame for another
    object, such as a report, and for a file that is not DICOM, is cut or damaged.

    Raises
    ------
    DeviceError
        If a deflated file would not fit into memory.
    """
    try:
        with silence_pydicom(), source.open() as opened:
            start = opened.read(START_LENGTH)
            if not begins_as_dicom(start):
                return _no_dicom(source, start)
            _require_inflatable(source, opened)
            opened.seek(0)
            return _contents(source, opened)
    except DeviceError:
        raise
    except RecursionError:
        return FileContents(source, left_out="damaged: its sequences are nested too deeply", begins_as_dicom=True)
    except Exception as error:  # a parser of hostile files: whatever it raises, the file is what is wrong
        reason = f"damaged: {' '.join(str(error).split())[:200] or type(error).__name__}"
        return FileContents(source, left_out=reason, begins_as_dicom=True)


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


def _no_dicom(source: Source, start: bytes) -> FileContents:
    if not start:
        return FileContents(source, left_out="empty")
    if is_cut_preamble(start):
        return FileContents(source, left_out=f"cut off after {len(start)} bytes", begins_as_dicom=True)
    return FileContents(source, left_out="not DICOM", is_text=is_text(start))


def _require_inflatable(source: Source, opened: BinaryIO) -> None:
    """Raise UnreadableError or DeviceError if a deflated file unpacks to more than it may, see `require_inflated`."""
    opened.seek(PREAMBLE + 4)
    syntax = b""
    while (head := opened.read(8))[:2] == _META_GROUP:
        long = head[4:6] in (b"OB", b"OW", b"UN", b"SQ", b"UT")
        value = opened.read(int.from_bytes(opened.read(4) if long else head[6:8], "little"))
        syntax = value.strip(b"\0 ") if head[:4] == _TRANSFER_SYNTAX else syntax
    if syntax == DeflatedExplicitVRLittleEndian.encode():
        at = opened.tell() - len(head)
        size = opened.seek(0, io.SEEK_END)
        opened.seek(at)
        require_inflated(opened, size - at, source.name)


def _contents(source: Source, opened: BinaryIO) -> FileContents:
    """Tell what a DICOM file holds, from its header."""
    header = dcmread(opened, force=True, stop_before_pixels=True, specific_tags=TAGS)
    data = facts_of(header)
    syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
    element = StoredElement.at(opened, opened.tell(), syntax)
    sop_class = data["SOPClassUID"] = _sop_class(header, data)
    whole_if_deflated = syntax == DeflatedExplicitVRLittleEndian and bool(integer(data, "Rows"))
    ends_early = not element.found and not whole_if_deflated
    if ends_early and (has_pixels(sop_class) or not text(data, "SeriesInstanceUID")):
        known = _origin(_whole_attributes(header))
        return FileContents(source, left_out="ends before its pixels", begins_as_dicom=True, origin=known)
    if ends_early or is_never_read(sop_class):
        return FileContents(source, other=object_name(sop_class))
    try:
        frames = _frames(source, data, PixelLayout.of(data, element.syntax, element.start), opened)
    except ValueError as error:
        return FileContents(source, left_out=f"damaged: {error}", begins_as_dicom=True, origin=_origin(data))
    if not is_mr_ct_pet(sop_class) and any(f.position is None or f.orientation is None for f in frames):
        return FileContents(source, other=object_name(sop_class))
    if element.lacks:
        lack = f"the pixels of {source.name} are damaged: {element.lacks} bytes are missing at the end"
        frames = [replace(frame, problem=Problem(lack, ("give the whole file",), damaged=True)) for frame in frames]
    return FileContents(source, tuple(frames))


def _whole_attributes(header: Dataset) -> Facts:
    """Attributes of a header that is cut: without the last, which may be cut itself, and without half a patient."""
    tags = sorted(header.keys())
    known = facts_of(Dataset({tag: header[tag] for tag in tags[:-1]}))
    if not tags or tags[-1] <= tag_for_keyword("PatientBirthDate"):
        known = {name: value for name, value in known.items() if not name.startswith("Patient")}
    return known


def _sop_class(header: Dataset, data: Facts) -> str:
    """SOPClassUID; that of the meta header where it is absent, or cut and so unknown."""
    stated = text(data, "SOPClassUID")
    return stated if is_known(stated) else str(header.file_meta.get("MediaStorageSOPClassUID", "")) or stated


def _origin(data: Facts) -> Origin:
    return Origin(
        text(data, "SeriesInstanceUID"), text(data, "StudyInstanceUID"), text(data, "FrameOfReferenceUID"),
        integer(data, "SeriesNumber"), text(data, "SeriesDescription"), text(data, "Modality"),
        text(data, "SOPClassUID"), patient_digest(data),
    )  # fmt: skip


def _frames(source: Source, data: Facts, layout: PixelLayout, opened: BinaryIO) -> list[Frame]:
    """Frames of a file with pixels.

    Raises
    ------
    ValueError
        If the header contradicts itself.
    """
    rows, columns = integer(data, "Rows"), integer(data, "Columns")
    if not rows or not columns:
        raise ValueError("it has pixels, and its header does not say how many rows and columns")
    count = integer(data, "NumberOfFrames") or 1
    per_frame: Sequence[Dataset] = data.get("PerFrameFunctionalGroupsSequence") or []
    if not 1 <= count <= _MOST_FRAMES or (per_frame and len(per_frame) != count):
        raise ValueError(f"it promises {count} frames and describes {len(per_frame)}")
    if per_frame:
        shared = [g for s in list(data.get("SharedFunctionalGroupsSequence") or [])[:1] for g in _groups(s)]
        wheres = [[*_groups(group), *shared, data] for group in per_frame]
        return [_frame(source, i, where, (rows, columns), layout) for i, where in enumerate(wheres)]
    frame = _frame(source, 0, [data], (rows, columns), layout)
    if count > 1:
        told = "it has several frames that say neither where nor when they are"
        return [replace(frame, problem=Problem(told, ("take the series that it was made from",)))]
    return _tiles(frame, data, opened) if is_mosaic(data) else [frame]


def _tiles(frame: Frame, data: Facts, opened: BinaryIO) -> list[Frame]:
    """The slices of a mosaic as frames."""
    mosaic = unpack(opened, data)
    if mosaic.problem:
        return [replace(frame, problem=Problem(mosaic.problem, _UNPACK))]
    kind = frame.image_type._replace(types=tuple(word for word in frame.image_type.types if word != "MOSAIC"))
    return [
        replace(frame, position=position, size=tile.size, tile=tile, image_type=kind)
        for tile, position in zip(mosaic.tiles, mosaic.positions, strict=True)
    ]


def _groups(functional: Dataset) -> list[Facts]:
    """Attributes of the items of all functional groups of a frame."""
    items = [item for element in functional if element.VR == "SQ" for item in (element.value or [])[:1]]
    return [facts for facts in map(facts_of, items) if facts]


def _frame(source: Source, index: int, where: list[Facts], size: tuple[int, int], layout: PixelLayout) -> Frame:
    data = where[-1]
    problem = None
    if (integer(data, "SamplesPerPixel") or 1) != 1:
        problem = Problem("a colour picture, no measured values", ("take the series that it was made from",))
    elif layout.unknown:
        problem = Problem("its pixels are compressed, and its header does not say how", ("give the file as sent",))
    position, spacing = numbers(where, "ImagePositionPatient", 3), numbers(where, "PixelSpacing", 2)
    return Frame(
        source, index, _origin(data), size, layout,
        instance=text(data, "SOPInstanceUID"), instance_number=integer(data, "InstanceNumber"),
        position=None if position is None else (position[0], position[1], position[2]),
        orientation=numbers(where, "ImageOrientationPatient", 6),
        spacing=None if spacing is None else (spacing[0], spacing[1]),
        thickness=number(where, "SliceThickness"), gap=number(where, "SpacingBetweenSlices"),
        times=_times(where, index), clocks=_clocks(where), beat=_beat(where),
        resolution=number(where, "TemporalResolution"),
        image_type=image_type_of(where), echo=number(where, "EchoTime", "EffectiveEchoTime"), counts=_counts(data),
        rescale=rescale_of(where), table=lookup_table(data), problem=problem, sequence=_sequence(data),
        indices=dimension_indices(where), part=_part(data),
    )  # fmt: skip


def _beat(where: list[Facts]) -> float | None:
    """Length of the heart beat in ms, of the interval between R waves, or else of the heart rate."""
    interval, rate = number(where, "NominalInterval", "RRIntervalTimeNominal"), number(where, "HeartRate")
    found = [each for each in (interval, 60_000 / rate if rate else None) if each and _BEATS[0] <= each <= _BEATS[1]]
    return found[0] if found else None


def _part(data: Facts) -> Part:
    number, of = (integer(data, name) for name in ("InConcatenationNumber", "InConcatenationTotalNumber"))
    return Part(text(data, "ConcatenationUID"), number, of)


def _sequence(data: Facts) -> tuple[str, ...]:
    return (*words(data, "ScanningSequence"), *words(data, "SequenceVariant"), *words(data, "PulseSequenceName"))


def _counts(data: Facts) -> Counts:
    names = ("ImagesInAcquisition", "CardiacNumberOfImages", "NumberOfTemporalPositions")
    acquisition, cycle, positions = (integer(data, name) for name in names)
    return Counts(acquisition, cycle, positions)


_BEATS = (250.0, 3000.0)
"""Lengths of a heart beat that can be, ms."""
_TIMES = {
    "temporal position": ("TemporalPositionIdentifier", "TemporalPositionIndex"),
    "trigger time": ("TriggerTime", "NominalCardiacTriggerDelayTime", "ActualCardiacTriggerDelayTime"),
    "acquisition number": ("AcquisitionNumber", "FrameAcquisitionNumber"),
    "instance number": ("InstanceNumber",),
}


def _times(where: list[Facts], index: int) -> dict[str, float]:
    """Attributes that can order frames in time, other than clocks."""
    times = {}
    for name, keywords in _TIMES.items():
        value = number(where, *keywords)
        if value is not None:
            times[name] = value
    offset = number(where, "TemporalPositionTimeOffset")
    if offset is not None:
        times["time offset"] = 1000 * offset
    times["instance number"] = times.get("instance number", 0.0) * _MOST_FRAMES + index
    return times


def _clocks(where: list[Facts]) -> dict[str, Clock]:
    """Times of the day of a frame."""
    data = where[-1]

    def deep(keyword: str) -> Clock | None:
        return date_time(next((value for each in where if (value := each.get(keyword))), None))

    acquired = clock(data.get("AcquisitionDate"), data.get("AcquisitionTime"))
    found = {
        "acquisition time": deep("FrameAcquisitionDateTime") or acquired or date_time(data.get("AcquisitionDateTime")),
        "reference time": deep("FrameReferenceDateTime"),
        "content time": clock(data.get("ContentDate"), data.get("ContentTime")),
    }
    return {name: value for name, value in found.items() if value is not None}
