"""Segmentation objects (SEG) of one label map: a file, or the objects of all phases of a cine in a folder or archive.

The objects of a cine are in one series, ordered by InstanceNumber; or each is in a series of its own, ordered by
SeriesNumber, which is doubtful. Images that lie beside them make the folder one of images.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from crnn_cli.errors import CrnnError, UnreadableError, UnsupportedDataError
from crnn_cli.io.dicom.frames.objects import LABELS, has_pixels
from crnn_cli.io.dicom.headers import silence_pydicom
from crnn_cli.io.dicom.sources import Source, sources
from crnn_cli.io.signature import START_LENGTH, begins_as_dicom
from crnn_cli.notices import Doubt

_SAME = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "Rows", "Columns", "SegmentationType")


def is_seg(path: Path) -> bool:
    """Whether a DICOM file is a Segmentation in voxels, or a folder or archive holds such and no images.

    It ends at the first image; False for damaged files, which reading as images will name.
    """
    found = False
    try:
        for source in sources(path):
            sop_class = _sop_class(source)
            found = found or sop_class in LABELS
            if sop_class is not None and sop_class not in LABELS and has_pixels(sop_class):
                return False
    except CrnnError:
        return False
    return found


def _sop_class(source: Source) -> str | None:
    """SOPClassUID of a file; None where it is no DICOM, or damaged."""
    try:
        with silence_pydicom(), source.open() as opened:
            if not begins_as_dicom(opened.read(START_LENGTH)):
                return None
            opened.seek(0)
            data = dcmread(opened, force=True, stop_before_pixels=True, specific_tags=["SOPClassUID"])
            return str(data.get("SOPClassUID", ""))
    except Exception:  # a parser of hostile files: reading it as an image will name the damage
        return ""


def read_objects(path: Path, *, pixels: bool) -> tuple[list[Dataset], str, list[Doubt]]:
    """Read the SEG objects of a label map in the order of time.

    Parameters
    ----------
    pixels : whether their pixels are wanted, or headers alone.

    Returns
    -------
    The objects, the sha256 of the file or of the sha256 of all, and what is doubtful about their order.

    Raises
    ------
    UnreadableError
        If a file cannot be read.
    UnsupportedDataError
        If they do not belong together, or nothing says which comes first.
    """
    found: list[tuple[Dataset, bytes]] = []
    for source in sources(path):
        if _sop_class(source) in LABELS:
            found.append(_read(source, pixels))
    if not found:
        raise UnreadableError(f"{path.name} is no DICOM SEG that can be read")
    objects, doubts = _in_order([data for data, _ in found])
    digests = {id(data): digest for data, digest in found}
    if len(objects) == 1:
        return objects, digests[id(objects[0])].hex(), doubts
    return objects, hashlib.sha256(b"".join(digests[id(data)] for data in objects)).hexdigest(), doubts


def _read(source: Source, pixels: bool) -> tuple[Dataset, bytes]:
    try:
        with source.open() as opened:
            content = opened.read()
    except OSError as error:
        raise UnreadableError(f"{source.name} cannot be read: {error.strerror}") from None
    try:
        with silence_pydicom():
            data: Dataset = dcmread(io.BytesIO(content), force=True, stop_before_pixels=not pixels)
    except Exception as error:  # a parser of hostile files; its words may quote values of the patient
        name = type(error).__name__
        raise UnreadableError(f"{source.name} is no DICOM SEG that can be read: it is damaged ({name})") from None
    return data, hashlib.sha256(content).digest()


def _in_order(objects: Sequence[Dataset]) -> tuple[list[Dataset], list[Doubt]]:
    """Objects in the order of time; see the top of this file."""
    if len(objects) == 1:
        return list(objects), []
    for keyword in _SAME:
        if len({str(data.get(keyword, "")) for data in objects}) > 1:
            raise UnsupportedDataError(
                f"{len(objects)} segmentations differ in {keyword}: they are none of one cine",
                remedy=("put those of one cine in a folder of their own, or name one file",),
            )
    if len({str(data.get("SeriesInstanceUID", "")) for data in objects}) == 1:
        return _sorted(objects, "InstanceNumber"), []
    ordered = _sorted(objects, "SeriesNumber")
    _require_other_images(ordered)
    return ordered, [Doubt("ordered-by-instance", "only the series numbers order the segmentations in time")]


def _require_other_images(objects: Sequence[Dataset]) -> None:
    """Refuse objects of which two are labels of the same images, as of two readers: they are no frames of a cine.

    Raises
    ------
    UnsupportedDataError
        If most images that one refers to are those of another.
    """
    images = [_images_of(data) for data in objects]
    for first, second in combinations(images, 2):
        if 2 * len(first & second) > min(len(first), len(second)):
            raise UnsupportedDataError(
                f"{len(objects)} segmentations of which two label the same images: they are none of one cine",
                remedy=("name one file",),
            )


def _images_of(data: Dataset) -> set[tuple[str, str]]:
    """Source images of the frames: UID, and number of the frame in it."""
    items = [
        image
        for frame in data.get("PerFrameFunctionalGroupsSequence") or []
        for derivation in frame.get("DerivationImageSequence") or []
        for image in derivation.get("SourceImageSequence") or []
    ]
    return {
        (str(each.get("ReferencedSOPInstanceUID", "")), str(each.get("ReferencedFrameNumber", ""))) for each in items
    }


def _sorted(objects: Sequence[Dataset], keyword: str) -> list[Dataset]:
    numbers = [_number(data.get(keyword)) for data in objects]
    if None in numbers or len(set(numbers)) < len(numbers):
        raise UnsupportedDataError(
            f"{len(objects)} segmentations, and no {keyword} of their own says which comes first",
            remedy=("put those of one cine in a folder of their own, or name one file",),
        )
    return [data for _, data in sorted(zip(numbers, objects, strict=True), key=lambda pair: pair[0] or 0)]


def _number(value: object) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None


def require_same_segments(objects: Iterable[Dataset]) -> None:
    """Refuse objects in which a number of a segment means different structures.

    Raises
    ------
    UnsupportedDataError
        If one does.
    """
    meant: dict[int, str] = {}
    for data in objects:
        for segment in data.get("SegmentSequence") or []:
            number, label = int(segment.SegmentNumber), " ".join(str(segment.get("SegmentLabel", "")).lower().split())
            if meant.setdefault(number, label) != label:
                raise UnsupportedDataError(
                    f"segment {number} is another structure from file to file: they make no label map of a cine",
                    remedy=("name one file",),
                )
