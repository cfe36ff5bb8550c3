"""Writing images as a new series, one file for each slice and frame: MR, CT, PET (PS3.3 A.3, A.4, A.21), or captures.

Where the source is DICOM, each image keeps position, time and patient of its source frame. All images share one rescale
and one window. The series is read back before it gets its name.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)

from crnn_cli.data.alignment import compare_images, max_distance_mm
from crnn_cli.data.geometry import require_perpendicular
from crnn_cli.data.image import Array, Image, without_shear
from crnn_cli.data.write_set import WriteSet
from crnn_cli.errors import OutputError, Param, UnsupportedDataError
from crnn_cli.io.dicom.character_sets import settle_character_set
from crnn_cli.io.dicom.folder import require_folder, write_folder
from crnn_cli.io.dicom.header_copy import (
    Header,
    check_headers,
    copy_headers,
    place_headers,
    plain_text,
    quoting_nothing,
    warn_of_repairs,
)
from crnn_cli.io.dicom.header_repair import decimals
from crnn_cli.io.dicom.image_kinds import MR_IMAGE, ImageKind
from crnn_cli.io.dicom.read import read_series
from crnn_cli.io.dicom.series import Series
from crnn_cli.version import __version__

_LEVELS = 65_535
_EXACT_PLACE = 1e-3  # mm
_SHEAR_PLACE = 0.05  # mm, by which voxels may move where the source is sheared a little: DICOM has no place for it
_EMPTY_MR = ("RepetitionTime", "EchoTime", "EchoTrainLength", "ScanOptions")


@dataclass(frozen=True)
class About:
    """Attributes of a new series.

    Attributes
    ----------
    description : SeriesDescription, cut to 64 characters.
    derivation : DerivationDescription, how the images were made.
    kind : of the images: MR, CT, PET or Secondary Capture.
    number : SeriesNumber.
    image_type : three values of ImageType.
    rescales : (slope, intercept) to try first, so that values which were stored with one of them stay exact.
    """

    description: str
    derivation: str
    kind: ImageKind = MR_IMAGE
    number: int = 1000
    image_type: tuple[str, str, str] = ("DERIVED", "PRIMARY", "OTHER")
    rescales: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class StoredPixels:
    """Values as 16-bit integers: value = stored * slope + intercept.

    Attributes
    ----------
    array : int16 or uint16.
    slope, intercept : RescaleSlope and RescaleIntercept.
    exact : whether the values are kept to the last bit.
    """

    array: Array
    slope: float
    intercept: float
    exact: bool


def to_stored_pixels(array: Array, rescales: Sequence[tuple[float, float]] = ()) -> StoredPixels:
    """Convert real values to 16-bit integers: exactly where one of the rescales (or none) allows it.

    Otherwise the steps are one part in 65,535 of the range from the smallest value (or 0) to the largest.

    Parameters
    ----------
    rescales : (slope, intercept) to try after (1, 0).
    """
    if array.dtype.kind in "iu":
        fitting = next((k for k in (np.uint16, np.int16) if _fits(array, k)), None)
        if fitting is not None:
            return StoredPixels(array.astype(fitting), 1.0, 0.0, exact=True)
    for slope, intercept in ((1.0, 0.0), *rescales):
        whole = np.rint((array.astype(np.float64) - intercept) / slope)
        dtype = next((k for k in (np.uint16, np.int16) if _fits(whole, k)), None)
        if dtype is not None and np.array_equal((whole * slope + intercept).astype(array.dtype), array):
            return StoredPixels(whole.astype(dtype), slope, intercept, exact=True)
    low, high = min(float(array.min()), 0.0), float(array.max())
    slope = float(f"{(high - low) / _LEVELS:.9g}")
    intercept = float(f"{low:.9g}")
    whole = np.rint((array.astype(np.float64) - intercept) / slope).clip(0, _LEVELS)
    return StoredPixels(whole.astype(np.uint16), slope, intercept, exact=False)


def _fits(whole: Array, dtype: type[np.integer[Any]]) -> bool:
    return bool(np.iinfo(dtype).min <= whole.min() and whole.max() <= np.iinfo(dtype).max)


def require_source(image: Image, series: Series | None) -> Series:
    """Refuse to write a derived series without a source series on the same grid, which has the patient and the study.

    All its headers are read, so that nothing in them is a surprise once the images are computed.

    Raises
    ------
    UnsupportedDataError
        If there is no source series, its grid is another, or its images have no UIDs to refer to.
    """
    if series is None or not series.grid:
        raise UnsupportedDataError(
            Param("format_name", "dicom"), " needs a DICOM source: the patient and the study are copied from it"
        )
    shape = (series.size[1], series.size[0], series.slices, series.frames)
    if (*image.shape, 1)[:4] != shape:
        raise UnsupportedDataError(f"the images are {image.shape}, the series is {shape}: they do not fit")
    warn_of_repairs(check_headers(series))
    return series


def rescales_of(series: Series) -> tuple[tuple[float, float], ...]:
    """Different (slope, intercept) of the images of a series, at most eight."""
    return tuple(sorted({frame.rescale for row in series.grid for frame in row}))[:8]


def write_derived(
    image: Image, series: Series, about: About, target: Path, force: bool, files: WriteSet | None = None
) -> None:  # fmt: skip
    """Write images made from a series, on its grid, as a derived series of the same study.

    Parameters
    ----------
    image : on the grid of ``series``; see `require_source`.
    force : replace an earlier folder of DICOM files.
    files : set that the folder is to appear with; None for one of its own.

    Raises
    ------
    UnsupportedDataError, OutputError
        See `write_series`.
    """
    write_series(image, copy_headers(series), about, target, force, files)


def save_dicom(image: Image, path: Path, *, description: str = "", labels: bool = False, force: bool = False) -> None:
    """Write an image as a new series of a new study without a patient; see `crnn_cli.io.formats.save`.

    Raises
    ------
    UnsupportedDataError
        If the values are labels, complex or not finite, or the voxel axes are not perpendicular.
    OutputError
        If the folder exists and not ``force``, or cannot be written.
    """
    if labels:
        raise UnsupportedDataError("labels are written to DICOM as a SEG on the grid of their source, or as NIfTI")
    image = image.with_stated_spacing()
    require_perpendicular(image.affine, "the image")
    require_folder(path, force)
    write_series(image, place_headers(image, None), About(description or "crnn", "written by crnn"), path, force)


def write_series(
    image: Image, header: Header, about: About, target: Path, force: bool, files: WriteSet | None = None
) -> StoredPixels:  # fmt: skip
    """Write a new folder with one file for each slice and frame, whole and read back, or nothing.

    Parameters
    ----------
    image : real (x, y, z) or (x, y, z, t).
    header : gives the header of slice z and frame t; see `crnn_cli.io.dicom.header_copy`.
    force : replace an earlier folder of DICOM files.
    files : set that the folder is to appear with; None for one of its own.

    Returns
    -------
    The stored pixels, which say whether the values were kept exactly.

    Raises
    ------
    UnsupportedDataError
        If the values are complex, or not finite.
    OutputError
        If the series that is read back differs; see also `crnn_cli.io.dicom.folder.write_folder`.
    """
    if image.is_complex:
        raise UnsupportedDataError("complex values have no place in a DICOM image: take the magnitude first")
    image.require_finite("the image")
    array = image.array if image.array.ndim == 4 else image.array[..., None]
    pixels = to_stored_pixels(array, about.rescales)
    shared = _shared(about, pixels, image)

    def fill(folder: Path) -> None:
        number = 0
        for z in range(array.shape[2]):
            for t in range(array.shape[3]):
                number += 1
                with quoting_nothing("image"):
                    data = _image(header(z, t), shared, number)
                    data.PixelData = np.ascontiguousarray(pixels.array[:, :, z, t].T).tobytes()
                    data.save_as(folder / f"IM{number:05d}.dcm", enforce_file_format=True)
        _check(image, pixels, folder)

    write_folder(target, fill, force, files)
    return pixels


def _check(image: Image, pixels: StoredPixels, folder: Path) -> None:
    again = read_series(folder, slice_tolerance=math.inf)[0]
    allowed = 0.0 if pixels.exact else pixels.slope * (0.51 + 1e-6 * _LEVELS)
    shear = max_distance_mm(image.affine, without_shear(image.affine), again.shape)
    place = _EXACT_PLACE + min(2 * shear, _SHEAR_PLACE)
    differs = compare_images(image, again).differs(place, allowed, times=False)
    if differs:
        raise OutputError(f"the DICOM series was not written: read back from {folder}, {'; '.join(differs)}")


def _shared(about: About, pixels: StoredPixels, image: Image) -> Dataset:
    """Attributes that all images of the new series share."""
    now = datetime.datetime.now()
    low, high = (float(v) for v in np.quantile(np.real(image.array), (0.01, 0.995)))
    data = Dataset()
    data.SOPClassUID = about.kind.sop_class
    data.SeriesInstanceUID = generate_uid()
    data.SeriesNumber = max(about.number, 1)
    data.SeriesDescription = plain_text(about.description)[:64]
    data.SeriesDate = data.ContentDate = data.InstanceCreationDate = now.strftime("%Y%m%d")
    data.SeriesTime = data.ContentTime = data.InstanceCreationTime = now.strftime("%H%M%S")
    data.Modality = about.kind.modality
    data.Manufacturer = "crnn"
    data.ManufacturerModelName = "crnn"
    data.SoftwareVersions = __version__
    data.ImageType = _image_type(about)
    data.DerivationDescription = plain_text(about.derivation)[:1024]
    data.ImageComments = "NOT FOR DIAGNOSTIC USE"
    data.BurnedInAnnotation = "NO"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.PixelRepresentation = int(pixels.array.dtype == np.int16)
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.Rows, data.Columns = image.shape[1], image.shape[0]
    data.RescaleSlope, data.RescaleIntercept = decimals([pixels.slope, pixels.intercept])
    data.RescaleType = "HU" if about.kind.modality == "CT" else "US"
    data.WindowCenter, data.WindowWidth = f"{(low + high) / 2:.6g}", f"{max(high - low, pixels.slope):.6g}"
    return data


def _image(header: Dataset, shared: Dataset, number: int) -> Dataset:
    """Header of one image: patient and position as given, other attributes of the new series."""
    data = header
    data.update(shared)
    data.SOPInstanceUID = generate_uid()
    data.InstanceNumber = number
    _complete(data)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    settle_character_set(data)
    return data


def _image_type(about: About) -> list[str]:
    """ImageType as the kind of image allows it: CT needs a plane, PET has two values and is always primary."""
    if about.kind.sop_class == PositronEmissionTomographyImageStorage:
        return [about.image_type[0], "PRIMARY"]
    return [*about.image_type[:2], "AXIAL" if about.kind.modality == "CT" else about.image_type[2]]


def _complete(data: Dataset) -> None:
    """Add what the kind of image requires and the header lacks, empty where nothing is known."""
    if data.SOPClassUID == MRImageStorage:
        _complete_mr(data)
    elif data.SOPClassUID == CTImageStorage:
        _leave_empty(data, "KVP")
    elif data.SOPClassUID == PositronEmissionTomographyImageStorage:
        _leave_empty(data, "CorrectedImage", "CollimatorType", "AcquisitionDate", "AcquisitionTime",
                     "RadiopharmaceuticalInformationSequence", "PatientOrientation", "PatientOrientationCodeSequence",
                     "PatientGantryRelationshipCodeSequence", "ActualFrameDuration")  # fmt: skip
        data.pop("PatientPosition", None)  # not beside PatientOrientationCodeSequence
        del data.RescaleType  # counts or concentrations: Units says which
        data.setdefault("ImageIndex", data.InstanceNumber)
    else:
        data.ConversionType = "WSD"
        _leave_empty(data, "PatientOrientation")


def _leave_empty(data: Dataset, *keywords: str) -> None:
    for keyword in keywords:
        if keyword not in data:
            setattr(data, keyword, None)


def _complete_mr(data: Dataset) -> None:
    _leave_empty(data, *_EMPTY_MR)
    if data.get("TriggerTime") is not None and not data.ScanOptions:
        data.ScanOptions = "CG"  # a trigger time is one after the R wave: cardiac gating, which it requires to be said
    if not data.get("ScanningSequence"):
        data.ScanningSequence, data.SequenceVariant = "RM", "NONE"  # research mode: what it was is not known
    if not data.get("SequenceVariant"):
        data.SequenceVariant = "NONE"
    if "IR" not in str(data.ScanningSequence):
        data.pop("InversionTime", None)  # allowed with inversion recovery alone
    if data.get("MRAcquisitionType") not in ("2D", "3D"):
        data.MRAcquisitionType = None
