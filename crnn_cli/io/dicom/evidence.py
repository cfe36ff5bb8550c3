"""What a structured report rests on: images and segments of the frames that were measured, and whose they are.

Only headers are read. Images are those of a series, or those that Segmentation objects (SEG) name: these need not lie
beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    MRImageStorage,
)

from crnn_cli.errors import UnsupportedDataError
from crnn_cli.io.dicom.header_copy import PATIENT_AND_STUDY, copy_headers, quoting_nothing, warn_of_repairs
from crnn_cli.io.dicom.header_repair import Repairs, usable_attributes
from crnn_cli.io.dicom.instances import Instance, instance_of, joined
from crnn_cli.io.dicom.seg_read import SegFrame, seg_frames
from crnn_cli.io.dicom.series import Series

_OF_THE_IMAGES = ("FrameOfReferenceUID", "PositionReferenceIndicator")
_WHOSE = tuple(keyword for keyword in PATIENT_AND_STUDY if keyword not in _OF_THE_IMAGES)
_MODALITIES = {
    MRImageStorage: "MR", EnhancedMRImageStorage: "MR", CTImageStorage: "CT", EnhancedCTImageStorage: "CT",
}  # fmt: skip


class Segment(NamedTuple):
    """A segment in one frame of a cine.

    Attributes
    ----------
    instance : the SEG; a report may name frames or a segment of it, not both.
    number : SegmentNumber.
    images : of this frame that it was made from, which tell the frame where the SEG holds several; empty where the SEG
        does not name them.
    source_series : SeriesInstanceUID of these images; empty where the SEG does not say it.
    """

    instance: Instance
    number: int
    images: tuple[Instance, ...]
    source_series: str


@dataclass(frozen=True)
class Evidence:
    """Images and segments of some frames of a cine.

    Attributes
    ----------
    whose : attributes of patient and study, as DICOM spells them.
    series_number, description : of the series, or of the first SEG.
    modality : of the images; empty where it is not known.
    images : by frame, from 0.
    segments : by frame, from 0, and value of the label.
    series_of : SeriesInstanceUID of every instance, by its UID.
    """

    whose: Dataset
    series_number: int | None
    description: str
    modality: str
    images: dict[int, tuple[Instance, ...]]
    segments: dict[tuple[int, int], Segment]
    series_of: dict[str, str]


def evidence_of_series(series: Series, frames: Sequence[int]) -> Evidence:
    """Images of a readable series.

    Parameters
    ----------
    frames : from 0.

    Raises
    ------
    UnsupportedDataError
        If an image has no UIDs that a report could refer to.
    """
    repairs = Repairs()
    header = copy_headers(series, repairs)
    images, series_of = {}, {}
    for t in frames:
        listed = []
        for z in range(series.slices):
            listed.append(instance_of(header(z, t).SourceImageSequence[0]))
            series_of[listed[-1].uid] = series.grid[z][t].origin.series_uid
        images[t] = joined(listed)
    warn_of_repairs(repairs)
    whose = usable_attributes(header(0, frames[0]), _WHOSE, Repairs())
    return Evidence(whose, series.series_number, series.description, series.modality, images, {}, series_of)


def evidence_of_segs(objects: Sequence[Dataset], frames: Sequence[int], values: Sequence[int]) -> Evidence:
    """Segments of SEG objects, and the images that these name.

    Parameters
    ----------
    objects : headers, in the order of time; each of one time or of several.
    frames : of the cine that the objects make up, from 0.
    values : of the labels that are referred to: the numbers of the segments.

    Raises
    ------
    UnsupportedDataError
        If a SEG names neither its images nor their series, or its headers make no report.
    """
    with quoting_nothing("DICOM SR", remedy=()):
        return _evidence_of_segs(objects, frames, values)


def _evidence_of_segs(objects: Sequence[Dataset], frames: Sequence[int], values: Sequence[int]) -> Evidence:
    first, repairs = objects[0], Repairs()
    whose = usable_attributes(first, _WHOSE, repairs)
    if not whose.get("StudyInstanceUID"):
        raise UnsupportedDataError("the SEG has no StudyInstanceUID that is a UID: a report cannot refer to it")
    images: dict[int, tuple[Instance, ...]] = {}
    segments: dict[tuple[int, int], Segment] = {}
    series_of: dict[str, str] = {}
    for t, (data, shown) in _by_frame(objects, frames).items():
        named = _named_series(data)
        images[t] = joined(image for frame in shown for image in frame.images if image.uid in named)
        series_of |= {image.uid: named[image.uid] for image in images[t]}
        series_of[str(data.SOPInstanceUID)] = str(data.SeriesInstanceUID)
        segments |= {(t, value): _segment(data, shown, value, named) for value in values}
    warn_of_repairs(repairs)
    classes = {image.sop_class for listed in images.values() for image in listed}
    modality = next((name for uid, name in _MODALITIES.items() if classes == {uid}), "")
    number = first.get("SeriesNumber")
    return Evidence(
        whose, None if number is None else int(number), str(first.get("SeriesDescription") or ""), modality, images,
        segments, series_of,
    )  # fmt: skip


def _by_frame(objects: Sequence[Dataset], frames: Sequence[int]) -> dict[int, tuple[Dataset, list[SegFrame]]]:
    """Object and its frames, for each frame of the cine that is asked for."""
    found, t = {}, 0
    for data in objects:
        described = seg_frames(data, "the SEG")
        for time in sorted({frame.time for frame in described}):
            if t in frames:
                found[t] = data, [frame for frame in described if frame.time == time]
            t += 1
    return found


def _named_series(data: Dataset) -> dict[str, str]:
    """SeriesInstanceUID of every image that a SEG names, by the UID of the image."""
    return {
        str(item.ReferencedSOPInstanceUID): str(series.SeriesInstanceUID)
        for series in data.get("ReferencedSeriesSequence") or []
        for item in series.get("ReferencedInstanceSequence") or []
    }


def _segment(data: Dataset, shown: list[SegFrame], value: int, named: dict[str, str]) -> Segment:
    own = [frame for frame in shown if frame.segment in (None, value)]
    images = joined(image for frame in own for image in frame.images if image.uid in named)
    source = next(iter(named.values()), "")
    if not images and not source:
        raise UnsupportedDataError(
            "the SEG names neither the images that it was made from nor their series: a report cannot refer to them",
            remedy=("give the cine, or write the SEG anew with crnn segment",),
        )
    return Segment(Instance(str(data.SOPClassUID), str(data.SOPInstanceUID)), value, images, source)
