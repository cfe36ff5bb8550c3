"""DICOM frames to series: which frames belong together, and how they fill a grid of slices and times.

A series is a full grid of positions along one normal and times at each, or it says why not. Nothing is sorted by file
name, and no number is trusted that does not fit: see `crnn_cli.io.dicom.timing`.

Positions are LPS here, mm; the affine of a series is RAS+.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from crnn_cli.data.image import Affine, affine_of_slice
from crnn_cli.data.orientation import axis_codes
from crnn_cli.io.dicom.headers import Frame
from crnn_cli.io.dicom.positions import SlicePositions, group_by_position, is_perpendicular
from crnn_cli.io.dicom.timing import frame_time_of, sort_by_time

_PARALLEL = 1e-3


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

    def one_slice(self, z: int) -> Series:
        """Return slice z alone, of a series that can be read."""
        assert self.affine is not None
        return replace(self, slices=1, grid=self.grid[z : z + 1], affine=affine_of_slice(self.affine, z))


@dataclass(frozen=True)
class Listing:
    """What is in a place: its series, files that are damaged (name: reason), and how many are no DICOM images."""

    series: tuple[Series, ...]
    damaged: dict[str, str]
    others: int


def listing(frames_of_files: Iterable[Sequence[Frame]], *, uneven: float | None = None) -> Listing:
    """Return the series that frames make up, in the order of their series numbers.

    uneven : how far slices may lie beside even places, in mm; see `crnn_cli.data.slice_stack`.
    """
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
        tuple(_series(n, group, shared[group[0].series_uid] > 1, uneven) for n, group in enumerate(groups, 1)),
        damaged,
        others,
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


def _series(number: int, frames: list[Frame], split: bool, uneven: float | None) -> Series:
    first = frames[0]
    problems = sorted({frame.problem for frame in frames if frame.problem})
    if first.orientation is None or first.spacing is None or any(frame.position is None for frame in frames):
        problems.append("the headers lack position, orientation or pixel spacing")
    elif not is_perpendicular(first.orientation):
        problems.append("the directions of rows and columns are not perpendicular unit vectors")
    elif min(first.spacing) <= 0:
        problems.append(f"the pixel spacing is {first.spacing[0]:g} x {first.spacing[1]:g} mm")
    part = " ".join(word for word in first.part if word) if split else ""
    if problems:
        return _unreadable(number, frames, part, problems, len(frames), 1)
    sorted_frames = group_by_position(frames)
    places = SlicePositions(sorted_frames, uneven)
    problems += [*places.problems, *_duplicates(sorted_frames)]
    ordered_by, grid, missing = sort_by_time(sorted_frames)
    problems += missing
    times = max(len(row) for row in sorted_frames)
    if problems:
        return _unreadable(number, frames, part, problems, len(sorted_frames), times)
    affine = places.affine()
    frame_time, spread = frame_time_of(grid)
    notes = [*places.notes(), *_notes(grid, ordered_by, spread, frame_time)]
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


def _duplicates(sorted_frames: list[list[Frame]]) -> list[str]:
    uids = Counter((frame.instance, frame.index) for place in sorted_frames for frame in place if frame.instance)
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
