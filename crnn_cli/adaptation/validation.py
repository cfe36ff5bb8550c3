"""How well a network predicts the lines for validation, looked at now and then while it is tuned.

The images that are made for that are rehearsed (`rehearsal`): to make them anew in every step takes a third of its
time, and teaches no more.

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
"""Patches that are looked at, and how many times as wide as those of a step they are."""


@dataclass
class _Tile:
    """A patch of slice z from column x on, in one of the copies. image_BTYX : as it was last made."""

    z: int
    x: int
    number: int
    start_BTYX: Tensor
    image_BTYX: Tensor


class Validation:
    """Patches side by side, the same throughout, and the images that were last made of them.

    The lines for validation judge them; and as they are the images, of all other lines, of a network that gets better,
    the next steps rehearse them.
    """

    def __init__(self, supervision: SelfSupervisedLosses, width: int, generator: torch.Generator) -> None:
        self._supervision, self._width, self._wide = supervision, width, WIDER * width
        places, self._energies = supervision.patches.tiles(self._wide, TILES, generator)
        self._tiles = []
        for number in range(max(len(places), supervision.copies)):  # each copy is judged, however few tiles
            (z, x), copy_number = places[number % len(places)], number % supervision.copies
            start_BTYX = supervision.start(z, drop_samples(*self._cut(z, x, self._wide)), copy_number)
            self._tiles.append(_Tile(z, x, copy_number, start_BTYX, start_BTYX))

    @torch.no_grad()
    def look(self, network: nn.Module) -> ResidualSums:
        """Return what the images that a network makes miss of the lines for validation."""
        found = []
        for tile in self._tiles:
            patch, held_BTYX = self._cut(tile.z, tile.x, self._wide)
            seen = drop_samples(patch, held_BTYX)
            tile.image_BTYX = self._supervision.image(network, tile.z, seen, tile.number, tile.start_BTYX)
            found.append(residual_sums(patch, tile.image_BTYX, held_BTYX))
        return reduce(add, found)

    def draw(self, generator: torch.Generator) -> tuple[int, SliceMeasurement, Tensor]:
        """Return a slice, what was seen of a patch of it, and its images, more often where there is more energy."""
        tile = self._tiles[int(torch.multinomial(self._energies, 1, generator=generator))]
        columns = tile.image_BTYX.shape[-1]
        width = columns if self._supervision.patches.whole else min(self._width, columns)
        first = int(torch.randint(columns - width + 1, (1,), generator=generator))
        image_BTYX = tile.image_BTYX[..., first : first + width].contiguous()
        return tile.z, drop_samples(*self._cut(tile.z, tile.x + first, width)), image_BTYX

    def _cut(self, z: int, x: int, width: int) -> tuple[SliceMeasurement, Tensor]:
        return self._supervision.patches.cut(z, x, width, self._supervision.device)
