"""How uncertain each pixel is: how far a method's images move when a part of the measured lines is left out.

Legend: R run, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from crnn_cli.acquisition import Complex
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.held_out import split
from crnn_cli.measured import Measured

LEFT_OUT = 0.25
"""Of the lines outside the centre of each frame, left out in each run."""
RUNS = 4
"""Where nothing is said."""
WINDOW = (3, 5, 5)
"""Frames, lines and columns that the mean square of the change is taken over."""
Map = NDArray[np.float32]

DEFINITION = (
    "standard deviation of the magnitude: scale x root mean square, over the runs and 5 x 5 pixels x 3 frames, of the "
    "change of the magnitude when a random quarter of the lines outside the centre is left out; at least the noise"
)
UNSEEN = "a structure that no measured line shows moves in no run: its absence is not in this map"


class Spread:
    """The mean square change of the magnitude from the image of all data to those of runs with fewer.

    Parameters
    ----------
    image_TYX : of all data, as it is to be written.
    """

    def __init__(self, image_TYX: Complex) -> None:
        self._magnitude_TYX = np.abs(image_TYX)
        self._sum_TYX = np.zeros(image_TYX.shape, np.float64)
        self.runs = 0

    def add(self, image_TYX: Complex) -> None:
        """Count the image of a run."""
        self._sum_TYX += np.square(np.abs(image_TYX).astype(np.float64) - self._magnitude_TYX)
        self.runs += 1

    def root_mean_square(self) -> Map:
        """Return the root of the mean over the runs and over `WINDOW`, which is cut at the borders, (T, Y, X)."""
        mean_TYX = torch.from_numpy(self._sum_TYX / self.runs)
        pooled_TYX = F.avg_pool3d(
            mean_TYX[None, None], WINDOW, 1, [size // 2 for size in WINDOW], count_include_pad=False
        )[0, 0]
        found: Map = pooled_TYX.clamp_min(0).sqrt().numpy().astype(np.float32)
        return found


def noise_floor(measured: Measured) -> float:
    """Return the standard deviation that the measured noise alone gives the magnitude; 0 where it is not known.

    sigma sqrt(m / 2): the transform is orthonormal and sensitivities have a sum of squares of 1, so a share m of
    samples measured carries that share of the noise into the image; half of it lies along the image's phase.
    """
    return measured.deviation * math.sqrt(float(measured.mask_BTYX.float().mean()) / 2)


def deviation(spread_TYX: Map, scale: float, floor: float = 0.0) -> Map:
    """Return the standard deviation of the magnitude: scale times the spread, the noise at least."""
    found: Map = np.maximum(np.float32(scale) * spread_TYX, np.float32(floor))
    return found


def require_lines(measured: Measured) -> None:
    """Raise UnsupportedDataError where no lines can be left out.

    Raises
    ------
    UnsupportedDataError
        If everything was measured, or too little outside the centre.
    """
    if bool(measured.mask_BTYX.all()):
        raise UnsupportedDataError(
            "everything was measured: no lines are missing, and leaving some out says nothing of these images; "
            "reconstruct without --uncertainty"
        )
    try:
        split(measured, LEFT_OUT, torch.Generator())
    except UnsupportedDataError as reason:
        raise UnsupportedDataError(f"{reason}, as --uncertainty needs to; reconstruct without it") from None
