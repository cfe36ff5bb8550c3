"""Slices that were measured more than once: the later one counts, unless the whole stack was measured again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from crnn_cli.io.dicom.frames.frame import Problem
from crnn_cli.io.dicom.grid.timing import with_clocks
from crnn_cli.io.dicom.stacks.slices import LEAST_SLICES, StackSlice, by_place

_CLOCK = "acquisition time"


class Chosen(NamedTuple):
    """Slices of a stack, one for each place.

    Attributes
    ----------
    slices : in the order of their places.
    replaced : number of each series that was left out, and that of the later one in its place.
    problem : why no choice can be made; then the slices are all there are.
    """

    slices: list[StackSlice]
    replaced: dict[int, int]
    problem: Problem | None = None


def choose_latest(slices: Sequence[StackSlice]) -> list[Chosen]:
    """Choose the latest slice of each place; several stacks, by their order in time, where most places have several.

    A slice is repeated when a breath-hold fails. Where at least half of the places have a second slice, they are
    another stack, such as one under stress: which of them is meant is not known.
    """
    starts = _starts(slices)
    places = by_place(slices)
    ordered = [sorted(place, key=lambda each: _key(each, starts)) for place in places]
    for place in ordered:
        keys = [_key(each, starts) for each in place]
        if len(set(keys)) < len(keys):
            numbers = " and ".join(str(each.series.number) for each in place)
            told = f"series {numbers} lie in one place, and neither acquisition time nor series number orders them"
            return [Chosen(list(slices), {}, Problem(told))]
    full = sum(_is_stack([place for place in ordered if len(place) > n], places) for n in range(max(map(len, ordered))))
    return [_layer(ordered, n, last=n >= full - 1) for n in range(max(full, 1))]


def _is_stack(repeated: Sequence[object], places: Sequence[object]) -> bool:
    return len(repeated) >= LEAST_SLICES and 2 * len(repeated) >= len(places)


def _layer(ordered: Sequence[Sequence[StackSlice]], n: int, *, last: bool) -> Chosen:
    """The n-th slice of each place that has as many; in the last stack the latest, in place of those between."""
    taken = [(place[n:] if last else place[n : n + 1]) for place in ordered if len(place) > n]
    replaced = {each.series.number: place[-1].series.number for place in taken for each in place[:-1]}
    return Chosen([place[-1] for place in taken], replaced)


def _starts(slices: Sequence[StackSlice]) -> dict[int, float]:
    """Start of the acquisition of each series, ms; empty where a series does not say."""
    frames = [frame for each in slices for frame in each.frames]
    if not all(_CLOCK in frame.clocks for frame in frames):
        return {}
    timed = iter(with_clocks(frames))
    return {each.series.number: min(next(timed).times[_CLOCK] for _ in each.frames) for each in slices}


def _key(each: StackSlice, starts: dict[int, float]) -> tuple[float, int]:
    """Order of acquisition: the start, else the series number alone."""
    return starts.get(each.series.number, 0.0), each.series.series_number or 0
