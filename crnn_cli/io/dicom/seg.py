"""DICOM Segmentation objects (SEG, PS3.3 A.51) from label maps, through highdicom; read by `seg_read`.

A label map becomes one object for each frame, all in one series, or one object for all. Every label is a segment on all
slices of the source series, and each slice refers to its source image. Patient and study are those of the source.
highdicom sees places alone: patient and study are added to what it makes, so that no value of theirs can stop it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import MRImageStorage, generate_uid

from crnn_cli.data.alignment import compare_images
from crnn_cli.data.image import Image
from crnn_cli.errors import OutputError, Param, UnsupportedDataError
from crnn_cli.io.atomic_write import Output
from crnn_cli.io.dicom.character_sets import settle_character_set
from crnn_cli.io.dicom.header_copy import PATIENT_AND_STUDY, copy_headers, plain_text, quoting_nothing
from crnn_cli.io.dicom.header_repair import decimals
from crnn_cli.io.dicom.seg_cine import joined_in_time
from crnn_cli.io.dicom.seg_read import read_seg
from crnn_cli.io.dicom.series import Series
from crnn_cli.labels.names import Label
from crnn_cli.version import __version__

_EVEN = 0.05  # mm
_UNNAMED = codes.SCT.AnatomicalStructure
_LARGEST_SERIES_NUMBER = 2**31 - 1

SegType = Literal["binary", "labelmap"]
SEG_TYPES: tuple[SegType, ...] = ("binary", "labelmap")
"""Kinds of SEG that are written: a bit for each segment and voxel, which every reader takes; or the labels themselves,
smaller, which needs readers from 2025 on."""


@dataclass(frozen=True)
class SegForm:
    """What a SEG looks like.

    Attributes
    ----------
    type : one of `SEG_TYPES`. Segments of a labelmap have the numbers of their labels, those of others count from 1.
    whole_series : one object for all frames, which few readers take, in place of one for each.
    """

    type: SegType = "binary"
    whole_series: bool = False


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


def seg_names(target: Path, frames: int, form: SegForm | None = None) -> list[Path]:
    """Names of the files of a SEG: the target itself, or one for each of several frames.

    >>> [name.name for name in seg_names(Path("heart.dcm"), 2)]
    ['heart_01.dcm', 'heart_02.dcm']
    """
    if frames == 1 or (form is not None and form.whole_series):
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
    worst = series.off_grid()
    if worst > _EVEN:
        raise UnsupportedDataError(
            f"slices lie up to {worst:.2f} mm from even places; readers of a DICOM SEG refuse such a stack or shift it",
            remedy=("give ", Param("out", "NAME.nii.gz"), " for the label map"),
        )


def require_seg(series: Series, segments: Sequence[Label], algorithm: Algorithm, form: SegForm) -> None:
    """Refuse what a SEG cannot be made of, before any label is computed: an empty one is made of the first frame.

    Raises
    ------
    UnsupportedDataError
        If the slices are uneven (`require_even`), or an image has no UIDs to refer to; see also `_SegWriter.made`.
    """
    require_even(series)
    writer = _SegWriter(series, segments, algorithm, form)
    rows, columns = series.size
    writer.made(np.zeros((series.slices, rows, columns), np.uint8), 0)


def seg_outputs(
    labels: Image, series: Series, segments: Sequence[Label], algorithm: Algorithm, target: Path,
    form: SegForm | None = None,
) -> list[Output]:  # fmt: skip
    """Prepare the DICOM SEG of a label map on the grid of a series; each file is read back when written.

    Parameters
    ----------
    labels : (x, y, z) or (x, y, z, t), uint8, 0 and the values of ``segments``.
    series : the source, readable and with even slices (`require_seg`).
    segments : labels that become segments.
    target : name of the file; see `seg_names` for several frames.
    form : None for binary segments, one object for each frame.

    Raises
    ------
    UnsupportedDataError
        See `require_seg`.
    """
    form = form or SegForm()
    array = labels.array if labels.array.ndim == 4 else labels.array[..., None]
    writer = _SegWriter(series, segments, algorithm, form)
    numbered = writer.numbers[array]
    names = seg_names(target, array.shape[3], form)
    objects = [writer.made(numbered[..., t].transpose(2, 1, 0), t) for t in range(array.shape[3])]
    shown = [replace(labels, array=numbered[..., t]) for t in range(len(objects))]
    if form.whole_series and len(objects) > 1:
        objects, shown = [joined_in_time(objects)], [replace(labels, array=numbered)]
    return [
        Output(name, _encoded(data), _check(image, name))
        for name, data, image in zip(names, objects, shown, strict=True)
    ]


class _SegWriter:
    """Writer of the objects of all frames, and what they share."""

    def __init__(self, series: Series, segments: Sequence[Label], algorithm: Algorithm, form: SegForm) -> None:
        labelmap = form.type == "labelmap"
        self.series, self.form = series, form
        self.numbers = np.zeros(256, np.uint8)
        for position, label in enumerate(segments, start=1):
            self.numbers[label.value] = label.value if labelmap else position
        self.segments = _descriptions(segments, algorithm, self.numbers)
        assert series.affine is not None
        self.step = float(np.linalg.norm(series.affine[:3, 2]))
        self.header = copy_headers(series)
        self.uid = generate_uid()

    def made(self, segments_ZYX: NDArray[np.uint8], t: int) -> Dataset:
        """Make the object of one frame.

        Raises
        ------
        UnsupportedDataError
            If highdicom refuses what is written.
        """
        frames = self.series.frames
        number = f", frame {t + 1} of {frames}" if frames > 1 and not self.form.whole_series else ""
        headers = [self.header(z, t) for z in range(self.series.slices)]
        images, origins = self._stand_ins(headers, t)
        with quoting_nothing("DICOM SEG"):
            seg: Dataset = hd.seg.Segmentation(
                images, segments_ZYX, self.form.type.upper(), self.segments, self.uid, self._series_number(),
                generate_uid(), t + 1, "crnn", "crnn", __version__, "none", content_label="SEGMENTATION",
                content_description=f"not for diagnostic use{number}", omit_empty_frames=False,
            )  # fmt: skip
            self._add_patient_and_study(seg, headers[0])
        _point_to(seg, origins)
        _refer_by_series(seg, {frame.instance: frame.origin.series_uid for row in self.series.grid for frame in row})
        return seg

    def _series_number(self) -> int:
        return min(max((self.series.series_number or 0) + 2000, 1), _LARGEST_SERIES_NUMBER)

    def _add_patient_and_study(self, seg: Dataset, header: Dataset) -> None:
        for keyword in PATIENT_AND_STUDY:
            if keyword in header:
                seg[keyword] = header[keyword]
        seg.SeriesDescription = f"{plain_text(self.series.description)[:48]} crnn labels".strip()
        settle_character_set(seg)

    def _stand_ins(self, headers: list[Dataset], t: int) -> tuple[list[Dataset], dict[str, Dataset]]:
        """Images that have the places of the slices and nothing else, and the images that they stand for, by UID."""
        images, origins = [], {}
        for header in headers:
            data = Dataset()
            for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate",
                            "StudyTime", "AccessionNumber", "ReferringPhysicianName"):  # fmt: skip
                setattr(data, keyword, None)
            for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient",
                            "ImageOrientationPatient", "PixelSpacing"):  # fmt: skip
                data[keyword] = header[keyword]
            data.PositionReferenceIndicator = None
            data.Modality, data.SOPClassUID, data.SOPInstanceUID = "MR", MRImageStorage, generate_uid()
            data.SeriesInstanceUID = self.series.grid[0][t].origin.series_uid  # one series: highdicom takes no stack
            data.Rows, data.Columns = self.series.size
            data.SpacingBetweenSlices = decimals([self.step])[0]  # some scanners write the thickness here
            data.SliceThickness = headers[0].get("SliceThickness") or data.SpacingBetweenSlices
            images.append(data)
            (origins[data.SOPInstanceUID],) = header.SourceImageSequence
        return images, origins


def _encoded(data: Dataset) -> bytes:
    content = io.BytesIO()
    with quoting_nothing("DICOM SEG"):
        data.save_as(content)
    return content.getvalue()


def _point_to(data: Dataset, origins: dict[str, Dataset]) -> None:
    """Replace references to stand-ins by references to what they stand for: an image, or a frame of one."""
    for element in data:
        if element.VR != "SQ":
            continue
        for item in element.value:
            origin = origins.get(item.get("ReferencedSOPInstanceUID", ""))
            if origin is not None:
                item.ReferencedSOPClassUID = origin.ReferencedSOPClassUID
                item.ReferencedSOPInstanceUID = origin.ReferencedSOPInstanceUID
                if element.keyword == "SourceImageSequence" and "ReferencedFrameNumber" in origin:
                    item.ReferencedFrameNumber = origin.ReferencedFrameNumber
            _point_to(item, origins)
        if element.keyword == "ReferencedInstanceSequence":
            element.value = list({item.ReferencedSOPInstanceUID: item for item in element.value}.values())


def _refer_by_series(data: Dataset, series_of: dict[str, str]) -> None:
    """Refer to the source images under their own series: those of a stack are of one for each slice.

    Parameters
    ----------
    series_of : SeriesInstanceUID by the SOPInstanceUID of the images.
    """
    referenced: dict[str, Dataset] = {}
    for series in data.ReferencedSeriesSequence:
        for item in series.ReferencedInstanceSequence:
            uid = series_of.get(item.ReferencedSOPInstanceUID, series.SeriesInstanceUID)
            if uid not in referenced:
                referenced[uid] = Dataset()
                referenced[uid].SeriesInstanceUID, referenced[uid].ReferencedInstanceSequence = uid, []
            referenced[uid].ReferencedInstanceSequence.append(item)
    data.ReferencedSeriesSequence = list(referenced.values())


def _descriptions(
    segments: Sequence[Label], algorithm: Algorithm, numbers: NDArray[np.uint8]
) -> list[hd.seg.SegmentDescription]:
    identification = hd.AlgorithmIdentificationSequence(
        plain_text(algorithm.name)[:64],
        codes.DCM.ArtificialIntelligence,
        __version__,
        "crnn",
        algorithm.parameters or None,
    )
    descriptions = []
    for label in segments:
        property_type = _UNNAMED if label.code is None else Code(label.code[1], label.code[0], label.code[2])
        description = hd.seg.SegmentDescription(
            int(numbers[label.value]), plain_text(label.name)[:64], codes.SCT.AnatomicalStructure, property_type,
            hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC, identification,
            display_color=hd.color.CIELabColor.from_rgb(*label.colour),
        )  # fmt: skip
        if label.modifier is not None:
            scheme, value, meaning = label.modifier
            concept = hd.sr.CodedConcept(value, scheme, meaning)
            description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [concept]
        descriptions.append(description)
    return descriptions


def _check(segments: Image, name: Path) -> Callable[[Path], None]:
    def check(written: Path) -> None:
        differs = compare_images(segments, read_seg(written)).differs(_EVEN, 0.0, times=False)
        if differs:
            raise OutputError(f"{name} was not written: what was read back differs: {'; '.join(differs)}")

    return check
