"""Kinds of DICOM image that a new series may consist of, and the attributes that each takes from its source.

MR, CT and PET images have objects of their own. Any other modality (NM, XA, US, OT) becomes a Secondary Capture that
keeps the modality: its own object would state how it was acquired, which a derived image cannot.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
)

from crnn_cli.io.dicom.series import Series

_BY_CLASS = {"1.2.840.10008.5.1.4.1.1.4": "MR", "1.2.840.10008.5.1.4.1.1.2": "CT"}
"""Modality by the start of SOPClassUID, where the header states none: classic and enhanced images of each."""
_REQUIRED_OF_PET = ("Units", "CountsSource", "DecayCorrection", "DecayFactor", "SeriesType", "FrameReferenceTime")


@dataclass(frozen=True)
class ImageKind:
    """Kind of image.

    Attributes
    ----------
    modality : Modality of the images.
    sop_class : their SOPClassUID.
    copied : attributes that belong to an image of this kind, beside those of any image.
    """

    modality: str
    sop_class: UID
    copied: tuple[str, ...] = ()


_CAPTURE = ImageKind(
    "OT", SecondaryCaptureImageStorage, ("TriggerTime", "NominalInterval", "HeartRate", "CardiacNumberOfImages")
)
_OWN = {
    kind.modality: kind
    for kind in (
        ImageKind("MR", MRImageStorage, (
            "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime",
            "EchoTrainLength", "InversionTime", "TriggerTime", "NominalInterval", "HeartRate", "CardiacNumberOfImages",
            "MagneticFieldStrength", "FlipAngle", "InPlanePhaseEncodingDirection",
        )),
        ImageKind("CT", CTImageStorage, (
            "ScanOptions", "KVP", "DataCollectionDiameter", "ReconstructionDiameter", "GantryDetectorTilt",
            "TableHeight", "RotationDirection", "ExposureTime", "XRayTubeCurrent", "ConvolutionKernel",
        )),
        ImageKind("PT", PositronEmissionTomographyImageStorage, (
            *_REQUIRED_OF_PET, "NumberOfSlices", "NumberOfTimeSlices", "NumberOfRRIntervals", "NumberOfTimeSlots",
            "ReprojectionMethod", "CorrectedImage", "RandomsCorrectionMethod", "AttenuationCorrectionMethod",
            "ScatterCorrectionMethod", "CollimatorType", "ReconstructionDiameter", "ActualFrameDuration",
            "ImageIndex", "TriggerTime", "FrameTime", "DoseCalibrationFactor",
        )),
    )
}  # fmt: skip
MR_IMAGE = _OWN["MR"]
WRITTEN_MODALITIES = ("MR", "CT", "PT", "NM", "XA", "US", "OT")
"""Modalities that a new series may be asked to have."""


def kind_of_modality(modality: str) -> ImageKind:
    """Kind of image of a modality for which nothing else is known.

    >>> kind_of_modality("MR").modality, kind_of_modality("PT").sop_class.name
    ('MR', 'Secondary Capture Image Storage')
    """
    name = modality.strip().upper()
    return _OWN[name] if name in ("MR", "CT") else _capture(name)


def derived_kind(series: Series, header: Dataset) -> ImageKind:
    """Kind of the images that are made from a series.

    Parameters
    ----------
    header : of one of its images.
    """
    modality = series.modality.strip().upper()
    if not modality:
        start = ".".join(str(header.get("SOPClassUID", "")).split(".")[:10])
        modality = _BY_CLASS.get(start, "")
    if modality == "PT" and all(header.get(keyword) not in (None, "") for keyword in _REQUIRED_OF_PET):
        return _OWN["PT"]
    return kind_of_modality(modality)


def _capture(modality: str) -> ImageKind:
    known = 2 <= len(modality) <= 16 and modality.replace("_", "").isalnum() and modality.isascii()
    return replace(_CAPTURE, modality=modality if known else "OT")
