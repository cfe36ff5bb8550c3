"""Channels that move from frame to frame, with gradients that are made in one piece.

Cut and joined, the same would make a gradient of all channels for each part, and a sum of these.

Legend: N = T * B frames, those of one time together; F feature, Y phase encoding, X readout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def moved(features_NFYX: Tensor, shift: int, batch: int) -> Tensor:
    """Return features whose first ``shift`` channels come from the frame before, as many more from the frame after.

    At the ends a frame is its own neighbour. batch : B.
    """
    apply: Callable[..., Tensor] = _Moved.apply
    return apply(features_NFYX, shift, batch)


class _Moved(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, features_NFYX: Tensor, shift: int, batch: int) -> Tensor:
        context.shift, context.batch = shift, batch
        made = features_NFYX.clone(memory_format=torch.preserve_format)
        made[batch:, :shift] = features_NFYX[:-batch, :shift]
        made[:-batch, shift : 2 * shift] = features_NFYX[batch:, shift : 2 * shift]
        return made

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradients, each where its channel came from."""
        (gradient_NFYX,), shift, batch = gradients, context.shift, context.batch
        made = gradient_NFYX.clone(memory_format=torch.preserve_format)
        ahead, back = gradient_NFYX[:, :shift], gradient_NFYX[:, shift : 2 * shift]
        made[:-batch, :shift] = ahead[batch:]
        made[-batch:, :shift] = 0
        made[:batch, :shift] += ahead[:batch]
        made[batch:, shift : 2 * shift] = back[:-batch]
        made[:batch, shift : 2 * shift] = 0
        made[-batch:, shift : 2 * shift] += back[-batch:]
        return made, None, None
