"""How the layers of a recurrent network go over the frames of sequences: what is computed at once, and in which memory.

`BatchedSchedule` works with gradients, `listed.Listed` is fast on a CPU, `parts.Parts` is for a GPU. All have the same four
layers and no weights.

Legend: B batch, T frame, F feature, Y phase encoding, X readout; frames come first inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from crnn_cli.networks.engines.autograd import bidirectional_recurrence, fused_sum


class Cell(Protocol):
    """The convolutions of a cell that runs through time: from input, from the neighbour frame, from iteration."""

    i2h: nn.Conv2d
    h2h: nn.Conv2d
    ih2ih: nn.Conv2d


class ExecutionSchedule(Protocol):
    """A way to go over the frames. Sequences, of type Any here, are in the order and memory of the way."""

    def enter(self, x_TBCYX: Tensor) -> Any:
        """Return a sequence as this way keeps it."""
        ...

    def leave(self, sequence: Any) -> Tensor:
        """Return (T, B, C, Y, X) of a sequence."""
        ...

    def recurrent(self, cell: Cell, x: Any, before: Any) -> Any:
        """Return the sum of the hidden states of both directions of time, each from zero at its first frame.

        h_t = ReLU(i2h * x_t + h2h * h_(t -+ 1) + ih2ih * before_t); ``before`` may be None, for zeros.
        Both x and before may be gone afterwards.
        """
        ...

    def layer(
        self, from_below: nn.Conv2d, from_before: nn.Conv2d, below: Any, before: Any, shift: int, number: int = 0
    ) -> Any:
        """Return ReLU(from_below * below + from_before * before), frame by frame; ``before`` may be None, for zeros.

        shift : so many channels of below come from the frame before, and as many from the frame after; at the ends a
            frame is its own neighbour.
        number : of the layer, from 0.
        """
        ...

    def output(self, convolution: nn.Conv2d, below: Any) -> Any:
        """Return convolution * below, frame by frame."""
        ...


class BatchedSchedule:
    """Sequences (T * B, F, Y, X) as one batch, frames first, but where they recur; see `written_out` for gradients.

    batch : B. kind : of the features. truncate : frames after which gradients through time are cut, in each direction
    from its own first frame; 0: never.
    """

    def __init__(self, batch: int, kind: torch.dtype, truncate: int = 0) -> None:
        self.batch, self.kind, self.truncate = batch, kind, truncate

    def enter(self, x_TBCYX: Tensor) -> Tensor:
        """Return a sequence as this way keeps it."""
        return x_TBCYX.flatten(0, 1).to(self.kind, memory_format=torch.channels_last)

    def leave(self, sequence: Tensor) -> Tensor:
        """Return (T, B, C, Y, X) of a sequence."""
        made: Tensor = sequence.unflatten(0, (-1, self.batch))
        return made

    def recurrent(self, cell: Cell, x: Tensor, before: Tensor | None) -> Tensor:
        """See `ExecutionSchedule`. What both directions share is computed once."""
        shared = fused_sum(cell.i2h, x, cell.ih2ih, before, relu=False)
        return bidirectional_recurrence(cell.h2h, shared, self.batch, self.truncate)

    def layer(
        self, from_below: nn.Conv2d, from_before: nn.Conv2d, below: Tensor, before: Tensor | None, shift: int,
        number: int = 0,
    ) -> Tensor:  # fmt: skip
        """See `ExecutionSchedule`."""
        del number
        return fused_sum(from_below, below, from_before, before, shift=shift, batch=self.batch)

    def output(self, convolution: nn.Conv2d, below: Tensor) -> Tensor:
        """Return convolution * below, frame by frame."""
        made: Tensor = convolution(below)
        return made


def broadcast_bias(of: nn.Conv2d, like: Tensor) -> Tensor:
    """Return what a convolution of zeros gives: its bias, (1, F, 1, 1)."""
    assert of.bias is not None
    return of.bias.to(like.dtype).view(1, -1, 1, 1)


def checkpointed(function: Callable[..., tuple[Tensor, ...]], *arguments: object) -> tuple[Tensor, ...]:
    """Return function(arguments), of which only the arguments are kept until the backward pass."""
    result: tuple[Tensor, ...] = checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return result
