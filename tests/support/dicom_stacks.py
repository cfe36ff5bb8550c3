"""Cardiac studies drawn at random, with a stack of one series for each slice, and the truth about it.

A study is of a vendor (how its headers tell slices and phases), and a case: whole, slices in any order, missing or
repeated, numbers of frames or cycles that differ, a second stack, headers that have lost what they need. Beside the
stack lie long-axis cines, localisers in three directions, volumes and single images. The truth comes from the numbers
that the headers were made from.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from crnn_cli.errors import CrnnError
from crnn_cli.io.dicom.read import list_series, read_series
from tests.support.dicom_scans import (
    ENHANCED,
    START,
    Dice,
    Expected,
    File,
    Place,
    Scan,
    Storage,
    dates,
    ds,
    item,
)  # fmt: skip


@dataclass
class Cine:
    """What the series of one slice of a stack is made from.

    place : index along the normal. moment : seconds after the start of the study. trigger : ms, one for each frame.
    first, first_position : instance number, and temporal position, before the first.
    """

    place: int
    moment: float
    number: int
    trigger: np.ndarray
    stored: np.ndarray
    first: int = 0
    first_position: int = 0
    more: dict[str, Any] = field(default_factory=dict)


@dataclass
class StackTruth:
    """What reading a study must give.

    stack : of the whole, None where it must be refused. refused : words, one of which the refusal must have. listed :
    images that the rows of the listing must be, whatever the whole is. codes : of remarks that the stack must have.
    """

    stack: Expected | None = None
    refused: tuple[str, ...] = ()
    listed: list[Expected] = field(default_factory=list)
    codes: tuple[str, ...] = ()


class Study:
    """A study under construction: a stack as cines of one slice each, and what lies beside it."""

    def __init__(self, seed: int) -> None:
        self.dice = dice = Dice(seed)
        self.vendor = dice.pick(*VENDORS)
        self.slices, self.frames = dice.whole(4, 6), dice.whole(5, 6)
        self.place = Place(dice, self.slices)
        self.storage = Storage(16, dice.pick(12, 16), False)
        self.common: dict[str, Any] = {
            "StudyInstanceUID": dice.uid(), "FrameOfReferenceUID": dice.uid(), "PatientID": "7",
            "ScanningSequence": "GR", "SequenceVariant": ["SK", "SS"], "SliceThickness": "6", "ScanOptions": "CG",
        }  # fmt: skip
        if dice.chance(0.3):
            self.common["SpacingBetweenSlices"] = None
        self.digits = dice.pick(10, 6, 4, 3)
        """Decimals that positions are rounded to."""
        self.cycle = float(dice.rng.uniform(600, 1100))
        self.files: list[File] = []
        self.truth = StackTruth()
        self.tries = 0
        self.shuffled, self.running = dice.chance(0.2), dice.chance(0.3)
        order = dice.pick(np.arange(self.slices), np.arange(self.slices)[::-1], dice.rng.permutation(self.slices))
        self.cines = [self.cine(int(z), n) for n, z in enumerate(order)]

    def cine(self, z: int, n: int, frames: int | None = None, cycle: float | None = None) -> Cine:
        """A slice that is measured as the n-th: its cycle differs by some per cent from that of the others."""
        dice, frames = self.dice, frames or self.frames
        cycle = cycle or self.cycle * float(dice.rng.uniform(0.93, 1.07))
        trigger = np.round(dice.rng.uniform(0, 0.4) * cycle / frames + np.arange(frames) * cycle / frames, 1)
        stored = self.storage.draw(dice, 1, frames)
        return Cine(z, 20.0 * n, 10 + n, trigger, stored)

    def place_of(self, z: int) -> Place:
        """Place of one slice alone."""
        place = object.__new__(Place)
        place.__dict__.update(self.place.__dict__)
        place.__dict__.pop("position", None)
        place.corner, place.along, place.order = self.place.position(z), np.zeros(1), 1
        return place

    def expected(self, cines: list[Cine], gap: float | None = None) -> Expected:
        """The stack of cines, in the order of their places."""
        cines = sorted(cines, key=lambda each: each.place)
        values = np.stack([self.storage.shown(each.stored[0]) for each in cines])  # slice, time, row, column
        affine = self.place.affine()
        affine[:3, 3] = np.diag([-1, -1, 1]) @ self.place.position(cines[0].place)
        if gap is not None:
            affine[:3, 2] *= gap / self.place.gap
        step = float(np.median([np.diff(each.trigger) for each in cines])) / 1000
        return Expected(values.transpose(3, 2, 0, 1).astype(float), affine, step)

    def add(self, cine: Cine, place: Place | None = None) -> None:
        """Write the series of one slice, as its vendor does."""
        dice, series = self.dice, self.dice.uid()
        place = place or self.place_of(cine.place)
        start = START + timedelta(seconds=cine.moment)
        times = cine.stored.shape[1]
        numbers = _shuffled(dice, times) if self.shuffled else np.arange(times)

        def each(z: int, t: int) -> dict[str, Any]:
            passed = float(cine.trigger[t]) if self.running and not self.shuffled else 0.0
            day, clock = dates(start + timedelta(milliseconds=passed))
            found = {
                "SeriesInstanceUID": series, "SeriesNumber": cine.number,
                "InstanceNumber": cine.first + int(numbers[t]) + 1,
                "TriggerTime": f"{cine.trigger[t]:g}", "AcquisitionDate": day, "AcquisitionTime": clock,
                "SeriesDescription": f"cine_sax_{cine.number}", "CardiacNumberOfImages": times,
                "ImagePositionPatient": ds(np.round(place.position(z), self.digits)),
            }  # fmt: skip
            if self.vendor == "philips":
                found |= {"TemporalPositionIdentifier": cine.first_position + t + 1, "NumberOfTemporalPositions": times}
            return found | cine.more

        scan = Scan(dice, place, self.storage, cine.stored, self.common, each)
        files = [as_enhanced(scan, cine.first_position)] if self.vendor == "enhanced" else scan.files()
        self.keep(files)

    def keep(self, files: list[File]) -> None:
        """Take the files of a series, in a folder of its own or beside all others."""
        self.tries += 1
        for file in files:
            file.name = f"s{self.tries:02d}_{file.name}"
        self.files += files

    def beside(self) -> None:
        """Add what else a study has: long axis, localisers, a volume, a single image, a pair of parallel cines."""
        dice = self.dice
        for make in (long_axis, localiser, volume, single, pair, smaller):
            if dice.chance(0.3):
                make(self)


def _shuffled(dice: Dice, times: int) -> np.ndarray:
    """An order that is not that of two beats one after the other, which a real-time series has."""
    while True:
        numbers = dice.rng.permutation(times)
        if (np.diff(numbers) < 0).sum() > 1 and (np.diff(np.argsort(numbers)) < 0).sum() > 1:
            return numbers


def as_enhanced(scan: Scan, before: int = 0) -> File:
    """The frames of a slice as one multi-frame object, in random order; before : temporal positions before them."""
    times = scan.stored.shape[1]
    headers = [scan.header(0, t) for t in range(times)]
    data, groups, pixels = headers[0], [], b""
    for t in _shuffled(scan.dice, times):
        one = headers[t]
        group = Dataset()
        group.FrameContentSequence = [item(TemporalPositionIndex=before + int(t) + 1)]
        group.CardiacSynchronizationSequence = [item(NominalCardiacTriggerDelayTime=float(one.TriggerTime))]
        group.PlanePositionSequence = [item(ImagePositionPatient=one.ImagePositionPatient)]
        group.MRImageFrameTypeSequence = [item(FrameType=["ORIGINAL", "PRIMARY", "CARDIAC", "NONE"])]
        groups.append(group)
        pixels += one.PixelData
    shared = Dataset()
    shared.PixelMeasuresSequence = [item(PixelSpacing=data.PixelSpacing, SliceThickness="6")]
    shared.PlaneOrientationSequence = [item(ImageOrientationPatient=data.ImageOrientationPatient)]
    data = Dataset({element.tag: element for element in data})
    for keyword in ("TriggerTime", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        del data[keyword]
    data.SOPClassUID, data.NumberOfFrames, data.InstanceNumber = ENHANCED, times, 1
    data.ImageType = ["ORIGINAL", "PRIMARY", "CARDIAC", "NONE"]
    data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence = [shared], groups
    data.PixelData = pixels
    data["PixelData"].VR = "OW"
    return File("enhanced.dcm", data)


VENDORS = ("siemens", "siemens", "siemens", "philips", "enhanced")


# --- beside the stack


def _turned(study: Study, slices: int = 1) -> Place:
    """A place of another direction."""
    place = Place(study.dice, slices)
    q, r = np.linalg.qr(study.dice.rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    place.row, place.column, place.normal = q[:, 0], q[:, 1], np.cross(q[:, 0], q[:, 1])
    place.spacing = study.place.spacing
    return place


def long_axis(study: Study) -> None:
    for n in range(study.dice.whole(1, 3)):
        cine = study.cine(0, 100 + n)
        study.add(cine, _turned(study))


def pair(study: Study) -> None:
    """Two parallel long-axis views, which are no stack."""
    place = _turned(study)
    for n in range(2):
        study.add(study.cine(0, 110 + n), place)
        place.corner = place.corner + place.normal * 8


def localiser(study: Study) -> None:
    """Three directions in one series, one image each."""
    series = study.dice.uid()
    for n in range(3):
        place = _turned(study)
        each = {"SeriesInstanceUID": series, "SeriesNumber": 1, "InstanceNumber": n + 1, "TriggerTime": None}
        stored = study.storage.draw(study.dice, 1, 1)
        scan = Scan(study.dice, place, study.storage, stored, study.common, lambda z, t, each=each: each)
        study.keep(scan.files())


def volume(study: Study) -> None:
    """Slices of one time in the directions of the stack, such as late enhancement."""
    series, slices = study.dice.uid(), study.slices
    each = {
        "SeriesInstanceUID": series, "SeriesNumber": 90, "SequenceVariant": ["SP", "MP"], "TriggerTime": "600",
        "EchoTime": "3.2",
    }  # fmt: skip
    stored = study.storage.draw(study.dice, slices, 1)
    scan = Scan(study.dice, study.place, study.storage, stored, study.common, lambda z, t: each)
    study.keep(scan.files())


def single(study: Study) -> None:
    """One image in the place of a slice, such as a map."""
    each = {"SeriesInstanceUID": study.dice.uid(), "SeriesNumber": 91, "TriggerTime": "500", "InstanceNumber": 1}
    stored = study.storage.draw(study.dice, 1, 1)
    scan = Scan(study.dice, study.place_of(1), study.storage, stored, study.common, lambda z, t: each)
    study.keep(scan.files())


def smaller(study: Study) -> None:
    """A cine in the place of a slice with other pixels."""
    place = study.place_of(1)
    place.spacing = (study.place.spacing[0] * 1.5, study.place.spacing[1] * 1.5)
    study.add(study.cine(1, 92), place)


# --- the cases


def whole(study: Study) -> None:
    study.truth.stack = study.expected(study.cines)


def end_missing(study: Study) -> None:
    """Nobody can know that there was another slice at the end."""
    study.cines = [each for each in study.cines if each.place < study.slices - 1]
    study.truth.stack = study.expected(study.cines)


def middle_missing(study: Study) -> None:
    at = study.dice.whole(1, study.slices - 2)
    study.cines = [each for each in study.cines if each.place != at]
    study.truth.refused = ("not evenly spaced",)


def every_other_missing(study: Study) -> None:
    """Even gaps of twice the distance are a stack."""
    while study.slices < 5:
        study.__init__(study.dice.seed + 100_000)  # type: ignore[misc]
    study.cines = [each for each in study.cines if each.place % 2 == 0]
    study.truth.stack = study.expected(study.cines, 2 * study.place.gap)


def repeated(study: Study) -> None:
    """One slice was measured again; now and then twice. The later counts, by time, or else by number."""
    dice = study.dice
    at = dice.whole(0, study.slices - 1)
    kept = [each for each in study.cines if each.place != at]
    tries = [each for each in study.cines if each.place == at]
    tries += [study.cine(at, len(study.cines) + n) for n in range(dice.whole(1, 2))]
    if dice.chance(0.3):  # reconstructed again under an earlier number: the time counts
        tries[-1].number = 3
    elif dice.chance(0.4):
        for each in (*kept, *tries):
            each.more |= {"AcquisitionDate": None, "AcquisitionTime": None}
    study.truth.stack, study.truth.codes = study.expected([*kept, tries[-1]]), ("stack-slices-repeated",)
    study.cines = [*kept, *tries]


def repeated_for_an_unknown_reason(study: Study) -> None:
    """Two series in one place under one number, without times: none is known to be the later."""
    again = study.cine(1, 50)
    again.number = next(each.number for each in study.cines if each.place == 1)
    study.cines.append(again)
    for each in study.cines:
        each.more |= {"AcquisitionDate": None, "AcquisitionTime": None}
    study.truth.refused = ("orders them",)


def measured_twice(study: Study) -> None:
    """Two whole stacks, such as rest and stress."""
    again = [study.cine(z, 30 + z, cycle=0.7 * study.cycle) for z in range(study.slices)]
    study.truth.listed = [study.expected(study.cines), study.expected(again)]
    study.truth.refused = ("holds",)
    study.cines = [*study.cines, *again]


def unequal_frames(study: Study) -> None:
    at = study.dice.whole(0, study.slices - 1)
    study.cines = [each for each in study.cines if each.place != at]
    study.cines.append(study.cine(at, 40, frames=study.frames + study.dice.pick(-2, -1, 1, 5)))
    study.truth.refused = ("numbers of frames differ",)


def unlike_cycles(study: Study) -> None:
    at = study.dice.whole(0, study.slices - 1)
    study.cines = [each for each in study.cines if each.place != at]
    study.cines.append(study.cine(at, 40, cycle=1.5 * study.cycle))
    study.truth.stack, study.truth.codes = study.expected(study.cines), ("stack-cycles-differ",)


def late_start(study: Study) -> None:
    """As many frames, but those of one slice lie later in the cycle."""
    one = study.dice.pick(*study.cines)
    one.trigger = np.round(one.trigger + 2.2 * study.cycle / study.frames, 1)
    study.truth.refused = ("after the R wave",)


def tilted(study: Study) -> None:
    """Slices that are moved beside each other in the plane."""
    shift = study.place.row * float(study.dice.rng.uniform(0.3, 4))
    study.place.position = lambda z: study.place.corner + study.place.normal * study.place.along[z] + shift * z  # type: ignore[method-assign]
    study.truth.refused = ("do not lie above each other",)


def one_beside(study: Study) -> None:
    """One slice in the middle was planned elsewhere in the plane."""
    at, straight = study.dice.whole(1, study.slices - 2), study.place.position
    shift = study.place.column * float(study.dice.rng.uniform(3, 30))
    study.place.position = lambda z: straight(z) + (shift if z == at else 0)  # type: ignore[method-assign]
    study.truth.refused = ("not evenly spaced", "do not lie above each other")


def uneven(study: Study) -> None:
    at = study.dice.whole(1, study.slices - 2)
    study.place.along = study.place.along.copy()
    study.place.along[at] += study.place.gap * float(study.dice.rng.uniform(0.1, 0.4))
    study.truth.refused = ("not evenly spaced",)


def other_matrix(study: Study) -> None:
    """A slice in the middle with other pixels: a gap in the stack of the others."""
    one = next(each for each in study.cines if each.place == 1)
    one.more |= {"PixelSpacing": ds([v * 1.3 for v in study.place.spacing])}
    study.truth.refused = ("not evenly spaced",)


def another_frame_of_reference(study: Study) -> None:
    """The patient was taken out and placed anew: two halves whose places cannot be compared."""
    while study.slices < 6:
        study.__init__(study.dice.seed + 100_000)  # type: ignore[misc]
    half, uid = study.slices // 2, study.dice.uid()
    for each in study.cines:
        each.more |= {"FrameOfReferenceUID": uid} if each.place >= half else {}
    parts = [[c for c in study.cines if (c.place >= half) is upper] for upper in (False, True)]
    study.truth.listed, study.truth.refused = [study.expected(part) for part in parts], ("holds",)


def two_patients(study: Study) -> None:
    other = [study.cine(z, 30 + z) for z in range(study.slices)]
    for each in other:
        each.more |= {"PatientID": "8", "StudyInstanceUID": "1.2.3"}
    study.truth.listed, study.truth.refused = [study.expected(study.cines), study.expected(other)], ("holds",)
    study.cines = [*study.cines, *other]


def tagged(study: Study) -> None:
    """Some slices once more with another sequence: no repeats, and too few for a stack."""
    study.truth.stack = study.expected(study.cines)
    for n, z in enumerate((1, 2)):
        again = study.cine(z, 60 + n)
        again.more |= {"SequenceVariant": ["SP"]}
        study.cines.append(again)


def tagged_stack(study: Study) -> None:
    """As many slices with another sequence: two stacks."""
    again = [study.cine(z, 60 + z) for z in range(study.slices)]
    for each in again:
        each.more |= {"SequenceVariant": ["SP"]}
    study.truth.listed, study.truth.refused = [study.expected(study.cines), study.expected(again)], ("holds",)
    study.cines = [*study.cines, *again]


def two_kinds(study: Study) -> None:
    """Every slice as two kinds of image, series by series: two stacks."""
    again = [study.cine(each.place, 0) for each in study.cines]
    for one, other in zip(study.cines, again, strict=True):
        one.more |= {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"]}
        other.more |= {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"]}
        other.moment, other.number = one.moment, one.number + 40
    study.truth.listed, study.truth.refused = [study.expected(study.cines), study.expected(again)], ("holds",)
    study.cines = [*study.cines, *again]


def without_triggers(study: Study) -> None:
    for each in study.cines:
        each.more |= {"TriggerTime": None, "CardiacNumberOfImages": None}
    study.truth.refused = ("phases of a cardiac cycle",)


def real_time(study: Study) -> None:
    """Several beats one after the other: frames of one number are not of one phase."""
    study.frames = 12
    study.cines = [study.cine(each.place, n) for n, each in enumerate(study.cines)]
    for each in study.cines:
        each.trigger = np.round((np.arange(12) * 47.0) % 230, 1)
    study.truth.refused = ("phases of a cardiac cycle",)


def damaged(study: Study) -> None:
    """A file of one slice is cut, or empty, or all files of a slice are."""
    study.truth.refused = ("cannot be read", "not evenly spaced")
    study.spoil = study.dice.pick("one", "empty", "slice")  # type: ignore[attr-defined]


def one_series(study: Study) -> None:
    """Another vendor has the whole stack in one series, which is listed beside the others, and long-axis views."""
    series = study.dice.uid()
    for each in study.cines:
        each.number, each.first = 10, each.place * study.frames
        each.more |= {"SeriesInstanceUID": series, "ImagesInAcquisition": study.slices * study.frames}
    study.truth.listed, study.truth.refused = [study.expected(study.cines)], ("holds",)
    long_axis(study)


def counted_through(study: Study) -> None:
    """Temporal positions that count on from slice to slice."""
    study.vendor = study.dice.pick("philips", "enhanced")
    for each in study.cines:
        each.first_position = each.place * study.frames
    study.truth.stack = study.expected(study.cines)


def end_differs(study: Study) -> None:
    """The slice at an end has other headers: the rest is a stack, and it is told that it may lack one."""
    end = study.dice.pick(0, study.slices - 1)
    (one,) = (each for each in study.cines if each.place == end)
    one.more |= study.dice.pick(
        {"SliceThickness": "9"}, {"EchoTime": "2.1"}, {"ImageType": ["ORIGINAL", "PRIMARY", "P"]},
        {"FrameOfReferenceUID": None}, {"SequenceVariant": ["SP"]},
    )  # fmt: skip
    study.truth.stack = study.expected([each for each in study.cines if each is not one])
    study.truth.codes = ("stack-may-lack-slices",)


def replanned(study: Study) -> None:
    """A cine at the level of a slice, later and beside it in the plane: no repeat of it."""
    study.truth.stack = study.expected(study.cines)
    place = study.place_of(1)
    place.corner = place.corner + study.place.row * float(study.dice.rng.uniform(2, 30))
    study.add(study.cine(1, 70), place)


def few(study: Study) -> None:
    """Two slices are no stack: they may be a pair of views."""
    study.cines = [each for each in study.cines if each.place < 2]
    study.truth.refused = ("holds 2 series", "holds")


Case = Callable[[Study], None]
CASES: tuple[Case, ...] = (
    whole, whole, whole, end_missing, middle_missing, every_other_missing, repeated, repeated,
    repeated_for_an_unknown_reason, measured_twice, unequal_frames, unlike_cycles, late_start, tilted, one_beside,
    uneven, other_matrix, another_frame_of_reference, two_patients, tagged, tagged_stack, two_kinds, without_triggers,
    real_time, damaged, few, one_series, counted_through, end_differs,
    replanned,
)  # fmt: skip
CLASSIC = (one_series, end_differs, real_time, without_triggers, other_matrix, two_kinds, damaged)
"""Cases that change headers which a multi-frame object keeps elsewhere."""


@dataclass
class Drawn:
    """A study on disk."""

    path: Path
    case: str
    vendor: str
    truth: StackTruth


def draw_study(parent: Path, seed: int) -> Drawn:
    """Write the study of a seed below a folder: its files side by side, in a folder for each series, or zipped."""
    study = Study(seed)
    case = CASES[seed % len(CASES)]
    if case in CLASSIC:
        study.vendor = "siemens"
    case(study)
    for cine in study.cines:
        study.add(cine)
    at = len(study.files)
    study.beside()
    path = parent / f"study{seed}"
    nested = study.dice.chance(0.4)
    spoil = getattr(study, "spoil", "")
    spoilt = study.files[0].name[:4] if spoil == "slice" else study.files[0].name if spoil else None
    for file in study.files[:at]:
        if spoilt and file.name.startswith(spoilt):
            file.change = lambda content: b"" if spoil == "empty" else content[: len(content) // 2]
    for number in study.dice.rng.permutation(len(study.files)):
        file = study.files[number]
        name = file.name.replace("_", "/", 1) if nested else f"{study.dice.whole(0, 10**6):06d}_{file.name}"
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(file.content())
    if study.dice.chance(0.15):
        path = _zipped(path)
    return Drawn(path, case.__name__, study.vendor, study.truth)


def _zipped(path: Path) -> Path:
    packed = path.with_suffix(".zip")
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted(path.rglob("*.dcm")):
            archive.write(file, file.relative_to(path))
    return packed


def verdict(study: Drawn) -> str:
    """Read a study and compare with its truth: ``joined``, ``refused``, or what is wrong."""
    truth = study.truth
    try:
        image, _, series = read_series(study.path)
    except CrnnError as error:
        text = str(error)
        if truth.stack is not None or not any(word in text for word in truth.refused):
            return f"WRONG: refused: {text[:400]}"
        return _unlisted(study) or "refused"
    if truth.stack is None:
        return f"WRONG: read {image.shape}, which was to be refused"
    wrong = _differs(image, truth.stack)
    missing = set(truth.codes) - {each.code for each in series.remarks}
    return f"WRONG: {wrong}" if wrong else f"WRONG: nothing says {missing}" if missing else "joined"


def _differs(image: Any, expected: Expected) -> str:
    """How an image differs from that expected; "" where it does not."""
    if image.array.shape != expected.values.shape:
        return f"shape {image.array.shape}, not {expected.values.shape}"
    corners = np.array([[x, y, z, 1] for x in (0, image.shape[0] - 1) for y in (0, image.shape[1] - 1)
                        for z in (0, image.shape[2] - 1)])  # fmt: skip
    beside = float(np.linalg.norm((corners @ (image.affine - expected.affine).T)[:, :3], axis=1).max())
    if beside > 1e-3:
        return f"lies {beside:.3g} mm beside its place"
    if not (image.array == expected.values).all():
        return "other voxels"
    late = abs((image.frame_time or 0) - (expected.frame_time or 0))
    return f"frame time {image.frame_time}, not {expected.frame_time}" if late > 1e-3 else ""


def _unlisted(study: Drawn) -> str:
    """Which of the images that must be rows of the listing is none; "" where all are."""
    rows = [s for s in list_series(study.path).series if s.slices > 2 and s.grid]
    images = [read_series(study.path, str(row.number))[0] for row in rows]
    for expected in study.truth.listed:
        if all(_differs(image, expected) for image in images):
            return f"WRONG: a stack of {expected.values.shape} is not listed: {[i.array.shape for i in images]}"
    return ""
