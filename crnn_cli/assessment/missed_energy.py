"""Energy of the errors at samples held out, and what it says about samples that were never measured.

Errors fall with the distance from the middle of k-space. So the energy at a sample that was not measured is taken from
samples held out at about the same distance.

Legend: D distance from the middle of k-space, B batch of one, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from crnn_cli.assessment.readout_band import Extension
from crnn_cli.reconstruction.measurement import SliceMeasurement

_NEAR, _WIDTH = 3.0, 0.25  # distances d are compared by log(d + 3), lines, with a Gaussian of this width


_GROWTH = 4 / 3  # energy of the errors goes with this power of the acceleration: 4 dB for twice (benchmarks/results.md)
_TOLERATED = 0.9  # an error held out below this part of the noise shows that the noise was estimated too high


def proves_less_noise(error: float, noise: float) -> bool:
    """Whether the energy of errors at samples held out is clearly below that of their noise, which nothing predicts.

    >>> proves_less_noise(1.0, 1.1), proves_less_noise(1.0, 2.0)
    (False, True)
    """
    return error < _TOLERATED**2 * noise


class MissedEnergy:
    """Energy of the errors at samples that a method was not shown, by distance from the middle of k-space.

    Parameters
    ----------
    measurement : the slice with all its samples.

    Attributes
    ----------
    error_D, count_D : sum of |A x - y|^2 over coils, and number of samples (lines, where whole lines were measured).
    missing_D : number of those that were not measured.
    noise : energy of the noise in one of them, all coils together; 0 where it is not known.
    runs : how many were added.
    """

    def __init__(self, measurement: SliceMeasurement) -> None:
        self._measurement = measurement
        mask_TYX = measurement.mask_BTYX[0].cpu()  # X is 1 where whole lines were measured
        self._distance_YX = _distances(mask_TYX)
        self.missing_D = self._by_distance((1 - mask_TYX.double()).sum(0))
        self._measured, self.runs = float(mask_TYX.double().sum()), 0
        self.error_D, self.count_D = torch.zeros_like(self.missing_D), torch.zeros_like(self.missing_D)
        coils, samples = measurement.kspace_BCTYX.shape[1], measurement.kspace_BCTYX.shape[-1]
        self.noise = measurement.deviation**2 * coils * (samples if mask_TYX.shape[-1] == 1 else 1)

    def add(self, image_BTYX: Tensor, mask_BTYX: Tensor) -> None:
        """Add the errors of a run.

        Parameters
        ----------
        image_BTYX : images of the run.
        mask_BTYX : mask of the samples that it was not shown.
        """
        self.runs += 1
        encoding = replace(self._measurement, mask_BTYX=mask_BTYX).encoding()
        missed_BCTYX = encoding.forward(image_BTYX) - encoding.to_data_space(self._measurement.kspace_BCTYX)
        self.error_D = self.error_D + self._by_distance(missed_BCTYX.abs().double().square().sum((0, 1, 2)).cpu())
        self.count_D = self.count_D + self._by_distance(mask_BTYX[0].double().sum(0).cpu())

    def add_band(self, band: MissedEnergy, extension: Extension, columns: int) -> None:
        """Add the errors of one run in a band of readout columns, carried over to all of them.

        Parameters
        ----------
        band : errors of that run within the band.
        extension : to all columns.
        columns : of the band.
        """
        self.runs += 1
        self.error_D = self.error_D + extension.energy(band.error_D, band.count_D * columns)
        self.count_D = self.count_D + band.count_D

    def expected_by_distance(self) -> Tensor:
        """Expected energy of the error at one sample by its distance, less the noise; NaN where nothing was added.

        It is the mean over the samples that were added, weighed by a Gaussian over the logarithm of the distance; the
        nearest where there are none near. Noise that the errors show to be estimated too high is not taken off.
        """
        too_high = proves_less_noise(float(self.error_D.sum()), self.noise * float(self.count_D.sum()))
        place_D = (torch.arange(len(self.missing_D)).double() + _NEAR).log()
        weight_DD = -0.5 * ((place_D[:, None] - place_D) / _WIDTH).square()
        weight_DD = torch.where(self.count_D > 0, weight_DD, -torch.inf)
        weight_DD = (weight_DD - weight_DD.amax(1, keepdim=True)).exp()
        return ((weight_DD @ self.error_D) / (weight_DD @ self.count_D) - (0.0 if too_high else self.noise)).clamp_min(
            0
        )

    def expected(self) -> float:
        """Expected energy of the errors at all samples that were not measured; NaN where nothing was added."""
        return float((self.missing_D * self.expected_by_distance()).sum())

    def expected_of_all_lines(self) -> float:
        """Expected energy of the errors where all samples are shown: less than `expected`, which saw fewer of them.

        The energy is taken to go with the acceleration to the power of 4/3.
        """
        shown: float = 1 - float(self.count_D.sum()) / max(self.runs, 1) / self._measured
        return self.expected() * math.pow(shown, _GROWTH)

    def _by_distance(self, values_YX: Tensor) -> Tensor:
        """Sums over samples at the same distance; along X first where whole lines were measured."""
        if self._distance_YX.shape[-1] == 1:
            values_YX = values_YX.sum(-1, keepdim=True)
        length = int(self._distance_YX.max()) + 1
        return torch.bincount(self._distance_YX.flatten(), values_YX.flatten(), length)


def _distances(mask_TYX: Tensor) -> Tensor:
    """Distance of samples from the middle in lines, rounded, (Y, X)."""
    lines, samples = mask_TYX.shape[-2:]
    y, x = torch.arange(lines) - lines // 2, torch.arange(samples) - samples // 2
    return (y[:, None].square() + x.square()).double().sqrt().round().long()
