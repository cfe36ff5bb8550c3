"""Weights of convolutions in the kind of the features, made once.

Legend: F feature.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CastWeightCache:
    """Weight and bias of convolutions in one kind of number, features innermost in memory.

    kind : of the features.
    """

    def __init__(self, kind: torch.dtype) -> None:
        self.kind = kind
        self._known: dict[tuple[nn.Conv2d, ...], tuple[Tensor, Tensor]] = {}

    def __call__(self, convolution: nn.Conv2d, *of_zeros: nn.Conv2d) -> tuple[Tensor, Tensor]:
        """Return weight and bias of a convolution, plus what others make of zeros: their biases. Each must have one."""
        all_of = convolution, *of_zeros
        if all_of not in self._known:
            biases = [each.bias for each in all_of if each.bias is not None]
            assert len(biases) == len(all_of)
            self._known[all_of] = cast_weights(convolution.weight, torch.stack(biases).sum(0), self.kind)
        return self._known[all_of]


def cast_weights(weight: Tensor, bias: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return weight and bias in a kind of number, features innermost in memory."""
    return weight.to(kind, memory_format=torch.channels_last), bias.to(kind)
