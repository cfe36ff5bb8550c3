"""A larger CRNN-MRI that begins where a smaller one ended."""

from __future__ import annotations

import torch
from torch import Tensor

from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig


def expand_network(network: CRNNMRI, config: CRNNMRIConfig) -> CRNNMRI:
    """Return a network of ``config`` with the weights of another: as many sets or more, perhaps context or trust added.

    Set number k of K begins as number k k' // K of the k' there are, weights of new inputs as zero. From one set the
    result is the same function as before, unless `shift` differs: then training has to find its way back.

    Raises
    ------
    ValueError
        If features, kernel, or a context that is there already, do not fit.
    """
    old = network.config
    if (old.features, old.kernel) != (config.features, config.kernel):
        raise ValueError("features and kernel must be the same")
    grown = ("weight_sets", "temporal_context", "noise_aware")
    if any(getattr(old, name) > getattr(config, name) for name in grown):
        raise ValueError("weight_sets, temporal_context and noise_aware can be added, not taken away")
    made, before = CRNNMRI(config), _by_set(network.state_dict(), old.weight_sets)
    for name, like in made.state_dict().items():
        number, rest = _numbered(name, config.weight_sets)
        if (
            number * old.weight_sets // config.weight_sets,
            rest,
        ) in before:  # else it is the error expected, as at first
            like.copy_(_widened(before[number * old.weight_sets // config.weight_sets, rest], like))
    return made


def _by_set(state: dict[str, Tensor], sets: int) -> dict[tuple[int, str], Tensor]:
    return {_numbered(name, sets): weight for name, weight in state.items()}


def _numbered(name: str, sets: int) -> tuple[int, str]:
    """Return the number of the set that a weight belongs to, and its name there."""
    if not name.startswith("earlier."):
        return sets - 1, name
    _, number, rest = name.split(".", 2)
    return int(number), rest


def _widened(weight: Tensor, like: Tensor) -> Tensor:
    """Return a weight with zeros for the inputs it lacks."""
    if weight.shape == like.shape:
        return weight
    wide = torch.zeros_like(like)
    wide[:, : weight.shape[1]] = weight
    return wide
