"""Labels of a label map: value, name, colour and code."""

from __future__ import annotations

from dataclasses import dataclass

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
