"""Labels of a label map: value, name, colour and code."""

from __future__ import annotations

from dataclasses import dataclass


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
