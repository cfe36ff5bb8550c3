"""The labels of a map: value, name, colour."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Label:
    """One structure of a label map.

    value : in the map, 1 to 255; 0 is the background and has no entry. colour : red, green, blue, 0 to 255 each.
    code, modifier : what it is and which part of it in a coding scheme: (scheme, value, meaning), such as
    ("SCT", "5366008", "Hippocampus") and ("SCT", "255549009", "Anterior"); None where nobody said.
    """

    value: int
    name: str
    colour: tuple[int, int, int]
    code: tuple[str, str, str] | None = None
    modifier: tuple[str, str, str] | None = None
