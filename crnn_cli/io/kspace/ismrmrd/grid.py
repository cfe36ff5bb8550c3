"""Readouts of ISMRMRD brought together in k-space: averaged, turned round, zero where nothing was measured.

Legend: C coil, T frame, K second phase encoding (3-D scans), Y phase encoding, X readout.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.acquisition import Complex
from crnn_cli.data.sampling_mask import Mask
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.io.kspace.ismrmrd.file import ReadoutHeaders, read_samples
from crnn_cli.io.kspace.ismrmrd.readouts import GridIndex, Whole


@dataclass(frozen=True)
class Grid:
    """Lengths of the axes of k-space."""

    coils: int
    frames: int
    planes: int
    lines: int
    samples: int


@dataclass(frozen=True)
class Lines:
    """Readouts of a file with their places in the grid, and the frame of each."""

    place: Path
    group: str
    heads: ReadoutHeaders
    cells: GridIndex
    frames: Whole
    grid: Grid

    def where(self, chosen: Mask) -> Lines:
        """Return the readouts that a mask chooses."""
        heads, cells, frames = self.heads.where(chosen), self.cells.where(chosen), self.frames[chosen]
        return Lines(self.place, self.group, heads, cells, frames, self.grid)

    def read(self, number: int, plane: int) -> tuple[Complex, Mask]:
        """Return k-space (C, T, Y, X) and what was measured (T, Y, X) of the slice with this counter.

        Averages are averaged, the rest is zero. With several planes K, ``plane`` is that of the image: the centred
        orthonormal transform along K is done readout by readout, so that memory for one plane is enough.
        """
        return self.where(self.heads["slice"] == number)._gathered(plane)

    def _gathered(self, plane: int) -> tuple[Complex, Mask]:
        grid, cells = self.grid, self.cells
        counts_TKYX = self.counts()
        kspace = np.zeros((grid.coils, grid.frames, grid.lines, grid.samples), np.complex64)
        angle = 2 * np.pi * (plane - grid.planes // 2) * (np.arange(grid.planes) - grid.planes // 2) / grid.planes
        wave_K = np.exp(1j * angle) / np.sqrt(grid.planes)
        for index, stored in read_samples(self.place, self.group, self.heads):
            samples = stored[:, ::-1] if cells.reverse[index] else stored
            t, k, y = self.frames[index], cells.plane[index], cells.row[index]
            a, first, n = cells.column[index], cells.skip[index], cells.count[index]
            times = counts_TKYX[t, k, y, a : a + n] if counts_TKYX.shape[-1] > 1 else counts_TKYX[t, k, y]
            weight = wave_K[k] / times if grid.planes > 1 else 1 / times
            kspace[:, t, y, a : a + n] += samples[:, first : first + n] * weight.astype(np.complex64)
        return kspace, np.asarray(counts_TKYX.any(1))

    def counts(self) -> NDArray[np.int32]:
        """Return how often each sample was measured, (T, K, Y, X); X is 1 where all readouts fill the matrix."""
        grid, cells = self.grid, self.cells
        whole = bool((cells.count == grid.samples).all())
        counts = np.zeros((grid.frames, grid.planes, grid.lines, 1 if whole else grid.samples), np.int32)
        if whole:
            np.add.at(counts[..., 0], (self.frames, cells.plane, cells.row), 1)
            return counts
        for t, k, y, a, n in zip(self.frames, cells.plane, cells.row, cells.column, cells.count, strict=True):
            counts[t, k, y, a : a + n] += 1
        return counts

    def averages(self) -> Whole:
        """Return how often each line that was measured at all was measured."""
        keys = np.stack([self.heads["slice"], self.frames, self.cells.plane, self.cells.row], 1)
        return np.unique(keys, axis=0, return_counts=True)[1]

    def require_full_planes(self) -> None:
        """Raise UnsupportedDataError unless a 3-D scan has all planes K of every line that it has at all."""
        if self.grid.planes == 1:
            return
        if len(np.unique(self.heads["slice"])) > 1:
            raise UnsupportedDataError("this scan has several slabs of a 3-D encoding: write each to a file of its own")
        measured = np.zeros((self.grid.frames, self.grid.planes, self.grid.lines), bool)
        measured[self.frames, self.cells.plane, self.cells.row] = True
        some, whole = measured.any(1), measured.all(1)
        if (some != whole).any():
            raise UnsupportedDataError(
                f"this scan is 3-D, and {int((some & ~whole).sum())} of its {int(some.sum())} lines lack some of the "
                f"{self.grid.planes} steps along the second phase encoding: only 3-D scans that are fully sampled "
                "there are supported (as slices)"
            )
        if len(np.unique(self.cells.column)) > 1 or len(np.unique(self.cells.count)) > 1:
            raise UnsupportedDataError("this scan is 3-D, and its readouts differ in length: that is not supported")

    def missing(self, acceleration: tuple[int, int]) -> list[str]:
        """Return in words what is missing of a scan that says it is not accelerated: lines that other frames have."""
        if acceleration != (1, 1):
            return []
        numbers, at = np.unique(self.heads["slice"], return_inverse=True)
        measured = np.zeros((len(numbers), self.grid.frames, self.grid.lines), bool)
        measured[at, self.frames, self.cells.row] = True
        gone = ~measured[..., measured.any((0, 1))]
        if not gone.any():
            return []
        frames = f"{int(gone.any(-1).sum())} of {gone.shape[0] * gone.shape[1]} frames"
        return [
            f"{int(gone.sum())} of {gone.size} lines missing in {frames}, though the header says that the scan is not "
            "accelerated"
        ]
