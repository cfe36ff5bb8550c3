"""Chambers: which values of a cardiac label map are the left cavity, the myocardium and the right cavity."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from crnn_cli.errors import Param, UnsupportedDataError, UsageError

LEFT, MYOCARDIUM, RIGHT = "left ventricle", "myocardium", "right ventricle"
"""Names of the three structures, as the published model gives them."""

CODES = {LEFT: "87878005", MYOCARDIUM: "49848007", RIGHT: "53085002"}
"""SNOMED CT codes of the structures."""
CONVENTIONS: dict[str, dict[str, int]] = {
    "acdc": {RIGHT: 1, MYOCARDIUM: 2, LEFT: 3},
    "mnms": {LEFT: 1, MYOCARDIUM: 2, RIGHT: 3},
    "ukbb": {LEFT: 1, MYOCARDIUM: 2, RIGHT: 4},
}
"""Values of data sets: ACDC (Bernard et al. 2018), M&Ms (Campello et al. 2021), UK Biobank (Bai et al. 2018)."""

_ABBREVIATIONS = {"lv": LEFT, "myo": MYOCARDIUM, "rv": RIGHT}
_CAVITIES = (
    "{}", "{} cavity", "{} blood pool", "{} bloodpool", "{} endocardium", "{} endo", "{}c", "{}bp", "{} bp",
)  # fmt: skip
_WORDS = {
    LEFT: tuple(each.format(side) for side in (LEFT, "left ventricular", "lv") for each in _CAVITIES),
    MYOCARDIUM: (
        MYOCARDIUM, "myo", "lv myocardium", "left ventricular myocardium", "left ventricle myocardium", "lvm", "lv myo",
        "lv wall", "left ventricular wall", "left ventricle wall",
    ),
    RIGHT: tuple(each.format(side) for side in (RIGHT, "right ventricular", "rv") for each in _CAVITIES),
}  # fmt: skip


@dataclass(frozen=True)
class Chambers:
    """Values of the structures in a label map; None for one that it does not have.

    The left cavity is without papillary muscles and trabeculae or with them, as the labels were made: by the convention
    of ACDC, which the published model follows, they belong to the cavities.
    """

    left: int | None = None
    myocardium: int | None = None
    right: int | None = None

    def named(self) -> dict[str, int]:
        """Values by the names of the structures that are there."""
        values = {LEFT: self.left, MYOCARDIUM: self.myocardium, RIGHT: self.right}
        return {name: value for name, value in values.items() if value is not None}


def parse_chambers(text: str) -> Chambers:
    """Chambers of a convention, or of a list of values.

    >>> parse_chambers("acdc")
    Chambers(left=3, myocardium=2, right=1)
    >>> parse_chambers("1=RV,2=MYO,3=LV") == parse_chambers("acdc")
    True

    Raises
    ------
    UsageError
        If it is neither, or a value or structure occurs twice.
    """
    if text.lower() in CONVENTIONS:
        return _chambers(CONVENTIONS[text.lower()])
    remedy = (f"use {', '.join(CONVENTIONS)}, or a list such as 1=RV,2=MYO,3=LV",)
    values: dict[str, int] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})\s*=\s*([A-Za-z]+)\s*", part)
        name = None if match is None else _ABBREVIATIONS.get(match[2].lower())
        if match is None or name is None or int(match[1]) == 0:
            raise UsageError(Param("labels", text), " is not understood", remedy=remedy)
        if name in values or int(match[1]) in values.values():
            raise UsageError(Param("labels", text), " names a value or a structure twice", remedy=remedy)
        values[name] = int(match[1])
    return _chambers(values)


def find_chambers(names: Mapping[int, str], source: str) -> Chambers:
    """Chambers by the names of labels, as a report, a DICOM SEG or a `crnn_cli.LabelImage` holds them.

    >>> find_chambers({1: "right ventricle", 2: "Myocardium", 3: "LV"}, "labels.nii.gz")
    Chambers(left=3, myocardium=2, right=1)

    Parameters
    ----------
    names : of the labels, by value.
    source : the label map, for messages.

    Raises
    ------
    UnsupportedDataError
        If no label has the name of a ventricle.
    """
    known = {" ".join(re.sub("[_-]", " ", name.lower()).split()): value for value, name in names.items()}
    values = {
        structure: known[word] for structure, words in _WORDS.items() for word in reversed(words) if word in known
    }  # fmt: skip
    if LEFT not in values and RIGHT not in values:
        held = f"its labels are {', '.join(names.values())}" if names else "nothing says what its values mean"
        raise UnsupportedDataError(
            f"{source} has no label that is called a ventricle: {held}",
            remedy=(
                "say what the values are with ",
                Param("labels", "acdc"),
                ", or ",
                Param("labels", "1=RV,2=MYO,3=LV"),
            ),
        )
    return _chambers(values)


def _chambers(values: Mapping[str, int]) -> Chambers:
    return Chambers(values.get(LEFT), values.get(MYOCARDIUM), values.get(RIGHT))
