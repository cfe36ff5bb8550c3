"""Make the sample data again: python sample_data/make.py PIG_DICOM_FOLDER (needs pydicom and crnn installed).

cine_undersampled.nii.gz comes from ``crnn simulate``; pig_cine.nii.gz is one slice of the CC0 pig cine, cut around the
heart; pig_stack.nii.gz are all its slices at three times of the cycle; both lie in space as their headers say.
pig_cine_dicom.zip is a part of it that is still DICOM. sha256.json lists the sums.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, ExplicitVRLittleEndian, generate_uid

HERE = Path(__file__).parent
SIMULATE = ["crnn", "simulate", "--size", "112x96", "--frames", "16", "--undersample", "8", "--seed", "7", "--oblique"]
FRAME_TIME = 0.0315
CUT = (slice(72, 200), slice(64, 192))
CINE_SLICE = 5
STACK_FRAMES = slice(0, 15, 7)
DICOM_CUT = (slice(84, 180), slice(80, 176))
DICOM_SLICES, DICOM_FRAMES = (4, 5, 6), range(0, 16, 2)
KEPT = [
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "Modality", "Manufacturer", "ManufacturerModelName",
    "SeriesDescription", "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "AngioFlag",
    "SliceThickness", "RepetitionTime", "EchoTime", "NumberOfAverages", "ImagingFrequency", "ImagedNucleus",
    "EchoNumbers", "MagneticFieldStrength", "EchoTrainLength", "PercentSampling", "PercentPhaseFieldOfView",
    "PixelBandwidth", "TriggerTime", "NominalInterval", "HeartRate", "AcquisitionMatrix",
    "InPlanePhaseEncodingDirection", "FlipAngle", "VariableFlipAngleFlag", "PatientPosition", "SeriesNumber",
    "AcquisitionNumber", "ImageOrientationPatient", "SamplesPerPixel", "PhotometricInterpretation", "PixelSpacing",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
]  # fmt: skip
"""What is taken over from the headers: nothing private, no names, places, dates or serial numbers."""


def by_place(datasets: list[Dataset]) -> list[list[Dataset]]:
    """Return the images of each slice, slices along the normal, images by trigger time."""
    normal = np.cross(*np.array(datasets[0].ImageOrientationPatient, float).reshape(2, 3))
    slices: dict[float, list[Dataset]] = {}
    for data in datasets:
        slices.setdefault(round(float(np.dot(normal, data.ImagePositionPatient)), 2), []).append(data)
    return [sorted(slices[place], key=lambda d: float(d.TriggerTime)) for place in sorted(slices)]


def pig_dicom(datasets: list[Dataset]) -> bytes:
    """Return a zip of classic MR images, the same bytes every time: cut, moved accordingly, stripped, with new UIDs."""
    content = io.BytesIO()
    slices = by_place(datasets)
    gap = np.linalg.norm(np.subtract(*(slices[z][0].ImagePositionPatient for z in DICOM_SLICES[:2])))
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for number, (z, t) in enumerate(((z, t) for z in DICOM_SLICES for t in DICOM_FRAMES), 1):
            made = stripped(slices[z][t], number)
            made.SpacingBetweenSlices = f"{gap:.4g}"
            file = io.BytesIO()
            made.save_as(file, enforce_file_format=True)
            info = zipfile.ZipInfo(f"pig_cine/IM{number:03d}.dcm")  # of 1980, and of nobody
            archive.writestr(info, file.getvalue(), zipfile.ZIP_DEFLATED, 9)
    return content.getvalue()


def stripped(source: Dataset, number: int) -> Dataset:
    """Return an image of the part that is kept of a slice."""
    made = Dataset()
    for keyword in KEPT:
        if keyword in source:
            setattr(made, keyword, source[keyword].value)
    made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = "Pig^Anonymous", "ep-dataset", "", ""
    made.StudyDate = made.StudyTime = made.AccessionNumber = made.ReferringPhysicianName = made.StudyID = ""
    made.PatientIdentityRemoved, made.DeidentificationMethod = "YES", "headers rebuilt from a list of what is kept"
    made.Laterality, made.PositionReferenceIndicator = "", ""
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        setattr(made, keyword, generate_uid(entropy_srcs=["crnn sample data", source[keyword].value]))
    made.InstanceNumber, made.CardiacNumberOfImages = number, len(DICOM_FRAMES)
    across, down = np.array(source.ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = (float(v) for v in source.PixelSpacing)
    moved = across * between_columns * DICOM_CUT[0].start + down * between_rows * DICOM_CUT[1].start
    made.ImagePositionPatient = [f"{v:.9g}" for v in np.array(source.ImagePositionPatient, float) + moved]
    pixels = source.pixel_array[DICOM_CUT[1], DICOM_CUT[0]]
    made.Rows, made.Columns = pixels.shape
    low, high = np.quantile(pixels, (0.01, 0.995))
    made.WindowCenter, made.WindowWidth = f"{(low + high) / 2:.4g}", f"{high - low:.4g}"
    made.PixelData = np.ascontiguousarray(pixels).tobytes()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    made.file_meta.ImplementationVersionName = "crnn sample"
    return made


def pig_nifti(datasets: list[Dataset], slices: slice, frames: slice) -> nib.Nifti1Image:
    """Return (x, y, z, t), cut around the heart, the affine from position and orientation in the headers.

    Parameters
    ----------
    slices : along the normal, evenly spaced.
    frames : by trigger time, evenly spaced.
    """
    across, down = np.array(datasets[0].ImageOrientationPatient, float).reshape(2, 3)
    stack = by_place(datasets)
    positions = [np.array(here[0].ImagePositionPatient, float) for here in stack]
    row_step, column_step = (float(v) for v in datasets[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = across * column_step, down * row_step
    affine[:3, 2] = (positions[-1] - positions[0]) / (len(positions) - 1)
    affine[:3, 3] = positions[slices][0] + affine[:3, 0] * CUT[0].start + affine[:3, 1] * CUT[1].start
    affine = np.diag([-1, -1, 1, 1]) @ affine  # LPS to RAS
    voxels = [np.stack([image.pixel_array.T[CUT] for image in here[frames]], axis=-1) for here in stack[slices]]
    image = nib.Nifti1Image(np.stack(voxels, axis=2).astype(np.int16), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = FRAME_TIME * (frames.step or 1)
    return image


def main(dicom: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*SIMULATE, "-o", f"{folder}/sample"], check=True)
        Path(folder, "sample_zerofilled.nii.gz").replace(HERE / "cine_undersampled.nii.gz")
    datasets = [pydicom.dcmread(file) for file in sorted(dicom.rglob("*")) if file.is_file()]
    nib.save(pig_nifti(datasets, slice(CINE_SLICE, CINE_SLICE + 1), slice(None)), HERE / "pig_cine.nii.gz")
    nib.save(pig_nifti(datasets, slice(None), STACK_FRAMES), HERE / "pig_stack.nii.gz")
    (HERE / "pig_cine_dicom.zip").write_bytes(pig_dicom(datasets))
    files = sorted([*HERE.glob("*.nii.gz"), *HERE.glob("*.zip")])
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    (HERE / "sha256.json").write_text(json.dumps(sums, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
