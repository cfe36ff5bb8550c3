"""Warm start of a larger CRNN-MRI from the weights of a smaller one."""

from __future__ import annotations

import torch
from torch import Tensor

from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig


def expand_network(network: CRNNMRI, config: CRNNMRIConfig) -> CRNNMRI:
    """Build a larger network that starts with the weights of another.

    Weight set k of K starts as set k k' // K of the k' that there are; weights of new inputs start at zero. From one
    set the result computes the same function as before, unless ``tsm_channels`` differs: then training has to recover.

    Parameters
    ----------
    network : trained; it is not changed.
    config : of the larger one: as many weight sets or more, ``temporal_context`` and ``noise_aware`` perhaps added.

    Raises
    ------
    ValueError
        If ``features`` or ``kernel`` differ, or something would be taken away.
    """
    old = network.config
    if (old.features, old.kernel) != (config.features, config.kernel):
        raise ValueError("features and kernel must be the same")
    grown = ("weight_sets", "temporal_context", "noise_aware")
    if any(getattr(old, name) > getattr(config, name) for name in grown):
        raise ValueError("weight_sets, temporal_context and noise_aware can be added, not taken away")
    expanded, before = CRNNMRI(config), _by_set(network.state_dict(), old.weight_sets)
    for name, like in expanded.state_dict().items():
        number, rest = _numbered(name, config.weight_sets)
        if (
            number * old.weight_sets // config.weight_sets,
            rest,
        ) in before:  # else it is the error expected, as at first
            like.copy_(_widened(before[number * old.weight_sets // config.weight_sets, rest], like))
    return expanded


def _by_set(state: dict[str, Tensor], sets: int) -> dict[tuple[int, str], Tensor]:
    return {_numbered(name, sets): weight for name, weight in state.items()}


def _numbered(name: str, sets: int) -> tuple[int, str]:
    """Number of the weight set that a weight belongs to, and its name there."""
    if not name.startswith("earlier."):
        return sets - 1, name
    _, number, rest = name.split(".", 2)
    return int(number), rest


def _widened(weight: Tensor, like: Tensor) -> Tensor:
    """Weight with zeros for the inputs that it lacks."""
    if weight.shape == like.shape:
        return weight
    wide = torch.zeros_like(like)
    wide[:, : weight.shape[1]] = weight
    return wide
