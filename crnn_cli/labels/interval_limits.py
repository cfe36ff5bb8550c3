"""Limits of the intervals of numbers of the heart, as a model's config.json holds them; see `crnn_cli.cardiac`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NUMBERS = (
    "left.edv", "left.esv", "left.stroke_volume", "left.ejection_fraction", "left.mass_ed", "left.mass_es",
    "right.edv", "right.esv", "right.stroke_volume", "right.ejection_fraction",
)  # fmt: skip
"""Numbers that may have a limit: side and name."""


@dataclass(frozen=True)
class IntervalLimits:
    """Limits of a model; `crnn_cli.cardiac.intervals` makes intervals of them.

    Attributes
    ----------
    level : probability that an interval holds the manual number, 0 to 1.
    group_level : the same in each group of diseases; 0 where groups were not looked at.
    patients : of the calibration; none of them was trained on.
    least_doubt : doubt of labels of a predicted Dice of 1, above 0.
    limits : by number, of `NUMBERS`.
    """

    level: float
    group_level: float
    patients: int
    least_doubt: float
    limits: Mapping[str, float]
