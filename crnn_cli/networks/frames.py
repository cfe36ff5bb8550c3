"""How the layers of a recurrent network go over the frames of sequences: what is computed at once, and in which memory.

`Whole` works with gradients, `listed.Listed` is fast on a CPU, `parts.Parts` is for a GPU. All have the same four
layers and no weights.

Legend: B batch, T frame, F feature, Y phase encoding, X readout; frames come first inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from crnn_cli.networks.moved import moved


class Cell(Protocol):
    """The convolutions of a cell that runs through time: from input, from the neighbour frame, from iteration."""

    i2h: nn.Conv2d
    h2h: nn.Conv2d
    ih2ih: nn.Conv2d


class Way(Protocol):
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


class Whole:
    """Sequences (T, B, F, Y, X) whose frames are one batch, except where they recur; autograd keeps what it needs.

    truncate : frames after which gradients through time are cut, in each direction from its own first frame; 0: never.
    """

    def __init__(self, truncate: int = 0) -> None:
        self.truncate = truncate

    def enter(self, x_TBCYX: Tensor) -> Tensor:
        """Return a sequence as this way keeps it."""
        if x_TBCYX.device.type == "cpu":
            return x_TBCYX
        flat = x_TBCYX.flatten(0, 1).contiguous(memory_format=torch.channels_last)  # as tensor cores want it
        made: Tensor = flat.unflatten(0, x_TBCYX.shape[:2])
        return made

    def leave(self, sequence: Tensor) -> Tensor:
        """Return (T, B, C, Y, X) of a sequence."""
        return sequence

    def recurrent(self, cell: Cell, x: Tensor, before: Tensor | None) -> Tensor:
        """See `Way`. What both directions share is computed once; both run as one batch of 2 B."""
        frames, batch = x.shape[:2]
        inputs = cell.i2h(x.flatten(0, 1))
        if before is None:
            shared = inputs.add_(bias_of(cell.ih2ih, inputs))
        else:
            shared = inputs.add_(cell.ih2ih(before.flatten(0, 1)))
        each = shared.unflatten(0, (frames, batch)).unbind()  # one node of the graph: indexing makes whole gradients
        hidden = torch.cat([each[0], each[-1]]).add_(bias_of(cell.h2h, shared)).relu_()
        forward, backward = [hidden[:batch]], [hidden[batch:]]
        for t in range(1, frames):
            if self.truncate > 0 and t % self.truncate == 0:
                hidden = hidden.detach()
            hidden = cell.h2h(hidden).add_(torch.cat([each[t], each[-1 - t]])).relu_()
            ahead, back = hidden.chunk(2)
            forward.append(ahead)
            backward.append(back)
        both: Tensor = (torch.cat(forward) + torch.cat(backward[::-1])).unflatten(0, (frames, batch))
        return both

    def layer(
        self, from_below: nn.Conv2d, from_before: nn.Conv2d, below: Tensor, before: Tensor | None, shift: int,
        number: int = 0,
    ) -> Tensor:  # fmt: skip
        """See `Way`."""
        frames, batch = below.shape[:2]
        flat = below.flatten(0, 1)
        made = from_below(moved(flat, shift, batch) if shift else flat)
        made = made.add_(bias_of(from_before, made) if before is None else from_before(before.flatten(0, 1))).relu_()
        sequence: Tensor = made.unflatten(0, (frames, batch))
        return sequence

    def output(self, convolution: nn.Conv2d, below: Tensor) -> Tensor:
        """Return convolution * below, frame by frame."""
        made: Tensor = convolution(below.flatten(0, 1)).unflatten(0, below.shape[:2])
        return made


def bias_of(of: nn.Conv2d, like: Tensor) -> Tensor:
    """Return what a convolution of zeros gives: its bias, (1, F, 1, 1)."""
    assert of.bias is not None
    return of.bias.to(like.dtype).view(1, -1, 1, 1)


def recomputed(function: Callable[..., tuple[Tensor, ...]], *arguments: object) -> tuple[Tensor, ...]:
    """Return function(arguments), of which only the arguments are kept until the backward pass."""
    result: tuple[Tensor, ...] = checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return result
