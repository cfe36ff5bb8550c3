"""Headers of new DICOM objects: attributes copied from a source series, or derived from an affine.

Patient and study are copied, never invented, and respelt where the source misspells them
(`crnn_cli.io.dicom.header_repair`). Attributes that a module requires and the source lacks are left empty where DICOM
allows it (type 2). Private elements are not copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from crnn_cli import notices
from crnn_cli.data.image import Affine, Image
from crnn_cli.data.slice_stack import LPS_TO_RAS
from crnn_cli.errors import CrnnError, Param, UnsupportedDataError, Words
from crnn_cli.io.dicom.frames.frame import Frame
from crnn_cli.io.dicom.header_repair import Repairs, decimals, usable_attributes
from crnn_cli.io.dicom.headers import silence_pydicom
from crnn_cli.io.dicom.image_kinds import ImageKind, derived_kind
from crnn_cli.io.dicom.series import Series

Header = Callable[[int, int], Dataset]
"""Function of slice and frame: attributes of patient, study, position and time of one image."""

PATIENT_AND_STUDY = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize",
    "PatientWeight", "PatientIdentityRemoved", "DeidentificationMethod", "StudyInstanceUID", "StudyDate", "StudyTime",
    "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription", "FrameOfReferenceUID",
    "PositionReferenceIndicator", "SpecificCharacterSet",
)  # fmt: skip
_EMPTY_IF_UNKNOWN = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator", "PatientPosition", "Laterality",
    "AcquisitionNumber", "SliceThickness",
)  # fmt: skip
_OF_ANY_FRAME = (
    "BodyPartExamined", "Laterality", "PatientPosition", "SliceThickness", "SpacingBetweenSlices",
    "AcquisitionNumber", "AcquisitionDate", "AcquisitionTime", "TemporalPositionIdentifier",
    "NumberOfTemporalPositions", "TemporalResolution", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "SliceLocation",
)  # fmt: skip
_GATED = {"CG", "PPG"}


def copy_headers(series: Series, repairs: Repairs | None = None) -> Header:
    """Copy the headers of a series, frame by frame; each refers to its source in SourceImageSequence.

    Where there is no FrameOfReferenceUID, all get the same new one. The returned function raises UnsupportedDataError
    for an image without StudyInstanceUID, SOPClassUID or SOPInstanceUID.

    Parameters
    ----------
    repairs : is told which attributes were respelt, and which left out.
    """
    headers, reference, repairs = _Headers(), generate_uid(), repairs or Repairs()
    kind = kind_of(series)
    if kind.modality != series.modality:
        repairs.respelt["Modality"] = None

    def of(z: int, t: int) -> Dataset:
        frame = series.grid[z][t]
        with quoting_nothing("headers of new objects"):
            data = _copied(headers.of(frame), frame, kind.copied, repairs)
        if not data.get("FrameOfReferenceUID"):
            data.FrameOfReferenceUID = reference
        if series.slices > 1 and series.affine is not None:  # some scanners write the thickness, or a negative number
            data.SpacingBetweenSlices = decimals([float(np.linalg.norm(series.affine[:3, 2]))])[0]
        elif data.get("SpacingBetweenSlices") is not None:
            data.SpacingBetweenSlices = decimals([abs(float(data.SpacingBetweenSlices))])[0]
        if series.ordered_by == "temporal position" and not _GATED.intersection(_options(data)):
            data.pop("TriggerTime", None)  # allowed with cardiac gating alone
            if series.frame_time is not None:
                data.TemporalResolution = decimals([1000 * series.frame_time])[0]
        return data

    return of


_AS_NIFTI: tuple[Words, ...] = ("give ", Param("out", "NAME.nii.gz"), ": a NIfTI file takes none of them over")


@contextmanager
def quoting_nothing(what: str, remedy: tuple[Words, ...] = _AS_NIFTI) -> Iterator[None]:
    """Turn whatever a library raises over headers into a refusal in our words: its own may quote a patient.

    pydicom is silent meanwhile.

    Parameters
    ----------
    what : is made, for the message.
    remedy : what to do instead.

    Raises
    ------
    UnsupportedDataError
        In place of any error that is not about files, memory, or ours.
    """
    try:
        with silence_pydicom():
            yield
    except (CrnnError, OSError, MemoryError):
        raise
    except Exception as error:  # whatever it is: its words are not for a terminal or a report
        raise UnsupportedDataError(
            f"the headers of the source make no {what} ({type(error).__name__})", remedy=remedy
        ) from None


def check_headers(series: Series) -> Repairs:
    """Read all headers of a series as `copy_headers` will copy them.

    Returns
    -------
    Which attributes will be respelt, and which left out.

    Raises
    ------
    UnsupportedDataError
        If an image has no UIDs that what is made from it could refer to.
    """
    repairs = Repairs()
    header = copy_headers(series, repairs)
    for z in range(series.slices):
        for t in range(series.frames):
            header(z, t)
    return repairs


def warn_of_repairs(repairs: Repairs) -> None:
    """Warn of attributes that were respelt or left out."""
    notices.tell(*repairs.doubts())


def kind_of(series: Series) -> ImageKind:
    """Kind of the images that are made from a series."""
    with quoting_nothing("images"):
        return derived_kind(series, first_header(series))


def plain_text(text: str) -> str:
    r"""Text on one line without what DICOM reserves: control characters, and the backslash between values.

    >>> plain_text("cine\n sax\\2")
    'cine sax 2'
    """
    return " ".join("".join(c if c.isprintable() and c != "\\" else " " for c in text).split())


def _options(data: Dataset) -> list[str]:
    options = data.get("ScanOptions") or []
    return [options] if isinstance(options, str) else list(options)


def place_headers(image: Image, patient: Dataset | None, repairs: Repairs | None = None) -> Header:
    """Make headers from an image alone, its axes as rows, columns and slices.

    Times become TemporalPositionIdentifier, with TemporalResolution where the frame time is known: a TriggerTime would
    state that there was a trigger.

    Parameters
    ----------
    image : its affine is RAS+ mm.
    patient : header that patient and study are copied from; None for a new study without a patient.
    repairs : as of `copy_headers`.
    """
    with quoting_nothing("headers of new objects"):
        common = Dataset() if patient is None else usable_attributes(patient, PATIENT_AND_STUDY, repairs or Repairs())
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        if not common.get(keyword):
            setattr(common, keyword, generate_uid())

    def of(z: int, t: int) -> Dataset:
        data = Dataset()
        data.update(common)
        data.update(_place(image.affine, z))
        if image.frames > 1:
            data.TemporalPositionIdentifier, data.NumberOfTemporalPositions = t + 1, image.frames
        if image.frames > 1 and image.frame_time is not None:
            data.TemporalResolution = decimals([1000 * image.frame_time])[0]
        return _with_empty(data)

    return of


def first_header(series: Series) -> Dataset:
    """Whole header of the first image of a series."""
    return _Headers().of(series.grid[0][0])


def _place(affine: Affine, z: int) -> Dataset:
    """Position and orientation of slice z of an array; rows run along its first axis, columns along its second."""
    lps = LPS_TO_RAS @ affine[:3]
    x, y, step = (float(v) for v in np.linalg.norm(lps[:, :3], axis=0))
    row = lps[:, 0] / x
    column = lps[:, 1] - row * (row @ lps[:, 1])
    data = Dataset()
    data.ImageOrientationPatient = decimals([*row, *(column / np.linalg.norm(column))])
    data.ImagePositionPatient = decimals(list(lps[:, 3] + lps[:, 2] * z))
    data.PixelSpacing = decimals([y, x])
    data.SpacingBetweenSlices = decimals([step])[0]
    return data


def _copied(source: Dataset, frame: Frame, copied: tuple[str, ...], repairs: Repairs) -> Dataset:
    uids = usable_attributes(source, ("StudyInstanceUID", "SOPClassUID", "SOPInstanceUID"), Repairs())
    for keyword in ("StudyInstanceUID", "SOPClassUID", "SOPInstanceUID"):
        if keyword not in uids:
            raise UnsupportedDataError(
                f"{frame.source.name} has no {keyword}, or one that is no UID: what is made from it cannot refer to it"
            )
    data = usable_attributes(source, (*PATIENT_AND_STUDY, *_OF_ANY_FRAME, *copied), repairs)
    _place_of_frame(data, frame)
    origin = Dataset()
    origin.ReferencedSOPClassUID, origin.ReferencedSOPInstanceUID = uids.SOPClassUID, uids.SOPInstanceUID
    if "NumberOfFrames" in source:
        origin.ReferencedFrameNumber = frame.index + 1
    data.SourceImageSequence = [origin]
    return _with_empty(data)


def _with_empty(data: Dataset) -> Dataset:
    for keyword in _EMPTY_IF_UNKNOWN:
        if keyword not in data:
            setattr(data, keyword, None)
    return data


def _place_of_frame(data: Dataset, frame: Frame) -> None:
    """Write the geometry of the frame where the copied attributes state another, or none.

    Those of a multi-frame source lie in groups, which are not copied; those of a mosaic are not of one slice.
    """
    assert frame.position is not None
    assert frame.orientation is not None
    assert frame.spacing is not None
    stated = True
    for keyword, values in (
        ("ImagePositionPatient", frame.position), ("ImageOrientationPatient", frame.orientation),
        ("PixelSpacing", frame.spacing),
    ):  # fmt: skip
        if keyword not in data or tuple(float(v) for v in data[keyword].value) != tuple(values):
            setattr(data, keyword, decimals(values))
            stated = False
    if stated:
        return
    if frame.thickness is not None:
        data.SliceThickness = decimals([frame.thickness])[0]
    if "trigger time" in frame.times:
        data.TriggerTime = decimals([frame.times["trigger time"]])[0]


class _Headers:
    """Headers of the source; a multi-frame file is read once."""

    def __init__(self) -> None:
        self.name, self.data = "", Dataset()

    def of(self, frame: Frame) -> Dataset:
        """Header of the file of a frame."""
        if frame.source.name != self.name:
            with silence_pydicom(), frame.source.open() as opened:
                self.data = dcmread(opened, force=True, stop_before_pixels=True)
            self.name = frame.source.name
        return self.data
