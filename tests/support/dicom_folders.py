"""Folders of DICOM files drawn at random, with the truth about each: what it holds, or that it must be refused.

A folder is one *scan* (a kind of sequence in a place, with times) written as files, which may then be *broken*. The
truth comes from the same numbers as the headers, by code that shares nothing with the reader. Images are 8 x 6 pixels.
"""

from __future__ import annotations

import gzip
import struct
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from crnn_cli.data.image import Image
from crnn_cli.errors import CrnnError
from crnn_cli.io.dicom.read import list_series, read_series
from crnn_cli.io.dicom.series import Series
from crnn_cli.notices import Doubt

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
            import zlib

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
    while known == "contradicting trigger" and (times < 4 or _rotation(order)):
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


def _rotation(order: np.ndarray) -> bool:
    return int((np.roll(order, -1) < order).sum()) <= 1


def molli(dice: Dice) -> Scan:
    """T1 mapping: images of several inversions, each in another beat; trigger times all nearly alike."""
    times, begin = 8, start(dice)
    seconds, triggers = [0, 1, 2, 6, 7, 8, 9, 10], (640 + dice.rng.permutation(times) * 0.7).round(1)
    inversion = [120, 1120, 2120, 200, 1200, 2200, 3200, 4200]
    while _rotation(triggers):
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


def several_kinds(dice: Dice) -> tuple[list[File], Truth]:
    """Images of several kinds in one series: each is an image of its own."""
    base = dice.pick(gated_cine, volume, dynamic)(dice)
    kinds: list[dict[str, Any]] = dice.pick(
        [{"ImageType": ["ORIGINAL", "PRIMARY", w, v]} for w, v in (("M_FFE", "M"), ("VELOCITY MAP", "P"))],
        [{"ImageType": ["ORIGINAL", "PRIMARY", kind, "ND"]} for kind in "MP"],
        [{"ImageType": ["DERIVED", "PRIMARY", word, word]} for word in ("W", "F", "IP", "OP")],
        [{"ImageType": ["ORIGINAL", "PRIMARY", kind]} for kind in "RI"],
        [{"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"]}],
        [{"ComplexImageComponent": kind} for kind in ("MAGNITUDE", "PHASE")],
        [{"EchoTime": "2.3"}, {"EchoTime": "4.6"}, {"EchoTime": "6.9"}],
        [{}, {"RescaleType": "HZ"}],
        [{"ge": 2}, {"ge": 5}],
    )
    files, images = [], []
    for number, kind in enumerate(kinds):
        of_kind = Scan(
            dice, base.place, base.storage, base.storage.draw(dice, base.slices, base.times),
            base.common | {key: value for key, value in kind.items() if key != "ge"}, base.each, base.frame_time,
        )  # fmt: skip
        for file in of_kind.files():
            file.name = f"{number}{file.name}"
            file.data.InstanceNumber += number * base.slices * base.times
            if "ge" in kind:
                block = file.data.private_block(0x0043, "GEMS_PARM_01", create=True)
                block.add_new(0x30, "SS", kind["ge"])
            files.append(file)
        images.append(of_kind.expected())
    return files, Truth(images)


def derived_average(dice: Dice) -> tuple[list[File], Truth]:
    """A series, and the average of each of its slices as one more time."""
    base = dice.pick(gated_cine, dynamic)(dice)
    average = Scan(
        dice, base.place, base.storage, base.storage.draw(dice, base.slices, 1),
        base.common | {"ImageType": ["DERIVED", "PRIMARY", "M", "ND", "MEAN"]},
        lambda z, t: base.each(z, base.times - 1) | {"InstanceNumber": 900 + z}, None,
    )  # fmt: skip
    files = base.files()
    for number, file in enumerate(average.files()):
        file.name = f"avg{number}.dcm"
        files.append(file)
    return files, Truth([base.expected(), average.expected()])


def doubled(dice: Dice) -> tuple[list[File], Truth]:
    """Images that are there twice, under the same UID or another, with the same number or the next ones."""
    base = dice.pick(volume, gated_cine)(dice)
    files = base.files()
    kind = dice.pick("uid", "number", "next")
    again = base.files()
    for file in again:
        file.name = f"copy/{file.name}"
        if kind == "next":
            file.data.InstanceNumber += len(again)
    if kind == "uid":
        uids = {
            (str(f.data.ImagePositionPatient), str(f.data.get("TriggerTime"))): f.data.SOPInstanceUID for f in files
        }
        for file in again:
            file.data.SOPInstanceUID = uids[str(file.data.ImagePositionPatient), str(file.data.get("TriggerTime"))]
    return files + again, Truth(refused=("twice", "tells their times apart", "tells them apart"))


def stations(dice: Dice) -> tuple[list[File], Truth]:
    """Two places in the plane, as of a moved table: two images."""
    base = dice.pick(volume, dynamic)(dice)
    second = Place(dice, base.slices)
    second.__dict__.update(base.place.__dict__)
    second.corner = base.place.corner + base.place.row * 150 + base.place.column * float(dice.pick(0, 40))
    other = Scan(
        dice, second, base.storage, base.storage.draw(dice, base.slices, base.times), base.common,
        base.each, base.frame_time,
    )  # fmt: skip
    files = base.files()
    for file in other.files():
        file.name = f"b{file.name}"
        file.data.InstanceNumber += base.slices * base.times
        files.append(file)
    return files, Truth([base.expected(), other.expected()])


def two_origins(dice: Dice) -> tuple[list[File], Truth]:
    """Two series under one SeriesInstanceUID: other number, patient, study or frame of reference."""
    base = dice.pick(volume, gated_cine)(dice)
    change = dice.pick(
        {"SeriesNumber": 5}, {"PatientID": "8"}, {"StudyInstanceUID": dice.uid()}, {"FrameOfReferenceUID": dice.uid()}
    )
    other = Scan(
        dice, base.place, base.storage, base.storage.draw(dice, base.slices, base.times), base.common | change,
        base.each, base.frame_time,
    )  # fmt: skip
    files = base.files()
    for file in other.files():
        file.name = f"b{file.name}"
        files.append(file)
    return files, Truth([base.expected(), other.expected()])


def slice_tracking(dice: Dice) -> tuple[list[File], Truth]:
    """A slice that follows the motion in its plane: no grid."""
    base = gated_cine(dice)
    shift, row, position = float(dice.rng.uniform(0.3, 2)), base.place.row, base.place.position
    base.each = merged(base.each, lambda z, t: {"ImagePositionPatient": ds(position(z) + row * shift * t)})
    return base.files(), Truth(refused=("moves in its plane", "beside each other"))


def uneven(dice: Dice) -> tuple[list[File], Truth]:
    """Slices beside even places, or one missing: refused."""
    base = volume(dice)
    while base.slices < 4:
        base = volume(dice)
    place = base.place
    place.along = place.along.copy()
    kind = dice.pick("shifted", "gap")
    at = dice.whole(1, base.slices - 2)
    if kind == "shifted":
        place.along[at] += place.gap * float(dice.rng.uniform(0.1, 0.4))
        return base.files(), Truth(refused=("not evenly spaced",))
    place.along[at:] += place.gap
    return base.files(), Truth(refused=("not evenly spaced",))


def other_objects(dice: Dice) -> tuple[list[File], Truth]:
    """A scan beside objects that are no images to read, some in its own series."""
    base = dice.pick(*SCANS)(dice)
    files = base.files()
    names = []
    kinds = {
        "RT Dose": ("1.2.840.10008.5.1.4.1.1.481.2", True, 3),
        "Ultrasound Multi-frame Image": ("1.2.840.10008.5.1.4.1.1.3.1", True, 4),
        "X-Ray Angiographic Image": ("1.2.840.10008.5.1.4.1.1.12.1", True, 2),
        "Nuclear Medicine Image": ("1.2.840.10008.5.1.4.1.1.20", True, 2),
        "VL Whole Slide Microscopy Image": ("1.2.840.10008.5.1.4.1.1.77.1.6", True, 2),
        "Secondary Capture Image": ("1.2.840.10008.5.1.4.1.1.7", True, 1),
        "Comprehensive SR": ("1.2.840.10008.5.1.4.1.1.88.33", False, 1),
        "Segmentation": ("1.2.840.10008.5.1.4.1.1.66.7", True, 2),
        "RT Structure Set": ("1.2.840.10008.5.1.4.1.1.481.3", False, 1),
        "Encapsulated PDF": ("1.2.840.10008.5.1.4.1.1.104.1", False, 1),
    }
    for n in range(dice.whole(1, 3)):
        name = dice.pick(*kinds)
        sop_class, pixels, frames = kinds[name]
        data = base.header(0, 0) if pixels else Dataset()
        data.SOPClassUID, data.SOPInstanceUID = sop_class, dice.uid()
        data.StudyInstanceUID = base.common["StudyInstanceUID"]
        data.SeriesInstanceUID = base.common["SeriesInstanceUID"] if dice.chance(0.3) else dice.uid()
        data.SeriesNumber, data.InstanceNumber = 90 + n, 1
        if pixels:
            data.PixelData = data.PixelData * frames
            data["PixelData"].VR = "OW"
            data.NumberOfFrames = frames
            if name not in ("RT Dose", "Segmentation"):
                del data.ImageOrientationPatient, data.ImagePositionPatient
        files.append(File(f"other{n}.dcm", data))
        names.append(name)
    return files, Truth([base.expected()], objects=tuple(names))


def colour(dice: Dice) -> tuple[list[File], Truth]:
    base = volume(dice)
    base.common |= {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    return base.files(), Truth(refused=("colour",))


def enhanced(dice: Dice) -> tuple[list[File], Truth]:
    """One multi-frame object, frames in random order; times in one of the ways that enhanced objects know."""
    slices, times, step = dice.whole(1, 3), dice.whole(2, 6), round(float(dice.rng.uniform(20, 60)), 1)
    place, storage = Place(dice, slices), Storage.drawn(dice)
    storage.table = None
    kinds = dice.pick(1, 1, 2)
    way = dice.pick("nominal", "actual", "position", "offset", "clock", "zone", "index")
    begin, zone = start(dice), dice.pick("+0130", "-0500")
    stored = [storage.draw(dice, slices, times) for _ in range(kinds)]
    data, groups, pixels = Dataset(), [], []
    for number in dice.rng.permutation(kinds * slices * times):
        k, z, t = np.unravel_index(int(number), (kinds, slices, times))
        content, group = Dataset(), Dataset()
        moment = begin + timedelta(milliseconds=step * int(t))
        if way in ("clock", "zone"):
            content.FrameAcquisitionDateTime = "".join(dates(moment)) + (zone if way == "zone" else "")
        if way in ("position", "offset"):
            content.TemporalPositionIndex = int(t) + 1
        if way == "index":
            content.DimensionIndexValues = [int(z) + 1, int(t) + 1]
        group.FrameContentSequence = [content]
        if way == "offset":
            group.TemporalPositionSequence = [item(TemporalPositionTimeOffset=step * int(t) / 1000)]
        if way in ("nominal", "actual"):
            name = f"{way.title()}CardiacTriggerDelayTime"
            group.CardiacSynchronizationSequence = [item(**{name: step * int(t)})]
        group.PlanePositionSequence = [item(ImagePositionPatient=ds(place.position(int(z))))]
        types = item(FrameType=["ORIGINAL", "PRIMARY", "FLOW", "NONE"])
        if kinds > 1:
            types.ComplexImageComponent = ("MAGNITUDE", "PHASE")[k]
        group.MRImageFrameTypeSequence = [types]
        groups.append(group)
        pixels.append(storage.encode(stored[k][z, t])[: ROWS * COLUMNS * storage.allocated // 8])
    shared = Dataset()
    shared.PixelMeasuresSequence = [item(PixelSpacing=ds(place.spacing), SliceThickness="5",
                                         SpacingBetweenSlices=f"{place.gap:g}")]  # fmt: skip
    shared.PlaneOrientationSequence = [item(ImageOrientationPatient=ds([*place.row, *place.column]))]
    word = ["MOSAIC"] if dice.chance(0.2) else []
    for name, value in {
        **identity(dice), "SOPClassUID": ENHANCED, "SOPInstanceUID": dice.uid(), "Modality": "MR", "SeriesNumber": 3,
        "ImageType": ["ORIGINAL", "PRIMARY", "FLOW", "NONE", *word], "PatientID": "7", "InstanceNumber": 1,
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "Rows": ROWS, "Columns": COLUMNS,
        "NumberOfFrames": len(groups), "SharedFunctionalGroupsSequence": [shared],
        "PerFrameFunctionalGroupsSequence": groups,
    }.items():  # fmt: skip
        setattr(data, name, value)
    storage.describe(data)
    data.PixelData = b"".join(pixels)
    data["PixelData"].VR = "OW"
    known = None if way in ("position", "index") or times < 2 else step / 1000
    images = [Scan(dice, place, storage, each, {}, lambda z, t: {}, known).expected() for each in stored]
    return [File("enhanced.dcm", data)], Truth(images)


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


def mosaic(dice: Dice) -> tuple[list[File], Truth]:
    """Siemens mosaic with its CSA header, its word or private elements; without the header it must be refused."""
    slices, times, begin = dice.whole(2, 7), dice.whole(1, 4), start(dice)
    storage = Storage(16, 12, False)
    place = Place(dice, slices)
    side = int(np.ceil(np.sqrt(slices)))
    stored = storage.draw(dice, slices, times)
    hidden = np.array([ROWS, COLUMNS]) * (side - 1) / 2
    corner = place.corner - place.column * place.spacing[0] * hidden[0] - place.row * place.spacing[1] * hidden[1]
    word, csa, private = dice.chance(0.6), dice.chance(0.75), dice.chance(0.5)
    if not word and not private:
        private = True
    downward = dice.chance(0.3)
    first = corner + place.normal * place.gap * (slices - 1) if downward else corner
    common = identity(dice)
    normal = -place.normal if downward else place.normal
    files = []
    for t in range(times):
        picture = np.zeros((side * ROWS, side * COLUMNS), np.int64)
        for k in range(slices):
            z = slices - 1 - k if downward else k
            r, c = divmod(k, side)
            picture[r * ROWS : (r + 1) * ROWS, c * COLUMNS : (c + 1) * COLUMNS] = stored[z, t]
        timed = clocks(dice, lambda z, t: begin + timedelta(seconds=2 * t))
        one = Scan(dice, place, storage, stored, common | {
            "Manufacturer": "SIEMENS", "AcquisitionNumber": t + 1, "InstanceNumber": t + 1,
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", *(["MOSAIC"] if word else [])],
            "Rows": picture.shape[0], "Columns": picture.shape[1], "ImagePositionPatient": ds(first),
        }, timed)  # fmt: skip
        data = one.header(0, t)
        data.PixelData = storage.encode(picture)
        if private:
            data.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", slices)
        if csa:
            header = {
                "NumberOfImagesInMosaic": ("US", [str(slices)]),
                "SliceNormalVector": ("FD", [f"{v:.8f}" for v in normal]),
                "ProtocolSliceNumber": ("IS", ["0"]),
            }
            block = data.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
            block.add_new(0x10, "OB", csa_header(header))
        files.append(File(f"M{t:03d}.dcm", data))
    if not csa:
        return files, Truth(refused=("mosaic",))
    return files, Truth(
        [Scan(dice, place, storage, stored, {}, lambda z, t: {}, 2.0 if times > 1 else None).expected()]
    )


def plain(dice: Dice) -> tuple[list[File], Truth]:
    base = dice.pick(*SCANS)(dice)
    return base.files(), Truth([base.expected()])


def shuffled_numbers(dice: Dice) -> tuple[list[File], Truth]:
    """A gated cine whose instance numbers say nothing: the trigger times do."""
    base = gated_cine(dice)
    files = base.files()
    for file, number in zip(files, dice.rng.permutation(len(files)), strict=True):
        file.data.InstanceNumber = int(number) + 1
    return files, Truth([base.expected()])


def rotated_cine(dice: Dice) -> tuple[list[File], Truth]:
    base = gated_cine(dice, rotated=True)
    return base.files(), Truth([base.expected()])


def zoned_cine(dice: Dice) -> tuple[list[File], Truth]:
    """Acquisition date-times with a zone, across midnight."""
    base = dynamic(dice)
    begin, step, zone = start(dice), base.frame_time or 1.0, dice.pick("+0900", "-0330", "+0000")

    def each(z: int, t: int) -> dict[str, Any]:
        return {"AcquisitionDateTime": "".join(dates(begin + timedelta(seconds=step * t))) + zone}

    base.each = each
    return base.files(), Truth([base.expected()])


KINDS: tuple[tuple[Callable[[Dice], tuple[list[File], Truth]], int], ...] = (
    (plain, 9), (several_kinds, 4), (derived_average, 1), (doubled, 2), (stations, 2), (two_origins, 2),
    (slice_tracking, 1), (uneven, 1), (other_objects, 2), (colour, 1), (enhanced, 4), (mosaic, 2),
    (shuffled_numbers, 1), (rotated_cine, 1), (zoned_cine, 1),
)  # fmt: skip


def no_preamble(dice: Dice, files: list[File], truth: Truth) -> None:
    some = files if dice.chance(0.5) else [dice.pick(*files)]
    syntax, meta = dice.pick(ImplicitVRLittleEndian, ExplicitVRLittleEndian), dice.chance(0.3)
    for file in some:
        file.preamble, file.syntax, file.meta = False, syntax, meta


def no_meta(dice: Dice, files: list[File], truth: Truth) -> None:
    for file in files if dice.chance(0.5) else [dice.pick(*files)]:
        file.meta, file.syntax = False, dice.pick(ImplicitVRLittleEndian, ExplicitVRLittleEndian)


def wrong_syntax(dice: Dice, files: list[File], truth: Truth) -> None:
    pairs = (
        (ImplicitVRLittleEndian, ExplicitVRLittleEndian), (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
        (ExplicitVRLittleEndian, "1.2.840.10008.1.2.4.70"), (ExplicitVRLittleEndian, "1.2.840.10008.1.2.5"),
    )  # fmt: skip
    syntax, stated = dice.pick(*pairs)
    for file in files if dice.chance(0.5) else [dice.pick(*files)]:
        file.syntax, file.stated = syntax, stated


def deflated(dice: Dice, files: list[File], truth: Truth) -> None:
    for file in files:
        file.syntax = DeflatedExplicitVRLittleEndian


def packed(dice: Dice, files: list[File], truth: Truth) -> None:
    for file in files if dice.chance(0.3) else [dice.pick(*files)]:
        file.name += ".gz"
        file.change = lambda content: gzip.compress(content, 1)


def dotted(dice: Dice, files: list[File], truth: Truth) -> None:
    for file in files if dice.chance(0.3) else [dice.pick(*files)]:
        path = Path(file.name)
        file.name = str(path.with_name(f".{path.name}"))


MAY_MISS = (
    "may be a part",
    "cannot be read",
    "holes",
    "not evenly",
    "damaged",
    "bytes are missing",
    "tells",
    "holds no DICOM",
)


def cut(dice: Dice, files: list[File], truth: Truth) -> None:
    """One file ends early, anywhere, or is empty: the rest must not pass for the whole."""
    where = dice.pick("empty", "preamble", "header", "pixels", "anywhere")
    file = dice.pick(*(f for f in files if not f.name.startswith("other")))

    def change(content: bytes) -> bytes:
        length = {"empty": 0, "preamble": dice.whole(1, 131), "header": dice.whole(140, len(content) - 110),
                  "pixels": len(content) - dice.whole(1, ROWS * COLUMNS - 2),
                  "anywhere": dice.whole(1, len(content) - 1)}[where]  # fmt: skip
        return content[:length]

    file.change = change
    truth.refused = (*truth.refused, *MAY_MISS)


def missing(dice: Dice, files: list[File], truth: Truth) -> None:
    """A file is not there: a hole, or a smaller series that says so where its numbers do."""
    gone = dice.pick(*(f for f in files if not f.name.startswith("other")))
    files.remove(gone)
    truth.refused = (*truth.refused, "holes", "not evenly", "holds no DICOM", "tells", "twice")
    numbers = [f.data.InstanceNumber for f in files if not f.name.startswith("other")]
    truth.part_told = bool(numbers) and min(numbers) < gone.data.InstanceNumber < max(numbers)


def clutter(dice: Dice, files: list[File], truth: Truth) -> None:
    """Files that are no DICOM, and a whole image of another study in another folder."""


BREAKS: tuple[tuple[Callable[[Dice, list[File], Truth], None] | None, int], ...] = (
    (None, 14), (no_preamble, 2), (no_meta, 1), (wrong_syntax, 2), (deflated, 1), (packed, 1), (dotted, 1), (cut, 4),
    (missing, 2), (clutter, 2),
)  # fmt: skip


@dataclass
class Folder:
    """A folder drawn from a seed: its path, how it was made, and the truth."""

    path: Path
    kind: str
    broken: str
    truth: Truth


def _weighted(dice: Dice, table: Any) -> Any:
    weights = np.array([weight for _, weight in table], float)
    return table[int(dice.rng.choice(len(table), p=weights / weights.sum()))][0]


def draw_folder(parent: Path, seed: int) -> Folder:
    """Write the folder of a seed below a folder, sometimes as a zip archive or in subfolders."""
    dice = Dice(seed)
    kind, broken = _weighted(dice, KINDS), _weighted(dice, BREAKS)
    files, truth = kind(dice)
    if broken is not None:
        broken(dice, files, truth)
    path = parent / f"f{seed}"
    path.mkdir(parents=True)
    nested = dice.chance(0.15)
    for number, file in enumerate(files):
        target = path / (f"part{number % 2}" if nested and broken is not cut else ".") / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content())
    if broken is clutter:
        _litter(dice, path)
    if dice.chance(0.15):
        path = _as_zip(path)
    return Folder(path, kind.__name__, broken.__name__ if broken else "whole", truth)


def _litter(dice: Dice, path: Path) -> None:
    (path / "README").write_text("what lies here was exported on a Wednesday\n" * 9)
    (path / "report.pdf").write_bytes(b"%PDF-1.4\n" + dice.rng.bytes(400))
    (path / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" + dice.rng.bytes(300))
    (path / "labels.nii.gz").write_bytes(gzip.compress(b"\x5c\1\0\0" + bytes(500)))
    (path / "._IM0000.dcm").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(60))


def _as_zip(path: Path) -> Path:
    packed = path.with_suffix(".zip")
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted(path.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(path))
    return packed


def verdict(folder: Folder) -> str:
    """Read a folder as the library does and compare with its truth: ``read``, ``refused``, or what is wrong."""
    truth = folder.truth
    try:
        contents = list_series(folder.path)
    except CrnnError as error:
        return _refusal(str(error), truth) or "refused"
    if sorted(Counter(contents.objects).elements()) != sorted(truth.objects):
        return f"WRONG: objects {dict(contents.objects)}, not {truth.objects}"
    refusals, left = [], list(truth.images)
    for series in contents.series:
        try:
            image, _, chosen = read_series(folder.path, str(series.number))
        except CrnnError as error:
            refusals.append(str(error))
            continue
        wrong = _take(image, chosen, left, truth)
        if wrong:
            return f"WRONG: series {series.number} {wrong}"
    wrong = next((found for text in refusals if (found := _refusal(text, truth))), "")
    if wrong:
        return wrong
    return f"WRONG: {len(left)} images were not read" if left and not refusals else "refused" if refusals else "read"


def _refusal(text: str, truth: Truth) -> str:
    return "" if any(word in text for word in truth.refused) else f"WRONG: refused: {text[:300]}"


def _take(image: Image, series: Series, left: list[Expected], truth: Truth) -> str:
    """Take the image that was read from those that are left; why it is none of them, or ""."""
    values = image.array if image.array.ndim == 4 else image.array[..., None]
    nearest = "no image like it is there"
    for n, expected in enumerate(left):
        if expected.values.shape == values.shape and np.allclose(values, expected.values, rtol=1e-6, atol=1e-3):
            differs = np.abs(image.affine - expected.affine).max()
            if differs > 1e-3:
                nearest = f"lies {differs:.3g} beside its place"
                continue
            time = expected.frame_time
            if time is not None and (image.frame_time is None or abs(image.frame_time - time) > 1e-3 * time):
                return f"frame time {image.frame_time}, not {time}"
            del left[n]
            return ""
    if truth.part_told is None or not any(_is_part(values, expected.values) for expected in left):
        return f"{nearest} ({values.shape}, ordered by {series.ordered_by})"
    told = any(isinstance(each, Doubt) and each.code in TOLD for each in series.remarks)
    del left[next(n for n, expected in enumerate(left) if _is_part(values, expected.values))]
    return "is a part, and nothing says so" if truth.part_told and not told else ""


TOLD = ("dicom-series-incomplete", "uneven-frame-times")


def _is_part(values: np.ndarray, whole: np.ndarray) -> bool:
    """Whether values are a whole but for its first or last slice, or for one of its times."""
    parts = [whole[:, :, 1:], whole[:, :, :-1], *(np.delete(whole, t, 3) for t in range(whole.shape[3]))]
    return any(part.shape == values.shape and np.allclose(part, values, rtol=1e-6, atol=1e-3) for part in parts)
