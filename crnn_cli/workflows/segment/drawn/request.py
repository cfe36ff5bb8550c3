"""What is asked of labels from drawn slices, and what among it contradicts itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crnn_cli.errors import Param, UsageError

if TYPE_CHECKING:
    from crnn_cli.workflows.segment.options import SegmentOptions

NETWORK, DISTANCES, NEAREST = "network", "distances", "nearest"
FILLS = (NETWORK, DISTANCES, NEAREST)
_NEEDS_DRAWN = ("empty", "fixed", "frames", "fill", "minutes", "steps", "seed", "save_adapted")
_NOT_WITH_DRAWN = ("labels", "keep_largest", "frame_by_frame", "require_quality")
_RANGE = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")
_LONGEST_MINUTES, _MOST_STEPS = 1440.0, 100_000


@dataclass(frozen=True)
class TuneBudget:
    """How long a network is tuned to a scan: a time or a number of steps; the other one is None.

    Attributes
    ----------
    seconds, steps : the budget.
    seed : of the slices that are hidden, and of how they are varied.
    """

    seconds: float | None
    steps: int | None
    seed: int


@dataclass(frozen=True)
class DrawnRequest:
    """What is asked of labels from drawn slices; slices and frames are counted from 1.

    Attributes
    ----------
    empty : slices that were meant empty.
    fixed : the slices of a whole label map that count as drawn; None where it is not said.
    frames : the frames that are drawn; None where it is not said.
    fill : how the other slices are labelled, one of `FILLS`.
    tune : budget of the tuning; None for none.
    """

    empty: frozenset[int] = frozenset()
    fixed: frozenset[int] | None = None
    frames: frozenset[int] | None = None
    fill: str = NETWORK
    tune: TuneBudget | None = None


def check_drawn(options: SegmentOptions) -> DrawnRequest | None:
    """Read the options about drawn slices; None where there are none.

    Raises
    ------
    UsageError
        If one of them is not understood, contradicts another, or needs drawn slices and there are none.
    """
    if options.drawn is None:
        for name in _NEEDS_DRAWN:
            if getattr(options, name) not in (None, ""):
                raise UsageError(Param(name), " is about drawn slices", remedy=("give them with ", Param("drawn")))
        return None
    for name in _NOT_WITH_DRAWN:
        if getattr(options, name):
            raise UsageError(Param(name), " is about the labels of a model, and ", Param("drawn"), " gives others")
    fill = options.fill or NETWORK
    if fill not in FILLS:
        raise UsageError(Param("fill", fill), f" is not known: use {', '.join(FILLS)}")
    tune = _budget(options)
    for name in ("model", "save_adapted"):
        if fill != NETWORK and getattr(options, name) is not None:
            raise UsageError(Param(name), " is about a network, and ", Param("fill", fill), " uses none")
    if fill != NETWORK and tune is not None:
        raise UsageError(_budget_param(options), " tunes a network, and ", Param("fill", fill), " uses none")
    if options.save_adapted is not None and tune is None:
        raise UsageError(
            Param("save_adapted"),
            " keeps a network that was tuned",
            remedy=("give ", Param("minutes", 2.0), " as well"),
        )
    return DrawnRequest(
        parse_numbers("empty", options.empty) or frozenset(), parse_numbers("fixed", options.fixed),
        parse_numbers("frames", options.frames), fill, tune,
    )  # fmt: skip


def parse_numbers(name: str, text: str | None) -> frozenset[int] | None:
    """Read numbers and ranges, counted from 1; None from None.

    >>> sorted(parse_numbers("fixed", "3,7,12-14"))
    [3, 7, 12, 13, 14]

    Raises
    ------
    UsageError
        If the text is something else, or a range is empty.
    """
    if text is None:
        return None
    found: set[int] = set()
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last:
            raise UsageError(
                Param(name, text), " is not understood: numbers from 1 with commas between them, such as 1,4-6"
            )
        found.update(range(first, last + 1))
    return frozenset(found)


def _budget(options: SegmentOptions) -> TuneBudget | None:
    """Budget of the tuning, checked."""
    minutes, steps, seed = options.minutes, options.steps, options.seed
    if minutes is None and steps is None:
        if seed is not None:
            raise UsageError(
                Param("seed"), " is that of the tuning", remedy=("give ", Param("minutes", 2.0), " or ", Param("steps"))
            )
        return None
    if minutes is not None and steps is not None:
        raise UsageError(
            Param("minutes"), " is a time and ", Param("steps"), " a number of steps", remedy=("use one of them",)
        )
    if minutes is not None and not 0 < minutes <= _LONGEST_MINUTES:
        raise UsageError(Param("minutes", minutes), f": a time above 0, up to {_LONGEST_MINUTES:g} minutes")
    if steps is not None and not 1 <= steps <= _MOST_STEPS:
        raise UsageError(Param("steps", steps), f": a number from 1 to {_MOST_STEPS}")
    return TuneBudget(None if minutes is None else 60 * minutes, steps, seed or 0)


def _budget_param(options: SegmentOptions) -> Param:
    return Param("minutes") if options.minutes is not None else Param("steps")
