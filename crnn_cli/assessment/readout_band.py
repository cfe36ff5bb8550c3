"""Lines held out are predicted in a band of readout columns, for less than half of the work of all columns.

Where whole lines are measured, an inverse Fourier transform along the readout parts the columns: each has its own
samples over lines, frames and coils, noise of the same level, and its own part of the sensitivities. A band of columns
is hence a scan of its own with the same lines and a narrower field of view.

What a method misses in the other columns is taken from what a linear estimate misses there. With the energies e(x) of
the method and p(x) of the estimate in column x, and n of the noise, which nobody predicts, e - n = b (p - n): of the
rest the method leaves the share b. Where the noise is not known, e = a + b p is fitted to the columns of the band.

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
_SMOOTH = 5  # neighbouring columns over which the least error of the estimate is taken
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

        Parameters
        ----------
        part : the measurement cut to the band.
        image_BTYX : images of the method in the band.
        held_BTYX : mask of the lines held out.
        """
        error_X, count, beside = _missed_by_column(part, image_BTYX, held_BTYX), self.width, 1 / self.share - 1
        lines, error = float(held_BTYX.double().sum()), float(error_X.sum())
        inside = float(self.linear_X[self.columns].sum())
        outside = max(0.0, float(self.linear_X.sum()) - inside)
        level = part.deviation**2 * part.kspace_BCTYX.shape[1] * lines
        if not level:
            return Extension(self._constant(error_X) / lines, outside / inside, beside)
        noise = min(level, error / count, inside / count, outside / (count * beside))
        signal = inside - noise * count
        return Extension(noise / lines, (outside - noise * count * beside) / signal if signal > 0 else 0.0, beside)

    def _constant(self, error_X: Tensor) -> float:
        """Constant a of e = a + b p by least squares weighted by 1 / p, for which the sum over the band is right.

        a is at least 0, and at most what the estimate misses in neighbouring columns anywhere.
        """
        linear_X = self.linear_X.clamp_min(_TINY * float(self.linear_X.mean()))
        least = float(avg_pool1d(linear_X[None], _SMOOTH, 1).min())
        inside_X = linear_X[self.columns]
        inside, error, count = float(inside_X.sum()), float(error_X.sum()), self.width
        spread = float((1 / inside_X).sum()) * inside - count**2
        found = (float((error_X / inside_X).sum()) * inside - count * error) / spread if spread > 0 else 0.0
        return min(max(found, 0.0), least, error / count)


@dataclass(frozen=True)
class Extension:
    """Errors within a band of columns carried over to all columns.

    Attributes
    ----------
    noise : energy of a sample that is the same in all columns.
    ratio : energy above it beside the band over that within it.
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
