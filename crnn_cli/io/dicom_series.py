"""DICOM frames to series: which frames belong together, and how they fill a grid of slices and times.

A series is a full grid of positions along one normal and times at each, or it says why not. Nothing is sorted by file
name, and no number is trusted that does not fit: see `crnn_cli.io.dicom_times`.

Positions are LPS here, mm; the affine of a series is RAS+.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from crnn_cli.geometry import axis_codes
from crnn_cli.image import Affine
from crnn_cli.io.dicom_headers import Frame
from crnn_cli.io.dicom_times import frame_time_of, in_time

SAME_PLACE = 0.01
"""Positions along the normal that differ by less, in mm, are one slice."""
UNEVEN = 0.01
"""Gaps between slices may differ by this share of their median, or by 0.05 mm."""
TILT = 0.1
"""Slices may lie this far, in mm for each, beside the normal through the first."""
ROUNDING = 0.05
"""Less than this, in mm, beside the normal is a rounded position, and the slices are taken to lie on it."""
_PARALLEL = 1e-3
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """Frames that belong together.

    number : in the listing, from 1. uid, description, modality : of the series, part: what of it, such as phase images.
    grid : frames by slice (along the normal) and time; empty where there are problems. slices, frames : of the grid,
    or as far as can be told. ordered_by : what orders the times, "" for one. frame_time : seconds, or None.
    spread : of the times between frames, s. problems : why it cannot be read; notes : what is odd about it.
    """

    number: int
    uid: str
    series_number: int | None
    description: str
    modality: str
    part: str
    files: int
    size: tuple[int, int]
    slices: int
    frames: int
    spacing: tuple[float, float, float] | None
    orientation: str
    affine: Affine | None
    ordered_by: str
    frame_time: float | None
    spread: float | None
    grid: tuple[tuple[Frame, ...], ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Return what the series is, in a word or two."""
        if not self.grid:
            return "unreadable"
        if self.frames > 1:
            return "cine" if self.ordered_by == "trigger time" else "time series"
        return "volume" if self.slices > 1 else "image"


@dataclass(frozen=True)
class Listing:
    """What is in a place: its series, files that are damaged (name: reason), and how many are no DICOM images."""

    series: tuple[Series, ...]
    damaged: dict[str, str]
    others: int


def listing(frames_of_files: Iterable[Sequence[Frame]]) -> Listing:
    """Return the series that frames make up, in the order of their series numbers."""
    together: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    damaged: dict[str, str] = {}
    others = 0
    for frames in frames_of_files:
        others += not frames
        for frame in frames:
            if frame.problem.startswith("damaged"):
                damaged[frame.source.name] = frame.problem.removeprefix("damaged: ")
            else:
                together[_key(frame)].append(frame)
    apart = [group for frames in together.values() for group in _by_direction(frames)]
    groups = sorted(apart, key=lambda g: (g[0].series_number or 0, g[0].series_uid, g[0].part, g[0].size))
    shared = Counter(group[0].series_uid for group in groups)
    return Listing(
        tuple(_series(n, group, shared[group[0].series_uid] > 1) for n, group in enumerate(groups, 1)), damaged, others
    )


def _key(frame: Frame) -> tuple[object, ...]:
    """Return what frames of one series have in common, beside their direction: UID, size, kind of image."""
    spaced = None if frame.spacing is None else tuple(round(v, 4) for v in frame.spacing)
    return frame.series_uid, frame.size, str(spaced), frame.part


def _by_direction(frames: list[Frame]) -> list[list[Frame]]:
    """Return the frames that lie parallel together: three planes of a localizer are three series."""
    groups: list[list[Frame]] = []
    for frame in frames:
        for group in groups:
            first = group[0].orientation
            if first is None or frame.orientation is None:
                near = first is frame.orientation
            else:
                near = max(abs(a - b) for a, b in zip(first, frame.orientation, strict=True)) < _PARALLEL
            if near:
                group.append(frame)
                break
        else:
            groups.append([frame])
    return groups


def _series(number: int, frames: list[Frame], split: bool) -> Series:
    first = frames[0]
    problems = sorted({frame.problem for frame in frames if frame.problem})
    if first.orientation is None or first.spacing is None or any(frame.position is None for frame in frames):
        problems.append("the headers lack position, orientation or pixel spacing")
    elif not _perpendicular(first.orientation):
        problems.append("the directions of rows and columns are not perpendicular unit vectors")
    elif min(first.spacing) <= 0:
        problems.append(f"the pixel spacing is {first.spacing[0]:g} x {first.spacing[1]:g} mm")
    part = " ".join(word for word in first.part if word) if split else ""
    if problems:
        return _unreadable(number, frames, part, problems, len(frames), 1)
    normal = _normal(first)
    by_place = _by_place(frames, normal)
    found = _Found(by_place, normal)
    problems += [*found.spacing_problems(), *_duplicates(by_place)]
    ordered_by, grid, missing = in_time(by_place)
    problems += missing
    times = max(len(row) for row in by_place)
    if problems:
        return _unreadable(number, frames, part, problems, len(by_place), times)
    affine, thickness_notes = found.affine()
    frame_time, spread = frame_time_of(grid)
    notes = [*thickness_notes, *_notes(grid, ordered_by, spread, frame_time)]
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return Series(
        number, first.series_uid, first.series_number, first.description, first.modality, part, _files(frames),
        first.size, len(grid), times, (float(x), float(y), float(z)), axis_codes(affine), affine,
        ordered_by if times > 1 else "", frame_time, spread, grid, (), tuple(notes),
    )  # fmt: skip


def _unreadable(
    number: int, frames: list[Frame], part: str, problems: list[str], slices: int, times: int
) -> Series:  # fmt: skip
    first = frames[0]
    return Series(
        number, first.series_uid, first.series_number, first.description, first.modality, part, _files(frames),
        first.size, slices, times, None, "", None, "", None, None, (), tuple(problems), (),
    )  # fmt: skip


def _files(frames: list[Frame]) -> int:
    return len({frame.source.name for frame in frames})


def _perpendicular(orientation: tuple[float, ...]) -> bool:
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = abs(np.linalg.norm(row) - 1) + abs(np.linalg.norm(column) - 1)
    return bool(lengths < _PARALLEL * 2 and abs(row @ column) < _PARALLEL)


def _normal(frame: Frame) -> Vector:
    assert frame.orientation is not None
    return _unit(np.cross(frame.orientation[:3], frame.orientation[3:]))


def _unit(vector: Sequence[float] | Vector) -> Vector:
    return np.asarray(vector, np.float64) / np.linalg.norm(vector)


def _by_place(frames: list[Frame], normal: Vector) -> list[list[Frame]]:
    """Return the frames of each position, positions ascending along the normal."""
    ordered = sorted(frames, key=lambda frame: float(np.array(frame.position) @ normal))
    places: list[list[Frame]] = [[ordered[0]]]
    for before, frame in pairwise(ordered):
        if float((np.array(frame.position) - np.array(before.position)) @ normal) < SAME_PLACE:
            places[-1].append(frame)
        else:
            places.append([frame])
    return places


class _Found:
    """The positions of a series: their step, and what is wrong with it."""

    def __init__(self, by_place: list[list[Frame]], normal: Vector) -> None:
        self.normal, self.first = normal, by_place[0][0]
        self.positions = np.array([place[0].position for place in by_place])
        self.gaps = np.diff(self.positions @ normal)

    def spacing_problems(self) -> list[str]:
        """Return uneven gaps and a tilted gantry, named."""
        if not len(self.gaps):
            return []
        problems = []
        median = float(np.median(self.gaps))
        uneven = np.flatnonzero(np.abs(self.gaps - median) > max(UNEVEN * median, 0.05))
        if len(uneven):
            at = ", ".join(f"{self.gaps[i]:.2f} mm after slice {i + 1}" for i in uneven[:4])
            more = f" and {len(uneven) - 4} more" if len(uneven) > 4 else ""
            problems.append(
                f"slices are not evenly spaced: {median:.2f} mm, but {at}{more} (slices missing or doubled?)"
            )
        worst = self.beside()
        if worst > TILT * len(self.gaps):
            angle = np.degrees(np.arctan2(worst, float(self.gaps.sum())))
            problems.append(f"slices do not lie above each other: they are offset by up to {worst:.1f} mm, a tilt of "
                            f"{angle:.1f} degrees (a tilted gantry)")  # fmt: skip
        return problems

    def beside(self) -> float:
        """Return how far the slices lie beside the normal through the first, at most, in mm."""
        along = self.positions - self.positions[0]
        return float(np.linalg.norm(along - np.outer(along @ self.normal, self.normal), axis=1).max())

    def affine(self) -> tuple[Affine, list[str]]:
        """Return voxel (column, row, slice) to RAS+ mm, and what had to be taken for the step of one slice."""
        first, notes = self.first, []
        assert first.orientation is not None
        assert first.spacing is not None
        if len(self.gaps):
            step = (self.positions[-1] - self.positions[0]) / len(self.gaps)
            if self.beside() <= ROUNDING:
                step = self.normal * float(self.gaps.mean())
        else:
            length = first.gap or first.thickness
            if not length or length <= 0:
                length = 1.0
                notes.append("one slice of unknown thickness: 1 mm is written")
            step = self.normal * length
        between_rows, between_columns = first.spacing
        columns, rows = (_unit(v) for v in (first.orientation[:3], first.orientation[3:]))
        affine = np.eye(4)
        affine[:3] = _LPS_TO_RAS @ np.column_stack(
            [columns * between_columns, rows * between_rows, step, self.positions[0]]
        )
        return affine, notes


def _duplicates(by_place: list[list[Frame]]) -> list[str]:
    uids = Counter((frame.instance, frame.index) for place in by_place for frame in place if frame.instance)
    twice = sum(count - 1 for count in uids.values())
    return [f"{twice} image(s) are there twice (the same SOP Instance UID)"] if twice else []


def _notes(
    grid: tuple[tuple[Frame, ...], ...], ordered_by: str, spread: float | None, frame_time: float | None
) -> list[str]:  # fmt: skip
    notes = []
    if ordered_by == "instance number":
        notes.append("only the instance numbers order the frames in time")
    if spread and frame_time and spread > 0.5 * frame_time:
        notes.append(f"the time between frames varies by {1000 * spread:.0f} ms")
    if len({frame.rescale for row in grid for frame in row}) > 1:
        notes.append("rescale slope or intercept differ between frames: each has its own")
    return notes
