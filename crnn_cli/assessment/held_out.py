"""Hold-out residual: how well a method predicts k-space lines that it was not shown.

It needs no reference images, and a method cannot make it small by copying the samples.

Legend: B batch of one, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import torch
from torch import Tensor

from crnn_cli.errors import UnsupportedDataError
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.reconstruction.reconstruct import MethodResult, Reconstructor

CENTRE = 4
"""Lines on either side of the middle that are never held out: coil sensitivities and every method need them."""


def hold_out_lines(
    measurement: SliceMeasurement, share: float, generator: torch.Generator, spared_BTYX: Tensor | None = None,
    centre: int = CENTRE,
) -> tuple[SliceMeasurement, Tensor]:  # fmt: skip
    """Hold out a random share of the lines outside the centre: the data without them, and their mask.

    In each frame of whole lines ``share`` of them are taken, at least one where there are two; where single samples
    were measured, each is taken with probability ``share``.

    Parameters
    ----------
    measurement : the slice.
    share : of the lines outside the centre.
    generator : of the draw.
    spared_BTYX : samples that are not to be held out, such as those of an earlier fold.
    centre : lines on either side of the middle one that are never held out; where single samples were measured, as many
        samples of each of them.

    Raises
    ------
    UnsupportedDataError
        If nothing lies outside the centre, or everything there is spared.
    """
    mask_BTYX = measurement.mask_BTYX.bool()
    free_BTYX, samples = outside_acs(mask_BTYX.cpu(), centre), mask_BTYX.shape[-1]
    open_BTYX = free_BTYX if spared_BTYX is None else free_BTYX & ~spared_BTYX.cpu()
    order = torch.where(open_BTYX, torch.rand(free_BTYX.shape, generator=generator), 2.0)
    count = free_BTYX.sum((-2, -1), keepdim=True)
    taken = (count * share).round().clamp_min(1).minimum(count // 2 if samples == 1 else count)
    ranks = order.flatten(2).argsort(-1).argsort(-1).view_as(order)
    held_BTYX = (open_BTYX & (ranks < taken)).to(mask_BTYX.device)
    if not bool(held_BTYX.any()):
        raise UnsupportedDataError("too few lines lie outside the centre of k-space to hold any out")
    return drop_samples(replace(measurement, mask_BTYX=mask_BTYX), held_BTYX), held_BTYX


def outside_acs(mask_BTYX: Tensor, centre: int = CENTRE) -> Tensor:
    """Mask of the measured samples outside the centre, where autocalibration lines lie; see `hold_out_lines`.

    >>> outside_acs(torch.ones(1, 1, 13, 1, dtype=torch.bool)).flatten().nonzero().flatten().tolist()
    [0, 1, 11, 12]
    """
    lines, samples = mask_BTYX.shape[-2:]
    far = (torch.arange(lines) - lines // 2).abs()[:, None] > centre
    if samples > 1:
        far = far | ((torch.arange(samples) - samples // 2).abs() > centre)
    return mask_BTYX & far.to(mask_BTYX.device)


def drop_samples(measurement: SliceMeasurement, held_BTYX: Tensor) -> SliceMeasurement:
    """Take samples out of a measurement: k-space and mask are zero there afterwards.

    Parameters
    ----------
    measurement : with a boolean mask.
    held_BTYX : boolean mask of the samples to be taken out.
    """
    left_BTYX = measurement.mask_BTYX & ~held_BTYX
    return replace(measurement, kspace_BCTYX=measurement.kspace_BCTYX * left_BTYX[:, None], mask_BTYX=left_BTYX)


@dataclass(frozen=True)
class ResidualSums:
    """Sums of squares over samples, frame by frame, in double precision on the CPU; they add up over slices.

    Attributes
    ----------
    error_T : ||A x - y||^2.
    energy_T : ||y||^2.
    samples_T : samples of each coil.
    """

    error_T: Tensor
    energy_T: Tensor
    samples_T: Tensor

    def __add__(self, other: ResidualSums) -> ResidualSums:
        """Add the sums of two slices, frame by frame."""
        both = (self.error_T + other.error_T, self.energy_T + other.energy_T, self.samples_T + other.samples_T)
        return ResidualSums(*both)

    @property
    def residual(self) -> float:
        """Residual ||A x - y|| / ||y|| of all frames; NaN where y is zero."""
        return float(_root_of_ratio(self.error_T.sum(), self.energy_T.sum()))

    @property
    def residual_by_frame(self) -> Tensor:
        """Residual of each frame."""
        return _root_of_ratio(self.error_T, self.energy_T)


def _root_of_ratio(above: Tensor, below: Tensor) -> Tensor:
    return torch.where(below > 0, above / below, torch.nan).sqrt()


def residual_sums(measurement: SliceMeasurement, image_BTYX: Tensor, mask_BTYX: Tensor | None = None) -> ResidualSums:
    """Compare images with measured samples: sums of ||A x - y||^2 and ||y||^2 by frame.

    Parameters
    ----------
    measurement : the samples y, and the sensitivities of A.
    image_BTYX : complex images x.
    mask_BTYX : samples that count; None for all that were measured.
    """
    mask_BTYX = measurement.mask_BTYX if mask_BTYX is None else mask_BTYX
    encoding = replace(measurement, mask_BTYX=mask_BTYX).encoding()
    error_T, energy_T = encoding.squared_residual_by_frame(image_BTYX, measurement.kspace_BCTYX)
    repeated = measurement.kspace_BCTYX.shape[-1] // mask_BTYX.shape[-1]
    return ResidualSums(error_T, energy_T, mask_BTYX[0].double().sum((-2, -1)).cpu() * repeated)


class HoldOutReconstructor:
    """A method that is shown a part of the data and measured on the rest.

    It is a `Reconstructor` whose assessment is the `ResidualSums` at the samples held out. Lines are drawn anew for
    every slice, and are the same for every method of the same seed.

    Parameters
    ----------
    method : the method to be measured.
    share : of the lines outside the centre, held out; see `hold_out_lines`.
    seed : of the lines.
    """

    def __init__(self, method: Reconstructor[None], share: float, seed: int = 0) -> None:
        self.method, self.share = method, share
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def steps(self) -> int:
        """Steps of the method."""
        return self.method.steps

    def __call__(self, measurement: SliceMeasurement, on_step: Callable[[], None]) -> MethodResult[ResidualSums]:
        """Reconstruct a slice without the lines held out, and measure the images at those lines.

        Raises
        ------
        UnsupportedDataError
            If no lines can be held out.
        """
        shown, held_BTYX = self.hold_out(measurement)
        return self.predict(measurement, shown, held_BTYX, on_step)

    def hold_out(
        self, measurement: SliceMeasurement, spared_BTYX: Tensor | None = None
    ) -> tuple[SliceMeasurement, Tensor]:
        """Draw lines: the measurement without them, and their mask; see `hold_out_lines`."""
        return hold_out_lines(measurement, self.share, self._generator, spared_BTYX)

    def predict(
        self, measurement: SliceMeasurement, shown: SliceMeasurement, held_BTYX: Tensor, on_step: Callable[[], None]
    ) -> MethodResult[ResidualSums]:
        """Reconstruct what is shown, and measure the images elsewhere.

        Parameters
        ----------
        measurement : all samples.
        shown : those that the method may use.
        held_BTYX : mask of the samples to be predicted.
        on_step : called after each step of the method.
        """
        result = self.method(shown, on_step)
        sums = residual_sums(measurement, result.images_BTYX, held_BTYX)
        return MethodResult(result.images_BTYX, sums, result.regularisation_weight)


def residual_of(sums: Sequence[ResidualSums]) -> float:
    """Residual ||A x - y|| / ||y|| of several slices together; NaN where there are none, or y is zero."""
    return reduce(add, sums).residual if sums else float("nan")
