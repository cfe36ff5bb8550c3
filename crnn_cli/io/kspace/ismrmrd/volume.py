"""3-D ISMRMRD scans that are undersampled along both phase encodings: a 2-D problem per position of the readout.

Legend: C coil, T frame, X readout, Y phase encoding, K second phase encoding. The scan is read whole, and transformed
along its fully sampled readout; each position x is then a slice of its own with the axes Y and K.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crnn_cli.data.acquisition import Complex
from crnn_cli.data.raw_scan import RawSlice, kspace_to_image_along
from crnn_cli.data.sampling_mask import Mask
from crnn_cli.io.kspace.ismrmrd.grid import Lines


@dataclass(frozen=True)
class Volume:
    """A 3-D scan in memory.

    Attributes
    ----------
    hybrid_CTXYK : complex64, images along X, k-space along Y and K.
    mask_TYK : boolean.
    calibration_CXYK : separate calibration lines; None without them.
    """

    hybrid_CTXYK: Complex
    mask_TYK: Mask
    calibration_CXYK: Complex | None

    def read(self, x: int) -> RawSlice:
        """K-space at one position of the readout."""
        calibration = None if self.calibration_CXYK is None else np.ascontiguousarray(self.calibration_CXYK[:, x])
        return RawSlice(np.ascontiguousarray(self.hybrid_CTXYK[:, :, x]), self.mask_TYK, calibration)


def read_volume(lines: Lines, calibration: Lines | None, width: int) -> Volume:
    """Read a 3-D scan whole, and keep the ``width`` middle positions of the readout.

    Raises
    ------
    UnreadableError
        If samples are missing, NaN or infinite; the message names the readout.
    """
    hybrid, mask = _hybrid(lines, width)
    return Volume(hybrid, mask, None if calibration is None else _hybrid(calibration, width)[0][:, 0])


def _hybrid(lines: Lines, width: int) -> tuple[Complex, Mask]:
    """Images along X (C, T, X, Y, K), and the mask (T, Y, K); a frame at a time is transformed."""
    grid, index = lines.grid, lines.index
    counts_TYK = np.zeros((grid.frames, grid.lines, grid.planes), np.int32)
    kspace = np.zeros((grid.coils, grid.frames, grid.samples, grid.lines, grid.planes), np.complex64)
    for i, samples in lines.each():
        t, y, k, a, n = lines.frames[i], index.row[i], index.plane[i], index.column[i], index.count[i]
        kspace[:, t, a : a + n, y, k] += samples
        counts_TYK[t, y, k] += 1
    if counts_TYK.max() > 1:
        kspace /= np.maximum(counts_TYK, 1).astype(np.float32)[:, None]
    first = grid.samples // 2 - width // 2
    hybrid = np.empty((grid.coils, grid.frames, width, grid.lines, grid.planes), np.complex64)
    for t in range(grid.frames):
        hybrid[:, t] = kspace_to_image_along(kspace[:, t], 1)[:, first : first + width]
    return hybrid, counts_TYK > 0
