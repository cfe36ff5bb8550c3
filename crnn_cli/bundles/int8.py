"""Convolution weights in 8 bits, with a scale for each pair of output and input channel.

The error of a weight is at most half a scale: 1/254 of the largest weight of its kernel. Int8 weights are for storage;
networks compute with the dequantised single-precision weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCALE_SUFFIX = ".steps"
"""Of the name under which the scales of a weight are stored; part of the format."""
_MIN_WEIGHTS = 4096  # weights of a tensor; smaller ones are kept as they are


def quantize(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Quantise every convolution of 4096 weights or more; other tensors stay as they are.

    >>> stored = quantize({"conv.weight": torch.ones(64, 64, 3, 3)})
    >>> sorted(stored), stored["conv.weight"].dtype
    (['conv.weight', 'conv.weight.steps'], torch.int8)

    Parameters
    ----------
    weights : by name; convolutions are (out, in, Y, X).

    Returns
    -------
    Weights by name, and the scales (out, in) of a quantised one under its name with the suffix ".steps".
    """
    output: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.dim() != 4 or weight.numel() < _MIN_WEIGHTS:
            output[name] = weight
            continue
        scales = (weight.float().abs().amax((2, 3)) / 127).clamp_min(1e-12)
        output[name] = (weight / scales[..., None, None]).round().clamp(-127, 127).to(torch.int8)
        output[name + SCALE_SUFFIX] = scales
    return output


def dequantize(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo `quantize`; tensors that were not quantised are returned as they are.

    >>> weights = {"conv.weight": torch.ones(64, 64, 3, 3)}
    >>> torch.allclose(dequantize(quantize(weights))["conv.weight"], weights["conv.weight"])
    True
    """
    output: dict[str, Tensor] = {}
    for name, value in stored.items():
        scales = stored.get(name + SCALE_SUFFIX)
        if name.endswith(SCALE_SUFFIX) and name.removesuffix(SCALE_SUFFIX) in stored:
            continue
        fits = scales is not None and value.dtype == torch.int8 and value.shape[:2] == scales.shape
        output[name] = value.float() * scales[..., None, None] if fits and scales is not None else value
    return output
