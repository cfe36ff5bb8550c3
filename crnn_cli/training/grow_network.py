"""Warm start of a CRNN-MRI from the weights of a smaller one, or of the causal network."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig, Layers
from crnn_cli.networks.live_crnn import LiveCRNN, LiveCRNNConfig, LiveLayers

_SHARE = 0.2  # of the causal network's residual: its initial images are worse
_ERROR = 0.035  # expected of images that start from total variation
_THIRD = 0.3  # of the random weights of the layer that the causal network lacks


def expand_network(network: CRNNMRI, config: CRNNMRIConfig) -> CRNNMRI:
    """Build a larger network that starts with the weights of another.

    Weight set k of K starts as set k k' // K of the k' that there are. Features that are added start at random and are
    read by nothing that was there before; weights of other new inputs start at zero. From one set, or as many sets, the
    result computes the same function as before, unless ``tsm_channels`` differs: then training has to recover.

    Parameters
    ----------
    network : trained; it is not changed.
    config : of the larger one: as many features and weight sets or more, ``temporal_context`` and ``noise_aware``
        perhaps added.

    Raises
    ------
    ValueError
        If ``kernel`` or ``pixel_unshuffle`` differ, or something would be taken away.
    """
    old = network.config
    if (old.kernel, old.pixel_unshuffle) != (config.kernel, config.pixel_unshuffle):
        raise ValueError("kernel and pixel_unshuffle must be the same")
    grown = ("features", "weight_sets", "temporal_context", "noise_aware")
    if any(getattr(old, name) > getattr(config, name) for name in grown):
        raise ValueError("features, weight_sets, temporal_context and noise_aware can be added, not taken away")
    expanded, before = _untrained(config), _by_set(network.state_dict(), old.weight_sets)
    for name, like in expanded.state_dict().items():
        number, rest = _numbered(name, config.weight_sets)
        weight = before.get((number * old.weight_sets // config.weight_sets, rest))
        if weight is not None:  # else it is the error expected, as at first
            _fill_part(like, weight)
    return expanded


def _untrained(config: CRNNMRIConfig) -> CRNNMRI:
    """Random weights, the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CRNNMRI(config)


def with_start(network: CRNNMRI | LiveCRNN, config: LiveCRNNConfig) -> LiveCRNN:
    """Build a causal network with the weights of another, whose frames may begin otherwise (``given_start``).

    Parameters
    ----------
    network : trained; it is not changed.
    config : of the same sizes.

    Raises
    ------
    ValueError
        If the sizes are others, or the network sees all frames.
    """
    if not isinstance(network, LiveCRNN) or replace(network.config, given_start=config.given_start) != config:
        raise ValueError("networks for streams are begun from one of the same sizes alone")
    begun = LiveCRNN(config)
    begun.load_state_dict(network.state_dict())
    return begun


def from_causal(network: LiveCRNN, config: CRNNMRIConfig) -> CRNNMRI:
    """Build a CRNN-MRI at half resolution that begins with the features of a causal network.

    It is another function, but one to train from: from random weights and initial images as good as those of total
    variation, training stays for hundreds of steps where the network adds nothing. The cell takes over the causal one
    for both directions of time, two layers are the same, and the third begins near the identity.

    Parameters
    ----------
    network : trained; it is not changed.
    config : ``pixel_unshuffle`` 2, ``temporal_context`` 1, and features, kernel and weight sets as the network has.

    Raises
    ------
    ValueError
        If the sizes are others.
    """
    old = network.config
    same = (old.features, old.kernel, old.weight_sets) == (config.features, config.kernel, config.weight_sets)
    if not same or config.pixel_unshuffle != 2 or not config.temporal_context:
        raise ValueError(
            "a network begun from one for streams has pixel_unshuffle 2, temporal_context 1, and the same features, "
            "kernel and weight_sets"
        )
    begun = _untrained(config)
    with torch.no_grad():
        for layers, before in zip((*begun.earlier, begun), network.sets, strict=True):
            assert isinstance(layers, Layers)
            assert isinstance(before, LiveLayers)
            _begin(layers, before, config)
    return begun


def _begin(layers: Layers, before: LiveLayers, config: CRNNMRIConfig) -> None:
    """Fill one set of weights with those of a causal network."""
    features, channels = config.features, config.channels
    image, running, mean, change, ahead, again = before.cell.weight.split([*[channels] * 4, features, features], 1)
    cell = layers.bcrnn
    _fill(cell.i2h, torch.cat([image + running, mean, change], 1), before.cell.bias)
    _fill(cell.h2h, ahead, None)
    _fill(cell.ih2ih, again / 2, None)  # states are sums of both directions
    pairs = ((layers.conv1_x, layers.conv1_h), (layers.conv2_x, layers.conv2_h))
    for number, ((from_below, from_before), layer) in enumerate(zip(pairs, before.layers, strict=True)):
        below, recurrent = layer.weight.split(features, 1)  # type: ignore[operator]
        _fill(from_below, below if number else below / 2, layer.bias)  # type: ignore[arg-type]
        _fill(from_before, recurrent, None)
    third = _THIRD * layers.conv3_x.weight
    third[:, :, config.kernel // 2, config.kernel // 2] += torch.eye(features)
    _fill(layers.conv3_x, third, None)
    _fill(layers.conv3_h, _THIRD * layers.conv3_h.weight, None)
    assert before.output.bias is not None
    _fill(layers.conv4_x, _SHARE * before.output.weight, _SHARE * before.output.bias)
    if layers.error is not None:
        layers.error.fill_(_ERROR)


def _fill(convolution: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> None:
    assert convolution.bias is not None
    convolution.weight.copy_(weight)
    convolution.bias.copy_(torch.zeros_like(convolution.bias) if bias is None else bias)


def _by_set(state: dict[str, Tensor], sets: int) -> dict[tuple[int, str], Tensor]:
    return {_numbered(name, sets): weight for name, weight in state.items()}


def _numbered(name: str, sets: int) -> tuple[int, str]:
    """Number of the weight set that a weight belongs to, and its name there."""
    if not name.startswith("earlier."):
        return sets - 1, name
    _, number, rest = name.split(".", 2)
    return int(number), rest


def _fill_part(larger: Tensor, weight: Tensor) -> None:
    """Put a weight where it belongs in a larger one: its outputs ignore inputs that are added."""
    if weight.dim():
        larger[: len(weight)] = 0
    larger[tuple(slice(size) for size in weight.shape)] = weight
