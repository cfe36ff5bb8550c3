"""Validation while a network is tuned: its residual at the lines set aside for that.

The images reconstructed for a validation serve as truth of the pseudo-supervised steps until the next one. Making them
anew in every step would take a third of its time, and improves nothing.

Legend: B batch of one, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from crnn_cli.adaptation.losses import SelfSupervisedLosses
from crnn_cli.assessment.held_out import ResidualSums, drop_samples, residual_sums
from crnn_cli.reconstruction.measurement import SliceMeasurement

TILES, WIDER = 4, 2
"""Number of patches for validation, and their width relative to those of a step."""


@dataclass
class _Tile:
    """A patch of slice z from column x on, in copy ``number``; image_BTYX is its last reconstruction."""

    z: int
    x: int
    number: int
    initial_BTYX: Tensor
    image_BTYX: Tensor


class Validation:
    """Patches side by side, the same throughout, and their last reconstructions.

    Parameters
    ----------
    losses : patches, network settings and device.
    width : of the patches of a step.
    generator : of the choice of patches.
    """

    def __init__(self, losses: SelfSupervisedLosses, width: int, generator: torch.Generator) -> None:
        self._losses, self._width, self._wide = losses, width, WIDER * width
        places, self._energies = losses.patches.tiles(self._wide, TILES, generator)
        self._tiles = []
        for number in range(max(len(places), losses.copies)):  # at least one tile of each copy
            (z, x), copy_number = places[number % len(places)], number % losses.copies
            initial_BTYX = losses.initial_image(z, drop_samples(*self._cut(z, x, self._wide)), copy_number)
            self._tiles.append(_Tile(z, x, copy_number, initial_BTYX, initial_BTYX))

    @torch.no_grad()
    def measure(self, network: nn.Module) -> ResidualSums:
        """Reconstruct all patches with a network, and sum its residual at the lines for validation.

        The images are kept for `draw`.
        """
        sums = []
        for tile in self._tiles:
            patch, held_BTYX = self._cut(tile.z, tile.x, self._wide)
            seen = drop_samples(patch, held_BTYX)
            tile.image_BTYX = self._losses.image(network, tile.z, seen, tile.number, tile.initial_BTYX)
            sums.append(residual_sums(patch, tile.image_BTYX, held_BTYX))
        return reduce(add, sums)

    def draw(self, generator: torch.Generator) -> tuple[int, SliceMeasurement, Tensor]:
        """Draw a patch for a pseudo-supervised step, more often where there is more energy.

        It comes as number of the slice, measurement without the lines for validation, and last images.
        """
        tile = self._tiles[int(torch.multinomial(self._energies, 1, generator=generator))]
        columns = tile.image_BTYX.shape[-1]
        width = columns if self._losses.patches.whole else min(self._width, columns)
        first = int(torch.randint(columns - width + 1, (1,), generator=generator))
        image_BTYX = tile.image_BTYX[..., first : first + width].contiguous()
        return tile.z, drop_samples(*self._cut(tile.z, tile.x + first, width)), image_BTYX

    def _cut(self, z: int, x: int, width: int) -> tuple[SliceMeasurement, Tensor]:
        return self._losses.patches.cut(z, x, width, self._losses.device)
