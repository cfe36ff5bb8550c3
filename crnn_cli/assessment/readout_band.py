"""Lines held out are predicted in a band of readout columns, for less than half of the work of all columns.

Where whole lines are measured, an inverse Fourier transform along the readout parts the columns: each has its own
samples over lines, frames and coils, noise of the same level, and its own part of the sensitivities. A band of columns
is hence a scan of its own with the same lines and a narrower field of view.

What a method misses in the other columns is taken from what a linear estimate misses there. In column x of the band the
energies are taken to be e(x) = a + b p(x), with e of the method and p of the estimate: a is noise, which nobody
predicts, and b what the method leaves of the rest.

Legend: B batch of one, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn.functional import avg_pool1d

from crnn_cli.assessment.held_out import ResidualSums
from crnn_cli.mri.fourier import image_to_kspace, kspace_to_image
from crnn_cli.reconstruction.measurement import SliceMeasurement

SHARE = 0.4
"""Share of the columns in a band."""
_LEAST, _MULTIPLE, _MOST = 32, 8, 0.75  # columns of a band at least, and in steps; share above which all are taken
_SMOOTH = 5  # columns over which the least error of the estimate is taken, a bound of the noise
_TINY = 1e-6  # least error of the estimate in a column, relative to the mean


@dataclass(frozen=True)
class ReadoutBand:
    """A band of readout columns, and what a linear estimate misses in all columns.

    Attributes
    ----------
    columns : the band, in image space.
    linear_X : energy of the errors of the linear estimate at the lines held out, column by column.
    energy_T : energy of these lines in all columns, by frame. Both are in double precision on the CPU.
    """

    columns: slice
    linear_X: Tensor
    energy_T: Tensor

    @property
    def width(self) -> int:
        """Number of columns of the band."""
        return int(self.columns.stop - self.columns.start)

    @property
    def share(self) -> float:
        """Share of all columns."""
        return self.width / len(self.linear_X)

    def cut(self, measurement: SliceMeasurement) -> SliceMeasurement:
        """Cut a measurement of whole lines to the band: a scan with a narrower field of view along the readout."""
        hybrid_BCTYX = kspace_to_image(measurement.kspace_BCTYX, (-1,))[..., self.columns]
        maps_BCYX = None if measurement.maps_BCYX is None else measurement.maps_BCYX[..., self.columns].contiguous()
        return replace(measurement, kspace_BCTYX=image_to_kspace(hybrid_BCTYX.contiguous(), (-1,)), maps_BCYX=maps_BCYX)

    def extension(self, part: SliceMeasurement, image_BTYX: Tensor, held_BTYX: Tensor) -> Extension:
        """Find how errors in the band are carried over to all columns.

        a and b of e = a + b p have the least squares weighted by 1 / p, whose sum over the band is right; a is at least
        0, and at most what the estimate misses in five columns anywhere.

        Parameters
        ----------
        part : the measurement cut to the band.
        image_BTYX : images of the method in the band.
        held_BTYX : mask of the lines held out.
        """
        error_X, (linear_X, least) = _missed_by_column(part, image_BTYX, held_BTYX), self._linear()
        inside_X = linear_X[self.columns]
        inside, total, count = float(inside_X.sum()), float(error_X.sum()), self.width
        spread = float((1 / inside_X).sum()) * inside - count**2
        noise = (float((error_X / inside_X).sum()) * inside - count * total) / spread if spread > 0 else 0.0
        noise = min(max(noise, 0.0), least, total / count)
        lines = float(held_BTYX.double().sum())
        return Extension(noise / lines, float(linear_X.sum()) / inside - 1, 1 / self.share - 1)

    def _linear(self) -> tuple[Tensor, float]:
        """Errors of the estimate, nowhere 0, and the least of them over neighbouring columns."""
        linear_X = self.linear_X.clamp_min(_TINY * float(self.linear_X.mean()))
        return linear_X, float(avg_pool1d(linear_X[None], _SMOOTH, 1).min())


@dataclass(frozen=True)
class Extension:
    """Errors within a band of columns carried over to all columns.

    Attributes
    ----------
    noise : energy of a sample that is taken for noise, the same in all columns.
    ratio : energy above the noise beside the band over that within it.
    beside : columns beside the band over those within it.
    """

    noise: float
    ratio: float
    beside: float

    def energy(self, error: Tensor, samples: Tensor) -> Tensor:
        """Energy of the errors in all columns.

        Parameters
        ----------
        error : energy of the errors within the band: of each frame, or at each distance from the middle of k-space.
        samples : number of samples of each of them within the band.
        """
        noise = self.noise * samples
        return (error + self.beside * noise + self.ratio * (error - noise)).clamp_min(0)

    def sums(self, within: ResidualSums, energy_T: Tensor) -> ResidualSums:
        """Sums over all columns.

        Parameters
        ----------
        within : sums over the band.
        energy_T : energy of the samples held out in all columns.
        """
        error_T = self.energy(within.error_T, within.samples_T)
        return ResidualSums(error_T, energy_T, within.samples_T * (1 + self.beside))


def choose_band(measurement: SliceMeasurement, shown: SliceMeasurement, held_BTYX: Tensor) -> ReadoutBand | None:
    """Choose the band in which a linear estimate misses most of the lines held out.

    The estimate is `crnn_cli.mri.consistency.SingleCoilConsistency.time_wiener`. None where single samples were
    measured, where a band would be most of the columns, and where the estimate misses nothing.

    Parameters
    ----------
    measurement : all samples.
    shown : those that a method may use.
    held_BTYX : mask of the samples held out.
    """
    of = measurement.kspace_BCTYX.shape[-1]
    width = max(_LEAST, _MULTIPLE * math.ceil(SHARE * of / _MULTIPLE))
    if measurement.mask_BTYX.shape[-1] > 1 or width > _MOST * of:
        return None
    linear_X = _missed_by_column(measurement, shown.consistency().time_wiener(), held_BTYX)
    inside = linear_X.unfold(0, width, 1).sum(-1)
    first = int(inside.argmax())
    if not float(inside[first]):
        return None
    held_BCTYX = measurement.kspace_BCTYX * held_BTYX[:, None]
    energy_T = held_BCTYX.abs().double().square().sum((0, 1, 3, 4)).cpu()
    return ReadoutBand(slice(first, first + width), linear_X, energy_T)


def _missed_by_column(measurement: SliceMeasurement, image_BTYX: Tensor, held_BTYX: Tensor) -> Tensor:
    """Energy of A x - y at lines held out in each column, (X,), in double precision on the CPU."""
    encoding = replace(measurement, mask_BTYX=held_BTYX).encoding()
    missed_BCTYX = encoding.forward(image_BTYX) - encoding.to_data_space(measurement.kspace_BCTYX)
    energy_X: Tensor = missed_BCTYX.abs().double().square().sum((0, 1, 2, 3)).cpu()
    return energy_X
