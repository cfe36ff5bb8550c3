"""Plausibility of label maps: what cannot be, or is seldom, in a body, in plain words.

structure-missing        a structure has no voxel in a frame, or in none
structure-gap            a slice without the structure lies between slices with it
structure-narrows        a structure is much smaller in a slice than in slices on both sides
structure-in-pieces      pieces of a structure lie apart from its largest one
structure-at-edge        a structure reaches the edge of the image: it may be cut by the field of view
stack-ends-in-heart      the cavity is still wide in both end slices: base or apex are beyond the stack
cavity-short             many slices of the myocardium have no cavity
cavity-not-enclosed      the myocardium surrounds too little of the cavity in a slice between the end slices
myocardium-varies        the volume of the myocardium differs over the frames; muscle can hardly be compressed

The last four are about hearts: they need a model whose labels have the SNOMED CT codes of the left ventricle and its
myocardium. On the manual labels of 65 patients (ACDC, two frames each) nothing was found but pieces,
in 10 of 130; the myocardium of the two frames, though, differed by more than 15 % in a third of the patients. Limits of
what is found in single slices lie beyond all of these labels: no ventricle or myocardium narrowed below 0.43, no cavity
was in less than 0.78 of the slices of its myocardium. No hippocampus of 120 (Medical Segmentation Decathlon) narrowed
below 0.47.

Legend: T frame, S slice (in the order of the array), Y row, X column.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crnn_cli.labels.components import component_sizes
from crnn_cli.labels.names import Label
from crnn_cli.notices import Doubt

CAVITY, MYOCARDIUM = "87878005", "49848007"
"""SNOMED CT codes of the left ventricle and of its myocardium."""
LEAST_PIECE = 0.02
"""Share of a structure's voxels from which on a piece counts."""
LEAST_EDGE = 5
"""Voxels at the edge of a slice from which on a structure counts as cut."""
LEAST_ENCLOSED = 0.75
"""Share of the cavity's outline that the myocardium must cover."""
MOST_VARIATION = 0.15
"""Largest difference of the myocardium's volume over the frames, relative to its median, where there are 3 or more."""
NARROW = 0.4
"""Area of a structure in a slice over the smaller of its largest areas on both sides, below which it has narrowed."""
SHORT = 0.7
"""Share of the slices with myocardium that must have the cavity as well."""
WIDE_END = 0.6
"""Area of the cavity in an end slice over its largest area, from which on the ventricle goes on beyond the stack."""

Frames = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Finding:
    """What is implausible about a label map.

    Attributes
    ----------
    doubt : its code is one of those at the top of this file; its text counts frames and slices from 1.
    label : name of the structure.
    frames : in which it was found, counted from 0; all that were looked at for what is about the whole cycle.
    slices : in which it was found, in any of the frames, counted from 1 along the array axis; empty where it is about
        the whole stack.
    """

    doubt: Doubt
    label: str
    frames: tuple[int, ...]
    slices: tuple[int, ...] = ()


def find_implausible(labels_TSYX: Frames, names: Sequence[Label]) -> list[Finding]:
    """List what is implausible about the labels of a stack or series.

    Parameters
    ----------
    labels_TSYX : label values; slices in the order of the array.
    names : the structures that were looked for.

    Returns
    -------
    Findings, by structure; empty where there are none, and where nothing is labelled at all.
    """
    if not labels_TSYX.any():
        return []
    found: list[Finding] = []
    for label in names:
        mask_TSYX = labels_TSYX == label.value
        for check in (_missing, _gap, _narrow, _pieces, _edge):
            found += check(mask_TSYX, label)
    return found + _of_heart(labels_TSYX, names)


def label_with_code(names: Iterable[Label], code: str) -> Label | None:
    """The label with a SNOMED CT code; None where there is none."""
    return next((label for label in names if label.code is not None and label.code[:2] == ("SCT", code)), None)


def _of_heart(labels_TSYX: Frames, names: Sequence[Label]) -> list[Finding]:
    """Findings about the left ventricle, where the labels have one."""
    cavity, myocardium = label_with_code(names, CAVITY), label_with_code(names, MYOCARDIUM)
    found = [] if cavity is None else _ends(labels_TSYX == cavity.value, cavity)
    if myocardium is not None:
        found += _varies(labels_TSYX == myocardium.value, myocardium)
        if cavity is not None:
            masks = labels_TSYX == cavity.value, labels_TSYX == myocardium.value
            found += [*_short(*masks, cavity, myocardium), *_open(*masks, cavity, myocardium)]
    return found


def _missing(mask_TSYX: Mask, label: Label) -> list[Finding]:
    frames = np.flatnonzero(~mask_TSYX.any(axis=(1, 2, 3)))
    if not len(frames):
        return []
    count = len(mask_TSYX)
    where = "" if len(frames) == count else f" in {counted('frame', frames)} of {count}"
    doubt = Doubt("structure-missing", f"{label.name}: not found{where}")
    return [Finding(doubt, label.name, _indices(frames))]


def _gap(mask_TSYX: Mask, label: Label) -> list[Finding]:
    """Empty slices between the first and the last one of a frame."""
    there_TS: Mask = np.any(mask_TSYX, axis=(2, 3))
    begun: Mask = np.maximum.accumulate(there_TS, axis=1)
    ended: Mask = np.maximum.accumulate(there_TS[:, ::-1], axis=1)[:, ::-1]
    gap_TS = begun & ended & ~there_TS
    if not gap_TS.any():
        return []
    text = f"{label.name}: nothing in {_in_words(gap_TS)}, between labelled slices"
    return [Finding(Doubt("structure-gap", text), label.name, *_places(gap_TS))]


def _narrow(mask_TSYX: Mask, label: Label) -> list[Finding]:
    """Slices whose area is below `NARROW` of what the structure reaches on both sides; empty ones are a gap."""
    area_TS = mask_TSYX.sum(axis=(2, 3))
    before_TS, after_TS = np.zeros_like(area_TS), np.zeros_like(area_TS)
    before_TS[:, 1:] = np.maximum.accumulate(area_TS, axis=1)[:, :-1]
    after_TS[:, :-1] = np.maximum.accumulate(area_TS[:, ::-1], axis=1)[:, ::-1][:, 1:]
    narrow_TS = (area_TS > 0) & (area_TS < NARROW * np.minimum(before_TS, after_TS))
    if not narrow_TS.any():
        return []
    text = f"{label.name}: much smaller in {_in_words(narrow_TS)} than in slices on both sides"
    return [Finding(Doubt("structure-narrows", text), label.name, *_places(narrow_TS))]


def _pieces(mask_TSYX: Mask, label: Label) -> list[Finding]:
    """Frames in which pieces beside the largest hold at least `LEAST_PIECE` of the voxels each."""
    frames = []
    for t, mask_SYX in enumerate(mask_TSYX):
        sizes = component_sizes(mask_SYX)
        if len(sizes) > 1 and sorted(sizes)[-2] >= LEAST_PIECE * sum(sizes):
            frames.append(t)
    if not frames:
        return []
    text = f"{label.name}: several pieces that do not touch{_in_frames(frames, len(mask_TSYX))}"
    return [Finding(Doubt("structure-in-pieces", text), label.name, tuple(frames))]


def _edge(mask_TSYX: Mask, label: Label) -> list[Finding]:
    edge_YX = np.ones(mask_TSYX.shape[2:], bool)
    edge_YX[1:-1, 1:-1] = False
    touched_TS = mask_TSYX[..., edge_YX].sum(axis=2) >= LEAST_EDGE
    if not touched_TS.any():
        return []
    text = f"{label.name}: reaches the edge of the image in {_in_words(touched_TS)}; the field of view may cut it"
    return [Finding(Doubt("structure-at-edge", text), label.name, *_places(touched_TS))]


def _ends(mask_TSYX: Mask, cavity: Label) -> list[Finding]:
    """Frames in which the cavity is wide in the first and in the last slice of the stack."""
    area_TS = mask_TSYX.sum(axis=(2, 3))
    if area_TS.shape[1] < 3:
        return []
    wide_T = area_TS[:, [0, -1]].min(axis=1) >= WIDE_END * np.maximum(area_TS.max(axis=1), 1)
    frames = np.flatnonzero(wide_T)
    if not len(frames):
        return []
    where = _in_frames(frames, len(mask_TSYX))
    text = f"{cavity.name}: wide in the first and the last slice{where}: base and apex lie beyond the stack"
    return [Finding(Doubt("stack-ends-in-heart", text), cavity.name, _indices(frames))]


def _varies(mask_TSYX: Mask, myocardium: Label) -> list[Finding]:
    """Difference over the frames that have the myocardium; none at all is `_missing`."""
    sizes_T = mask_TSYX.sum(axis=(1, 2, 3))
    sizes_T = sizes_T[sizes_T > 0]
    if len(sizes_T) < 3:
        return []
    middle = float(np.median(sizes_T))
    variation = float(sizes_T.max() - sizes_T.min()) / middle
    if variation <= MOST_VARIATION:
        return []
    text = f"{myocardium.name}: its volume differs by {100 * variation:.0f} % over the cycle; muscle keeps its volume"
    return [Finding(Doubt("myocardium-varies", text), myocardium.name, tuple(range(len(mask_TSYX))))]


def _short(cavity_TSYX: Mask, myocardium_TSYX: Mask, cavity: Label, myocardium: Label) -> list[Finding]:
    """Frames in which less than `SHORT` of the slices with myocardium have the cavity; none at all is `_missing`."""
    cavity_TS, myocardium_TS = (np.any(mask, axis=(2, 3)) for mask in (cavity_TSYX, myocardium_TSYX))
    both_T = (cavity_TS & myocardium_TS).sum(axis=1)
    frames = np.flatnonzero(cavity_TS.any(axis=1) & (both_T < SHORT * myocardium_TS.sum(axis=1)))
    if not len(frames):
        return []
    where = _in_frames(frames, len(cavity_TSYX))
    text = f"{myocardium.name}: less than {100 * SHORT:.0f} % of its slices have the {cavity.name}{where}"
    return [Finding(Doubt("cavity-short", text), myocardium.name, _indices(frames))]


def _open(cavity_TSYX: Mask, myocardium_TSYX: Mask, cavity: Label, myocardium: Label) -> list[Finding]:
    """Slices in which the myocardium covers less than `LEAST_ENCLOSED` of the outline of the cavity.

    The end slices of the cavity do not count: at the base the ring is open by convention, at the apex it is small.
    """
    there_TS: Mask = np.any(cavity_TSYX, axis=(2, 3))
    inner_TS = there_TS.copy()
    for t, there_S in enumerate(there_TS):
        inner_TS[t, np.flatnonzero(there_S)[[0, -1]] if there_S.any() else []] = False
    open_TS = np.zeros_like(there_TS)
    for t, s in np.argwhere(inner_TS):
        outline_YX = _grown(cavity_TSYX[t, s]) & ~cavity_TSYX[t, s]
        open_TS[t, s] = myocardium_TSYX[t, s][outline_YX].mean() < LEAST_ENCLOSED
    if not open_TS.any():
        return []
    share = f"less than {100 * LEAST_ENCLOSED:.0f} % of the outline of the {cavity.name}"
    text = f"{myocardium.name}: surrounds {share} in {_in_words(open_TS)}"
    return [Finding(Doubt("cavity-not-enclosed", text), myocardium.name, *_places(open_TS))]


def _grown(mask_YX: Mask) -> Mask:
    """A mask and its neighbours of a side."""
    grown = mask_YX.copy()
    grown[1:] |= mask_YX[:-1]
    grown[:-1] |= mask_YX[1:]
    grown[:, 1:] |= mask_YX[:, :-1]
    grown[:, :-1] |= mask_YX[:, 1:]
    return grown


def _places(found_TS: Mask) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Frames from 0, and slices from 1, in which something is."""
    frames, slices = np.flatnonzero(found_TS.any(axis=1)), np.flatnonzero(found_TS.any(axis=0))
    return _indices(frames), _indices(slices + 1)


def _in_words(found_TS: Mask) -> str:
    frames, slices = np.flatnonzero(found_TS.any(axis=1)), np.flatnonzero(found_TS.any(axis=0))
    return f"{counted('slice', slices)}{_in_frames(frames, len(found_TS))}"


def _in_frames(frames: Sequence[int] | NDArray[np.intp], count: int) -> str:
    return "" if count == 1 else f" ({counted('frame', frames)} of {count})"


def counted(noun: str, indices: Sequence[int] | NDArray[np.intp]) -> str:
    """Indices from 0 in words, counted from 1.

    >>> counted("frame", [0, 1, 2, 6]), counted("slice", [4])
    ('frames 1-3, 7', 'slice 5')
    """
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = int(index)
        else:
            runs.append([int(index), int(index)])
    words = [str(a + 1) if a == b else f"{a + 1}-{b + 1}" for a, b in runs]
    return f"{noun}{'s' if len(indices) > 1 else ''} {', '.join(words)}"


def _indices(values: NDArray[np.intp]) -> tuple[int, ...]:
    return tuple(int(v) for v in values)
