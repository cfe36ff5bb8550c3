"""Clocks: when a frame is due, and how long it took. Nothing else in the package looks at the time of day."""

from __future__ import annotations

import bisect
import math
import time
from dataclasses import dataclass, field

_LEAST, _RATIO, _BINS = 1e-5, 1.01, 1800
_EDGES = [_LEAST * _RATIO**number for number in range(_BINS)]  # up to 600 s


def now() -> float:
    """Seconds of a clock that only runs forward; its zero has no meaning."""
    return time.perf_counter()


@dataclass
class Latency:
    """Latencies of any number of frames, in the memory of a histogram whose bins are 1 % wide.

    >>> latency = Latency()
    >>> for milliseconds in (10, 20, 30, 40, 1000):
    ...     latency.add(milliseconds / 1000)
    >>> round(latency.quantile(0.5), 3), latency.worst
    (0.03, 1.0)

    Attributes
    ----------
    frames : that were added.
    worst : the largest, in seconds; exact.
    total : their sum, in seconds.
    """

    frames: int = 0
    worst: float = 0.0
    total: float = 0.0
    _counts: list[int] = field(default_factory=lambda: [0] * (_BINS + 1))

    def add(self, seconds: float) -> None:
        """Add the latency of a frame."""
        self.frames += 1
        self.worst = max(self.worst, seconds)
        self.total += seconds
        self._counts[bisect.bisect_left(_EDGES, seconds)] += 1

    def quantile(self, share: float) -> float:
        """Latency that ``share`` of the frames do not exceed, to 1 %, in seconds; NaN without frames."""
        if not self.frames:
            return math.nan
        wanted, seen = max(1, math.ceil(share * self.frames)), 0
        for edge, count in zip((*_EDGES, self.worst), self._counts, strict=True):
            seen += count
            if seen >= wanted:
                return min(self.worst, edge / math.sqrt(_RATIO))
        raise AssertionError("all frames are in a bin")


class Pace:
    """Times at which frames are due, counted from the first."""

    def __init__(self) -> None:
        self._began: float | None = None

    def wait(self, seconds: float) -> float:
        """Sleep until a frame is due; one whose time has passed is not waited for.

        Parameters
        ----------
        seconds : of the frame, counted from the first.

        Returns
        -------
        When it was due, by `now`.
        """
        if self._began is None:
            self._began = now() - seconds
        due = self._began + seconds
        if due > now():
            time.sleep(due - now())
        return due
