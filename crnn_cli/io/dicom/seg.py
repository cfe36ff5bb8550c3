"""DICOM Segmentation objects (SEG, PS3.3 A.51) from label maps and back, through highdicom.

A label map becomes one object for each frame, all in one series. Every label is a binary segment on all slices of the
source series, and each slice refers to its source image. Patient and study are those of the source.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import MRImageStorage, generate_uid

from crnn_cli.data.alignment import compare_images
from crnn_cli.data.image import Image
from crnn_cli.data.slice_stack import LPS_TO_RAS
from crnn_cli.errors import OutputError, Param, UnreadableError, UnsupportedDataError
from crnn_cli.io.atomic_write import Output
from crnn_cli.io.dicom.header_copy import copy_headers, decimals
from crnn_cli.io.dicom.headers import silence_pydicom
from crnn_cli.io.dicom.series import Series
from crnn_cli.io.loaded_image import LoadedImage
from crnn_cli.io.nifti.intent import LABELS
from crnn_cli.labels.names import Label
from crnn_cli.version import __version__

_EVEN = 0.05  # mm
_UNNAMED = codes.SCT.AnatomicalStructure


@dataclass(frozen=True)
class Algorithm:
    """Algorithm that made the labels (AlgorithmIdentificationSequence).

    Attributes
    ----------
    name : AlgorithmName.
    parameters : AlgorithmParameters, such as the sha256 of the weights.
    """

    name: str
    parameters: dict[str, str] = field(default_factory=dict)


def seg_names(target: Path, frames: int) -> list[Path]:
    """Names of the files of a SEG: the target itself, or one for each of several frames.

    >>> [name.name for name in seg_names(Path("heart.dcm"), 2)]
    ['heart_01.dcm', 'heart_02.dcm']
    """
    if frames == 1:
        return [target]
    width = max(2, len(str(frames)))
    return [target.with_name(f"{target.stem}_{t:0{width}d}.dcm") for t in range(1, frames + 1)]


def require_even(series: Series) -> None:
    """Refuse a series whose slices are more than 0.05 mm off an even spacing, which readers of a SEG assume.

    Raises
    ------
    UnsupportedDataError
        The message states the largest distance.
    """
    assert series.affine is not None
    positions = np.array([row[0].position for row in series.grid]) @ LPS_TO_RAS
    even = series.affine[:3, 3] + np.outer(np.arange(len(positions)), series.affine[:3, 2])
    worst = float(np.abs(positions - even).max())
    if worst > _EVEN:
        raise UnsupportedDataError(
            f"slices lie up to {worst:.2f} mm from even places; readers of a DICOM SEG refuse such a stack or shift it",
            remedy=("give ", Param("out", "NAME.nii.gz"), " for the label map"),
        )


def seg_outputs(
    labels: Image, series: Series, segments: Sequence[Label], algorithm: Algorithm, target: Path
) -> list[Output]:  # fmt: skip
    """Prepare one DICOM SEG for each frame of a label map on the grid of a series; each is read back when written.

    Parameters
    ----------
    labels : (x, y, z) or (x, y, z, t), uint8, 0 and the values of ``segments``.
    series : the source, readable and with even slices (`require_even`).
    segments : labels that become segments 1, 2 and so on.
    target : name of the file; see `seg_names` for several frames.
    """
    array = labels.array if labels.array.ndim == 4 else labels.array[..., None]
    numbers = np.zeros(256, np.uint8)
    for number, label in enumerate(segments, start=1):
        numbers[label.value] = number
    writer = _SegWriter(series, _descriptions(segments, algorithm), labels.spacing[2])
    outputs = []
    for t, name in enumerate(seg_names(target, array.shape[3])):
        numbered = numbers[array[..., t]]
        description = f"not for diagnostic use{f', frame {t + 1} of {array.shape[3]}' if array.shape[3] > 1 else ''}"
        content = writer.content(numbered.transpose(2, 1, 0), t, description)
        outputs.append(Output(name, content, _check(replace(labels, array=numbered), name)))
    return outputs


class _SegWriter:
    """Writer of the objects of all frames, and what they share."""

    def __init__(self, series: Series, segments: list[hd.seg.SegmentDescription], step: float) -> None:
        self.series, self.segments, self.step = series, segments, step
        self.header = copy_headers(series)
        self.uid = generate_uid()

    def content(self, segments_ZYX: NDArray[np.uint8], t: int, description: str) -> bytes:
        """Encode the object of one frame."""
        images, origins = self._sources(t)
        with silence_pydicom():
            seg = hd.seg.Segmentation(
                images, segments_ZYX, hd.seg.SegmentationTypeValues.BINARY, self.segments, self.uid,
                (self.series.series_number or 0) + 2000, generate_uid(), t + 1, "crnn", "crnn", __version__, "none",
                content_label="SEGMENTATION", content_description=description, omit_empty_frames=False,
            )  # fmt: skip
        seg.SeriesDescription = f"{self.series.description[:48]} crnn labels".strip()
        _point_to(seg, origins)
        content = io.BytesIO()
        seg.save_as(content)
        return content.getvalue()

    def _sources(self, t: int) -> tuple[list[Dataset], dict[str, Dataset]]:
        """Headers of the slices as single images, and the frames of multi-frame images that some stand for, by UID."""
        images, origins = [], {}
        for z in range(self.series.slices):
            data = self.header(z, t)
            (origin,) = data.SourceImageSequence
            data.SOPClassUID, data.SOPInstanceUID = origin.ReferencedSOPClassUID, origin.ReferencedSOPInstanceUID
            if "ReferencedFrameNumber" in origin:
                data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, generate_uid()  # a stand-in, see `_point_to`
                origins[data.SOPInstanceUID] = origin
            data.Rows, data.Columns = self.series.size
            data.SpacingBetweenSlices = decimals([self.step])[0]  # some scanners write the thickness here
            data.SliceThickness = data.get("SliceThickness") or data.SpacingBetweenSlices
            data.SeriesInstanceUID, data.Modality = self.series.uid, self.series.modality
            images.append(data)
        return images, origins


def _point_to(data: Dataset, origins: dict[str, Dataset]) -> None:
    """Replace references to stand-ins by references to frames of their multi-frame image."""
    for element in data:
        if element.VR != "SQ" or not origins:
            continue
        for item in element.value:
            origin = origins.get(item.get("ReferencedSOPInstanceUID", ""))
            if origin is not None:
                item.ReferencedSOPClassUID = origin.ReferencedSOPClassUID
                item.ReferencedSOPInstanceUID = origin.ReferencedSOPInstanceUID
                if element.keyword == "SourceImageSequence":
                    item.ReferencedFrameNumber = origin.ReferencedFrameNumber
            _point_to(item, origins)
        if element.keyword == "ReferencedInstanceSequence":
            element.value = list({item.ReferencedSOPInstanceUID: item for item in element.value}.values())


def _descriptions(segments: Sequence[Label], algorithm: Algorithm) -> list[hd.seg.SegmentDescription]:
    identification = hd.AlgorithmIdentificationSequence(
        algorithm.name, codes.DCM.ArtificialIntelligence, __version__, "crnn", algorithm.parameters or None
    )
    descriptions = []
    for number, label in enumerate(segments, start=1):
        property_type = _UNNAMED if label.code is None else Code(label.code[1], label.code[0], label.code[2])
        description = hd.seg.SegmentDescription(
            number, label.name[:64], codes.SCT.AnatomicalStructure, property_type,
            hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC, identification,
            display_color=hd.color.CIELabColor.from_rgb(*label.colour),
        )  # fmt: skip
        if label.modifier is not None:
            scheme, value, meaning = label.modifier
            concept = hd.sr.CodedConcept(value, scheme, meaning)
            description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [concept]
        descriptions.append(description)
    return descriptions


def load_seg(path: Path) -> LoadedImage:
    """Read a SEG as a label map, with the facts about its source.

    Raises
    ------
    UnreadableError, UnsupportedDataError
        See `read_seg`.
    """
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}") from None
    image, source = read_seg(path), {"file": str(path), "format": "DICOM SEG", "sha256": sha256}
    return LoadedImage(image, source, dtype=str(image.array.dtype), intent=LABELS, format="DICOM SEG")


def read_seg(file: Path) -> Image:
    """Read the segment numbers (x, y, z) of a SEG, 0 where there is no segment; the affine is RAS+ mm.

    Raises
    ------
    UnsupportedDataError
        If segments overlap, are fractional (probabilities), or their planes are no stack.
    UnreadableError
        If the file is damaged.
    """
    try:
        with silence_pydicom():
            seg = hd.seg.Segmentation.from_dataset(dcmread(file), copy=False)
            if seg.segmentation_type == hd.seg.SegmentationTypeValues.FRACTIONAL:
                raise UnsupportedDataError(f"{file.name} holds probabilities (FRACTIONAL); binary segments are read")
            volume = seg.get_volume(combine_segments=True, rescale_fractional=False)
    except (UnsupportedDataError, MemoryError):
        raise
    except RuntimeError as error:  # overlapping segments, or planes that are no stack
        raise UnsupportedDataError(f"the segments of {file.name} make no label map: {_in_line(error)}") from None
    except Exception as error:  # a parser of hostile files: whatever it raises, the file is what is wrong
        raise UnreadableError(f"{file.name} is no DICOM SEG that can be read: {_in_line(error)}") from None
    affine = volume.affine[:, [2, 1, 0, 3]]  # of (slice, row, column) to (x, y, z)
    affine[:3] = LPS_TO_RAS @ affine[:3]
    return Image(np.asarray(volume.array).transpose(2, 1, 0), affine)


def _in_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _check(segments: Image, name: Path) -> Callable[[Path], None]:
    def check(written: Path) -> None:
        differs = compare_images(segments, read_seg(written)).differs(_EVEN, 0.0, times=False)
        if differs:
            raise OutputError(f"{name} was not written: what was read back differs: {'; '.join(differs)}")

    return check
