"""How well a method predicts samples that it did not see: an honest residual without a truth.

Legend: B batch of one, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from crnn_cli.errors import UnsupportedDataError
from crnn_cli.measured import Measured
from crnn_cli.reconstruction import Method

CENTRE = 4
"""Lines on either side of the middle that are never held out: coil sensitivities and every method lean on them."""


def split(measured: Measured, share: float, generator: torch.Generator) -> tuple[Measured, Tensor]:
    """Return the data without a random share of the lines outside the centre, and the mask of what was held out.

    In each frame of whole lines ``share`` of them, at least one where there are two; where single samples were
    measured, each with probability ``share``. The centre is 9 lines, 9 samples of each where single samples are.

    Raises
    ------
    UnsupportedDataError
        If nothing lies outside the centre.
    """
    mask_BTYX = measured.mask_BTYX.bool()
    lines, samples = mask_BTYX.shape[-2:]
    far = (torch.arange(lines) - lines // 2).abs()[:, None] > CENTRE
    if samples > 1:
        far = far | ((torch.arange(samples) - samples // 2).abs() > CENTRE)
    free_BTYX = mask_BTYX.cpu() & far
    order = torch.where(free_BTYX, torch.rand(free_BTYX.shape, generator=generator), 2.0)
    count = free_BTYX.sum((-2, -1), keepdim=True)
    taken = (count * share).round().clamp_min(1).minimum(count // 2 if samples == 1 else count)
    ranks = order.flatten(2).argsort(-1).argsort(-1).view_as(order)
    held_BTYX = (free_BTYX & (ranks < taken)).to(mask_BTYX.device)
    if not bool(held_BTYX.any()):
        raise UnsupportedDataError("too few lines lie outside the centre of k-space to hold any out")
    left_BTYX = mask_BTYX & ~held_BTYX
    kept = replace(measured, kspace_BCTYX=measured.kspace_BCTYX * left_BTYX[:, None], mask_BTYX=left_BTYX)
    return kept, held_BTYX


class Judged:
    """A method that is shown only a part of the data and measured on the rest; see `crnn_cli.reconstruction.Method`.

    Lines are drawn anew for every slice, the same for every method of the same seed.
    """

    def __init__(self, method: Method, share: float, seed: int = 0) -> None:
        self.method, self.share = method, share
        self._generator = torch.Generator().manual_seed(seed)
        self._error = self._energy = 0.0

    @property
    def steps(self) -> int:
        """Return the steps of the method."""
        return self.method.steps

    @property
    def residual(self) -> float:
        """Return ||A x - y|| / ||y|| at the samples held out of all slices so far; NaN where they are zero."""
        return float((self._error / self._energy) ** 0.5) if self._energy else float("nan")

    def __call__(self, measured: Measured, tick: Callable[[], None]) -> Tensor:
        """Return complex images (B, T, Y, X) from the data that were not held out."""
        kept, held_BTYX = split(measured, self.share, self._generator)
        image_BTYX = self.method(kept, tick)
        encoding = Measured(measured.kspace_BCTYX, held_BTYX, measured.maps_BCYX).encoding()
        error, energy = encoding.misfit(image_BTYX, measured.kspace_BCTYX)
        self._error, self._energy = self._error + error, self._energy + energy
        return image_BTYX
