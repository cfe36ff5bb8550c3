"""Uncertainty of each pixel, from reconstructions without some of the measured lines (a delete-d jackknife).

The shape of the map is how far the images of these runs differ from the image of all data, pixel by pixel. Its scale
comes from the errors at the lines left out, which were measured and are known.

Legend: R run, B batch of one, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from crnn_cli.assessment.held_out import hold_out_lines
from crnn_cli.assessment.missed_energy import MissedEnergy
from crnn_cli.data.acquisition import Complex
from crnn_cli.errors import Param, UnsupportedDataError
from crnn_cli.reconstruction.measurement import SliceMeasurement, on_output_grid

LEFT_OUT = 0.25
"""Share of the lines outside the centre of each frame left out in each run; every line once before any twice."""
RUNS = 4
"""Default number of runs."""
WINDOW = (3, 5, 5)
"""Frames, lines and columns of the box filter over the squared change."""
Map = NDArray[np.float32]

DEFINITION = (
    "standard deviation of the magnitude. Place: mean square change, over the runs and 5 x 5 pixels x 3 frames, when a "
    "random quarter of the lines outside the centre is left out, others in each. Level: the errors at these lines, "
    "carried over to all that were not measured by their distance from the centre of k-space, and raised where the "
    "network was tuned on some of them and predicts the others worse; times the scale. At least the noise"
)
UNSEEN = "it cannot show what no measured line shows: a structure missing in all runs alike, or a blur that they share"


class JackknifeSpread:
    """Accumulates runs without some of the lines, and turns them into a standard deviation per pixel.

    Parameters
    ----------
    measurement : the slice with all its lines.
    image_BTYX : images of all data.
    to_output_grid : as of `crnn_cli.reconstruction.measurement.SliceSource`; the map lies on that grid.
    """

    def __init__(
        self, measurement: SliceMeasurement, image_BTYX: Tensor, to_output_grid: Callable[[Complex], Complex]
    ) -> None:
        self._measurement, self._image_BTYX, self._to_output_grid = measurement, image_BTYX, to_output_grid
        self._magnitude_TYX = self._magnitude(image_BTYX)
        self._squared_change_TYX = np.zeros(self._magnitude_TYX.shape, np.float64)
        self._left_out, self._unseen = MissedEnergy(measurement), MissedEnergy(measurement)
        self._change, self.runs = 0.0, 0

    def update(self, image_BTYX: Tensor, held_BTYX: Tensor, unseen_BTYX: Tensor | None = None) -> None:
        """Add the images of one run.

        Parameters
        ----------
        image_BTYX : images of the run.
        held_BTYX : mask of the samples that were left out.
        unseen_BTYX : those of them that the method was not tuned on either; None where it was not tuned at all.
        """
        self._squared_change_TYX += np.square(self._magnitude(image_BTYX) - self._magnitude_TYX)
        self._change += float(self._measurement.visible(image_BTYX - self._image_BTYX).abs().double().square().sum())
        self._left_out.add(image_BTYX, held_BTYX)
        if unseen_BTYX is not None:
            self._unseen.add(image_BTYX, unseen_BTYX)
        self.runs += 1

    def variance_scale(self) -> float:
        """Ratio of the expected energy of the error to the energy of the change between all data and a run.

        The error energy is carried over from the samples left out (`MissedEnergy`). A tuned method predicts the lines
        that it was tuned on too well; the energy is raised by as much as it predicts the others worse.
        """
        energy, unseen, expected_D = self._left_out.expected(), self._unseen, self._left_out.expected_by_distance()
        unseen_energy = float((unseen.count_D * expected_D).sum())
        if unseen_energy:
            energy *= max(1.0, float((unseen.error_D - unseen.noise * unseen.count_D).sum()) / unseen_energy)
        return energy * self.runs / self._change if self._change else 0.0

    def standard_deviation(self) -> Map:
        """Expected standard deviation of the magnitude before calibration, (T, Y, X).

        It is the root of the box-filtered squared change over the runs (`WINDOW`), times `variance_scale`.
        """
        near_TYX = _box_filtered(torch.from_numpy(self._squared_change_TYX / self.runs)).clamp_min(0)
        deviation: Map = (self.variance_scale() * near_TYX).sqrt().numpy().astype(np.float32)
        return deviation

    def _magnitude(self, image_BTYX: Tensor) -> NDArray[np.float64]:
        return np.abs(on_output_grid(self._to_output_grid, self._measurement.visible(image_BTYX))).astype(np.float64)


def _box_filtered(values_TYX: Tensor) -> Tensor:
    """Mean over the `WINDOW` around each pixel, as far as it lies inside."""
    sizes = [size // 2 for size in WINDOW]
    if all(length >= size for length, size in zip(values_TYX.shape, WINDOW, strict=True)):
        return F.avg_pool3d(values_TYX[None, None], WINDOW, 1, sizes, count_include_pad=False)[0, 0]
    around = [size for half in reversed(sizes) for size in (half, half)]  # the pooling takes no image below its window
    total, count = (F.avg_pool3d(F.pad(each[None, None], around), WINDOW, 1)[0, 0]
                    for each in (values_TYX, torch.ones_like(values_TYX)))  # fmt: skip
    return total / count


def noise_floor(measurement: SliceMeasurement) -> float:
    """Standard deviation that the measured noise alone gives the magnitude; 0 where the noise is not known.

    It is sigma sqrt(m / 2) with the measured share m: the transform is orthonormal and sensitivities have a sum of
    squares of 1, so the image carries the share m of the noise variance, half of it along the phase of the image.
    """
    return measurement.deviation * math.sqrt(float(measurement.mask_BTYX.float().mean()) / 2)


def calibrated_deviation(spread_TYX: Map, scale: float, floor: float = 0.0) -> Map:
    """Multiply a `JackknifeSpread` map by the calibration scale of a method; nowhere below the noise floor.

    >>> calibrated_deviation(np.float32([0.1, 2.0]), 1.5, floor=0.5).tolist()
    [0.5, 3.0]
    """
    deviation: Map = np.maximum(np.float32(scale) * spread_TYX, np.float32(floor))
    return deviation


def require_lines(measurement: SliceMeasurement) -> None:
    """Check that lines can be left out.

    Raises
    ------
    UnsupportedDataError
        If everything was measured, or too little outside the centre.
    """
    without = ("reconstruct without ", Param("uncertainty"))
    if bool(measurement.mask_BTYX.all()):
        raise UnsupportedDataError(
            "everything was measured: no lines are missing, and leaving some out says nothing of these images",
            remedy=without,
        )
    try:
        hold_out_lines(measurement, LEFT_OUT, torch.Generator())
    except UnsupportedDataError as error:
        raise UnsupportedDataError(*error.parts, ", as ", Param("uncertainty"), " needs to", remedy=without) from None
