"""Headers of new DICOM objects: attributes copied from a source series, or derived from an affine.

Patient and study are copied, never invented. Attributes that a module requires and the source lacks are left empty
where DICOM allows it (type 2). Private elements are not copied.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from crnn_cli.data.image import Affine, Image
from crnn_cli.data.slice_stack import LPS_TO_RAS
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.io.dicom.frame import Frame
from crnn_cli.io.dicom.headers import silence_pydicom
from crnn_cli.io.dicom.series import Series

Header = Callable[[int, int], Dataset]
"""Function of slice and frame: attributes of patient, study, position and time of one image."""

_PATIENT_AND_STUDY = (
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
_OF_A_FRAME = {
    "MR": (
        "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime",
        "EchoTrainLength", "InversionTime", "TriggerTime", "NominalInterval", "HeartRate", "CardiacNumberOfImages",
        "MagneticFieldStrength", "FlipAngle", "InPlanePhaseEncodingDirection",
    ),
    "CT": (
        "ScanOptions", "KVP", "DataCollectionDiameter", "ReconstructionDiameter", "GantryDetectorTilt", "TableHeight",
        "RotationDirection", "ExposureTime", "XRayTubeCurrent", "ConvolutionKernel",
    ),
}  # fmt: skip
_GATED = {"CG", "PPG"}
_AGE = re.compile(r"\d{3}[DWMY]")
MODALITIES = tuple(_OF_A_FRAME)


def copy_headers(series: Series) -> Header:
    """Copy the headers of a series, frame by frame; each refers to its source in SourceImageSequence.

    Where there is no FrameOfReferenceUID, all get the same new one. The returned function raises UnsupportedDataError
    for an image without StudyInstanceUID, SOPClassUID or SOPInstanceUID.
    """
    headers, reference = _Headers(), generate_uid()

    def of(z: int, t: int) -> Dataset:
        frame = series.grid[z][t]
        with silence_pydicom():
            data = _copied(headers.of(frame), frame, series.modality)
        if not data.get("FrameOfReferenceUID"):
            data.FrameOfReferenceUID = reference
        if series.ordered_by == "temporal position" and not _GATED.intersection(_options(data)):
            data.pop("TriggerTime", None)  # allowed with cardiac gating alone
            if series.frame_time is not None:
                data.TemporalResolution = decimals([1000 * series.frame_time])[0]
        return data

    return of


def _options(data: Dataset) -> list[str]:
    options = data.get("ScanOptions") or []
    return [options] if isinstance(options, str) else list(options)


def place_headers(image: Image, patient: Dataset | None) -> Header:
    """Make headers from an image alone, its axes as rows, columns and slices.

    Times become TemporalPositionIdentifier, with TemporalResolution where the frame time is known: a TriggerTime would
    state that there was a trigger.

    Parameters
    ----------
    image : its affine is RAS+ mm.
    patient : header that patient and study are copied from; None for a new study without a patient.
    """
    with silence_pydicom():
        common = Dataset() if patient is None else _taken(patient, _PATIENT_AND_STUDY)
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


def _copied(source: Dataset, frame: Frame, modality: str) -> Dataset:
    for keyword in ("StudyInstanceUID", "SOPClassUID", "SOPInstanceUID"):
        if not source.get(keyword):
            raise UnsupportedDataError(f"{frame.source.name} has no {keyword}: what is made from it cannot refer to it")
    data = _taken(source, (*_PATIENT_AND_STUDY, *_OF_ANY_FRAME, *_OF_A_FRAME[modality]))
    _place_of_group(data, frame)
    origin = Dataset()
    origin.ReferencedSOPClassUID, origin.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    if frame.index or "NumberOfFrames" in source:
        origin.ReferencedFrameNumber = frame.index + 1
    data.SourceImageSequence = [origin]
    return _with_empty(data)


def _taken(source: Dataset, keywords: Sequence[str]) -> Dataset:
    """Copy the attributes that are not empty; a PatientAge that is no age string is left out."""
    data = Dataset()
    for keyword in keywords:
        if keyword in source and not source[keyword].is_empty:
            data[keyword] = source[keyword]
    if "PatientAge" in data and not _AGE.fullmatch(str(data.PatientAge)):
        del data.PatientAge
    return data


def _with_empty(data: Dataset) -> Dataset:
    for keyword in _EMPTY_IF_UNKNOWN:
        if keyword not in data:
            setattr(data, keyword, None)
    return data


def _place_of_group(data: Dataset, frame: Frame) -> None:
    """Write the geometry of a frame of a multi-frame source, whose groups are not copied."""
    if "ImagePositionPatient" in data and "ImageOrientationPatient" in data and "PixelSpacing" in data:
        return
    assert frame.position is not None
    assert frame.orientation is not None
    assert frame.spacing is not None
    for keyword, values in (
        ("ImagePositionPatient", frame.position), ("ImageOrientationPatient", frame.orientation),
        ("PixelSpacing", frame.spacing),
    ):  # fmt: skip
        setattr(data, keyword, decimals(values))
    if frame.thickness is not None:
        data.SliceThickness = decimals([frame.thickness])[0]
    if "trigger time" in frame.times:
        data.TriggerTime = decimals([frame.times["trigger time"]])[0]


def decimals(values: Sequence[float]) -> list[str]:
    """Format numbers as DICOM decimal strings (DS) of at most 16 characters, as exact as these can be.

    >>> decimals([1.5, -1 / 3])
    ['1.5', '-0.3333333333333']
    """
    texts = []
    for value in values:
        text = repr(float(value))
        for digits in range(16, 0, -1):
            if len(text) <= 16:
                break
            text = f"{value:.{digits}g}"
        texts.append(text)
    return texts


class _Headers:
    """Headers of the source; a multi-frame file is read once."""

    def __init__(self) -> None:
        self.name, self.data = "", Dataset()

    def of(self, frame: Frame) -> Dataset:
        """Header of the file of a frame."""
        if frame.source.name != self.name:
            with silence_pydicom(), frame.source.open() as opened:
                self.data = dcmread(opened, stop_before_pixels=True)
            self.name = frame.source.name
        return self.data
