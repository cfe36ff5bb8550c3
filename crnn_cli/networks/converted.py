"""Weights of convolutions in the kind of the features, made once.

Legend: F feature.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Converted:
    """Weight and bias of convolutions in one kind of number, features innermost in memory.

    kind : of the features.
    """

    def __init__(self, kind: torch.dtype) -> None:
        self.kind = kind
        self._known: dict[nn.Conv2d, tuple[Tensor, Tensor]] = {}

    def __call__(self, convolution: nn.Conv2d) -> tuple[Tensor, Tensor]:
        """Return weight and bias of a convolution, which must have one."""
        if convolution not in self._known:
            assert convolution.bias is not None
            self._known[convolution] = converted(convolution.weight, convolution.bias, self.kind)
        return self._known[convolution]


def converted(weight: Tensor, bias: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return weight and bias in a kind of number, features innermost in memory."""
    return weight.to(kind, memory_format=torch.channels_last), bias.to(kind)
