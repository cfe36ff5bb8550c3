"""Intervals of numbers of the heart, of two parts: the doubt of the labels, and that of a reconstruction before them.

The part of the labels is how far those of a model lay from manual ones, on patients that it never saw: normalised
split conformal prediction. Each patient of the calibration has a score, its error divided by its doubt:

    score = |number - manual number| / (scale * doubt),     doubt = max(least doubt, 1 - predicted Dice)

The scale is 1 of an ejection fraction, whose error is in points, and the number itself of volumes and masses, whose
error grows with them. The interval of a new patient is number +- limit * scale * doubt, where the limit is the
k-th smallest of n scores, k = ceil((n + 1) * level). If patients are alike, it holds the manual number with at least
that probability. Where the labels look worse, it is wider.

The part of the reconstruction is in `crnn_cli.cardiac.run_spread`. Both together have the half width
sqrt(labels^2 + reconstruction^2), as the widths of independent errors add: it takes for granted that the labels err
no more and no less because the reconstruction does.

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
from crnn_cli.cardiac.run_spread import LEVEL, RunSpread
from crnn_cli.labels.interval_limits import IntervalLimits

LABELS, RECONSTRUCTION = "labels", "reconstruction"
"""Parts of an interval."""
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
    half = half_width(limits, name, quantity, doubt)
    return quantity if half is None else with_parts(name, quantity, {LABELS: half}, limits.level)


def half_width(limits: IntervalLimits, name: str, quantity: Quantity, doubt: float) -> float | None:
    """Half width of the part of the labels; None of a refused number, or without a limit. Parameters as above."""
    side, _, word = name.partition(".")
    word = word.removesuffix("_index")
    limit = limits.limits.get(f"{side}.{_LIKE.get(word, word)}")
    if quantity.value is None or limit is None:
        return None
    return limit * doubt * (1.0 if word == _IN_POINTS else abs(quantity.value))


def with_parts(name: str, quantity: Quantity, parts: Mapping[str, float], level: float) -> Quantity:
    """The quantity with the interval that parts of these half widths make together.

    >>> with_parts("left.edv", Quantity(150.0, "ml"), {"labels": 30.0, "reconstruction": 40.0}, 0.9).text()
    '150 ml (100 to 200; labels 30.0, reconstruction 40.0)'
    """
    if quantity.value is None:
        return quantity
    half, in_points = math.hypot(*parts.values()), name.endswith(_IN_POINTS)
    low, high = quantity.value - half, quantity.value + half
    least, most = min(quantity.value, 0.0), 100.0 if in_points else high
    return replace(quantity, low=max(low, least), high=min(high, most), level=level, parts=dict(parts))


@dataclass(frozen=True)
class LabelDoubt:
    """How good the labels of one heart look.

    Attributes
    ----------
    limits : of the model that made the labels.
    dice : predicted Dice by structure and frame; a structure that is missing here has no intervals.
    """

    limits: IntervalLimits
    dice: Mapping[str, Sequence[float]]

    def half_width(self, name: str, quantity: Quantity, ed: int, es: int) -> float | None:
        """Half width of the part of the labels of a number, such as ``left.edv``; None where it has none."""
        dice = self.dice.get(structure_of(name))
        if dice is None:
            return None
        doubt = doubt_of(self.limits, [dice[frame] for frame in phases_of(name, ed, es)])
        return half_width(self.limits, name, quantity, doubt)


@dataclass(frozen=True)
class Intervals:
    """What gives the numbers of one heart their intervals; one part at least.

    Attributes
    ----------
    labels : doubt of the labels; None where the model has no limits.
    runs : numbers in runs of the reconstruction; None where there are none.
    """

    labels: LabelDoubt | None = None
    runs: RunSpread | None = None

    @property
    def level(self) -> float:
        """Probability that an interval is to have."""
        return LEVEL if self.labels is None else self.labels.limits.level

    def as_json(self) -> dict[str, Any]:
        """What a report says of the intervals: level, parts, patients of the calibration, runs."""
        known = {LABELS: self.labels, RECONSTRUCTION: self.runs}
        return {
            "level": self.level, "parts": [name for name, part in known.items() if part is not None],
            "patients": None if self.labels is None else self.labels.limits.patients,
            "runs": None if self.runs is None else self.runs.runs,
            "left_out": None if self.runs is None else self.runs.left_out,
        }  # fmt: skip

    def text(self) -> str:
        """What the intervals are, for people."""
        spread = "" if self.runs is None else (
            f"the spread of {self.runs.runs} runs, each without {100 * self.runs.left_out:.0f} % of the outer lines"
        )  # fmt: skip
        if self.labels is None:
            return f"of the reconstruction alone, {100 * self.level:.0f} %, by {spread}; the doubt of labels is unknown"
        limits = self.labels.limits
        return (
            f"hold the number of manual labels in {100 * limits.level:.0f} of 100 hearts; by the errors of the "
            f"model in {limits.patients} patients that it was not trained on" + (f", and {spread}" if spread else "")
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
            parts = self._parts(name, quantity, ed, es)
            made[word] = with_parts(name, quantity, parts, self.level) if parts else quantity
        return made

    def _parts(self, name: str, quantity: Quantity, ed: int, es: int) -> dict[str, float]:
        """Half widths by part; none of them where that of the reconstruction should be there and is not known."""
        labels = None if self.labels is None else self.labels.half_width(name, quantity, ed, es)
        parts = {} if labels is None else {LABELS: labels}
        if self.runs is None or not self.runs.is_measured(name) or quantity.value is None:
            return parts
        spread = self.runs.half_width(name, quantity.value, self.level)
        return {} if spread is None else parts | {RECONSTRUCTION: spread}


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
