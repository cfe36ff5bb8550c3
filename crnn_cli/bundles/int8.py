"""Convolution weights in 8 bits: each kernel of an output and an input channel in scales of its own.

The error of a weight is at most half a step, 1/254 of the largest weight of its kernel. What is packed is stored only;
networks compute with the unpacked single-precision weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCALE_SUFFIX = ".steps"
_MIN_WEIGHTS = 4096  # weights of a tensor; smaller ones are kept as they are


def quantize(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with every large convolution (out, in, Y, X) as int8 and its scales (out, in)."""
    made: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.dim() != 4 or weight.numel() < _MIN_WEIGHTS:
            made[name] = weight
            continue
        scales = (weight.float().abs().amax((2, 3)) / 127).clamp_min(1e-12)
        made[name] = (weight / scales[..., None, None]).round().clamp(-127, 127).to(torch.int8)
        made[name + SCALE_SUFFIX] = scales
    return made


def dequantize(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that were packed; what is not packed is returned as it is."""
    made: dict[str, Tensor] = {}
    for name, value in stored.items():
        scales = stored.get(name + SCALE_SUFFIX)
        if name.endswith(SCALE_SUFFIX) and name.removesuffix(SCALE_SUFFIX) in stored:
            continue
        fits = scales is not None and value.dtype == torch.int8 and value.shape[:2] == scales.shape
        made[name] = value.float() * scales[..., None, None] if fits and scales is not None else value
    return made
