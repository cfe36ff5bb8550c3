"""Folders of DICOM files drawn at random, whole or broken, the truth about each, and what the reader makes of them.

A folder is of a kind (`tests.support.dicom_kinds`), and may then be broken: without preamble or meta header, with a
wrong transfer syntax, packed, hidden, cut, or with a file missing.
"""

from __future__ import annotations

import gzip
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from crnn_cli.data.image import Image
from crnn_cli.errors import CrnnError
from crnn_cli.io.dicom.read import list_series, read_series
from crnn_cli.io.dicom.series import Series
from crnn_cli.notices import Doubt
from tests.support.dicom_kinds import KINDS
from tests.support.dicom_scans import COLUMNS, ROWS, Dice, Expected, File, Truth


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
    numbers = {int(f.data.InstanceNumber) for f in files if not f.name.startswith("other")}
    number = int(gone.data.InstanceNumber)
    truth.part_told = number - 1 in numbers and number + 1 in numbers  # no other gap shows in the numbers


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
    if broken is missing and not truth.images:
        broken = None  # what is left may be whole
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
        if _same(values, expected.values):
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
    """Whether values are a whole but for its first or last slice, for one of three slices, or for one of its times."""
    slices = range(whole.shape[2]) if whole.shape[2] <= 3 else (0, whole.shape[2] - 1)  # two slices are always even
    parts = [*(np.delete(whole, z, 2) for z in slices), *(np.delete(whole, t, 3) for t in range(whole.shape[3]))]
    return any(_same(values, part) for part in parts)


def _same(values: np.ndarray, expected: np.ndarray) -> bool:
    """Whether values are those expected: integers exactly, others as float32 holds them."""
    if values.shape != expected.shape:
        return False
    return bool((values == expected).all() if values.dtype.kind in "iu" else np.allclose(values, expected, 1e-6, 1e-3))
