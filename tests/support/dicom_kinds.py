"""Kinds of DICOM folders: one scan or several, kinds of image in one, mosaics, multi-frame, other objects beside."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from tests.support.dicom_scans import (
    COLUMNS,
    ENHANCED,
    ROWS,
    SCANS,
    Dice,
    File,
    Place,
    Scan,
    Storage,
    Truth,
    clocks,
    csa_header,
    dates,
    ds,
    dynamic,
    gated_cine,
    identity,
    item,
    merged,
    start,
    volume,
)  # fmt: skip


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
    timed = clocks(dice, lambda z, t: begin + timedelta(seconds=2 * t))
    for t in range(times):
        picture = np.zeros((side * ROWS, side * COLUMNS), np.int64)
        for k in range(slices):
            z = slices - 1 - k if downward else k
            r, c = divmod(k, side)
            picture[r * ROWS : (r + 1) * ROWS, c * COLUMNS : (c + 1) * COLUMNS] = stored[z, t]
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


def study(dice: Dice) -> tuple[list[File], Truth]:
    """Two scans of one study in a folder, each a series of its own."""
    files, images = [], []
    for number in range(2):
        one = dice.pick(*SCANS)(dice)
        one.common |= {"SeriesNumber": 4 + number}
        for file in one.files():
            file.name = f"{number}{file.name}"
            files.append(file)
        images.append(one.expected())
    return files, Truth(images)


def small_differences(dice: Dice) -> tuple[list[File], Truth]:
    """One volume whose slices differ in what does not matter: words on the processing, echo times by rounding."""
    base = volume(dice)
    words = dice.pick(
        lambda z: {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", *(["ADD"] if z % 2 else [])]},
        lambda z: {"EchoTime": ("1.40", "1.41")[z % 2]}, lambda z: {"SeriesDescription": f"scan {z}"},
    )  # fmt: skip
    base.each = merged(base.each, lambda z, t: words(z))
    return base.files(), Truth([base.expected()])


def rescaled_by_frame(dice: Dice) -> tuple[list[File], Truth]:
    """Each frame with a rescale of its own."""
    base = dice.pick(volume, gated_cine, dynamic)(dice)
    base.storage.slope = base.storage.intercept = base.storage.table = None
    each = base.each
    base.each = lambda z, t: each(z, t) | {"RescaleSlope": f"{1 + t / 4:g}", "RescaleIntercept": f"{z}"}
    expected = base.expected()
    z, t = np.indices(expected.values.shape)[2:]
    expected.values = expected.values * (1 + t / 4) + z
    return base.files(), Truth([expected])


def untold_kinds(dice: Dice) -> tuple[list[File], Truth]:
    """A gated cine of two kinds of image that no header tells apart."""
    base = gated_cine(dice)
    files = base.files()
    base.stored = base.storage.draw(dice, base.slices, base.times)
    for file in base.files():
        file.name = f"b{file.name}"
        file.data.InstanceNumber += base.slices * base.times
        files.append(file)
    return files, Truth(refused=("tells them apart",))


def thickness_alone(dice: Dice) -> tuple[list[File], Truth]:
    """One slice whose spacing between slices is no length: the thickness counts."""
    base = gated_cine(dice)
    while base.slices > 1:
        base = gated_cine(dice)
    base.common |= {"SpacingBetweenSlices": dice.pick("-8", "0", None), "SliceThickness": "6"}
    base.place.gap = 6.0
    return base.files(), Truth([base.expected()])


Kind = Callable[[Dice], tuple[list[File], Truth]]
KINDS: tuple[tuple[Kind, int], ...] = (
    (plain, 9), (several_kinds, 4), (derived_average, 1), (doubled, 2), (stations, 2), (two_origins, 2),
    (slice_tracking, 1), (uneven, 1), (other_objects, 2), (colour, 1), (enhanced, 4), (mosaic, 2),
    (shuffled_numbers, 1), (rotated_cine, 1), (zoned_cine, 1), (study, 2), (small_differences, 1),
    (rescaled_by_frame, 1), (untold_kinds, 1), (thickness_alone, 1),
)  # fmt: skip
