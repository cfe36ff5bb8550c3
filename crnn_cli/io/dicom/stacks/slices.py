"""Series of one slice that may belong to one stack: the same patient, scan and directions, one place each.

Many scanners export a short-axis cine slice by slice: every breath-hold is a series of its own. What such series share
is what one planning of the stack fixes: study, frame of reference, matrix, pixel size, thickness, directions, sequence,
echo time and kind of image. Descriptions are texts of people and do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from crnn_cli.data.slice_stack import ROUNDING, SAME_PLACE, Vector
from crnn_cli.io.dicom.frames.frame import Frame
from crnn_cli.io.dicom.grid.grouping import PARALLEL, SAME_ECHO, clusters, identity
from crnn_cli.io.dicom.grid.positions import is_perpendicular, normal_of
from crnn_cli.io.dicom.grid.timing import is_cycle, sort_by_time
from crnn_cli.io.dicom.series import Series

LEAST_SLICES = 3
"""Fewer parallel slices are no stack: two are met as a pair of long-axis views."""
BESIDE = 1.0
"""Distance in the plane, in mm, from one slice to the next from which on they are not of one stack."""
_SAME_PIXEL = 2e-4
"""Difference of pixel sizes, in mm, that is rounding: it moves the far edge of 256 pixels by 0.05 mm."""


@dataclass(frozen=True)
class StackSlice:
    """A series of one place and several frames.

    Attributes
    ----------
    series : as it is listed alone.
    frames : its frames.
    gated : whether its trigger times are those of a cardiac cycle.
    """

    series: Series
    frames: tuple[Frame, ...]
    gated: bool

    @property
    def first(self) -> Frame:
        """The frame that stands for all: they share place, directions and pixel size."""
        return self.frames[0]

    @property
    def position(self) -> Vector:
        """ImagePositionPatient, LPS, mm."""
        return np.asarray(self.first.position, np.float64)

    def along(self, normal: Vector) -> float:
        """Place along a normal, mm."""
        return float(self.position @ normal)


def stack_slice(series: Series, frames: Sequence[Frame]) -> StackSlice | None:
    """A series as a slice of a stack; None where it is not several frames in one place."""
    first = frames[0]
    if len(frames) < 2 or first.orientation is None or first.spacing is None or not is_perpendicular(first.orientation):
        return None
    positions = [frame.position for frame in frames if frame.position is not None]
    if len(positions) < len(frames) or np.ptp(np.array(positions) @ normal_of(first.orientation)) >= SAME_PLACE:
        return None
    return StackSlice(series, tuple(frames), bool(series.grid) and is_cycle(sort_by_time([list(frames)])))


def normal_through(slices: Sequence[StackSlice]) -> Vector:
    """Unit normal of parallel slices, that of the first."""
    assert slices[0].first.orientation is not None
    return normal_of(slices[0].first.orientation)


def in_order(slices: Sequence[StackSlice]) -> list[StackSlice]:
    """Parallel slices, ascending along their normal."""
    normal = normal_through(slices)
    return sorted(slices, key=lambda each: each.along(normal))


def by_place(slices: Sequence[StackSlice]) -> list[list[StackSlice]]:
    """Parallel slices by their place along the normal, ascending; rounding aside."""
    normal = normal_through(slices)
    places: list[list[StackSlice]] = []
    for each in in_order(slices):
        if places and each.along(normal) - places[-1][0].along(normal) < ROUNDING:
            places[-1].append(each)
        else:
            places.append([each])
    return places


def kin(slices: Iterable[StackSlice]) -> list[list[StackSlice]]:
    """Groups of slices that one planning may have made, in the order of their first ones."""
    groups = [list(slices)]
    for near in (_same_scan, _same_pixels, _same_direction, _same_echo):
        groups = [part for group in groups for part in _first_fit(group, near)]
    groups = [part for group in groups for part in _by_type(group)]
    return [part for group in groups for part in _by_line(group)]


def _first_fit(
    slices: Sequence[StackSlice], near: Callable[[StackSlice, StackSlice], bool]
) -> list[list[StackSlice]]:  # fmt: skip
    groups: list[list[StackSlice]] = []
    for each in slices:
        fitting = next((group for group in groups if near(group[0], each)), None)
        if fitting is None:
            groups.append([each])
        else:
            fitting.append(each)
    return groups


def _same_scan(one: StackSlice, other: StackSlice) -> bool:
    """Whether patient, study, frame of reference, matrix, kind of image, thickness and sequence agree."""
    return scan_of(one) == scan_of(other)


def scan_of(each: StackSlice) -> tuple[object, ...]:
    """What the slices of one stack share exactly."""
    first = each.first
    alone = replace(first, origin=first.origin._replace(series_uid="", series_number=None), spacing=None)
    thickness = None if first.thickness is None else round(first.thickness, 2)
    return identity(alone), thickness, first.sequence


def _same_pixels(one: StackSlice, other: StackSlice) -> bool:
    assert one.first.spacing is not None
    assert other.first.spacing is not None
    return bool(np.abs(np.subtract(one.first.spacing, other.first.spacing)).max() < _SAME_PIXEL)


def _same_direction(one: StackSlice, other: StackSlice) -> bool:
    assert one.first.orientation is not None
    assert other.first.orientation is not None
    return bool(np.abs(np.subtract(one.first.orientation, other.first.orientation)).max() < PARALLEL)


def _same_echo(one: StackSlice, other: StackSlice) -> bool:
    echoes = one.first.echo, other.first.echo
    if None in echoes:
        return echoes[0] == echoes[1]
    low, high = sorted(echo for echo in echoes if echo is not None)
    return high <= SAME_ECHO * low


def _by_type(slices: list[StackSlice]) -> list[list[StackSlice]]:
    """Slices by all words of the image type, where several types lie in one place; see `group_frames`."""
    several = any(len({each.first.image_type for each in place}) > 1 for place in by_place(slices))
    if not several:
        return [slices]
    return _first_fit(slices, lambda one, other: one.first.image_type == other.first.image_type)


def _by_line(slices: list[StackSlice]) -> list[list[StackSlice]]:
    """Slices above each other; all of them where they form no such line, so that it can be said."""
    assert slices[0].first.orientation is not None
    directions = np.array(slices[0].first.orientation).reshape(2, 3)
    in_plane = np.array([each.position for each in slices]) @ directions.T
    numbers = list(zip(*(clusters(in_plane[:, axis], BESIDE) for axis in (0, 1)), strict=True))
    lines = [[s for s, at in zip(slices, numbers, strict=True) if at == number] for number in dict.fromkeys(numbers)]
    return lines if any(len(line) >= LEAST_SLICES for line in lines) else [slices]
