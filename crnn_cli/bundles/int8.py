"""Convolution weights in 8 bits: each kernel of an output and an input channel in steps of its own.

The error of a weight is at most half a step, 1/254 of the largest weight of its kernel. What is packed is stored only;
networks compute with the unpacked single-precision weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = ".steps"
_LEAST = 4096  # weights of a tensor; smaller ones are kept as they are


def quantize(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with every large convolution (out, in, Y, X) as int8 and its steps (out, in)."""
    made: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.dim() != 4 or weight.numel() < _LEAST:
            made[name] = weight
            continue
        steps = (weight.float().abs().amax((2, 3)) / 127).clamp_min(1e-12)
        made[name] = (weight / steps[..., None, None]).round().clamp(-127, 127).to(torch.int8)
        made[name + STEPS] = steps
    return made


def dequantize(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that were packed; what is not packed is returned as it is."""
    made: dict[str, Tensor] = {}
    for name, value in stored.items():
        steps = stored.get(name + STEPS)
        if name.endswith(STEPS) and name.removesuffix(STEPS) in stored:
            continue
        fits = steps is not None and value.dtype == torch.int8 and value.shape[:2] == steps.shape
        made[name] = value.float() * steps[..., None, None] if fits and steps is not None else value
    return made
