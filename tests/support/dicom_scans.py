"""DICOM scans drawn at random, with their truth: a kind of sequence, a place, times, and a way to store values.

The truth comes from the same numbers as the headers, by code that shares nothing with the reader. Images are 8 x 6
pixels. `tests.support.dicom_kinds` makes folders of them, `tests.support.dicom_folders` breaks and judges these.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

MR, ENHANCED = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
ROWS, COLUMNS = 8, 6
START = datetime(2024, 2, 28, 10, 15, 30)
MIDNIGHT = datetime(2024, 2, 28, 23, 59, 57)


@dataclass
class Expected:
    """One image that a folder holds.

    values : (column, row, slice, time) as floats. affine : RAS+ mm. frame_time : s, None where any will do.
    """

    values: np.ndarray
    affine: np.ndarray
    frame_time: float | None = None


@dataclass
class Truth:
    """What a folder holds.

    images : in any order. refused : words, one of which a refusal of an image must have; empty where there must be no
    refusal. part_told : whether a part of an image that is no less a grid may be read: None where it may not, else
    whether a doubt must say so. objects : names of other objects.
    """

    images: list[Expected] = field(default_factory=list)
    refused: tuple[str, ...] = ()
    part_told: bool | None = None
    objects: tuple[str, ...] = ()


@dataclass
class File:
    """One file of a folder: header, pixels, and how it is stored."""

    name: str
    data: Dataset
    syntax: str = ExplicitVRLittleEndian
    stated: str = ""
    preamble: bool = True
    meta: bool = True
    change: Callable[[bytes], bytes] | None = None

    def content(self) -> bytes:
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, self.syntax == ImplicitVRLittleEndian
        write_dataset(buffer, self.data)
        body = buffer.getvalue()
        if self.syntax == DeflatedExplicitVRLittleEndian:
            packer = zlib.compressobj(wbits=-15)
            body = packer.compress(body) + packer.flush()
            body += b"\0" * (len(body) % 2)
        head = DicomBytesIO()
        head.is_little_endian, head.is_implicit_VR = True, False
        if self.preamble:
            head.write(b"\0" * 128 + b"DICM")
        if self.meta:
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
                self.data.SOPClassUID, self.data.SOPInstanceUID,
            )  # fmt: skip
            meta.TransferSyntaxUID = self.stated or self.syntax
            write_file_meta_info(head, meta, enforce_standard=True)
        whole = head.getvalue() + body
        return self.change(whole) if self.change else whole


class Dice:
    """Random choices from one seed, and UIDs that follow from it."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.seed, self.uids = seed, 0

    def uid(self) -> str:
        self.uids += 1
        return f"1.2.826.0.1.3680043.8.498.{self.seed + 1}.{self.uids}"

    def pick(self, *values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def whole(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))


def ds(values: Any) -> list[str]:
    return [f"{v:.10g}"[:16] for v in np.atleast_1d(values)]


class Place:
    """Where the slices lie: directions, spacing, corner, and positions along the normal."""

    def __init__(self, dice: Dice, slices: int) -> None:
        self.row, self.column = self._directions(dice)
        self.normal = np.cross(self.row, self.column)
        self.spacing = tuple(float(v) for v in dice.rng.uniform(0.6, 2.5, 2).round(3))
        self.gap = round(float(dice.rng.uniform(3, 11)), 2)
        self.corner = dice.rng.uniform(-120, 120, 3).round(3)
        self.along = self.gap * np.arange(slices)
        self.order = dice.pick(1, -1)

    @staticmethod
    def _directions(dice: Dice) -> tuple[np.ndarray, np.ndarray]:
        kind = dice.whole(0, 3)
        if kind == 0:
            return np.eye(3)[0], np.eye(3)[1]
        if kind == 1:
            return np.eye(3)[0], -np.eye(3)[2]
        if kind == 2:
            return np.eye(3)[1], -np.eye(3)[2]
        q, r = np.linalg.qr(dice.rng.normal(size=(3, 3)))
        q = q * np.sign(np.diag(r))
        return q[:, 0], q[:, 1]

    def position(self, z: int) -> np.ndarray:
        return self.corner + self.normal * self.along[z]

    def affine(self) -> np.ndarray:
        lps = np.column_stack(
            [self.row * self.spacing[1], self.column * self.spacing[0], self.normal * self.gap, self.corner]
        )
        affine = np.eye(4)
        affine[:3] = np.diag([-1, -1, 1]) @ lps
        return affine


@dataclass
class Storage:
    """How values are stored: bits, sign, rescale, lookup table, position of the bits."""

    allocated: int
    stored: int
    signed: bool
    shift: int = 0
    slope: float | None = None
    intercept: float | None = None
    table: np.ndarray | None = None

    @classmethod
    def drawn(cls, dice: Dice) -> Storage:
        allocated = dice.pick(8, 16, 16, 16, 16, 32)
        stored = {8: 8, 16: dice.pick(12, 16, 10), 32: dice.pick(32, 24)}[allocated]
        storage = cls(allocated, stored, dice.chance(0.4))
        kind = dice.whole(0, 7)
        if kind == 0 and stored < allocated:
            storage.shift = allocated - stored
        elif kind == 1:
            storage.slope, storage.intercept = dice.pick(1.0, 2.5, 0.125), float(dice.whole(-1024, 50))
        elif kind == 2:
            storage.intercept = float(dice.whole(-1024, 50))
        elif kind == 3 and allocated == 16 and not storage.signed:
            storage.stored = 10
            storage.table = dice.rng.integers(0, 60000, 1024).astype(np.uint16)
        return storage

    def draw(self, dice: Dice, *shape: int) -> np.ndarray:
        low = -(2 ** (self.stored - 1)) if self.signed else 0
        high = 2 ** (self.stored - 1) if self.signed else 2**self.stored
        return dice.rng.integers(low, high, (*shape, ROWS, COLUMNS), dtype=np.int64)

    def encode(self, values: np.ndarray) -> bytes:
        kind = f"<{'ui'[self.signed]}{self.allocated // 8}"
        content = (values << self.shift).astype(kind).tobytes()
        return content + b"\0" * (len(content) % 2)

    def describe(self, data: Dataset) -> None:
        data.BitsAllocated, data.BitsStored = self.allocated, self.stored
        data.HighBit, data.PixelRepresentation = self.stored - 1 + self.shift, int(self.signed)
        if self.slope is not None:
            data.RescaleSlope = f"{self.slope:g}"
        if self.intercept is not None:
            data.RescaleIntercept = f"{self.intercept:g}"
        if self.table is not None:
            item = Dataset()
            item.LUTDescriptor, item.ModalityLUTType = [len(self.table), 0, 16], "US"
            item.LUTData = self.table.tobytes()
            item["LUTData"].VR = "OW"
            data.ModalityLUTSequence = [item]

    def shown(self, values: np.ndarray) -> np.ndarray:
        if self.table is not None:
            return self.table[np.clip(values, 0, len(self.table) - 1)].astype(float)
        return values * (self.slope or 1.0) + (self.intercept or 0.0)


def dates(moment: datetime) -> tuple[str, str]:
    return moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")


@dataclass
class Scan:
    """A scan before it is written: place, stored values (slice, time, row, column), header of each image."""

    dice: Dice
    place: Place
    storage: Storage
    stored: np.ndarray
    common: dict[str, Any]
    each: Callable[[int, int], dict[str, Any]]
    frame_time: float | None = None

    @property
    def slices(self) -> int:
        return self.stored.shape[0]

    @property
    def times(self) -> int:
        return self.stored.shape[1]

    def expected(self) -> Expected:
        shown = self.storage.shown(self.stored).transpose(3, 2, 0, 1)
        return Expected(shown, self.place.affine(), self.frame_time)

    def header(self, z: int, t: int) -> Dataset:
        data = Dataset()
        values = {
            "SOPClassUID": MR, "SOPInstanceUID": self.dice.uid(), "Modality": "MR", "PatientName": "A^B",
            "PatientID": "7", "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"], "SeriesDescription": "scan", "SeriesNumber": 4,
            "Rows": ROWS, "Columns": COLUMNS, "RepetitionTime": "3.2", "EchoTime": "1.4", "SliceThickness": "5",
            "SpacingBetweenSlices": f"{self.place.gap:g}", "PixelSpacing": ds(self.place.spacing),
            "ImagePositionPatient": ds(self.place.position(z)),
            "ImageOrientationPatient": ds([*self.place.row, *self.place.column]), **self.common, **self.each(z, t),
        }  # fmt: skip
        for name, value in values.items():
            if value is not None:
                setattr(data, name, value)
        self.storage.describe(data)
        data.PixelData = self.storage.encode(self.stored[z, t])
        data["PixelData"].VR = "OW" if self.storage.allocated > 8 else "OB"
        return data

    def files(self) -> list[File]:
        """One file for each slice and time; instance numbers run through times, or through slices."""
        outer = self.dice.chance(0.5)
        found = []
        for z in range(self.slices)[:: self.place.order]:
            for t in range(self.times):
                data = self.header(z, t)
                if "InstanceNumber" not in data:
                    at = z if self.place.order > 0 else self.slices - 1 - z
                    data.InstanceNumber = 1 + (at * self.times + t if outer else t * self.slices + at)
                found.append(File("", data))
        for number, index in enumerate(self.dice.rng.permutation(len(found))):
            found[index].name = f"IM{number:04d}.dcm"
        return found


def identity(dice: Dice) -> dict[str, Any]:
    return {
        "StudyInstanceUID": dice.uid(), "SeriesInstanceUID": dice.uid(), "FrameOfReferenceUID": dice.uid(),
    }  # fmt: skip


def clocks(dice: Dice, moments: Callable[[int, int], datetime]) -> Callable[[int, int], dict[str, Any]]:
    """Acquisition and content times, with dates or without, in one of several spellings."""
    style = dice.pick("both", "both", "no date", "date time", "colons")

    def each(z: int, t: int) -> dict[str, Any]:
        day, time = dates(moments(z, t))
        if style == "date time":
            return {"AcquisitionDateTime": day + time}
        time = f"{time[:2]}:{time[2:4]}:{time[4:]}" if style == "colons" else time
        found = {"AcquisitionTime": time, "ContentTime": time}
        return found if style == "no date" else found | {"AcquisitionDate": day, "ContentDate": day}

    return each


def merged(*parts: Callable[[int, int], dict[str, Any]]) -> Callable[[int, int], dict[str, Any]]:
    return lambda z, t: {key: value for part in parts for key, value in part(z, t).items()}


def scan(
    dice: Dice, slices: int, times: int, each: Callable[[int, int], dict[str, Any]], frame_time: float | None = None,
    common: dict[str, Any] | None = None, place: Place | None = None, storage: Storage | None = None,
) -> Scan:  # fmt: skip
    storage = storage or Storage.drawn(dice)
    return Scan(
        dice, place or Place(dice, slices), storage, storage.draw(dice, slices, times), identity(dice) | (common or {}),
        each, frame_time,
    )  # fmt: skip


def start(dice: Dice) -> datetime:
    return MIDNIGHT if dice.chance(0.3) else START + timedelta(seconds=dice.whole(0, 3000))


def gated_cine(dice: Dice, rotated: bool = False) -> Scan:
    """Retrospectively gated: even trigger times; acquisition times alike for all times, or running with them."""
    slices, times, step = dice.whole(1, 4), dice.whole(4, 9), round(float(dice.rng.uniform(18, 60)), 1)
    begin, offset, kind = start(dice), dice.rng.uniform(0, 20, slices).round(1), dice.pick("same", "running", "none")
    first = dice.whole(1, times - 1) if rotated else 0

    def trigger(z: int, t: int) -> dict[str, Any]:
        found = {"TriggerTime": f"{offset[z] + step * t:g}", "ScanOptions": "CG"}
        number = {"InstanceNumber": 1 + z * times + (t - first) % times} if rotated else {}
        return found | number | ({"CardiacNumberOfImages": times} if slices > 1 else {})

    def moment(z: int, t: int) -> datetime:
        return begin + timedelta(seconds=9 * z, milliseconds=step * t if kind == "running" else 0)

    timed = [clocks(dice, moment)] if kind != "none" and not rotated else []
    return scan(dice, slices, times, merged(trigger, *timed), step / 1000)


def real_time(dice: Dice) -> Scan:
    """Frames one after the other over several beats: the trigger time begins anew at each."""
    slices, times, step = dice.whole(1, 2), dice.whole(14, 22), float(dice.whole(35, 60))
    cycle, begin = step * dice.rng.uniform(5.2, 6.8), start(dice)
    known = dice.pick("time", "number", "instance")

    def each(z: int, t: int) -> dict[str, Any]:
        found: dict[str, Any] = {"TriggerTime": f"{step * t % cycle:.1f}"}
        found |= {"AcquisitionNumber": t + 1} if known == "number" else {}
        return found | {"InstanceNumber": 1 + z * times + t}

    def moment(z: int, t: int) -> datetime:
        return begin + timedelta(seconds=30 * z, milliseconds=step * t)

    timed = [clocks(dice, moment)] if known == "time" else []
    return scan(dice, slices, times, merged(each, *timed), step / 1000 if known == "time" else None)


def perfusion(dice: Dice) -> Scan:
    """One image a beat: trigger times are a delay that jitters, slice by slice."""
    slices, times, begin = dice.whole(1, 3), dice.whole(8, 14), start(dice)
    jitter = dice.rng.normal(0, 8, (slices, times)).round(2)

    def each(z: int, t: int) -> dict[str, Any]:
        return {"TriggerTime": f"{120 + 200 * z + jitter[z, t]:g}", "AcquisitionNumber": t + 1}

    timed = clocks(dice, lambda z, t: begin + timedelta(milliseconds=900 * t + 200 * z))
    return scan(dice, slices, times, merged(each, timed), 0.9)


def dynamic(dice: Dice) -> Scan:
    """Volumes one after the other, by acquisition time or temporal position, not triggered."""
    slices, times, begin = dice.whole(1, 4), dice.whole(2, 7), start(dice)
    step = float(dice.pick(2.0, 10.0, 0.6))
    known = dice.pick("time", "position", "time with number", "contradicting trigger")
    order = dice.rng.permutation(times)
    while known == "contradicting trigger" and (times < 4 or is_rotation(order)):
        known = "time" if times < 4 else known
        order = dice.rng.permutation(times)

    def each(z: int, t: int) -> dict[str, Any]:
        if known == "position":
            return {"TemporalPositionIdentifier": t + 1, "NumberOfTemporalPositions": times}
        if known == "contradicting trigger":
            return {"TriggerTime": f"{1000 * int(order[t])}"}
        return {"AcquisitionNumber": t + 1} if known == "time with number" else {}

    timed = clocks(dice, lambda z, t: begin + timedelta(seconds=step * t, milliseconds=10 * z))
    return scan(dice, slices, times, merged(each, timed), step)


def is_rotation(order: np.ndarray) -> bool:
    return int((np.roll(order, -1) < order).sum()) <= 1


def molli(dice: Dice) -> Scan:
    """T1 mapping: images of several inversions, each in another beat; trigger times all nearly alike."""
    times, begin = 8, start(dice)
    seconds, triggers = [0, 1, 2, 6, 7, 8, 9, 10], (640 + dice.rng.permutation(times) * 0.7).round(1)
    inversion = [120, 1120, 2120, 200, 1200, 2200, 3200, 4200]
    while is_rotation(triggers):
        triggers = (640 + dice.rng.permutation(times) * 0.7).round(1)

    def each(z: int, t: int) -> dict[str, Any]:
        return {"TriggerTime": f"{triggers[t]:g}", "InversionTime": str(inversion[t])}

    timed = clocks(dice, lambda z, t: begin + timedelta(seconds=seconds[t]))
    return scan(dice, 1, times, merged(each, timed), 1.0)


def volume(dice: Dice) -> Scan:
    begin = start(dice)
    timed = clocks(dice, lambda z, t: begin)
    return scan(dice, dice.whole(2, 7), 1, timed)


SCANS = (gated_cine, gated_cine, real_time, perfusion, dynamic, molli, volume, volume)


def item(**values: Any) -> Dataset:
    data = Dataset()
    for name, value in values.items():
        setattr(data, name, value)
    return data


def csa_header(values: dict[str, tuple[str, list[str]]]) -> bytes:
    """CSA2 header of Siemens: each value with its type, as text."""
    parts = [b"SV10\4\3\2\1", struct.pack("<2I", len(values), 77)]
    for name, (kind, texts) in values.items():
        parts.append(struct.pack("<64si4s3i", name.encode(), len(texts), kind.encode(), 0, 6, 77))
        for n in range(6):
            text = texts[n].encode() + b"\0" if n < len(texts) else b""
            parts.append(struct.pack("<4i", len(text), len(text), 77, len(text)) + text + b"\0" * (-len(text) % 4))
    return b"".join(parts)
