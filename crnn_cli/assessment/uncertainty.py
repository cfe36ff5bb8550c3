"""How uncertain each pixel is: where images move when some measured lines are left out, and how wrong they are there.

What is left out is predicted, and known: that gives the level. How far the image of all data moves from pixel to pixel
gives the place. Legend: R run, D distance from the middle of k-space, B batch of one, C coil, T frame, Y phase
encoding, X readout.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from crnn_cli.assessment.held_out import hold_out_lines
from crnn_cli.data.acquisition import Complex
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.reconstruction.measurement import SliceMeasurement

LEFT_OUT = 0.25
"""Of the lines outside the centre of each frame, left out in each run; others in each, until all were."""
RUNS = 4
"""Where nothing is said."""
WINDOW = (3, 5, 5)
"""Frames, lines and columns that the mean square of the change is taken over."""
_NEAR, _WIDTH = 3.0, 0.25  # distances d are compared by log(d + 3), lines, with a Gaussian of this width
Map = NDArray[np.float32]

DEFINITION = (
    "standard deviation of the magnitude. Place: mean square change, over the runs and 5 x 5 pixels x 3 frames, when a "
    "random quarter of the lines outside the centre is left out, others in each. Level: the errors at these lines, "
    "carried over to all that were not measured by their distance from the centre of k-space, and raised where the "
    "network was tuned on some of them and predicts the others worse; times the scale. At least the noise"
)
UNSEEN = "it cannot show what no measured line shows: a structure missing in all runs alike, or a blur that they share"


@dataclass(frozen=True)
class _Missed:
    """Energy of the errors at samples, and how many these are, by their distance from the middle."""

    error_D: Tensor
    count_D: Tensor

    def __add__(self, other: _Missed) -> _Missed:
        return _Missed(self.error_D + other.error_D, self.count_D + other.count_D)


class JackknifeSpread:
    """How the images of runs with fewer lines differ from those of all lines, and what they miss of what was left out.

    Parameters
    ----------
    image_BTYX : of all data. finished : see `crnn_cli.reconstruction.measurement.SliceSource`.
    """

    def __init__(self, measured: SliceMeasurement, image_BTYX: Tensor, finished: Callable[[Complex], Complex]) -> None:
        self._measured, self._image_BTYX, self._finished = measured, image_BTYX, finished
        self._magnitude_TYX = self._shown(image_BTYX)
        self._moved_TYX = np.zeros(self._magnitude_TYX.shape, np.float64)
        self._mask_TYX = measured.encoding().mask_BTYX[0].cpu()  # X is 1 where whole lines were measured
        self._distance_YX = _distances(self._mask_TYX)
        nothing_D = torch.zeros(int(self._distance_YX.max()) + 1).double()
        self._left_out, self._unseen = _Missed(nothing_D, nothing_D), _Missed(nothing_D, nothing_D)
        self._change, self.runs = 0.0, 0

    def add(self, image_BTYX: Tensor, held_BTYX: Tensor, unseen_BTYX: Tensor | None = None) -> None:
        """Count the image of a run, and what it misses of what it was not shown.

        unseen_BTYX : what of that the method was not tuned on either; None where it was not tuned on any of it.
        """
        self._moved_TYX += np.square(self._shown(image_BTYX) - self._magnitude_TYX)
        self._change += float((image_BTYX - self._image_BTYX).abs().double().square().sum())
        self._left_out += self._missed(image_BTYX, held_BTYX)
        if unseen_BTYX is not None:
            self._unseen += self._missed(image_BTYX, unseen_BTYX)
        self.runs += 1

    def level(self) -> float:
        """Return the energy of the error that is to be expected, over that of the change from all data to a run.

        The energy of a line that was not measured is that of lines left out at about the same distance from the
        centre, less the noise. Lines left out at most distances make it good; where there are none, the nearest count.
        Lines that the method was tuned on are predicted too well: by as much as the others are worse, it is raised.
        """
        whole_lines = self._mask_TYX.shape[-1] == 1
        noise = self._measured.deviation**2 * self._measured.kspace_BCTYX.shape[1]
        noise *= self._measured.kspace_BCTYX.shape[-1] if whole_lines else 1
        missing_D = self._by_distance((1 - self._mask_TYX.double()).sum(0))
        place_D = (torch.arange(len(missing_D)).double() + _NEAR).log()
        weight_DD = -0.5 * ((place_D[:, None] - place_D) / _WIDTH).square()
        left_out, unseen = self._left_out, self._unseen
        weight_DD = torch.where(left_out.count_D > 0, weight_DD, -torch.inf)
        weight_DD = (weight_DD - weight_DD.amax(1, keepdim=True)).exp()
        expected_D = ((weight_DD @ left_out.error_D) / (weight_DD @ left_out.count_D) - noise).clamp_min(0)
        energy, told = float((missing_D * expected_D).sum()), float((unseen.count_D * expected_D).sum())
        if told:
            energy *= max(1.0, float((unseen.error_D - noise * unseen.count_D).sum()) / told)
        return energy * self.runs / self._change if self._change else 0.0

    def root_mean_square(self) -> Map:
        """Return the standard deviation to be expected of the magnitude, but for the scale, (T, Y, X)."""
        mean_TYX = torch.from_numpy(self._moved_TYX / self.runs)
        sizes = [size // 2 for size in WINDOW]
        near_TYX = F.avg_pool3d(mean_TYX[None, None], WINDOW, 1, sizes, count_include_pad=False)[0, 0].clamp_min(0)
        found: Map = (self.level() * near_TYX).sqrt().numpy().astype(np.float32)
        return found

    def _shown(self, image_BTYX: Tensor) -> NDArray[np.float64]:
        return np.abs(self._finished(image_BTYX[0].cpu().numpy())).astype(np.float64)

    def _missed(self, image_BTYX: Tensor, mask_BTYX: Tensor) -> _Missed:
        kspace_BCTYX = self._measured.kspace_BCTYX
        encoding = SliceMeasurement(kspace_BCTYX, mask_BTYX, self._measured.maps_BCYX).encoding()
        missed_BCTYX = encoding.forward(image_BTYX) - encoding.to_data_space(kspace_BCTYX)
        return _Missed(
            self._by_distance(missed_BCTYX.abs().double().square().sum((0, 1, 2)).cpu()),
            self._by_distance(encoding.mask_BTYX[0].double().sum(0).cpu()),
        )

    def _by_distance(self, values_YX: Tensor) -> Tensor:
        """Return sums over all that lies at the same distance; along X first where whole lines were measured."""
        if self._distance_YX.shape[-1] == 1:
            values_YX = values_YX.sum(-1, keepdim=True)
        length = int(self._distance_YX.max()) + 1
        return torch.bincount(self._distance_YX.flatten(), values_YX.flatten(), length)


def _distances(mask_TYX: Tensor) -> Tensor:
    """Return how far samples lie from the middle, in lines, rounded, (Y, X)."""
    lines, samples = mask_TYX.shape[-2:]
    y, x = torch.arange(lines) - lines // 2, torch.arange(samples) - samples // 2
    return (y[:, None].square() + x.square()).double().sqrt().round().long()


def noise_floor(measured: SliceMeasurement) -> float:
    """Return the standard deviation that the measured noise alone gives the magnitude; 0 where it is not known.

    sigma sqrt(m / 2): the transform is orthonormal and sensitivities have a sum of squares of 1, so a share m of
    samples measured carries that share of the noise into the image; half of it lies along the image's phase.
    """
    return measured.deviation * math.sqrt(float(measured.mask_BTYX.float().mean()) / 2)


def standard_deviation(spread_TYX: Map, scale: float, floor: float = 0.0) -> Map:
    """Return the standard deviation of the magnitude: scale times what is to be expected, the noise at least."""
    found: Map = np.maximum(np.float32(scale) * spread_TYX, np.float32(floor))
    return found


def require_lines(measured: SliceMeasurement) -> None:
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
        hold_out_lines(measured, LEFT_OUT, torch.Generator())
    except UnsupportedDataError as reason:
        raise UnsupportedDataError(f"{reason}, as --uncertainty needs to; reconstruct without it") from None
