"""Training of a network for drawn slices: losses on the slices that are not drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crnn_cli.io.atomic_write import Output
from crnn_cli.labels.overlap import overlaps
from crnn_cli.networks.drawn_clstm import DrawnCLSTM
from crnn_cli.segmentation.drawn.methods import InterpolatedDistances, RecurrentNetwork
from crnn_cli.segmentation.drawn.stack import DrawnStack, FillSettings
from crnn_cli.training.drawn.items import DrawnItem, DrawnItems, collate_drawn
from crnn_cli.training.drawn.settings import DrawnSettings
from crnn_cli.training.drawn.stack import Stack

_DRAWN = 3


class DrawnJob:
    """Job of `crnn_cli.training.loop.TrainingLoop`; see `crnn_cli.training.job.TrainingJob`.

    Parameters
    ----------
    settings : of the task.
    items : to train on.
    held_out : labelled stacks to validate with; may be empty.
    seed : of the items.
    start : network of the same sizes whose weights training starts with; None for random ones.
    """

    def __init__(
        self, settings: DrawnSettings, items: DrawnItems, held_out: Sequence[Stack], seed: int,
        start: DrawnCLSTM | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.items, self.held_out, self.seed, self.start = settings, items, held_out, seed, start

    def network(self, stage: int, before: nn.Module | None) -> DrawnCLSTM:
        """Build the network."""
        del stage
        network = DrawnCLSTM(self.settings.network.config())
        for earlier in (self.start, before):
            if earlier is not None:
                network.load_state_dict(earlier.state_dict())
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def item(self, stage: int, number: int) -> DrawnItem:
        """Draw an item."""
        return self.items.numbered((self.seed, stage), number)

    def describe(self, stage: int, number: int) -> str:
        """Name of an item; items are drawn at random."""
        return f"item {number} of stage {stage}"

    def losses(self, stage: int, network: nn.Module, items: list[Any], device: torch.device) -> Iterator[Tensor]:
        """Yield the loss of all items as one batch."""
        del stage
        image, target, distance, others, known = (part.to(device, non_blocking=True) for part in collate_drawn(items))
        yield drawn_loss(network(image, distance, known, others).float(), target, known)

    def set_mode(self, stage: int, network: nn.Module) -> None:
        """Set training mode."""
        del stage
        network.train()

    def miniature(self, stage: int, count: int) -> tuple[list[Any], float]:
        """Items of two slices of 32 x 32 pixels, and the size ratio of the real ones."""
        del stage
        size, stack = self.settings.items, torch.rand(2, 32, 32)
        item = DrawnItem(stack, (stack > 0.5).float(), torch.tensor([True, False]), stack - 0.5, stack - 0.5)
        return [item] * count, size.slices * size.side**2 / (2 * 32 * 32)

    def memory_multipliers(self, stage: int, network: nn.Module) -> Iterator[float]:
        """Yield 1: there are no activation checkpoints."""
        del stage, network
        yield 1.0

    def suggest_smaller(self, stage: int, share: float) -> str:
        """Name the number of stacks that would fit, or of slices."""
        del stage
        if self.settings.stacks * share >= 1:
            return f"set stacks = {int(self.settings.stacks * share)}"
        return f"set stacks = 1, slices = {max(2, int(self.settings.items.slices * share))} in [items]"

    def validate(self, network: nn.Module, device: torch.device) -> dict[str, Any]:
        """Label the held-out stacks from three drawn slices each, and compare the other slices.

        Returns
        -------
        Mean Dice of the structures, by the network, which is the score, and by interpolation; {} if nothing is held
        out.
        """
        assert isinstance(network, DrawnCLSTM)
        network.eval()
        found = [dice for stack in self.held_out for dice in drawn_dice(network, stack, device)]
        if not found:
            return {}
        network_dice, interpolated = (round(float(v), 4) for v in np.mean(np.array(found), axis=0))
        return {"score": network_dice, "dice": {"network": network_dice, "interpolated distances": interpolated}}

    def pictures(self, network: nn.Module, device: torch.device, folder: Path) -> list[Output]:
        """None: there is no preview of a structure without its scan."""
        del network, device, folder
        return []


def drawn_loss(logits_BSYX: Tensor, target_BSYX: Tensor, known_BS: Tensor) -> Tensor:
    """Soft Jaccard loss plus cross-entropy of the slices that are not drawn.

    The Jaccard loss runs over all those slices of a stack together, and stacks that have nothing there are left out.
    Cross-entropy is weighted by how large the structure is, so that small ones count.

    Parameters
    ----------
    logits_BSYX, target_BSYX : of the structure.
    known_BS : drawn slices, which are not looked at.
    """
    open_BS11 = (~known_BS)[:, :, None, None].float()
    p = torch.sigmoid(logits_BSYX) * open_BS11
    target = target_BSYX * open_BS11
    both, either = (torch.minimum(p, target).sum((1, 2, 3)), torch.maximum(p, target).sum((1, 2, 3)))
    there = target.sum((1, 2, 3)) > 0
    jaccard = ((1 - both / either.clamp_min(1e-6)) * there).sum() / there.sum().clamp_min(1)
    entropy_B = (F.binary_cross_entropy_with_logits(logits_BSYX, target_BSYX, reduction="none") * open_BS11).sum(
        (1, 2, 3)
    )
    size_B = target_BSYX.sum((1, 2, 3)).clamp_min(64.0)
    return jaccard + 0.25 * (entropy_B / size_B).mean()


def drawn_dice(network: DrawnCLSTM, stack: Stack, device: torch.device) -> list[tuple[float, float]]:
    """Dice of the slices that are not drawn, by the network and by interpolation, for each structure of a stack.

    Three slices are drawn, evenly over the labelled ones. Structures that no drawn slice or no other one has are left
    out.

    Parameters
    ----------
    network : in evaluation mode, on ``device``.
    stack : with its labels, fewer than 256.
    """
    numbers = stack.structures()
    truth_SYX = np.searchsorted([0, *numbers], stack.labels_SYX).astype(np.uint8)
    inside = np.flatnonzero(truth_SYX.any(axis=(1, 2)))
    known_S = np.zeros(len(truth_SYX), bool)
    known_S[inside[np.linspace(0, len(inside) - 1, _DRAWN + 2).round().astype(int)[1:-1]]] = True
    drawn = DrawnStack(stack.image_SYX, np.where(known_S[:, None, None], truth_SYX, 0), known_S, (1.0, 1.0, 1.0))
    measured = [k for k in drawn.structures if (truth_SYX[~known_S] == k).any()]
    if not measured:
        return []
    scores = []
    for method in (RecurrentNetwork(network, device), InterpolatedDistances()):
        made_SYX = method.fill(drawn, FillSettings(len(numbers)), lambda done, total: None).labels_SYX
        scores.append(overlaps(made_SYX[~known_S], truth_SYX[~known_S], measured))
    return [(scores[0][k].dice or 0.0, scores[1][k].dice or 0.0) for k in measured]
