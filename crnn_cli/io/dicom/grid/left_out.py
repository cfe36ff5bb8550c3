"""Files of a folder that were not read, and whether a series may miss them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

from crnn_cli.io.dicom.frames.frame import FileContents, Frame, Origin
from crnn_cli.notices import Doubt, Fact, Remark

_MOST_NAMES = 4


def suspects(left_out: Sequence[FileContents], frames: Sequence[Frame]) -> list[FileContents]:
    """Files that were not read and may be images of a series.

    They lie in a folder of the series, state nothing that contradicts it, and begin as DICOM, are empty, or bear the
    suffix of its files without being text. Hidden files are left by other programs, and not counted.
    """
    folders = {PurePath(frame.source.name).parent for frame in frames}
    several = len(folders) > 1 and not _shared(frames).series_uid  # a stack, with a folder for each slice
    folders |= {each.parent for each in folders} if several else set()
    suffixes = {PurePath(frame.source.name.lower().removesuffix(".gz")).suffix for frame in frames}
    origin = _shared(frames)
    found = []
    for each in left_out:
        name = PurePath(each.source.name)
        if name.name.startswith(".") or each.origin.contradicts(origin):
            continue
        if folders.isdisjoint((name.parent, name.parent.parent) if several else (name.parent,)):
            continue
        same_suffix = bool(suffixes.intersection(map(str.lower, name.suffixes or [""]))) and not each.is_text
        if each.begins_as_dicom or each.left_out == EMPTY or same_suffix:
            found.append(each)
    return found


def _shared(frames: Sequence[Frame]) -> Origin:
    """What all frames state alike of their origin; blank where they differ, such as the series of the slices."""
    origins = {frame.origin for frame in frames}
    blank = Origin()
    columns = [set(values) for values in zip(*origins, strict=True)]
    return Origin._make(values.pop() if len(values) == 1 else none for values, none in zip(columns, blank, strict=True))


EMPTY = "empty"
"""Reason of a file without a byte."""


def may_miss(rows: Sequence[Sequence[Frame]], files: int, images: int) -> bool:
    """Whether a full grid of slices and times may have lost whole slices or times to files that were not read.

    A single file that is missing from several slices at several times would leave a hole.

    Parameters
    ----------
    rows : frames by slice and time.
    files : number of files that were not read.
    images : number of images of the series, its other kinds included.
    """
    if not files:
        return False
    slices, times, counts = len(rows), len(rows[0]), rows[0][0].counts
    if counts.acquisition is not None and counts.acquisition == images:
        return False
    names = {frame.source.name for row in rows for frame in row}
    if len(names) < slices * times:  # multi-frame files: one may hold any part
        return True
    all_times = times > 1 and times in (counts.cycle, counts.positions)
    return files >= times or (files >= slices and not all_times)


def named(files: Sequence[FileContents]) -> str:
    """Names of files with their reasons, the first few of many.

    >>> from crnn_cli.io.dicom.sources import Source
    >>> named([FileContents(Source("a.dcm", open), left_out="empty")])
    'a.dcm (empty)'
    """
    shown = ", ".join(f"{each.source.name} ({each.left_out})" for each in files[:_MOST_NAMES])
    return f"{shown} and {len(files) - _MOST_NAMES} more" if len(files) > _MOST_NAMES else shown


def tally(left_out: Sequence[FileContents], objects: dict[str, int]) -> str:
    """Objects and files beside a series with their numbers, in words; "" where there are none.

    >>> tally([], {"RT Dose": 1})
    '1 RT Dose'
    """
    reasons = Counter(each.left_out.partition(":")[0] for each in left_out)
    parts = [f"{count} {name}" for name, count in sorted(objects.items())]
    parts += [f"{count} {'file' if count == 1 else 'files'}: {reason}" for reason, count in sorted(reasons.items())]
    return ", ".join(parts)


def remarks_on(
    left_out: Sequence[FileContents], suspected: Sequence[FileContents], objects: dict[str, int]
) -> list[Remark]:  # fmt: skip
    """What a report says of the files beside a series: a doubt about those that may belong to it, a fact on others."""
    remarks: list[Remark] = []
    if suspected:
        text = f"{len(suspected)} file(s) beside the series were left out: {named(suspected)}"
        remarks.append(Doubt("dicom-files-left-out", text))
    others = [each for each in left_out if each not in suspected]
    beside = tally(others, objects)
    if beside:
        remarks.append(Fact("dicom-beside", f"beside the series, not read: {beside}"))
    return remarks
