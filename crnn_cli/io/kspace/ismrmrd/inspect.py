"""A look at the central readouts of an ISMRMRD file: coils without signal, and where the centre of reversed lines is.

Legend: C coil, N readout, X readout sample.

Scanners disagree about the centre sample of a readout that was measured from right to left. Of the readings that fit,
the one is taken under which such lines agree best with their neighbours that were measured from left to right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.acquisition import Complex
from crnn_cli.errors import UnreadableError
from crnn_cli.io.kspace.ismrmrd.file import ReadoutHeaders, SampleSource
from crnn_cli.io.kspace.ismrmrd.header import IsmrmrdHeader
from crnn_cli.io.kspace.ismrmrd.readouts import REVERSE, GridIndex, ReversedCentre, grid_index
from crnn_cli.notices import Doubt

_MOST = 192
"""Readouts that are looked at."""
_ALIKE = 0.93
"""Least agreement of lines that can decide."""
_DECISIVE = 0.5
"""Share of the disagreement of the others that the best reading may have; else the lines decide nothing."""


@dataclass(frozen=True)
class CentralReadouts:
    """Readouts of one slice nearest to the centre of k-space.

    Attributes
    ----------
    heads : headers of N readouts.
    samples : of each, complex64 (C, X) in the stored order.
    """

    heads: ReadoutHeaders
    samples: list[Complex]


def central_readouts(source: SampleSource, heads: ReadoutHeaders, header: IsmrmrdHeader) -> CentralReadouts:
    """Read the readouts nearest to the centre of k-space, of the slice with most readouts.

    Raises
    ------
    UnreadableError
        If samples are missing, NaN or infinite.
    """
    slices, counts = np.unique(heads["slice"], return_counts=True)
    chosen = np.flatnonzero(heads["slice"] == slices[counts.argmax()])
    away = np.zeros(len(chosen))
    for counter, limits, size in (
        ("kspace_encode_step_1", header.step_1, header.encoded.matrix[1]),
        ("kspace_encode_step_2", header.step_2, header.encoded.matrix[2]),
    ):
        away += np.abs(heads[counter][chosen] - (size // 2 if limits is None else limits.centre))
    chosen = np.sort(chosen[np.argsort(away, kind="stable")[:_MOST]])
    central = heads.where(chosen)
    samples: list[Complex] = [np.empty((0, 0), np.complex64)] * len(central)
    for index, values in source(central):
        samples[index] = values
    return CentralReadouts(central, samples)


def dead_coils(central: CentralReadouts) -> list[Doubt]:
    """Doubt about coils that hold zeros alone, while others do not."""
    heads = central.heads
    ends = heads["number_of_samples"] - heads["discard_post"]
    used = zip(central.samples, heads["discard_pre"], ends, strict=True)
    alive = np.logical_or.reduce([samples[:, first:last].any(axis=1) for samples, first, last in used])
    dead = np.flatnonzero(~alive)
    if not len(dead) or not alive.any():
        return []
    numbers = ", ".join(map(str, dead))
    return [Doubt("dead-coil", f"of {len(alive)} coils, number {numbers} (from 0) holds only zeros")]


def reversed_centre(central: CentralReadouts, header: IsmrmrdHeader) -> tuple[ReversedCentre | None, str]:
    """Reading of the centre sample of reversed readouts that makes them agree best with their neighbours.

    Returns
    -------
    The reading, and a sentence about it; None and "" where lines to compare decide nothing.
    """
    reverse = central.heads.flagged(REVERSE)
    if not reverse.any() or reverse.all():
        return None, ""
    scores: dict[ReversedCentre, float] = {}
    places: dict[ReversedCentre, bytes] = {}
    for reading in get_args(ReversedCentre):
        try:
            index, _ = grid_index(central.heads, header, reading)
        except UnreadableError:
            continue
        places[reading] = index.column.tobytes() + index.skip.tobytes()
        scores[reading] = _agreement(central, index, header.encoded.matrix[0])
    if not scores:
        return None, ""
    best = max(scores, key=lambda reading: scores[reading])
    others = [scores[reading] for reading in scores if places[reading] != places[best]]
    if scores[best] < _ALIKE or (others and 1 - scores[best] > _DECISIVE * (1 - max(others))):
        return None, ""
    listed = ", ".join(f"{reading} {score:.3f}" for reading, score in scores.items())
    return best, f"centre of reversed readouts: {best} (agreement with lines beside them: {listed})"


def _agreement(central: CentralReadouts, index: GridIndex, width: int) -> float:
    """Mean correlation of the magnitudes of reversed readouts with their nearest others, weighted by energy."""
    lines_NX = _placed(central, index, width)
    energy, product = 0.0, 0.0
    for i, beside in _neighbours(central.heads, index):
        line, others = lines_NX[i], lines_NX[beside].mean(axis=0)
        shared = (line > 0) & (lines_NX[beside] > 0).all(axis=0)
        product += float((line * others)[shared].sum())
        energy += float(np.sqrt((line**2).sum() * (others**2).sum()))
    return product / energy if energy else 0.0


def _placed(central: CentralReadouts, index: GridIndex, width: int) -> NDArray[np.float64]:
    """Root of the sum of squares over coils of each readout in its place, (N, X)."""
    placed = np.zeros((len(central.samples), width))
    for i, stored in enumerate(central.samples):
        samples = stored[:, ::-1] if index.reverse[i] else stored
        first, at, n = index.skip[i], index.column[i], index.count[i]
        placed[i, at : at + n] = np.linalg.norm(samples[:, first : first + n], axis=0)
    return placed


def _neighbours(heads: ReadoutHeaders, index: GridIndex) -> Iterator[tuple[int, list[int]]]:
    """Each reversed readout with the nearest that are not, one on either side: by line, then by frame."""
    others = np.flatnonzero(~index.reverse)
    frame = heads["repetition"] * (heads["phase"].max() + 1) + heads["phase"]
    for i in np.flatnonzero(index.reverse):
        apart = index.row[others] - index.row[i] + 10_000 * np.abs(index.plane[others] - index.plane[i])
        order = np.lexsort((np.abs(frame[others] - frame[i]), np.abs(apart)))
        sides = [order[side[order]][:1] for side in (apart < 0, apart >= 0)]
        yield int(i), others[np.concatenate(sides)].tolist()
