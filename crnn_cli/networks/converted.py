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
            weight = convolution.weight.to(self.kind, memory_format=torch.channels_last)
            self._known[convolution] = weight, convolution.bias.to(self.kind)
        return self._known[convolution]
