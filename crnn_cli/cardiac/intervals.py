"""Intervals of numbers of the heart, of two parts: the doubt of the labels, and that of a reconstruction before them.

The part of the labels is how far those of a model lay from manual ones, on patients that it never saw: normalised
split conformal prediction. Each patient of the calibration has a score, its error divided by the error to be expected:

    score  = |number - manual number| / expected
    doubt  = least doubt + 1 - predicted Dice                         of a structure in a frame
    e_ED   = doubt * sqrt(volume in end diastole),  e_ES alike                    of volumes and masses
    e_SV   = sqrt(e_ED^2 + e_ES^2)                                                of a stroke volume
    e_EF   = 100 / EDV * sqrt(e_ES^2 + (e_ED * ESV / EDV)^2)                      of an ejection fraction, in points

The root: errors lie at the surface and in the outermost slices, and grow less than the volume does. What is made of two
volumes has the error that follows from theirs, so that the stroke volume of a large weak heart is as doubtful as its
volumes are. The interval of a new patient is number +- limit * expected. The limit is the largest of

    the k-th smallest of all n scores,                    k = ceil((n + 1) * level),
    the k-th smallest of the n_g scores of each group,    k = ceil((n_g + 1) * level of groups).

If patients are alike, it holds the manual number with at least that probability, in each group of diseases with the
level of groups, whichever group it is. Where the labels look worse, it is wider.

The part of the reconstruction is in `crnn_cli.cardiac.run_spread`. Both together have the half width
sqrt(labels^2 + reconstruction^2), as the widths of independent errors add: it takes for granted that the labels err
no more and no less because the reconstruction does.

References
----------
Papadopoulos, Gammerman, Vovk: "Normalized nonconformity measures for regression conformal prediction", AIA 2008.
Lei, G'Sell, Rinaldo, Tibshirani, Wasserman: "Distribution-free predictive inference for regression", JASA 113, 2018.
Romano, Barber, Sabatti, Candes: "With malice toward none: assessing uncertainty via equalized coverage", HDSR 2, 2020.
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
_VOLUMES = {LEFT: ("edv", "esv"), RIGHT: ("edv", "esv"), MYOCARDIUM: ("mass_ed", "mass_es")}


@dataclass(frozen=True)
class BothPhases:
    """Volume in ml, or mass in g, of a structure in end diastole and end systole, and the doubt of its labels there."""

    ed: float
    es: float
    doubt_ed: float
    doubt_es: float

    def number(self, word: str) -> float:
        """A number of these two in ml or g: ``edv``, ``esv``, ``mass_ed``, ``mass_es``, ``stroke_volume``."""
        if word == "stroke_volume":
            return self.ed - self.es
        return self.ed if word in ("edv", "mass_ed") else self.es

    def expected_error(self, word: str) -> float:
        """Error of a number that is to be expected, up to a factor; see the top of this file.

        >>> heart = BothPhases(ed=100.0, es=36.0, doubt_ed=0.1, doubt_es=0.1)
        >>> [round(heart.expected_error(word), 3) for word in ("edv", "esv", "stroke_volume", "ejection_fraction")]
        [1.0, 0.6, 1.166, 0.7]
        """
        errors = self.doubt_ed * math.sqrt(self.ed), self.doubt_es * math.sqrt(self.es)
        if word == _IN_POINTS:
            return 100 * math.hypot(errors[1], errors[0] * self.es / self.ed) / self.ed
        if word == "stroke_volume":
            return math.hypot(*errors)
        return errors[0] if word in ("edv", "mass_ed") else errors[1]


def doubt_of(limits: IntervalLimits, dice: float) -> float:
    """Doubt of labels of this predicted Dice."""
    return limits.least_doubt + 1 - dice


def half_width(limits: IntervalLimits, name: str, value: float | None, phases: BothPhases) -> float | None:
    """Half width of the part of the labels; None of a refused number, or without a limit.

    >>> limits = IntervalLimits(0.9, 0.8, 25, 0.05, {"left.ejection_fraction": 5.0, "left.edv": 10.0})
    >>> heart = BothPhases(ed=100.0, es=36.0, doubt_ed=0.1, doubt_es=0.1)
    >>> round(half_width(limits, "left.ejection_fraction", 64.0, heart), 2)
    3.5
    >>> half_width(limits, "left.edv", 100.0, heart), half_width(limits, "left.edv_index", 50.0, heart)
    (10.0, 5.0)

    Parameters
    ----------
    name : side and name, such as ``left.edv``; ``_index`` behind it stands for the value by body surface.
    phases : of the structure that the number is of.
    """
    limit, word = limits.limits.get(_like(name)), _like(name).partition(".")[2]
    if value is None or limit is None:
        return None
    half = limit * phases.expected_error(word)
    if _like(name) == name:
        return half
    own = phases.number(word)
    return None if own == 0 else half * abs(value / own)


def _like(name: str) -> str:
    """Side and name of the number that has the limit of a number.

    >>> _like("left.cardiac_output_index"), _like("right.edv")
    ('left.stroke_volume', 'right.edv')
    """
    side, _, word = name.removesuffix("_index").partition(".")
    return f"{side}.{_LIKE.get(word, word)}"


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

    def half_width(
        self, name: str, value: float | None, measured: Mapping[str, Quantity], ed: int, es: int
    ) -> float | None:
        """Half width of the part of the labels of a number, such as ``left.edv``; None where it has none.

        Parameters
        ----------
        measured : numbers of the side by name; without its volumes in ml, or masses, nothing has an interval.
        ed, es : frames of end diastole and end systole.
        """
        structure = structure_of(name)
        dice, words = self.dice.get(structure), _VOLUMES[structure]
        known = [measured[word].value for word in words if word in measured]
        first = next((each for each in known if each is not None), None)
        if dice is None or first is None:
            return None
        volumes = [first if each is None else each for each in known]  # one frame is of one phase
        doubts = [doubt_of(self.limits, dice[frame]) for frame in (ed, es)]
        return half_width(self.limits, name, value, BothPhases(volumes[0], volumes[-1], *doubts))


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
            "level": self.level, "group_level": None if self.labels is None else self.labels.limits.group_level,
            "parts": [name for name, part in known.items() if part is not None],
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
        least = 100 * limits.group_level
        groups = f", and in {least:.0f} of 100 of each group of diseases" if limits.group_level else ""
        return (
            f"hold the number of manual labels in {100 * limits.level:.0f} of 100 hearts{groups}; by the errors of the "
            f"model in {limits.patients} patients that it was not trained on" + (f", and {spread}" if spread else "")
        )

    def with_intervals(
        self, side: str, found: Mapping[str, Quantity], measured: Mapping[str, Quantity], ed: int, es: int
    ) -> dict[str, Quantity]:
        """Numbers of a side, ``left`` or ``right``, by name, with their intervals.

        Parameters
        ----------
        found : the numbers.
        measured : all numbers of the side, for its volumes and masses.
        ed, es : frames of end diastole and end systole.
        """
        made = {}
        for word, quantity in found.items():
            name = f"{side}.{word}"
            parts = self._parts(name, quantity, measured, ed, es)
            made[word] = with_parts(name, quantity, parts, self.level) if parts else quantity
        return made

    def _parts(
        self, name: str, quantity: Quantity, measured: Mapping[str, Quantity], ed: int, es: int
    ) -> dict[str, float]:
        """Half widths by part; none of them where one should be there and is not known."""
        parts: dict[str, float | None] = {}
        if self.labels is not None and _like(name) in self.labels.limits.limits:
            parts[LABELS] = self.labels.half_width(name, quantity.value, measured, ed, es)
        if self.runs is not None and self.runs.is_measured(name) and quantity.value is not None:
            parts[RECONSTRUCTION] = self.runs.half_width(name, quantity.value, self.level)
        known = {part: half for part, half in parts.items() if half is not None}
        return known if len(known) == len(parts) else {}


def score(name: str, value: float, manual: float, phases: BothPhases) -> float:
    """Score of a patient of the calibration, see the top of this file."""
    return abs(value - manual) / phases.expected_error(name.partition(".")[2])


def limit_of_groups(scores: Mapping[str, Sequence[float]], level: float, group_level: float) -> float:
    """Limit that holds a new score with ``level``, and one of each group with ``group_level``, if it is like those.

    >>> limit_of_groups({"weak": [1.0, 2.0, 3.0, 4.0, 9.0], "thick": [1.0, 2.0, 3.0, 4.0, 5.0]}, 0.8, 0.6)
    5.0

    Parameters
    ----------
    scores : by group.

    Raises
    ------
    ValueError
        If there are too few scores for these levels.
    """
    every = [each for group in scores.values() for each in group]
    limits = [conformal_limit(every, level)]
    return max(limits + [conformal_limit(group, group_level) for group in scores.values() if group_level > 0])


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
