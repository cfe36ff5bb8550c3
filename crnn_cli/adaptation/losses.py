"""Losses of the scan-specific fine-tuning: self-supervised on measured lines, pseudo-supervised on re-simulated images.

Self-supervised (SSDU): in each step a random share of the lines that are not for validation is withheld from data
consistency, and the loss compares the network's prediction of these lines with their samples,

    loss = ||w^1/2 (A x - y)||_2 / ||w^1/2 y||_2 + ||w (A x - y)||_1 / ||w y||_1,

with w the inverse sampling density (`crnn_cli.mri.sampling_density`), since missing lines lie where few were measured.

Pseudo-supervised: images that the averaged network reconstructed at the last validation, from all lines but those for
validation, count as truth. They are sampled again with the lines of other frames (`pseudo_measurement`), and the loss
compares the reconstruction of these samples with them.

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
from crnn_cli.reconstruction.reconstruct import INITIAL_IMAGES
from crnn_cli.reconstruction.settings import InferenceSettings

SHARE = 0.25
"""Share of the lines that are not for validation withheld in each self-supervised step."""
NEAR = 2
"""Lines on either side of the middle that no step withholds."""
_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class SelfSupervisedLosses:
    """Both losses of a network on patches of a scan.

    Attributes
    ----------
    patches : the measured lines.
    settings : of the network, as at inference.
    bfloat16 : run the network in bfloat16.
    device : where the losses are computed.
    copies : copies of the ensemble that the network is for; each step is for one of them.
    generalise : for other slices too: the content of pseudo-supervised images is flipped at random, under the slow
        phase that all slices share, so that less of this slice is memorised.
    """

    patches: Patches
    settings: InferenceSettings
    bfloat16: bool
    device: torch.device
    copies: int = 1
    generalise: bool = False

    def self_supervised(self, network: nn.Module, width: int, generator: torch.Generator) -> Tensor:
        """Loss at random lines of a random patch that are withheld from the network (SSDU).

        Parameters
        ----------
        network : the network that is tuned.
        width : of the patch, in columns.
        generator : of patch, lines and copy.
        """
        z, x = self.patches.draw(width, generator)
        seen = drop_samples(*self.patches.cut(z, x, width, self.device))
        given, withheld_BTYX = hold_out_lines(seen, SHARE, generator, centre=NEAR)
        target = replace(seen, mask_BTYX=withheld_BTYX).consistency(self.settings.noise_ratio)
        image_BTYX = self.image(network, z, given, self._number(generator))
        difference_N, data_N = target.at_samples(image_BTYX)
        weight_BCTYX = self.patches.density_weights(z).to(self.device)[:, None].expand_as(seen.kspace_BCTYX)
        return _relative(difference_N, data_N, weight_BCTYX[withheld_BTYX[:, None].expand_as(weight_BCTYX)])

    def pseudo_supervised(
        self, network: nn.Module, z: int, seen: SliceMeasurement, truth_BTYX: Tensor, generator: torch.Generator
    ) -> Tensor:  # fmt: skip
        """Loss against images of a patch of slice z that count as truth, from a re-simulation of their samples.

        Parameters
        ----------
        network : the network that is tuned.
        z : number of the slice.
        seen : what was measured of the patch, without the lines for validation.
        truth_BTYX : images of the patch.
        generator : of the new sampling and the copy.
        """
        if self.generalise:
            truth_BTYX = flip_keep_phase(truth_BTYX, VIEWS[int(torch.randint(COPIES, (1,), generator=generator))])
        pseudo = resimulate(seen, truth_BTYX, generator)
        image_BTYX = self.image(network, z, pseudo, self._number(generator))
        return _relative(image_BTYX - truth_BTYX, truth_BTYX)

    def initial_image(self, z: int, measurement: SliceMeasurement, number: int = 0) -> Tensor:
        """Images that the network starts from, given lines of a patch of slice z, in one of the copies."""
        return self._initial(self._operator(measurement, number), self._scale(z))

    def image(
        self, network: nn.Module, z: int, measurement: SliceMeasurement, number: int = 0,
        initial_BTYX: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Reconstruct a patch of slice z, (B, T, Y, X), without gradients being switched on or off.

        Parameters
        ----------
        network : the network.
        z : number of the slice.
        measurement : lines of the patch that the network may use.
        number : of the copy.
        initial_BTYX : see `initial_image`, where it is known already.
        """
        operator, scale = self._operator(measurement, number), self._scale(z)
        initial_BTYX = self._initial(operator, scale) if initial_BTYX is None else initial_BTYX
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            image: Tensor = network(initial_BTYX, operator.scaled(scale), self.settings.iterations)
        return undo_copy(image / scale, number)

    def _operator(self, measurement: SliceMeasurement, number: int) -> SingleCoilConsistency | MultiCoilConsistency:
        return make_copy(measurement, number).consistency(self.settings.noise_ratio)

    def _scale(self, z: int) -> Tensor:
        return self.patches.scale(z).to(self.device)

    def _initial(self, operator: Consistency, scale: Tensor) -> Tensor:
        return INITIAL_IMAGES[self.settings.initial_image](operator) * scale

    def _number(self, generator: torch.Generator) -> int:
        return int(torch.randint(self.copies, (1,), generator=generator)) if self.copies > 1 else 0


def _relative(difference: Tensor, data: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Weighted norm of a difference over that of the data, summed over l1 and l2."""
    norm, weighed = torch.linalg.vector_norm, ((1, weight), (2, weight**0.5))
    return torch.stack([norm(w * difference, p) / norm(w * data, p).clamp_min(_TINY) for p, w in weighed]).sum()
