"""Quantities: a number with its unit, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Quantity:
    """A number with its unit; where it cannot be said, the reason.

    Attributes
    ----------
    value : None where it is refused.
    unit : such as ``ml``; empty of a ratio without one.
    reason : why there is no value; empty where there is one.
    low, high : ends of its interval, in the same unit; None where it has none.
    level : probability with which the interval is to hold the true number, 0 to 1; None where there is no interval.
    parts : half width of each part of the interval, in the same unit: ``labels``, ``reconstruction``.
    """

    value: float | None
    unit: str
    reason: str = ""
    low: float | None = None
    high: float | None = None
    level: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def refused(cls, unit: str, reason: str) -> Quantity:
        """A quantity that cannot be said."""
        return cls(None, unit, reason)

    def as_json(self) -> dict[str, Any]:
        """``value``, ``unit``, ``reason`` (null where there is a value).

        With an interval also ``low``, ``high``, ``level`` and ``parts``.
        """
        value = None if self.value is None else float(f"{self.value:.6g}")
        plain = {"value": value, "unit": self.unit, "reason": self.reason or None}
        if self.low is None or self.high is None:
            return plain
        parts = {name: float(f"{half:.6g}") for name, half in self.parts.items()}
        ends = {"low": float(f"{self.low:.6g}"), "high": float(f"{self.high:.6g}")}
        return plain | ends | {"level": self.level, "parts": parts}

    def text(self, digits: int = 0) -> str:
        """Value, unit and interval for a table; a hyphen where it is refused.

        The parts of an interval are told where it has others than that of the labels.

        >>> Quantity(57.24, "%").text(), Quantity.refused("ml", "one slice").text()
        ('57 %', '-')
        >>> Quantity(57.24, "%", low=53.1, high=61.4, level=0.9).text()
        '57 % (53 to 61)'
        >>> parts = {"labels": 3.4, "reconstruction": 1.1}
        >>> Quantity(57.24, "%", low=53.1, high=61.4, level=0.9, parts=parts).text()
        '57 % (53 to 61; labels 3.4, reconstruction 1.1)'
        """
        if self.value is None:
            return "-"
        text = f"{self.value:.{digits}f} {self.unit}".rstrip()
        if self.low is None or self.high is None:
            return text
        more = max(digits, 1)
        told = ", ".join(f"{name} {half:.{more}f}" for name, half in self.parts.items()) if self.has_other_parts else ""
        return f"{text} ({self.low:.{digits}f} to {self.high:.{digits}f}{'; ' if told else ''}{told})"

    @property
    def has_other_parts(self) -> bool:
        """Whether the interval has other parts than that of the labels."""
        return bool({*self.parts} - {"labels"})


def derived(unit: str, formula: Callable[..., float], *of: Quantity) -> Quantity:
    """Compute a quantity from others; refused for the first reason among them.

    >>> derived("ml", lambda a, b: a - b, Quantity(150, "ml"), Quantity(60, "ml"))
    Quantity(value=90, unit='ml', reason='', low=None, high=None, level=None, parts={})
    >>> derived("%", lambda a: a, Quantity.refused("ml", "one slice")).reason
    'one slice'
    """
    for each in of:
        if each.value is None:
            return Quantity.refused(unit, each.reason)
    return Quantity(formula(*(each.value for each in of)), unit)
