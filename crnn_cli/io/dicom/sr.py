"""DICOM Structured Reports of measurements (Enhanced SR, TID 1500, PS3.16), through highdicom.

A group of measurements is about a structure at a time: it refers to the segment that was measured where there is one
(TID 1411), else to the images (TID 1501). The interval of a number is written as the ranges of its upper and lower
measurement uncertainty (TID 310), in the unit of the number. Patient and study are those of the source.
highdicom sees neither: they are added to what it makes, so that no value of theirs can stop it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
from highdicom.sr import RelationshipTypeValues
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from crnn_cli.errors import OutputError
from crnn_cli.io.atomic_write import Output
from crnn_cli.io.dicom.character_sets import settle_character_set
from crnn_cli.io.dicom.evidence import Evidence, Segment
from crnn_cli.io.dicom.header_copy import plain_text, quoting_nothing
from crnn_cli.io.dicom.headers import silence_pydicom
from crnn_cli.io.dicom.instances import Instance
from crnn_cli.io.dicom.seg import Algorithm
from crnn_cli.version import __version__

_LARGEST_SERIES_NUMBER = 2**31 - 1
_PROCEDURES = {
    "MR": Code("241620005", "SCT", "Cardiac MRI"),
    "CT": Code("241547009", "SCT", "Cardiac CT"),
}
_ANY_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
_CARDIAC_PHASE = Code("246092007", "SCT", "Cardiac cycle phase")
_UPPER = Code("371886008", "SCT", "+, range of upper measurement uncertainty")
_LOWER = Code("371885007", "SCT", "-, range of lower measurement uncertainty")
_INDEX, _BODY_SURFACE = Code("121425", "DCM", "Index"), Code("8277-6", "LN", "Body Surface Area")
_GROUP = "125007"  # measurement group
_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")


@dataclass(frozen=True)
class Measurement:
    """A number with its unit.

    Attributes
    ----------
    concept : what it is.
    value : of at most 16 characters as a decimal number.
    unit : UCUM code.
    images : that it was measured in, where these are more than those of its group.
    indexed : whether it was divided by the body surface.
    above, below : from the value to the ends of its interval, in its unit; None where it has none.
    """

    concept: Code
    value: float
    unit: Code
    images: tuple[Instance, ...] = ()
    indexed: bool = False
    above: float | None = None
    below: float | None = None


@dataclass(frozen=True)
class MeasurementGroup:
    """Measurements of a structure.

    Attributes
    ----------
    title : TrackingIdentifier, for people.
    structure : code of the anatomic structure.
    phase : code of the phase of the cardiac cycle; None for the whole of it.
    images : that were measured.
    segment : that was measured; None where there is no SEG of it.
    """

    title: str
    structure: Code
    phase: Code | None
    measurements: tuple[Measurement, ...]
    images: tuple[Instance, ...]
    segment: Segment | None = None


def report_output(
    groups: Sequence[MeasurementGroup], comments: Sequence[str], evidence: Evidence, algorithm: Algorithm, target: Path
) -> Output:
    """Prepare a report; it is read back when written.

    Parameters
    ----------
    groups : at least one.
    comments : sentences on how it was measured, and what was not.
    evidence : has every instance that the groups refer to.

    Raises
    ------
    UnsupportedDataError
        If highdicom refuses what is written.
    """
    content = io.BytesIO()
    with quoting_nothing("DICOM SR", remedy=()):
        report = _report(groups, comments, evidence, algorithm)
        report.save_as(content)
    return Output(target, content.getvalue(), _check(groups, target))


def _report(
    groups: Sequence[MeasurementGroup], comments: Sequence[str], evidence: Evidence, algorithm: Algorithm
) -> Dataset:
    identified = hd.sr.AlgorithmIdentification(
        plain_text(algorithm.name)[:64], __version__, [f"{k}={v}" for k, v in algorithm.parameters.items()] or None
    )  # fmt: skip
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        generate_uid(entropy_srcs=["crnn", __version__]), "crnn", "crnn", f"crnn {__version__}"
    )
    observer = hd.sr.ObserverContext(codes.DCM.Device, device)
    report = hd.sr.MeasurementReport(
        hd.sr.ObservationContext(observer_device_context=observer),
        _PROCEDURES.get(evidence.modality, _ANY_PROCEDURE), [_group(each, identified) for each in groups],
    )  # fmt: skip
    report[0].ContentSequence.append(_comments(comments))
    number = min(max((evidence.series_number or 0) + 3000, 1), _LARGEST_SERIES_NUMBER)
    made: Dataset = hd.sr.EnhancedSR(
        _stand_ins(groups, evidence), report[0], generate_uid(), number, generate_uid(), 1, "crnn", is_complete=True,
        series_description=f"{plain_text(evidence.description)[:48]} crnn function".strip(),
    )  # fmt: skip
    made.update(evidence.whose)
    settle_character_set(made)
    return made


_Group = hd.sr.MeasurementsAndQualitativeEvaluations | hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations


def _group(group: MeasurementGroup, algorithm: hd.sr.AlgorithmIdentification) -> _Group:
    shared: dict[str, Any] = {
        "tracking_identifier": hd.sr.TrackingIdentifier(generate_uid(), group.title),
        "finding_category": codes.SCT.AnatomicalStructure,
        "finding_type": group.structure,
        "finding_sites": [hd.sr.FindingSite(codes.SCT.Heart)],
        "algorithm_id": algorithm,
        "measurements": [_measurement(each) for each in group.measurements],
        "qualitative_evaluations": [hd.sr.QualitativeEvaluation(_CARDIAC_PHASE, group.phase)] if group.phase else None,
    }
    if group.segment is None:
        images = [hd.sr.SourceImageForMeasurementGroup(*_named(image)) for image in group.images]
        return hd.sr.MeasurementsAndQualitativeEvaluations(**shared, source_images=images or None)
    segment = group.segment
    referenced = hd.sr.ReferencedSegment(
        segment.instance.sop_class, segment.instance.uid, segment.number, None,
        [hd.sr.SourceImageForSegmentation(*_named(image)) for image in segment.images] or None,
        None if segment.images else hd.sr.SourceSeriesForSegmentation(segment.source_series),
    )  # fmt: skip
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(**shared, referenced_segment=referenced)


def _named(image: Instance) -> tuple[str, str, list[int] | None]:
    return image.sop_class, image.uid, list(image.frames) or None


def _measurement(measured: Measurement) -> hd.sr.Measurement:
    properties = hd.sr.MeasurementProperties()
    for name, length in ((_UPPER, measured.above), (_LOWER, measured.below)):
        if length is not None:
            relation = RelationshipTypeValues.HAS_PROPERTIES
            properties.append(hd.sr.NumContentItem(name, length, measured.unit, relationship_type=relation))
    made = hd.sr.Measurement(
        measured.concept, measured.value, measured.unit, properties=properties,
        referenced_images=[hd.sr.SourceImageForMeasurement(*_named(image)) for image in measured.images],
    )  # fmt: skip
    if measured.indexed:
        index = hd.sr.CodeContentItem(_INDEX, _BODY_SURFACE, RelationshipTypeValues.HAS_CONCEPT_MOD)
        others = made[0].get("ContentSequence") or []
        made[0].ContentSequence = hd.sr.ContentSequence([index, *others])
    return made


def _comments(comments: Sequence[str]) -> hd.sr.ContainerContentItem:
    contains = RelationshipTypeValues.CONTAINS
    container = hd.sr.ContainerContentItem(_EVALUATIONS, relationship_type=contains)
    container.ContentSequence = hd.sr.ContentSequence(
        [hd.sr.TextContentItem(codes.DCM.Comment, text, contains) for text in comments]
    )
    return container


def _instances(groups: Iterable[MeasurementGroup]) -> dict[str, str]:
    """SOPClassUID of every instance that groups refer to, by its UID."""
    found = {}
    for group in groups:
        listed = [*group.images, *(image for each in group.measurements for image in each.images)]
        if group.segment is not None:
            listed += [group.segment.instance, *group.segment.images]
        found.update({each.uid: each.sop_class for each in listed})
    return found


def _stand_ins(groups: Sequence[MeasurementGroup], evidence: Evidence) -> list[Dataset]:
    """Instances that have the UIDs of those referred to, and nothing else."""
    found = []
    for uid, sop_class in _instances(groups).items():
        data = Dataset()
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
                        "StudyDate", "StudyTime", "ReferringPhysicianName"):  # fmt: skip
            setattr(data, keyword, None)
        data.StudyInstanceUID = evidence.whose.StudyInstanceUID
        data.SeriesInstanceUID = evidence.series_of[uid]
        data.SOPClassUID, data.SOPInstanceUID = sop_class, uid
        found.append(data)
    return found


def _check(groups: Sequence[MeasurementGroup], name: Path) -> Callable[[Path], None]:
    def check(written: Path) -> None:
        expected = [
            (each.concept.value, each.value, each.unit.value) for group in groups for each in group.measurements
        ]
        if sorted(_numbers(written)) != sorted(expected):
            raise OutputError(f"{name} was not written: what was read back differs")

    return check


def _numbers(file: Path) -> list[tuple[str, float, str]]:
    """Code, value and unit of every measurement in a report: of the numbers right below its measurement groups."""
    with silence_pydicom():
        report = dcmread(file)
    return [
        (str(item.ConceptNameCodeSequence[0].CodeValue), float(measured.NumericValue),
         str(measured.MeasurementUnitsCodeSequence[0].CodeValue))
        for group in _containers(report, _GROUP)
        for item in group.ContentSequence
        if item.ValueType == "NUM"
        for measured in item.MeasuredValueSequence
    ]  # fmt: skip


def _containers(item: Dataset, code: str) -> Iterator[Dataset]:
    """Containers of a concept, by its code, anywhere below a content item."""
    for below in item.get("ContentSequence", ()):
        if below.ValueType == "CONTAINER":
            if below.ConceptNameCodeSequence[0].CodeValue == code:
                yield below
            yield from _containers(below, code)
