"""Sets of weights that a training left without effect: time in every reconstruction, for nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crnn_cli import notices
from crnn_cli.mri.consistency import Consistency
from crnn_cli.networks.crnn_mri import CRNNMRI
from crnn_cli.networks.live_crnn import LiveCRNN

IDLE = 1e-3
"""Relative change of the images below which a set of weights does nothing."""


def changes_by_set(network: CRNNMRI | LiveCRNN, initial_BTYX: Tensor, consistency: Consistency) -> list[float]:
    """Relative change of the images when one set of weights after the other adds nothing to them.

    Parameters
    ----------
    network : its weights are as before afterwards.
    initial_BTYX, consistency : an undersampled cine, scaled as in training.

    Returns
    -------
    ||x without the set - x|| / ||x||, for the sets in the order of the iterations.
    """
    changes = []
    with torch.no_grad():
        images = network(initial_BTYX, consistency)
        for layer in _output_layers(network):
            kept = [(weight, weight.clone()) for weight in layer.parameters()]
            for weight, _ in kept:
                weight.zero_()
            change = torch.linalg.vector_norm(network(initial_BTYX, consistency) - images)
            for weight, before in kept:
                weight.copy_(before)
            changes.append(float(change / torch.linalg.vector_norm(images)))
    return changes


def doubt_idle_sets(changes: list[float]) -> None:
    """Doubt a training of several sets of weights of which some do nothing.

    Parameters
    ----------
    changes : see `changes_by_set`.
    """
    idle = [str(number) for number, change in enumerate(changes, 1) if change < IDLE]
    if idle and len(changes) > 1:
        notices.warn(
            "idle-weights",
            f"of the {len(changes)} sets of weights these change the images by less than {IDLE:.1%}: "
            f"{', '.join(idle)}; train for longer, or with fewer iterations",
        )


def _output_layers(network: CRNNMRI | LiveCRNN) -> list[nn.Conv2d]:
    """Layers that images are changed by, one for each set."""
    if isinstance(network, LiveCRNN):
        return [layers.output for layers in network.sets]  # type: ignore[misc]
    return [layers.conv4_x for layers in (*network.earlier, network)]
