"""Labels of a label map: value, name, colour and code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LARGEST = 255
"""Largest value of a label with a name."""
COLOURS = (
    (255, 180, 0), (0, 220, 255), (220, 60, 60), (180, 60, 255), (220, 0, 180), (120, 180, 120), (180, 255, 180),
    (255, 0, 0), (220, 120, 255), (120, 220, 120),
)  # fmt: skip
"""Bright on grey, and told apart by the colour-blind too as far as so many can be."""


@dataclass(frozen=True)
class Label:
    """A structure of a label map.

    Attributes
    ----------
    value : in the map, 1 to 255; 0 is the background and has no entry.
    name : such as ``anterior hippocampus``.
    colour : red, green and blue, 0 to 255 each.
    code, modifier : the structure, and which part of it, in a coding scheme: (scheme, value, meaning), such as
        ("SCT", "5366008", "Hippocampus") and ("SCT", "255549009", "Anterior"); None where unknown.
    """

    value: int
    name: str
    colour: tuple[int, int, int]
    code: tuple[str, str, str] | None = None
    modifier: tuple[str, str, str] | None = None


def label_of(entry: dict[str, Any]) -> Label:
    """A label of plain values, as reports and files hold it; a colour or code that is none is left out.

    >>> label_of({"value": 3, "name": "left ventricle", "colour": [255, 80, 80]}).colour
    (255, 80, 80)

    Raises
    ------
    ValueError, TypeError, KeyError
        If it is none.
    """
    value, name = entry["value"], entry["name"]
    if type(value) is not int or not 0 < value <= LARGEST or not isinstance(name, str) or not name.strip():
        raise ValueError(f"{value!r} and {name!r} are no value and name of a label")
    colour = entry.get("colour")
    shown = COLOURS[(value - 1) % len(COLOURS)]
    if isinstance(colour, list) and len(colour) == 3 and all(type(c) is int and 0 <= c <= 255 for c in colour):
        shown = (colour[0], colour[1], colour[2])
    return Label(value, name, shown, _code(entry.get("code")), _code(entry.get("modifier")))


def _code(given: Any) -> tuple[str, str, str] | None:
    whole = isinstance(given, list) and len(given) == 3 and all(isinstance(part, str) and part for part in given)
    return (given[0], given[1], given[2]) if whole else None
