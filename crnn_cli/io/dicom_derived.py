"""Images made from a DICOM series, written as a derived MR series of the same study (PS3.3 A.4, MR Image).

Each image keeps the place, the time and the patient of the frame that it was made from, whose elements are copied; what
was not there is not invented. Private elements are left behind. All images share one rescale and one window.
"""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from crnn_cli import __version__
from crnn_cli.errors import OutputError, UnsupportedDataError
from crnn_cli.image import Image
from crnn_cli.io.dicom import read_dicom
from crnn_cli.io.dicom_headers import Frame, quiet
from crnn_cli.io.dicom_series import Series

_LEVELS = 65_535
_PATIENT_AND_STUDY = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize",
    "PatientWeight", "PatientIdentityRemoved", "DeidentificationMethod", "StudyInstanceUID", "StudyDate", "StudyTime",
    "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription", "FrameOfReferenceUID",
    "PositionReferenceIndicator", "SpecificCharacterSet",
)  # fmt: skip
_REQUIRED_MAY_BE_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator", "RepetitionTime", "EchoTime",
    "EchoTrainLength", "ScanOptions", "Manufacturer", "SeriesNumber", "InstanceNumber", "PatientPosition", "Laterality",
)  # fmt: skip
_OF_THE_FRAME = (
    "BodyPartExamined", "Laterality", "PatientPosition", "ScanningSequence", "SequenceVariant", "ScanOptions",
    "MRAcquisitionType", "SliceThickness", "SpacingBetweenSlices", "RepetitionTime", "EchoTime", "EchoTrainLength",
    "InversionTime",
    "TriggerTime", "NominalInterval", "HeartRate", "CardiacNumberOfImages", "MagneticFieldStrength", "FlipAngle",
    "AcquisitionNumber", "AcquisitionDate", "AcquisitionTime", "TemporalPositionIdentifier",
    "NumberOfTemporalPositions", "TemporalResolution", "InPlanePhaseEncodingDirection", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SliceLocation",
)  # fmt: skip


@dataclass(frozen=True)
class Derivation:
    """What goes into the headers: of the series (at most 64 characters), and how the images were made."""

    series_description: str
    description: str


def require_source(image: Image, series: Series | None) -> Series:
    """Return the series that an image lies on.

    Raises
    ------
    UnsupportedDataError
        If the source is no DICOM, no MR, or of another grid: a derived series then has no study to belong to.
    """
    if series is None or not series.grid:
        raise UnsupportedDataError("--format dicom needs a DICOM source: the patient and the study are copied from it")
    if series.modality != "MR":
        raise UnsupportedDataError(f"--format dicom writes MR images; the source is of modality {series.modality}")
    shape = (series.size[1], series.size[0], series.slices, series.frames)
    if (*image.shape, 1)[:4] != shape:
        raise UnsupportedDataError(f"the images are {image.shape}, the series is {shape}: they do not fit")
    return series


def write_derived(image: Image, series: Series, derivation: Derivation, folder: Path) -> None:
    """Fill an empty folder with one file for each slice and frame, and read it back.

    Parameters
    ----------
    image : magnitude (x, y, z) or (x, y, z, t), on the grid of the series, axes as `crnn_cli.io.dicom.read_dicom`.

    Raises
    ------
    OutputError
        If what is read back is not what was to be written.
    """
    array = (image.array if image.array.ndim == 4 else image.array[..., None]).astype(np.float64)
    top = float(array.max())
    slope = float(f"{top / _LEVELS:.9g}") if top > 0 else 1.0
    stored = np.round(array / slope).clip(0, _LEVELS).astype(np.uint16)
    shared = _shared(series, derivation, slope, array)
    headers = _Headers()
    number = 0
    for z, row in enumerate(series.grid):
        for t, frame in enumerate(row):
            number += 1
            data = _image(headers.of(frame), frame, shared, number)
            data.PixelData = np.ascontiguousarray(stored[:, :, z, t].T).tobytes()
            data.save_as(folder / f"IM{number:05d}.dcm", enforce_file_format=True)
    _check(image, slope, folder)


def _check(image: Image, slope: float, folder: Path) -> None:
    again, _ = read_dicom(folder)
    differs = np.abs(again.array.astype(np.float64) - image.array.astype(np.float64)).max()
    same_place = again.shape == image.shape and np.allclose(again.affine, image.affine, atol=1e-4)
    if not same_place or differs > 0.51 * slope + 1e-6 * slope * _LEVELS:
        raise OutputError(f"the DICOM series was not written: what was read back from {folder} differs")


def _shared(series: Series, derivation: Derivation, slope: float, array: NDArray[np.float64]) -> Dataset:
    """Return what all images of the new series have in common."""
    now = datetime.datetime.now()
    low, high = (float(v) for v in np.quantile(array, (0.01, 0.995)))
    data = Dataset()
    data.SOPClassUID = MRImageStorage
    data.SeriesInstanceUID = generate_uid()
    data.SeriesNumber = (series.series_number or 0) + 1000
    data.SeriesDescription = derivation.series_description[:64]
    data.SeriesDate = data.ContentDate = data.InstanceCreationDate = now.strftime("%Y%m%d")
    data.SeriesTime = data.ContentTime = data.InstanceCreationTime = now.strftime("%H%M%S")
    data.FrameOfReferenceUID = generate_uid()  # where the source has none
    data.Modality = "MR"
    data.Manufacturer = "crnn"
    data.ManufacturerModelName = "crnn"
    data.SoftwareVersions = __version__
    data.ImageType = ["DERIVED", "PRIMARY", "OTHER"]
    data.DerivationDescription = derivation.description[:1024]
    data.ImageComments = "NOT FOR DIAGNOSTIC USE"
    data.BurnedInAnnotation = "NO"
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.Rows, data.Columns = series.size
    data.RescaleSlope, data.RescaleIntercept, data.RescaleType = f"{slope:.9g}", "0", "US"
    data.WindowCenter, data.WindowWidth = f"{(low + high) / 2:.6g}", f"{max(high - low, slope):.6g}"
    return data


def _image(source: Dataset, frame: Frame, shared: Dataset, number: int) -> Dataset:
    """Return the header of one image: its patient and place from the source, the rest of the new series."""
    data = Dataset()
    for keyword in (*_PATIENT_AND_STUDY, *_OF_THE_FRAME):
        if keyword in source:
            data[keyword] = source[keyword]
    for keyword in _REQUIRED_MAY_BE_EMPTY:
        if keyword not in data:
            setattr(data, keyword, None)
    data.update({element.tag: element for element in shared if element.keyword != "FrameOfReferenceUID"})
    if not data.get("FrameOfReferenceUID"):
        data.FrameOfReferenceUID = shared.FrameOfReferenceUID
    _place(data, frame)
    if not data.get("ScanningSequence"):
        data.ScanningSequence, data.SequenceVariant = "RM", "NONE"  # research mode: what it was is not known
    if not data.get("SequenceVariant"):
        data.SequenceVariant = "NONE"
    if "IR" not in str(data.ScanningSequence):
        data.pop("InversionTime", None)  # allowed with inversion recovery alone
    if data.get("MRAcquisitionType") not in ("2D", "3D"):
        data.MRAcquisitionType = None
    data.SOPInstanceUID = generate_uid()
    data.InstanceNumber = number
    origin = Dataset()
    origin.ReferencedSOPClassUID, origin.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    if frame.index or "NumberOfFrames" in source:
        origin.ReferencedFrameNumber = frame.index + 1
    data.SourceImageSequence = [origin]
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    return data


def _place(data: Dataset, frame: Frame) -> None:
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
    """Return numbers as decimal strings of at most 16 characters, as exact as those can be."""
    made = []
    for value in values:
        text = repr(float(value))
        for digits in range(16, 0, -1):
            if len(text) <= 16:
                break
            text = f"{value:.{digits}g}"
        made.append(text)
    return made


class _Headers:
    """Headers of the source, a multi-frame file read once."""

    def __init__(self) -> None:
        self.name, self.data = "", Dataset()

    def of(self, frame: Frame) -> Dataset:
        """Return the header of the file of a frame."""
        if frame.source.name != self.name:
            with quiet(), frame.source.open() as opened:
                self.data = dcmread(opened, stop_before_pixels=True)
            self.name = frame.source.name
        return self.data


def write_folder(image: Image, series: Series, derivation: Derivation, target: Path, force: bool) -> None:
    """Write a derived series to a new folder, whole and read back, or not at all; see `write_derived`.

    Raises
    ------
    OutputError
        If the folder exists and not ``force``, or cannot be written. With ``force`` an earlier one is replaced.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".crnn-", dir=target.parent) as beside:
            made = Path(beside, "series")
            made.mkdir()
            write_derived(image, series, derivation, made)
            if target.exists():
                if not force:
                    raise OutputError(f"{target} was made by another program meanwhile; it was kept")
                target.rename(Path(beside, "earlier"))
            try:
                made.rename(target)
            except OSError:
                with suppress(OSError):
                    Path(beside, "earlier").rename(target)
                raise
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}; nothing was left behind") from None


def require_folder(target: Path, force: bool) -> None:
    """Raise OutputError if a target exists (and not ``force``), is a file, or lies in no folder.

    With ``force`` only a folder of DICOM files is replaced, so that nothing else is lost.
    """
    if not target.parent.is_dir():
        raise OutputError(f"cannot write {target}: the folder {target.parent} does not exist; create it first")
    if not target.exists():
        return
    if not target.is_dir():
        raise OutputError(f"cannot write {target}: it is a file, and a DICOM series is a folder")
    if any(file.suffix != ".dcm" for file in target.iterdir()):
        raise OutputError(f"{target} exists and holds more than .dcm files; give another name with -o")
    if not force and any(target.iterdir()):
        raise OutputError(f"{target} exists already; use --force to replace it, or -o for another name")
