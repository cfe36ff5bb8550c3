"""How far earlier forecasts were off: what is to be expected of the next.

Legend: K frame ahead, Y, X pixel.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ExpectedError:
    """Error of the forecasts of one frame ahead, in the intensities of the series.

    Attributes
    ----------
    rms : root mean square over pixels and forecasts.
    high : that 9 of 10 forecasts stayed below; None of fewer than 10 forecasts.
    forecasts : that it was measured on.
    """

    rms: float
    high: float | None
    forecasts: int


class ForecastCheck:
    """Compares forecasts with the frames that came.

    >>> import torch
    >>> check = ForecastCheck(2)
    >>> for t in range(4):
    ...     check.compare(torch.full((2, 2), float(t)))
    ...     check.keep(torch.full((2, 2, 2), float(t)))
    >>> [error.rms for error in check.expected()]
    [1.0, 2.0]

    Parameters
    ----------
    ahead : frames that are forecast.
    """

    def __init__(self, ahead: int) -> None:
        self._kept: deque[Tensor | None] = deque(maxlen=ahead)
        self._squares: list[list[float]] = [[] for _ in range(ahead)]

    def compare(self, frame_YX: Tensor) -> None:
        """Compare a frame with all forecasts of it; it comes before the forecast from this frame is kept."""
        for ahead, made in enumerate(reversed(self._kept)):
            if made is not None and ahead < len(made):
                self._squares[ahead].append(float((made[ahead] - frame_YX).double().square().mean()))

    def keep(self, made_KYX: Tensor | None) -> None:
        """Keep the forecast from the newest frame; None where there is none."""
        self._kept.append(made_KYX)

    def add(self, other: ForecastCheck) -> None:
        """Take in the errors of another slice."""
        for mine, its in zip(self._squares, other._squares, strict=True):
            mine.extend(its)

    def expected(self) -> list[ExpectedError | None]:
        """Errors by frames ahead; None where no forecast could be compared."""
        return [_expected(squares) for squares in self._squares]


def _expected(squares: list[float]) -> ExpectedError | None:
    if not squares:
        return None
    rms = math.sqrt(sum(squares) / len(squares))
    rank = math.ceil(0.9 * (len(squares) + 1))
    high = math.sqrt(sorted(squares)[rank - 1]) if len(squares) >= 10 and rank <= len(squares) else None
    return ExpectedError(rms, high, len(squares))
