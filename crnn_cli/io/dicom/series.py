"""DICOM series: frames that belong together, in a grid of slices and times.

Frames of one SeriesInstanceUID, size, PixelSpacing, ImageOrientationPatient, image type and echo time are one series.
It is readable if it has the same number of times at each position along the normal; otherwise it names its problems.
Nothing is sorted by file name; see `crnn_cli.io.dicom.timing` for the order in time.

Positions are LPS in frames, mm; the affine of a series is RAS+.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from crnn_cli.data.image import Affine, affine_of_slice
from crnn_cli.data.orientation import axis_codes
from crnn_cli.errors import Words
from crnn_cli.io.dicom.headers import Frame
from crnn_cli.io.dicom.positions import SlicePositions, group_by_position, is_perpendicular
from crnn_cli.io.dicom.timing import frame_time_of, sort_by_time
from crnn_cli.notices import Doubt, Fact, Remark

_PARALLEL = 1e-3


@dataclass(frozen=True)
class Series:
    """Frames that belong together.

    Attributes
    ----------
    number : in the listing, from 1.
    uid, series_number, description, modality : SeriesInstanceUID, SeriesNumber, SeriesDescription, Modality.
    part : which part of the series, such as phase images or an echo time; "" where it is not split.
    files : number of files.
    size : Rows and Columns.
    slices, frames : of the grid; where there are problems, as far as can be told.
    spacing : along x, y and z, mm.
    orientation : directions that the axes run to, such as LPS.
    affine : (column, row, slice) to RAS+ mm.
    ordered_by : the attribute that orders the times, "" for one time.
    frame_time : seconds from frame to frame, None if unknown.
    spread : largest difference between such times, s.
    grid : frames by slice (along the normal) and time; empty where there are problems.
    problems : why it cannot be read, as sentences.
    remarks : what is odd, but can be read.
    remedy : what makes it readable all the same; empty where nothing does.
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
    remarks: tuple[Remark, ...]
    remedy: tuple[Words, ...] = ()

    @property
    def kind(self) -> str:
        """Cine, time series, volume, image, or unreadable."""
        if not self.grid:
            return "unreadable"
        if self.frames > 1:
            return "cine" if self.ordered_by == "trigger time" else "time series"
        return "volume" if self.slices > 1 else "image"

    def one_slice(self, z: int) -> Series:
        """Series of slice z alone; the series must be readable."""
        assert self.affine is not None
        return replace(self, slices=1, grid=self.grid[z : z + 1], affine=affine_of_slice(self.affine, z))


@dataclass(frozen=True)
class Listing:
    """Contents of a folder or archive.

    Attributes
    ----------
    series : in the order of SeriesNumber.
    damaged : name of each damaged file, and the reason.
    others : number of files without DICOM images.
    """

    series: tuple[Series, ...]
    damaged: dict[str, str]
    others: int


def listing(frames_of_files: Iterable[Sequence[Frame]], *, slice_tolerance: float | None = None) -> Listing:
    """Group frames to series, in the order of their series numbers.

    Parameters
    ----------
    frames_of_files : frames of each file; none for a file without images.
    slice_tolerance : in mm, as of `crnn_cli.data.slice_stack.SliceStack`.
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
        tuple(_series(n, group, shared[group[0].series_uid] > 1, slice_tolerance) for n, group in enumerate(groups, 1)),
        damaged,
        others,
    )


def _key(frame: Frame) -> tuple[object, ...]:
    """Properties that frames of one series share, beside their direction: UID, size, spacing, part."""
    spaced = None if frame.spacing is None else tuple(round(v, 4) for v in frame.spacing)
    return frame.series_uid, frame.size, str(spaced), frame.part


def _by_direction(frames: list[Frame]) -> list[list[Frame]]:
    """Group frames by direction: the three planes of a localizer are three series."""
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


def _series(number: int, frames: list[Frame], split: bool, slice_tolerance: float | None) -> Series:
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
    positions = SlicePositions(sorted_frames, slice_tolerance)
    problems += [*positions.problems, *_duplicates(sorted_frames)]
    ordered_by, grid, missing = sort_by_time(sorted_frames)
    problems += missing
    times = max(len(row) for row in sorted_frames)
    if problems:
        series = _unreadable(number, frames, part, problems, len(sorted_frames), times)
        return replace(series, remedy=positions.stack.remedy() if problems == positions.problems else ())
    affine = positions.affine()
    frame_time, spread = frame_time_of(grid)
    remarks = [*positions.remarks(), *_remarks(grid, ordered_by, spread, frame_time)]
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return Series(
        number, first.series_uid, first.series_number, first.description, first.modality, part, _files(frames),
        first.size, len(grid), times, (float(x), float(y), float(z)), axis_codes(affine), affine,
        ordered_by if times > 1 else "", frame_time, spread, grid, (), tuple(remarks),
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
    uids = Counter((frame.instance, frame.index) for group in sorted_frames for frame in group if frame.instance)
    twice = sum(count - 1 for count in uids.values())
    return [f"{twice} image(s) are there twice (the same SOP Instance UID)"] if twice else []


def _remarks(
    grid: tuple[tuple[Frame, ...], ...], ordered_by: str, spread: float | None, frame_time: float | None
) -> list[Remark]:  # fmt: skip
    remarks: list[Remark] = []
    if ordered_by == "instance number":
        remarks.append(Doubt("ordered-by-instance", "only the instance numbers order the frames in time"))
    if spread and frame_time and spread > 0.5 * frame_time:
        text = f"the time between frames varies by {1000 * spread:.0f} ms"
        remarks.append(Doubt("uneven-frame-times", text))
    if len({frame.rescale for row in grid for frame in row}) > 1:
        text = "rescale slope or intercept differ between frames: each has its own"
        remarks.append(Fact("rescale-by-frame", text))
    return remarks
