"""Readouts of ISMRMRD sorted into a k-space grid: averaged, reversed ones turned, zero where nothing was measured.

Legend: C coil, T frame, K second phase encoding (3-D scans), Y phase encoding, X readout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.acquisition import Complex
from crnn_cli.data.sampling_mask import Mask
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.io.kspace.checks import measured_exactly
from crnn_cli.io.kspace.ismrmrd.file import ReadoutHeaders, SampleSource
from crnn_cli.io.kspace.ismrmrd.readouts import GridIndex, Whole
from crnn_cli.notices import Doubt, Fact, Remark


@dataclass(frozen=True)
class Grid:
    """Lengths of the axes of k-space.

    Attributes
    ----------
    coils, frames : C and T.
    planes : K, steps of the second phase encoding; 1 for 2-D scans.
    lines, samples : Y and X.
    """

    coils: int
    frames: int
    planes: int
    lines: int
    samples: int


@dataclass(frozen=True)
class Lines:
    """Readouts of a file or a stream, with the grid index and the frame of each.

    Attributes
    ----------
    name : of the file or the stream, for messages.
    samples : where the samples of readouts are.
    heads, index : headers and grid index of the readouts.
    frames : frame of each readout.
    grid : lengths of the axes.
    """

    name: str
    samples: SampleSource
    heads: ReadoutHeaders
    index: GridIndex
    frames: Whole
    grid: Grid

    def where(self, chosen: Mask) -> Lines:
        """Select readouts by a mask."""
        heads, index, frames = self.heads.where(chosen), self.index.where(chosen), self.frames[chosen]
        return Lines(self.name, self.samples, heads, index, frames, self.grid)

    def read(self, number: int, plane: int) -> tuple[Complex, Mask]:
        """Read the k-space (C, T, Y, X) and the mask (T, Y, X) of one slice.

        Repeated samples are averaged. Samples that are zero in all coils count as not measured where readouts or
        columns of zeros, or many zeros, show that they were not.

        Parameters
        ----------
        number : counter ``slice`` of the readouts.
        plane : index of the image plane of a 3-D scan, 0 for others.

        Raises
        ------
        UnreadableError
            If samples are missing, NaN or infinite; the message names the readout.
        """
        chosen = self.where(self.heads["slice"] == number)
        return chosen._plane(plane) if self.grid.planes > 1 else chosen._slice()

    def each(self) -> Iterator[tuple[int, Complex]]:
        """Yield the index of each readout, and its used samples (C, X) from left to right."""
        for i, stored in self.samples(self.heads):
            samples = stored[:, ::-1] if self.index.reverse[i] else stored
            first = self.index.skip[i]
            yield i, samples[:, first : first + self.index.count[i]]

    def without_zeros(self) -> Lines:
        """The readouts that are not zero throughout, which simulators store for lines not measured; reads the file."""
        alive = np.zeros(len(self.heads), bool)
        for i, samples in self.each():
            alive[i] = samples.any()
        return self if alive.all() or not alive.any() else self.where(alive)

    def _slice(self) -> tuple[Complex, Mask]:
        """K-space and mask of a slice of a 2-D scan."""
        grid, index = self.grid, self.index
        whole = bool((index.count == grid.samples).all())
        counts_TYX = np.zeros((grid.frames, grid.lines, 1 if whole else grid.samples), np.int32)
        kspace = np.zeros((grid.coils, grid.frames, grid.lines, grid.samples), np.complex64)
        for i, samples in self.each():
            if not samples.any():
                continue
            t, y, a, n = self.frames[i], index.row[i], index.column[i], index.count[i]
            kspace[:, t, y, a : a + n] += samples
            counts_TYX[t, y, slice(None) if whole else slice(a, a + n)] += 1
        if counts_TYX.max() > 1:
            kspace /= np.maximum(counts_TYX, 1).astype(np.float32)
        return kspace, measured_exactly(kspace, counts_TYX > 0)

    def _plane(self, plane: int) -> tuple[Complex, Mask]:
        """K-space and mask of an image plane of a 3-D scan that has all planes.

        The centred orthonormal transform along K is done readout by readout, so that memory for one plane is enough.
        """
        grid, index = self.grid, self.index
        counts_TKYX = self.counts()
        kspace = np.zeros((grid.coils, grid.frames, grid.lines, grid.samples), np.complex64)
        angle = 2 * np.pi * (plane - grid.planes // 2) * (np.arange(grid.planes) - grid.planes // 2) / grid.planes
        wave_K = np.exp(1j * angle) / np.sqrt(grid.planes)
        for i, samples in self.each():
            t, k, y, a, n = self.frames[i], index.plane[i], index.row[i], index.column[i], index.count[i]
            times = counts_TKYX[t, k, y, a : a + n] if counts_TKYX.shape[-1] > 1 else counts_TKYX[t, k, y]
            kspace[:, t, y, a : a + n] += samples * (wave_K[k] / times).astype(np.complex64)
        return kspace, np.asarray(counts_TKYX.any(1))

    def counts(self) -> NDArray[np.int32]:
        """Number of measurements of each sample, (T, K, Y, X); X is 1 where all readouts fill the matrix."""
        grid, index = self.grid, self.index
        whole = bool((index.count == grid.samples).all())
        counts = np.zeros((grid.frames, grid.planes, grid.lines, 1 if whole else grid.samples), np.int32)
        if whole:
            np.add.at(counts[..., 0], (self.frames, index.plane, index.row), 1)
            return counts
        for t, k, y, a, n in zip(self.frames, index.plane, index.row, index.column, index.count, strict=True):
            counts[t, k, y, a : a + n] += 1
        return counts

    def averages(self) -> Whole:
        """Number of measurements of each line that was measured at all, over slices and frames."""
        keys = np.stack([self.heads["slice"], self.frames, self.index.plane, self.index.row], 1)
        return np.unique(keys, axis=0, return_counts=True)[1]

    def averaged(self) -> list[Remark]:
        """Fact about lines that were measured more than once."""
        averages = self.averages()
        if averages.max() == 1:
            return []
        return [Fact("averaged", f"lines measured {averages.min()} to {averages.max()} times, averaged")]

    def has_full_planes(self) -> bool:
        """Whether each line of a 3-D scan that was measured has all steps of the second phase encoding."""
        measured = np.zeros((self.grid.frames, self.grid.planes, self.grid.lines), bool)
        measured[self.frames, self.index.plane, self.index.row] = True
        return bool((measured.any(1) == measured.all(1)).all())

    def require_one_slab(self) -> None:
        """Refuse 3-D scans of several slabs, or whose readouts differ in length.

        Raises
        ------
        UnsupportedDataError
            The message says which.
        """
        if len(np.unique(self.heads["slice"])) > 1:
            raise UnsupportedDataError("this scan has several slabs of a 3-D encoding: write each to a file of its own")
        if len(np.unique(self.index.column)) > 1 or len(np.unique(self.index.count)) > 1:
            raise UnsupportedDataError("this scan is 3-D, and its readouts differ in length: that is not supported")

    def missing(self, acceleration: tuple[int, int]) -> list[Remark]:
        """Doubt about lines that only some frames have, where the header states no acceleration."""
        if acceleration != (1, 1):
            return []
        numbers, at = np.unique(self.heads["slice"], return_inverse=True)
        measured = np.zeros((len(numbers), self.grid.frames, self.grid.lines), bool)
        measured[at, self.frames, self.index.row] = True
        missing = ~measured[..., measured.any((0, 1))]
        if not missing.any():
            return []
        frames = f"{int(missing.any(-1).sum())} of {missing.shape[0] * missing.shape[1]} frames"
        text = f"{int(missing.sum())} of {missing.size} lines missing in {frames}, though the header says that the scan"
        return [Doubt("lines-missing", f"{text} is not accelerated")]
