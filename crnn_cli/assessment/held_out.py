"""How well a method predicts samples that it did not see: an honest residual without a truth.

Legend: B batch of one, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import torch
from torch import Tensor

from crnn_cli.errors import UnsupportedDataError
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.reconstruction.reconstruct import Reconstructor

CENTRE = 4
"""Lines on either side of the middle that are never held out: coil sensitivities and every method lean on them."""


def hold_out_lines(
    measured: SliceMeasurement, share: float, generator: torch.Generator, spared_BTYX: Tensor | None = None,
    centre: int = CENTRE,
) -> tuple[SliceMeasurement, Tensor]:  # fmt: skip
    """Return the data without a random share of the lines outside the centre, and the mask of what was held out.

    In each frame of whole lines ``share`` of them, at least one where there are two; where single samples were
    measured, each with probability ``share``.

    Parameters
    ----------
    spared_BTYX : what is not to be held out, because it was before; lines are drawn from the others.
    centre : so many lines on either side of the middle one are never held out; where single samples were measured, so
        many samples of each of them.

    Raises
    ------
    UnsupportedDataError
        If nothing lies outside the centre, or everything there is spared.
    """
    mask_BTYX = measured.mask_BTYX.bool()
    free_BTYX, samples = outside_acs(mask_BTYX.cpu(), centre), mask_BTYX.shape[-1]
    open_BTYX = free_BTYX if spared_BTYX is None else free_BTYX & ~spared_BTYX.cpu()
    order = torch.where(open_BTYX, torch.rand(free_BTYX.shape, generator=generator), 2.0)
    count = free_BTYX.sum((-2, -1), keepdim=True)
    taken = (count * share).round().clamp_min(1).minimum(count // 2 if samples == 1 else count)
    ranks = order.flatten(2).argsort(-1).argsort(-1).view_as(order)
    held_BTYX = (open_BTYX & (ranks < taken)).to(mask_BTYX.device)
    if not bool(held_BTYX.any()):
        raise UnsupportedDataError("too few lines lie outside the centre of k-space to hold any out")
    return drop_samples(replace(measured, mask_BTYX=mask_BTYX), held_BTYX), held_BTYX


def outside_acs(mask_BTYX: Tensor, centre: int = CENTRE) -> Tensor:
    """Return the mask of what was measured outside the centre; see `hold_out_lines`."""
    lines, samples = mask_BTYX.shape[-2:]
    far = (torch.arange(lines) - lines // 2).abs()[:, None] > centre
    if samples > 1:
        far = far | ((torch.arange(samples) - samples // 2).abs() > centre)
    return mask_BTYX & far.to(mask_BTYX.device)


def drop_samples(measured: SliceMeasurement, held_BTYX: Tensor) -> SliceMeasurement:
    """Return the data without some of the samples; both masks are boolean."""
    left_BTYX = measured.mask_BTYX & ~held_BTYX
    return replace(measured, kspace_BCTYX=measured.kspace_BCTYX * left_BTYX[:, None], mask_BTYX=left_BTYX)


@dataclass(frozen=True)
class ResidualSums:
    """What images miss of samples, frame by frame, in double precision on the CPU.

    error_T : ||A x - y||^2. energy_T : ||y||^2. samples_T : how many of each coil.
    """

    error_T: Tensor
    energy_T: Tensor
    samples_T: Tensor

    def __add__(self, other: ResidualSums) -> ResidualSums:
        """Return both together, frame by frame."""
        both = (self.error_T + other.error_T, self.energy_T + other.energy_T, self.samples_T + other.samples_T)
        return ResidualSums(*both)

    @property
    def residual(self) -> float:
        """Return ||A x - y|| / ||y|| of all frames; NaN where y is zero."""
        return float(_root_of_ratio(self.error_T.sum(), self.energy_T.sum()))

    @property
    def residual_by_frame(self) -> Tensor:
        """Return the same of each frame."""
        return _root_of_ratio(self.error_T, self.energy_T)


def _root_of_ratio(above: Tensor, below: Tensor) -> Tensor:
    return torch.where(below > 0, above / below, torch.nan).sqrt()


def residual_sums(measured: SliceMeasurement, image_BTYX: Tensor, mask_BTYX: Tensor | None = None) -> ResidualSums:
    """Return what images miss of the data. mask_BTYX : of these samples only; all that were measured by default."""
    mask_BTYX = measured.mask_BTYX if mask_BTYX is None else mask_BTYX
    encoding = SliceMeasurement(measured.kspace_BCTYX, mask_BTYX, measured.maps_BCYX).encoding()
    error_T, energy_T = encoding.squared_residual_by_frame(image_BTYX, measured.kspace_BCTYX)
    repeated = measured.kspace_BCTYX.shape[-1] // mask_BTYX.shape[-1]
    return ResidualSums(error_T, energy_T, mask_BTYX[0].double().sum((-2, -1)).cpu() * repeated)


class HoldOutReconstructor:
    """A method that is shown only a part of the data and measured on the rest; see `reconstruction.reconstruct.Reconstructor`.

    Lines are drawn anew for every slice, the same for every method of the same seed.
    """

    def __init__(self, method: Reconstructor, share: float, seed: int = 0) -> None:
        self.method, self.share = method, share
        self.tallies: list[ResidualSums] = []
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def steps(self) -> int:
        """Return the steps of the method."""
        return self.method.steps

    @property
    def residual(self) -> float:
        """Return ||A x - y|| / ||y|| at the samples held out of all slices so far; NaN where they are zero."""
        return reduce(add, self.tallies).residual if self.tallies else float("nan")

    def __call__(self, measured: SliceMeasurement, tick: Callable[[], None]) -> Tensor:
        """Return complex images (B, T, Y, X) from the data that were not held out."""
        return self.predict(measured, *self.hold_out(measured), tick)

    def hold_out(
        self, measured: SliceMeasurement, spared_BTYX: Tensor | None = None
    ) -> tuple[SliceMeasurement, Tensor]:
        """Return what the method is to see, and the mask of what it is to predict; see `hold_out_lines`."""
        return hold_out_lines(measured, self.share, self._generator, spared_BTYX)

    def predict(
        self, measured: SliceMeasurement, kept: SliceMeasurement, held_BTYX: Tensor, tick: Callable[[], None]
    ) -> Tensor:
        """Return complex images of what was kept, after measuring them at what was held out."""
        image_BTYX = self.method(kept, tick)
        self.tallies.append(residual_sums(measured, image_BTYX, held_BTYX))
        return image_BTYX
