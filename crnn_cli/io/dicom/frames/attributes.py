"""Attributes of DICOM datasets as plain values: numbers, words, dates and times.

Values come from files of others. Whatever is no number where one should be counts as absent.
"""

from __future__ import annotations

import datetime
import hashlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from crnn_cli.io.dicom.pixels import DESCRIPTION

_TOP = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality",
    "SeriesNumber", "SeriesDescription", "ImageType",
    "ComplexImageComponent", "InstanceNumber", "AcquisitionNumber", "Manufacturer",
    "PatientID", "PatientName", "PatientBirthDate", "TemporalPositionIdentifier", "NumberOfTemporalPositions",
    "TemporalResolution", "TriggerTime", "NominalInterval", "HeartRate", "CardiacNumberOfImages",
    "ImagesInAcquisition", "AcquisitionDate",
    "AcquisitionTime", "AcquisitionDateTime", "ContentDate", "ContentTime", "EchoTime",
    "ScanningSequence", "SequenceVariant", "PulseSequenceName", "AcquisitionMatrix", "SliceThickness",
    "SpacingBetweenSlices", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept", "RescaleType", "Units",
    "ModalityLUTSequence", "RealWorldValueMappingSequence", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "DimensionIndexSequence", "ConcatenationUID", "InConcatenationNumber",
    "InConcatenationTotalNumber",
    *DESCRIPTION,
)  # fmt: skip
_DEEPER = (
    "FrameType", "EffectiveEchoTime", "TemporalPositionIndex", "TemporalPositionTimeOffset",
    "NominalCardiacTriggerDelayTime", "ActualCardiacTriggerDelayTime", "RRIntervalTimeNominal",
    "FrameAcquisitionNumber",
    "FrameAcquisitionDateTime", "FrameReferenceDateTime", "DimensionIndexValues", "RealWorldValueSlope",
    "RealWorldValueIntercept", "MeasurementUnitsCodeSequence", "CodeValue",
)  # fmt: skip
PRIVATE = {
    0x00190010: "creator 0019", 0x0019100A: "images in mosaic", 0x00510010: "creator 0051", 0x00511016: "siemens type",
    0x00430010: "creator 0043", 0x0043102F: "ge data type", 0x00431030: "ge collapse flag",
}  # fmt: skip
"""Private elements that tell kinds of image, and the elements that name their creators."""

TAGS = [*(Tag(keyword) for keyword in _TOP), *(Tag(tag) for tag in PRIVATE)]
"""Elements of a file that are read."""
_NAMES = {**{Tag(keyword): keyword for keyword in (*_TOP, *_DEEPER)}, **{Tag(t): name for t, name in PRIVATE.items()}}
_DAY_MS = 86_400_000.0

Facts = dict[str, Any]
"""Attributes of a dataset by keyword; of private elements by the names in `PRIVATE`."""


def facts_of(data: Dataset) -> Facts:
    """Attributes of a dataset that matter here."""
    return {_NAMES[tag]: data[tag].value for tag in data.keys() if tag in _NAMES}  # noqa: SIM118


def number(where: Sequence[Facts], *keywords: str) -> float | None:
    """The first of some attributes that is a finite number; the first dataset comes first."""
    for data in where:
        for keyword in keywords:
            numbers = _finite(data.get(keyword), 1)
            if numbers is not None:
                return numbers[0]
    return None


def numbers(where: Sequence[Facts], keyword: str, count: int) -> tuple[float, ...] | None:
    """The first value of an attribute that is ``count`` finite numbers."""
    values = (_finite(data.get(keyword), count) for data in where)
    return next((value for value in values if value is not None), None)


def integer(data: Facts, keyword: str) -> int | None:
    """An attribute as a whole number."""
    found = _finite(data.get(keyword), 1)
    return None if found is None else int(found[0])


def words(data: Facts, keyword: str) -> tuple[str, ...]:
    """The values of an attribute in upper case; empty if it is absent."""
    value = data.get(keyword)
    if not value:
        return ()
    return tuple(str(word).strip().upper() for word in ([value] if isinstance(value, str) else value))


def text(data: Facts, keyword: str) -> str:
    """An attribute as text; "" if it is absent."""
    value = data.get(keyword)
    return "" if value is None else str(value).strip()


def private_number(data: Facts, name: str) -> int | None:
    """A private element as a whole number; in implicit encoding its bytes are all that is known of it."""
    value = data.get(name)
    if isinstance(value, bytes):
        return int.from_bytes(value, "little", signed=True) if len(value) in (2, 4) else None
    return integer(data, name)


def _finite(value: Any, count: int) -> tuple[float, ...] | None:
    if value is None or value == "":
        return None
    try:
        found = tuple(float(v) for v in (value if count > 1 else [value]))
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and all(math.isfinite(v) for v in found) else None


def patient_digest(data: Facts) -> str:
    """Digest that tells patients apart and says nothing about them; "" where nothing is known."""
    parts = [text(data, keyword).replace("^", " ") for keyword in ("PatientID", "PatientName", "PatientBirthDate")]
    plain = [" ".join(part.split()).casefold() for part in parts]
    return hashlib.sha256("\0".join(plain).encode()).hexdigest()[:16] if any(plain) else ""


class Clock(NamedTuple):
    """A time of the day, and the day where it is known.

    Attributes
    ----------
    ms : since midnight; in UTC where the zone is known.
    day : ordinal of the date, None where there is none.
    """

    ms: float
    day: int | None

    def since(self, day: int) -> float:
        """Time in ms since the midnight before ``day``; without a date as if it were that day."""
        return self.ms if self.day is None else self.ms + _DAY_MS * (self.day - day)


def clock(date: object, time: object, zone: object = "") -> Clock | None:
    """Read a date (DA) and a time (TM); None where there is no time.

    Parameters
    ----------
    zone : offset from UTC as ``+0130``; "" if unknown.

    >>> clock("20200102", "101530.5")
    Clock(ms=36930500.0, day=737426)
    """
    digits = str(time or "").strip().replace(":", "")
    try:
        hours, minutes, seconds = int(digits[:2]), int(digits[2:4] or 0), float(digits[4:] or 0)
    except ValueError:
        return None
    if not (0 <= hours < 25 and 0 <= minutes < 61 and 0 <= seconds < 61):
        return None
    return _in_utc(1000 * (3600 * hours + 60 * minutes + seconds), _day(str(date or "")), str(zone or "").strip())


def date_time(value: object) -> Clock | None:
    """Read a date with a time and perhaps an offset from UTC (DT); None where there is no time.

    >>> date_time("20200101233000.0-0100")
    Clock(ms=1800000.0, day=737426)
    """
    digits = str(value or "").strip()
    at = max(digits.rfind("+"), digits.rfind("-"))
    zone = digits[at:] if at >= 10 else ""
    return clock(digits[:8], digits[8:at] if zone else digits[8:], zone)


def _day(digits: str) -> int | None:
    plain = digits.strip().replace(".", "").replace("-", "")
    try:
        return datetime.date(int(plain[:4]), int(plain[4:6]), int(plain[6:8])).toordinal()
    except ValueError:
        return None


def _in_utc(ms: float, day: int | None, zone: str) -> Clock:
    if len(zone) == 5 and zone[0] in "+-" and zone[1:].isdigit():
        offset = 60_000 * (60 * int(zone[1:3]) + int(zone[3:]))
        ms += offset if zone[0] == "-" else -offset
        if not 0 <= ms < _DAY_MS:
            day = None if day is None else day + int(ms // _DAY_MS)
            ms %= _DAY_MS
    return Clock(ms, day)
