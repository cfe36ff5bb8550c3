"""Weights of convolutions in the dtype of the features, cast once.

Legend: F feature.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CastWeightCache:
    """Weights and biases of convolutions, cast to one dtype at their first use; features lie innermost in memory.

    The cache is not renewed when a weight changes: make a new one for every inference.

    Parameters
    ----------
    dtype : of the features.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._cast: dict[tuple[nn.Conv2d, ...], tuple[Tensor, Tensor]] = {}

    def __call__(self, convolution: nn.Conv2d, *of_zeros: nn.Conv2d) -> tuple[Tensor, Tensor]:
        """Weight of a convolution, and the sum of the biases of it and of ``of_zeros``.

        ``of_zeros`` are applied to states of zeros, and a convolution of zeros is its bias. Each must have one.
        """
        convolutions = convolution, *of_zeros
        if convolutions not in self._cast:
            biases = [each.bias for each in convolutions if each.bias is not None]
            assert len(biases) == len(convolutions)
            self._cast[convolutions] = cast_weights(convolution.weight, torch.stack(biases).sum(0), self.dtype)
        return self._cast[convolutions]


def cast_weights(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cast weight and bias to a dtype, with features innermost in memory (channels last).

    >>> weight, bias = cast_weights(torch.ones(2, 4, 3, 3), torch.zeros(2), torch.bfloat16)
    >>> weight.dtype, weight.is_contiguous(memory_format=torch.channels_last)
    (torch.bfloat16, True)
    """
    return weight.to(dtype, memory_format=torch.channels_last), bias.to(dtype)
