"""Curves from the expected to the measured Dice, as a model's config.json holds them."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass


@dataclass(frozen=True)
class QualityCurves:
    """Measured Dice over expected Dice, by structure.

    Attributes
    ----------
    expected, dice : of each structure 1, 2, ...: knots of a curve, both rising; between knots it is linear, beyond them
        constant.
    doubt_below : predicted Dice below which labels are to be looked at.
    """

    expected: tuple[tuple[float, ...], ...]
    dice: tuple[tuple[float, ...], ...]
    doubt_below: float

    def predict(self, value: int, expected: float) -> float:
        """Dice of structure ``value`` that an expected Dice stands for; 0 stays 0: nothing was labelled."""
        if expected <= 0:
            return 0.0
        xs, ys = self.expected[value - 1], self.dice[value - 1]
        above = bisect_left(xs, expected)
        if above in (0, len(xs)):
            return ys[min(above, len(xs) - 1)]
        share = (expected - xs[above - 1]) / (xs[above] - xs[above - 1])
        return ys[above - 1] + share * (ys[above] - ys[above - 1])
