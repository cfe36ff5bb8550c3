"""The header of an ISMRMRD file against its readouts: what converters are known to state wrongly, set right.

A second phase encoding that never varies, readout oversampling that was removed, fields of view in metres.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from crnn_cli.errors import UnreadableError
from crnn_cli.io.kspace.ismrmrd.file import ReadoutHeaders
from crnn_cli.io.kspace.ismrmrd.header import IsmrmrdHeader, Space
from crnn_cli.io.kspace.ismrmrd.readouts import REVERSE, ReadoutGroups, Whole
from crnn_cli.notices import Doubt

_METRE = 1.0
"""Fields of view below 1 mm cannot be: they are in metres."""
_SMALLEST = 1e-3
"""Smallest pixel, in mm."""


def reconcile(header: IsmrmrdHeader, groups: ReadoutGroups) -> tuple[IsmrmrdHeader, list[Doubt]]:
    """Set the header right where readouts show what it must mean, with a doubt for each change.

    Raises
    ------
    UnreadableError
        If the pixels of the images would be smaller than a micrometre.
    """
    doubts: list[Doubt] = []
    for change in (_in_millimetres, _without_partitions, _without_oversampling):
        header, found = change(header, groups)
        doubts += found
    sides = [length / n for length, n in zip(header.shown.field[:2], header.shown.matrix[:2], strict=True)]
    if min(sides) < _SMALLEST:
        raise UnreadableError(
            f"the ISMRMRD header says that pixels are {sides[0]:.3g} x {sides[1]:.3g} mm, which cannot be: its fields "
            "of view must be in mm; convert the scan again"
        )
    return header, doubts


def positions_in_millimetres(heads: ReadoutHeaders, header: IsmrmrdHeader) -> ReadoutHeaders:
    """Readouts with positions in mm: where fields of view were in metres and all positions are within 1, they were too.

    Parameters
    ----------
    header : as `reconcile` returns it.
    """
    positions = heads["position"]
    if not header.in_metres or not np.isfinite(positions).all() or np.abs(positions).max() >= _METRE:
        return heads
    return ReadoutHeaders(heads.row, heads.fields | {"position": 1000 * positions})


def _in_millimetres(header: IsmrmrdHeader, groups: ReadoutGroups) -> tuple[IsmrmrdHeader, list[Doubt]]:
    del groups
    if max(header.encoded.field) >= _METRE:
        return header, []
    encoded, shown = (
        Space(space.matrix, (1000 * space.field[0], 1000 * space.field[1], 1000 * space.field[2]))
        for space in (header.encoded, header.shown)
    )
    text = " x ".join(f"{length:g}" for length in header.encoded.field)
    doubt = Doubt("field-of-view-in-metres", f"the header says a field of view of {text} mm: taken as metres")
    return replace(header, encoded=encoded, shown=shown, in_metres=True), [doubt]


def _without_partitions(header: IsmrmrdHeader, groups: ReadoutGroups) -> tuple[IsmrmrdHeader, list[Doubt]]:
    """A 2-D scan whose header says several planes."""
    planes = header.encoded.matrix[2]
    steps = np.concatenate([heads["kspace_encode_step_2"] for heads in (groups.imaging, groups.calibration)])
    if planes == 1 or np.ptp(steps):
        return header, []
    spaces = [replace(space, matrix=(*space.matrix[:2], 1)) for space in (header.encoded, header.shown)]
    doubt = Doubt(
        "planes-never-vary",
        f"the header says {planes} planes, and kspace_encode_step_2 is {int(steps[0])} in every readout: taken as 2-D",
    )
    return replace(header, encoded=spaces[0], shown=spaces[1], step_2=None, flat=True), [doubt]


def _without_oversampling(header: IsmrmrdHeader, groups: ReadoutGroups) -> tuple[IsmrmrdHeader, list[Doubt]]:
    """Readout oversampling that was removed when the file was made, while the header still has it.

    Taken so where every readout is too short for the encoded matrix on both sides, and would just fill the matrix
    without oversampling, or leave out one side of it (asymmetric echo).
    """
    x, (encoded, shown) = header.encoded.matrix[0], (header.encoded.field[0], header.shown.field[0])
    reduced = round(x * min(1.0, shown / encoded))
    heads = [each for each in (groups.imaging, groups.calibration) if len(each)]
    used, before = (np.concatenate(parts) for parts in zip(*map(_extent, heads), strict=True))
    gaps = x // 2 - before, x - (x // 2 - before + used)
    if reduced == x or min(gaps[0].min(), gaps[1].min()) <= 1 or used.max() < reduced / 2:
        return header, []
    first = reduced // 2 - before
    whole = (used == reduced) & (np.abs(first) <= 1)
    if not (whole | ((first == 0) | (first + used == reduced)) & (first >= 0) & (first + used <= reduced)).all():
        return header, []
    space = Space((reduced, *header.encoded.matrix[1:]), (encoded * reduced / x, *header.encoded.field[1:]))
    doubt = Doubt(
        "oversampling-removed",
        f"the header says {x} samples of a readout, and all have {int(used.max())} in the middle of them: taken as a "
        f"scan of {reduced} samples whose readout oversampling was removed",
    )
    return replace(header, encoded=space, filtered=True), [doubt]


def _extent(heads: ReadoutHeaders) -> tuple[Whole, Whole]:
    """Used samples of readouts, and how many of them lie before the centre; a centre of 0 is one not filled in."""
    n, stored, reverse = heads["number_of_samples"], heads["center_sample"], heads.flagged(REVERSE)
    used = n - heads["discard_pre"] - heads["discard_post"]
    before = np.where(reverse, n - 1 - stored - heads["discard_post"], stored - heads["discard_pre"])
    return used, np.where(stored == 0, used // 2, before)


def fewer_than_stated(header: IsmrmrdHeader, found: dict[str, int]) -> list[Doubt]:
    """Doubt where the header states more repetitions, phases or slices than there are.

    Parameters
    ----------
    found : number of values of each counter of ``header.counts``.
    """
    short = []
    for counter, stated in header.counts.items():
        if found[counter] < stated:
            are = f"{found[counter]} {'are' if found[counter] > 1 else 'is'} there"
            short.append(f"{stated} {counter}{'s' if stated > 1 else ''}, {are}")
    text = "the header says " + "; ".join(short)
    return [Doubt("fewer-than-stated", text)] if short else []
