"""Spread of numbers of the heart over runs of a reconstruction, each without a share of the measured lines.

A delete-d jackknife. If the number of all data is T, that of run k is T_k, and each of the R runs left out the share p
of the lines, other lines in each, the half width at a level is

    half = t * sqrt((1 - p) / p * mean_k (T_k - T)^2),     t = quantile (1 + level) / 2 of Student's t, R - 1 degrees

The factor (1 - p) / p turns the change when a share of the data is missing into the error of all of them; t makes the
part wider where few runs tell the spread. It fails silently where all runs err alike: a structure that no measured
line shows, or a blur that they share.

References
----------
Shao, Wu: "A general theory for jackknife variance estimation", Annals of Statistics 17, 1989.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

LEVEL = 0.9
"""Level of the intervals where the model of the labels has no limits that state one."""
FEWEST_RUNS = 4
"""Fewer runs say too little of a spread."""
_NOT_OF_IMAGES = ("heart_rate",)


@dataclass(frozen=True)
class RunSpread:
    """Numbers of one heart in each run.

    Attributes
    ----------
    numbers : by side and name, such as ``left.edv``: the number in each run, None where it is refused there.
    runs : how many there are, 2 or more.
    left_out : share of the lines that each left out, above 0 and below 1.
    """

    numbers: Mapping[str, Sequence[float | None]]
    runs: int
    left_out: float

    def half_width(self, name: str, value: float, level: float) -> float | None:
        """Half width of the part of a number's interval that is of the reconstruction.

        None of what is not measured in the images, and where a run has no such number.

        >>> spread = RunSpread({"left.ejection_fraction": (58.0, 56.0, 57.0, 57.0)}, 4, 0.25)
        >>> round(spread.half_width("left.ejection_fraction", 57.0, 0.9), 2)
        2.88

        Parameters
        ----------
        value : in the images of all data.
        level : 0 to 1.
        """
        if not self.is_measured(name) or self.lacks(name):
            return None
        changes = [number - value for number in self.numbers[name] if number is not None]
        mean_square = sum(change**2 for change in changes) / len(changes)
        return t_quantile(level, self.runs - 1) * math.sqrt((1 - self.left_out) / self.left_out * mean_square)

    def is_measured(self, name: str) -> bool:
        """Whether a number is measured in the images, so that it can differ between runs."""
        return name.partition(".")[2] not in _NOT_OF_IMAGES

    def lacks(self, name: str) -> int:
        """In how many runs there is no such number."""
        numbers = self.numbers.get(name, (None,) * self.runs)
        return sum(number is None for number in numbers)


def t_quantile(level: float, degrees: int) -> float:
    """Value that Student's t lies below in magnitude with probability ``level``.

    >>> round(t_quantile(0.9, 3), 3), round(t_quantile(0.9, 15), 3)
    (2.353, 1.753)
    """
    return float(stdtrit(degrees, (1 + level) / 2))
