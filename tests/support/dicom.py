"""Writes DICOM files with known truth, through pydicom's plain dataset; every header value can be overridden."""

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

ENHANCED = "1.2.840.10008.5.1.4.1.1.4.1"


def oblique(seed):
    """Return row and column directions of a random rotation (LPS)."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q[:, 0], q[:, 1]


def values(slices, frames, rows, columns, seed=0, low=0, high=4000):
    """Return random stored pixels (slice, frame, row, column)."""
    return np.random.default_rng(seed).integers(low, high, (slices, frames, rows, columns))


def affine_of(directions, spacing, gap, origin):
    """Return voxel (column, row, slice) to RAS+ mm."""
    row, column = directions
    normal = np.cross(row, column)
    lps = np.column_stack([row * spacing[1], column * spacing[0], normal * gap, origin])
    affine = np.eye(4)
    affine[:3] = np.diag([-1, -1, 1]) @ lps
    return affine


def base(file, **more):
    """Return a dataset with what every image has."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = more.get("SOPClassUID", MRImageStorage)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(file), {}, file_meta=meta, preamble=b"\0" * 128)
    defaults = {
        "SOPClassUID": meta.MediaStorageSOPClassUID, "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": "MR", "PatientName": "Secret^Person", "PatientID": "4711", "SeriesDescription": "cine sax",
        "SeriesNumber": 5, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16,
        "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0, "ImageType": ["ORIGINAL", "PRIMARY", "M"],
    }  # fmt: skip
    for name, value in {**defaults, **more}.items():
        if value is not None:
            setattr(data, name, value)
    return data


def numbers(vector):
    """Return decimal strings short enough for a DS element."""
    return [f"{v:.10g}"[:16] for v in vector]


def write_series(
    folder, pixels, directions=None, spacing=(1.5, 1.25), gap=8.0, origin=(-60.0, -40.0, 20.0), step_ms=30.0,
    series=None, study=None, shuffle=0, skip=(), positions=None, each=None, **more,
):  # fmt: skip
    """Write one file for each slice and frame, their names and instance numbers in random order.

    skip : (slice, frame) not to write. positions : along the normal in mm, in place of even gaps.
    each : function (slice, frame) of more header values. Return the affine.
    """
    row, column = directions or (np.array([1.0, 0, 0]), np.array([0, 1.0, 0]))
    normal = np.cross(row, column)
    slices, frames, rows, columns = pixels.shape
    series = series or generate_uid()
    study = study or generate_uid()
    order = np.random.default_rng(shuffle).permutation(slices * frames)
    folder.mkdir(parents=True, exist_ok=True)
    for z in range(slices):
        for t in range(frames):
            if (z, t) in skip:
                continue
            number = int(order[z * frames + t])
            file = folder / f"{series.replace('.', '')[-6:]}_{number:05d}.dcm"
            along = z * gap if positions is None else positions[z]
            extra = {
                "SeriesInstanceUID": series, "StudyInstanceUID": study, "InstanceNumber": number + 1,
                "ImagePositionPatient": numbers(np.array(origin) + normal * along),
                "ImageOrientationPatient": numbers([*row, *column]), "PixelSpacing": numbers(spacing),
                "SliceThickness": "5", "SpacingBetweenSlices": f"{gap:g}", "RepetitionTime": "3.1",
                "TriggerTime": f"{5 + z * 0.25 + t * step_ms:g}" if frames > 1 else None,
                "Rows": rows, "Columns": columns, **more, **(each(z, t) if each else {}),
            }  # fmt: skip
            data = base(file, **extra)
            kind = f"<{'ui'[data.PixelRepresentation]}{data.BitsAllocated // 8}"
            data.PixelData = pixels[z, t].astype(kind).tobytes()
            data.save_as(file)
    return affine_of((row, column), spacing, gap, origin)


def write_enhanced(
    file, pixels, directions, spacing=(1.5, 1.25), gap=8.0, origin=(1.0, 2.0, 3.0), step_ms=25.0, series=None,
    study=None, first=0,
):  # fmt: skip
    """Write one enhanced MR object of all slices and frames, frames of the file in random order; return the affine.

    first : number of the first frame, where another file of the same series holds those before it.
    """
    row, column = directions
    normal = np.cross(row, column)
    slices, frames, rows, columns = pixels.shape
    data = base(file, SOPClassUID=ENHANCED, Rows=rows, Columns=columns, NumberOfFrames=slices * frames,
                SeriesInstanceUID=series or generate_uid(), StudyInstanceUID=study or generate_uid(),
                InstanceNumber=1)  # fmt: skip
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([_with(PixelSpacing=numbers(spacing), SliceThickness="5")])
    shared.PlaneOrientationSequence = Sequence([_with(ImageOrientationPatient=numbers([*row, *column]))])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    groups, stored = [], []
    for number in np.random.default_rng(0).permutation(slices * frames):
        z, t = divmod(int(number), frames)
        group = Dataset()
        place = numbers(np.array(origin) + normal * gap * z)
        group.PlanePositionSequence = Sequence([_with(ImagePositionPatient=place)])
        group.MRImageFrameTypeSequence = Sequence([_with(FrameType=["ORIGINAL", "PRIMARY", "M"])])
        group.FrameContentSequence = Sequence([_with(TemporalPositionIndex=first + t + 1)])
        group.CardiacSynchronizationSequence = Sequence([_with(NominalCardiacTriggerDelayTime=(first + t) * step_ms)])
        groups.append(group)
        stored.append(pixels[z, t])
    data.PerFrameFunctionalGroupsSequence = Sequence(groups)
    data.PixelData = np.stack(stored).astype(np.uint16).tobytes()
    data.save_as(file)
    return affine_of((row, column), spacing, gap, origin)


def _with(**elements):
    data = Dataset()
    for name, value in elements.items():
        setattr(data, name, value)
    return data
