"""Intervals of numbers of the heart: how far those of a model's labels lay from manual ones, on patients it never saw.

Normalised split conformal prediction. Each patient of the calibration has a score, its error divided by its doubt:

    score = |number - manual number| / (scale * doubt),     doubt = max(least doubt, 1 - predicted Dice)

The scale is 1 of an ejection fraction, whose error is in points, and the number itself of volumes and masses, whose
error grows with them. The interval of a new patient is number +- limit * scale * doubt, where the limit is the
k-th smallest of n scores, k = ceil((n + 1) * level). If patients are alike, it holds the manual number with at least
that probability. Where the labels look worse, it is wider.

References
----------
Papadopoulos, Gammerman, Vovk: "Normalized nonconformity measures for regression conformal prediction", AIA 2008.
Lei, G'Sell, Rinaldo, Tibshirani, Wasserman: "Distribution-free predictive inference for regression", JASA 113, 2018.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from crnn_cli.cardiac.chambers import LEFT, MYOCARDIUM, RIGHT
from crnn_cli.cardiac.quantities import Quantity
from crnn_cli.labels.interval_limits import IntervalLimits

_IN_POINTS = "ejection_fraction"
_LIKE = {"cardiac_output": "stroke_volume"}
"""Numbers that are another times something known; so are those by body surface."""


def doubt_of(limits: IntervalLimits, dice: Sequence[float]) -> float:
    """Doubt of labels of these predicted Dice."""
    return max(limits.least_doubt, 1 - sum(dice) / len(dice))


def with_interval(limits: IntervalLimits, name: str, quantity: Quantity, doubt: float) -> Quantity:
    """The quantity with its interval; as it is where it is refused, or the model has no limit for it.

    No end lies below 0, nor that of an ejection fraction above 100 %.

    >>> limits = IntervalLimits(0.9, 25, 0.04, {"left.ejection_fraction": 100.0, "left.edv": 2.0})
    >>> with_interval(limits, "left.ejection_fraction", Quantity(57.0, "%"), 0.05).text()
    '57 % (52 to 62)'
    >>> with_interval(limits, "left.edv", Quantity(150.0, "ml"), 0.1).text()
    '150 ml (120 to 180)'

    Parameters
    ----------
    name : side and name, such as ``left.edv``; ``_index`` behind it stands for the value by body surface.
    doubt : see `doubt_of`.
    """
    side, _, word = name.partition(".")
    word = word.removesuffix("_index")
    limit = limits.limits.get(f"{side}.{_LIKE.get(word, word)}")
    if quantity.value is None or limit is None:
        return quantity
    in_points = word == _IN_POINTS
    half = limit * doubt * (1.0 if in_points else quantity.value)
    low, high = quantity.value - half, quantity.value + half
    least, most = min(quantity.value, 0.0), 100.0 if in_points else high
    return replace(quantity, low=max(low, least), high=min(high, most), level=limits.level)


@dataclass(frozen=True)
class LabelDoubt:
    """What gives the numbers of one heart their intervals.

    Attributes
    ----------
    limits : of the model that made the labels.
    dice : predicted Dice by structure and frame; a structure that is missing here has no intervals.
    """

    limits: IntervalLimits
    dice: Mapping[str, Sequence[float]]

    def as_json(self) -> dict[str, Any]:
        """What a report says of the intervals: their level, and the patients they were calibrated on."""
        return {"level": self.limits.level, "patients": self.limits.patients, "part": "labels"}

    def text(self) -> str:
        """What the intervals are, for people."""
        return (
            f"hold the number of manual labels in {100 * self.limits.level:.0f} of 100 hearts; by the errors of the "
            f"model in {self.limits.patients} patients that it was not trained on"
        )

    def with_intervals(self, side: str, found: Mapping[str, Quantity], ed: int, es: int) -> dict[str, Quantity]:
        """The numbers of a side, ``left`` or ``right``, by name, with their intervals.

        Parameters
        ----------
        ed, es : frames of end diastole and end systole.
        """
        made = {}
        for word, quantity in found.items():
            name = f"{side}.{word}"
            dice = self.dice.get(structure_of(name))
            frames = phases_of(name, ed, es)
            doubt = None if dice is None else doubt_of(self.limits, [dice[frame] for frame in frames])
            made[word] = quantity if doubt is None else with_interval(self.limits, name, quantity, doubt)
        return made


def score(name: str, value: float, manual: float, doubt: float) -> float:
    """Score of a patient of the calibration, see the top of this file."""
    return abs(value - manual) / (doubt * (1.0 if name.endswith(_IN_POINTS) else value))


def conformal_limit(scores: Sequence[float], level: float) -> float:
    """Limit that holds a new score with at least a probability, if it is like those given.

    >>> conformal_limit([3.0, 1.0, 2.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], 0.9)
    9.0

    Raises
    ------
    ValueError
        If there are too few scores for this level.
    """
    k = math.ceil((len(scores) + 1) * level - 1e-9)
    if k > len(scores):
        raise ValueError(f"{len(scores)} patients are too few for intervals of {100 * level:g} %")
    return sorted(scores)[k - 1]


def structure_of(name: str) -> str:
    """Structure whose labels a number stands on."""
    side, _, word = name.partition(".")
    return MYOCARDIUM if word.startswith("mass") else RIGHT if side == "right" else LEFT


def phases_of(name: str, ed: int, es: int) -> tuple[int, ...]:
    """Frames that a number stands on."""
    word = name.partition(".")[2].removesuffix("_index")
    return (ed,) if word in ("edv", "mass_ed") else (es,) if word in ("esv", "mass_es") else (ed, es)
