"""Whether a series has the images that its own headers speak of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from crnn_cli.io.dicom.frames.frame import Frame, Part
from crnn_cli.notices import Doubt

_MOST_NAMED = 6
_POSITION = "temporal position"
_SHORT_GAP = 4
"""Difference of two numbers up to which those between are missing, though numbers jump elsewhere."""


def incompleteness(rows: Sequence[Sequence[Frame]], siblings: Sequence[Frame], gated: bool) -> list[Doubt]:
    """Doubt where headers promise more images than are there.

    Parameters
    ----------
    rows : frames by slice and time.
    siblings : all frames of the SeriesInstanceUID, other kinds of image included.
    gated : whether the times are those of a cardiac cycle.
    """
    counts, times = rows[0][0].counts, len(rows[0])
    told = []
    if counts.acquisition is not None and counts.acquisition > len(siblings):
        told.append(f"{counts.acquisition} images in the acquisition, and {len(siblings)} are there")
    if gated and counts.cycle is not None and counts.cycle > times > 1:
        told.append(f"{counts.cycle} images in a cardiac cycle, and {times} are there")
    if counts.positions is not None and counts.positions > times:
        told.append(f"{counts.positions} temporal positions, and {times} are there")
    told += _parts(siblings)
    positions = {int(frame.times[_POSITION]) for row in rows for frame in row if _POSITION in frame.times}
    if times > 1 and positions and (lacking := _between(positions)):
        told.append(f"temporal positions up to {max(positions)}, of which {_shown(lacking)} are not there")
    gaps = _gaps(siblings)
    if gaps:
        told.append(f"instance numbers up to {max(_numbers(siblings))}, of which {gaps} are not there")
    text = f"the series may be incomplete: its headers speak of {'; '.join(told)}"
    return [Doubt("dicom-series-incomplete", text)] if told else []


def _parts(frames: Sequence[Frame]) -> list[str]:
    """Parts of concatenations that are not there, in words."""
    found: dict[str, set[Part]] = defaultdict(set)
    for frame in frames:
        if frame.part.uid and frame.part.number is not None:
            found[frame.part.uid].add(frame.part)
    told = []
    for parts in found.values():
        numbers = {part.number for part in parts}
        last = max(max(part.number or 0, part.of or 0) for part in parts)
        if lacking := sorted(set(range(1, last + 1)) - numbers):
            told.append(f"{last} parts of one object (concatenation), of which {_shown(lacking)} are not there")
    return told


def _numbers(frames: Sequence[Frame]) -> list[int]:
    return [frame.instance_number for frame in frames if frame.instance_number is not None]


def _gaps(frames: Sequence[Frame]) -> str:
    """Instance numbers that are missing between others, in words; "" where they do not count the images one by one."""
    numbers = _numbers(frames)
    present = set(numbers)
    if len(numbers) < len(frames) or len(present) < len({frame.source.name for frame in frames}):
        return ""
    return _shown(_between(present))


def _between(present: set[int]) -> list[int]:
    """Numbers missing between others; none where these are counted in jumps."""
    dense = max(present) < 2 * len(present)
    longest = max(_SHORT_GAP, len(present) // 10)
    spans = [(a, b) for a, b in pairwise(sorted(present)) if dense or b - a <= longest]
    return [number for before, after in spans for number in range(before + 1, after)]


def _shown(missing: Sequence[int]) -> str:
    shown = ", ".join(map(str, missing[:_MOST_NAMED]))
    return f"{shown} and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else shown
