"""What a network is tuned by when nothing but the lines of a scan is known.

In a step a random share of the lines that are not for validation is taken away from data consistency and makes the
loss: what the network says of them against what was measured,

    loss = ||w^1/2 (A x - y)||_2 / ||w^1/2 y||_2 + ||w (A x - y)||_1 / ||w y||_1,

with w how rare a sample is at its place in k-space (`mri.density`), as what is missing lies where few were measured. In
half of the steps it rehearses: images that its average made when it was last looked at (`validation`), of all lines
but those for validation, are taken for the truth and measured again by the lines of other frames, and what it makes of
that is compared with them (`rehearsal`).

References
----------
Yaman et al., MRM 84, 2020 (self-supervision by data undersampling).

Legend: B batch of one, C coil, T frame, Y phase encoding, X readout, N sample.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from crnn_cli.adaptation.patches import Patches
from crnn_cli.adaptation.pseudo_measurement import flip_keep_phase, resimulate
from crnn_cli.assessment.held_out import drop_samples, hold_out_lines
from crnn_cli.mri.consistency import Consistency, SingleCoilConsistency
from crnn_cli.mri.multicoil import MultiCoilConsistency
from crnn_cli.reconstruction.ensemble import COPIES, VIEWS, make_copy, undo_copy
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.reconstruction.reconstruct import STARTS, InferenceSettings

SHARE = 0.25
"""Of the lines that are not for validation, in the loss of a step."""
NEAR = 2
"""Lines on either side of the middle that no step takes away."""
_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class SelfSupervisedLosses:
    """Patches of a scan, and how a network is used on them.

    half : in bfloat16. copies : of an ensemble that the network is for; each step is for one of them.
    elsewhere : it is for other slices too: of images that are rehearsed the content is flipped at random, so that less
    of this slice is learned by heart, under the phase that all slices have.
    """

    patches: Patches
    recipe: InferenceSettings
    half: bool
    device: torch.device
    copies: int = 1
    elsewhere: bool = False

    def predicted(self, network: nn.Module, width: int, generator: torch.Generator) -> Tensor:
        """Return the loss of a network for random lines of a random patch, that it does not see."""
        z, x = self.patches.draw(width, generator)
        seen = drop_samples(*self.patches.cut(z, x, width, self.device))
        given, lost_BTYX = hold_out_lines(seen, SHARE, generator, centre=NEAR)
        target = replace(seen, mask_BTYX=lost_BTYX).consistency(self.recipe.noise)
        image_BTYX = self.image(network, z, given, self._number(generator))
        difference_N, data_N = target.at_samples(image_BTYX)
        weight_BCTYX = self.patches.rarity(z).to(self.device)[:, None].expand_as(seen.kspace_BCTYX)
        return _relative(difference_N, data_N, weight_BCTYX[lost_BTYX[:, None].expand_as(weight_BCTYX)])

    def rehearsed(
        self, network: nn.Module, z: int, seen: SliceMeasurement, truth_BTYX: Tensor, generator: torch.Generator
    ) -> Tensor:  # fmt: skip
        """Return the loss of a network for images of a patch of slice z that are taken for the truth."""
        if self.elsewhere:
            truth_BTYX = flip_keep_phase(truth_BTYX, VIEWS[int(torch.randint(COPIES, (1,), generator=generator))])
        again = resimulate(seen, truth_BTYX, generator)
        made_BTYX = self.image(network, z, again, self._number(generator))
        return _relative(made_BTYX - truth_BTYX, truth_BTYX)

    def start(self, z: int, measured: SliceMeasurement, number: int = 0) -> Tensor:
        """Return the images that a network starts from, given lines of a patch of slice z, in one of the copies."""
        return self._start(self._operator(measured, number), self._scale(z))

    def image(
        self, network: nn.Module, z: int, measured: SliceMeasurement, number: int = 0, start_BTYX: Tensor | None = None
    ) -> Tensor:  # fmt: skip
        """Return what a network makes of the lines given, (B, T, Y, X). start : see `start`, if it is known."""
        operator, scale = self._operator(measured, number), self._scale(z)
        start_BTYX = self._start(operator, scale) if start_BTYX is None else start_BTYX
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            image: Tensor = network(start_BTYX, operator.scaled(scale), self.recipe.iterations)
        return undo_copy(image / scale, number)

    def _operator(self, measured: SliceMeasurement, number: int) -> SingleCoilConsistency | MultiCoilConsistency:
        return make_copy(measured, number).consistency(self.recipe.noise)

    def _scale(self, z: int) -> Tensor:
        return self.patches.scale(z).to(self.device)

    def _start(self, operator: Consistency, scale: Tensor) -> Tensor:
        return STARTS[self.recipe.start](operator) * scale

    def _number(self, generator: torch.Generator) -> int:
        return int(torch.randint(self.copies, (1,), generator=generator)) if self.copies > 1 else 0


def _relative(difference: Tensor, data: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Return the norm of a difference over that of the data, both weighed, l1 and l2 added up."""
    norm, weighed = torch.linalg.vector_norm, ((1, weight), (2, weight**0.5))
    return torch.stack([norm(w * difference, p) / norm(w * data, p).clamp_min(_TINY) for p, w in weighed]).sum()
