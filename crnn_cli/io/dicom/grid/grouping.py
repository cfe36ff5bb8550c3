"""Frames that belong together: one patient, study, series, frame of reference, kind of image, direction and station.

SeriesInstanceUID alone does not do: several series, and several patients, are met under one. Images that lie in one
place at one time, such as magnitude and phase, are groups of their own, and so are the stations of a moved table.

Positions are LPS, mm.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from crnn_cli.data.slice_stack import SAME_PLACE
from crnn_cli.io.dicom.frames.frame import Frame, Origin
from crnn_cli.io.dicom.grid.positions import IN_PLANE, is_perpendicular, normal_of

PARALLEL = 1e-3
_STATION = 10.0
"""Distance in the plane, in mm, from which on images are stations of their own, not images of a slice that moves."""
SAME_ECHO = 1.02
"""Ratio of echo times below which they count as one: scanners round them slice by slice."""
_PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Group:
    """Frames that belong together, with words that tell them from their siblings, "" where there are none."""

    frames: list[Frame]
    label: str = ""


def group_frames(frames: Iterable[Frame]) -> list[Group]:
    """Group frames, in the order of their series numbers."""
    alike = _split([_with_origins(list(frames))], identity)
    groups = [part for group in alike for part in _by_direction(group)]
    groups = [part for group in groups for part in _by_echo(group)]
    groups = [part for group in groups for part in _by_other_words(group)]
    groups = [part for group in groups for part in _by_station(group)]
    groups = [part for group in groups for part in _by_scale(group)]
    by_uid: dict[str, list[list[Frame]]] = defaultdict(list)
    for group in groups:
        by_uid[group[0].origin.series_uid].append(group)
    labelled = [
        Group(group, label)
        for siblings in by_uid.values()
        for group, label in zip(siblings, _labels(siblings), strict=True)
    ]
    return sorted(labelled, key=_place_in_listing)


def _place_in_listing(group: Group) -> tuple[object, ...]:
    first = group.frames[0]
    return first.origin.series_number or 0, first.origin.series_uid, group.label, first.size


def _split(groups: list[list[Frame]], key: Callable[[Frame], Hashable]) -> list[list[Frame]]:
    together: dict[Hashable, list[Frame]] = defaultdict(list)
    for number, group in enumerate(groups):
        for frame in group:
            together[number, key(frame)].append(frame)
    return list(together.values())


def _with_origins(frames: list[Frame]) -> list[Frame]:
    """Fill what some files of a series leave out, such as a frame of reference, where the others agree on it."""
    origins: dict[str, set[Origin]] = defaultdict(set)
    for frame in frames:
        origins[frame.origin.series_uid].add(frame.origin)
    filled = {origin: _filled(origin, siblings) for siblings in origins.values() for origin in siblings}
    return [
        frame if filled[frame.origin] == frame.origin else replace(frame, origin=filled[frame.origin])
        for frame in frames
    ]


def _filled(origin: Origin, siblings: set[Origin]) -> Origin:
    agreed = {}
    for name in Origin._fields:
        values = {getattr(each, name) for each in siblings} - {"", None}
        if getattr(origin, name) in ("", None) and len(values) == 1:
            agreed[name] = values.pop()
    return origin._replace(**agreed)


def identity(frame: Frame) -> Hashable:
    """What frames of one group share exactly. SeriesDescription is a text of people, and not part of it."""
    spaced = None if frame.spacing is None else tuple(round(v, 4) for v in frame.spacing)
    kind = frame.image_type
    return frame.origin._replace(description="", modality=""), frame.size, spaced, kind[1:], kind.types[2:3]


def _by_other_words(frames: list[Frame]) -> list[list[Frame]]:
    """Group frames by the other values of the image type, where images of several types lie in one place.

    Slice by slice such words may differ in one volume, such as those about how a CT image was computed.
    """
    several = any(len({frame.image_type.types for frame in group}) > 1 for group in _by_place(frames).values())
    return _split([frames], lambda frame: frame.image_type.types) if several else [frames]


def _by_direction(frames: list[Frame]) -> list[list[Frame]]:
    """Group frames by direction: the three planes of a localizer are three series."""
    groups: list[list[Frame]] = []
    for frame in frames:
        for group in groups:
            first = group[0].orientation
            if first is None or frame.orientation is None:
                near = first is frame.orientation
            else:
                near = max(abs(a - b) for a, b in zip(first, frame.orientation, strict=True)) < PARALLEL
            if near:
                group.append(frame)
                break
        else:
            groups.append([frame])
    return groups


def _by_echo(frames: list[Frame]) -> list[list[Frame]]:
    """Group frames by echo time; those that differ by rounding alone are one."""
    echoes = sorted({frame.echo for frame in frames if frame.echo is not None})
    if len(echoes) < 2:
        return _split([frames], lambda frame: frame.echo is None)
    cluster = {echoes[0]: 0}
    for before, echo in pairwise(echoes):
        cluster[echo] = cluster[before] + (echo > SAME_ECHO * before)
    return _split([frames], lambda frame: None if frame.echo is None else cluster[frame.echo])


def _by_station(frames: list[Frame]) -> list[list[Frame]]:
    """Group frames by station: places far apart in the plane whose slices share their places along the normal."""
    first = frames[0].orientation
    placed = [frame.position for frame in frames if frame.position is not None]
    if first is None or len(placed) < len(frames) or not is_perpendicular(first):
        return [frames]
    positions = np.array(placed)
    normal, directions = normal_of(first), np.array(first).reshape(2, 3)
    along, in_plane = positions @ normal, positions @ directions.T
    order = np.argsort(along, kind="stable")
    same_level = np.diff(along[order]) < SAME_PLACE
    moved = np.abs(np.diff(in_plane[order], axis=0)).max(axis=1, initial=0) > IN_PLANE
    if not (same_level & moved).any():
        return [frames]
    stations = list(zip(*(clusters(in_plane[:, axis]) for axis in (0, 1)), strict=True))
    number = {id(frame): station for frame, station in zip(frames, stations, strict=True)}
    return _split([frames], lambda frame: number[id(frame)])


def _by_scale(frames: list[Frame]) -> list[list[Frame]]:
    """Group frames by rescale, where that alone tells the images of a place apart, such as those of a field map.

    Where times tell them apart, each may have a rescale of its own.
    """
    parts = _split([frames], lambda frame: frame.rescale)
    whole = _by_place(frames)
    if len(parts) < 2 or _times_tell_apart(whole):
        return [frames]
    places = [_by_place(part) for part in parts]
    counts = {len(group) for each in places for group in each.values()}
    complete = all(each.keys() == whole.keys() for each in places) and len(counts) == 1
    told = counts == {1} or all(_times_tell_apart(each) for each in places)
    return parts if complete and told else [frames]


def _by_place(frames: list[Frame]) -> dict[Hashable, list[Frame]]:
    at: dict[Hashable, list[Frame]] = defaultdict(list)
    for frame in frames:
        at[None if frame.position is None else tuple(round(v, 1) for v in frame.position)].append(frame)
    return at


def _times_tell_apart(places: dict[Hashable, list[Frame]]) -> bool:
    """Whether a time or a number of the acquisition differs between all images of each place."""
    names = ("temporal position", "time offset", "trigger time", "acquisition number", "acquisition time")
    return any(
        all(len({_time(frame, name) for frame in group} - {None}) == len(group) for group in places.values())
        for name in names
    )


def _time(frame: Frame, name: str) -> object:
    return frame.times.get(name, frame.clocks.get(name))


def clusters(values: np.ndarray[tuple[int], np.dtype[np.float64]], apart: float = _STATION) -> list[int]:
    """Number the clusters of values that lie at least a distance apart, by default that of stations."""
    order = np.argsort(values, kind="stable")
    numbers = np.concatenate([[0], np.cumsum(np.diff(values[order]) > apart)])
    found = np.empty(len(values), int)
    found[order] = numbers
    return [int(n) for n in found]


def _labels(siblings: Sequence[list[Frame]]) -> list[str]:
    """Words for each group of one SeriesInstanceUID that tell it from the others."""
    firsts = [group[0] for group in siblings]
    kinds = [first.image_type for first in firsts]
    columns = [
        [kind.label(kinds) for kind in kinds],
        _differing([_echo(first) for first in firsts]),
        _differing([_plane(first) for first in firsts]),
        _scales(siblings),
        _numbered("patient", [first.origin.patient for first in firsts]),
        _numbered("study", [first.origin.study_uid for first in firsts]),
        _numbered("frame of reference", [first.origin.frame_of_reference for first in firsts]),
    ]
    labels = [" ".join(word for word in row if word) for row in zip(*columns, strict=True)]
    return [*map(str.strip, map(" ".join, zip(labels, _stations(siblings, labels), strict=True)))]


def _stations(siblings: Sequence[list[Frame]], labels: Sequence[str]) -> list[str]:
    """``station 1`` and on for groups that nothing else tells apart but their places."""
    keys = [(label, *_identity_of_group(group)) for label, group in zip(labels, siblings, strict=True)]
    return [
        f"station {keys[: n + 1].count(key)}" if keys.count(key) > 1 else ""
        for n, key in enumerate(keys)
    ]  # fmt: skip


def _identity_of_group(group: list[Frame]) -> tuple[object, ...]:
    first = group[0]
    return identity(first), None if first.orientation is None else tuple(round(v, 2) for v in first.orientation)


def _differing(names: list[str]) -> list[str]:
    return names if len(set(names)) > 1 else [""] * len(names)


def _numbered(what: str, values: list[str]) -> list[str]:
    numbers = {value: n for n, value in enumerate(dict.fromkeys(values), 1)}
    return _differing([f"{what} {numbers[value]}" for value in values])


def _scales(siblings: Sequence[list[Frame]]) -> list[str]:
    """Rescale of groups whose frames share one and that differ in it."""
    alike = all(len({frame.rescale for frame in group}) == 1 for group in siblings)
    return _differing(["rescaled by {:g} {:+g}".format(*group[0].rescale) if alike else "" for group in siblings])


def _echo(frame: Frame) -> str:
    return "" if frame.echo is None else f"echo {frame.echo:g} ms"


def _plane(frame: Frame) -> str:
    """Name of the plane that lies nearest."""
    if frame.orientation is None or not is_perpendicular(frame.orientation):
        return ""
    return _PLANES[int(np.abs(normal_of(frame.orientation)).argmax())]
