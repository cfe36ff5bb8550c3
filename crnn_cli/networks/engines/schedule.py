"""Execution schedules of the recurrent layers: how frames are batched and laid out in memory.

`BatchedSchedule` is for training, `crnn_cli.networks.engines.cpu.CpuSchedule` for inference on a CPU, and
`crnn_cli.networks.engines.gpu.ChunkedGpuSchedule` for inference on a GPU. All have the same methods, hold no weights,
and compute the same up to rounding.

Legend: B batch, T frame, F feature, C channel, Y phase encoding, X readout; frames come first inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from crnn_cli.networks.engines.autograd import bidirectional_recurrence, fused_sum


class Cell(Protocol):
    """Convolutions of a recurrent cell.

    Attributes
    ----------
    i2h, h2h, ih2ih : from the input, from the neighbour frame, from the iteration before.
    """

    i2h: nn.Conv2d
    h2h: nn.Conv2d
    ih2ih: nn.Conv2d


class ExecutionSchedule(Protocol):
    """The recurrent layers over all frames of sequences.

    Sequences, of type Any here, have the order and memory layout of the schedule.
    """

    def to_layout(self, x_TBCYX: Tensor) -> Any:
        """Convert (T, B, C, Y, X) to the layout of this schedule."""
        ...

    def from_layout(self, sequence: Any) -> Tensor:
        """Convert a sequence in the layout of this schedule to (T, B, C, Y, X)."""
        ...

    def recurrent(self, cell: Cell, x: Any, before: Any) -> Any:
        """Run a cell through time, forwards and backwards, and sum the hidden states of both directions.

        h_t = ReLU(i2h * x_t + h2h * h_(t -+ 1) + ih2ih * before_t), from zero before the first frame of each direction.

        Parameters
        ----------
        cell : its convolutions.
        x : input sequence. Its memory may be reused.
        before : the result of the iteration before, None for zeros. Its memory may be reused.
        """
        ...

    def layer(
        self, from_below: nn.Conv2d, from_before: nn.Conv2d, below: Any, before: Any, shift: int, number: int = 0
    ) -> Any:
        """ReLU(from_below * below + from_before * before), frame by frame.

        Parameters
        ----------
        from_below, from_before : convolutions.
        below : states of the layer below.
        before : states of this layer in the iteration before, None for zeros. Their memory may be reused.
        shift : channels of ``below`` that come from the frame before, and as many from the frame after (temporal shift
            module). At the ends a frame is its own neighbour.
        number : of the layer, from 0.
        """
        ...

    def output(self, convolution: nn.Conv2d, below: Any) -> Any:
        """Convolution * below, frame by frame."""
        ...


class BatchedSchedule:
    """All frames as one batch (T * B, F, Y, X), but for the recurrence; with hand-derived gradients.

    The gradients are those of `crnn_cli.networks.engines.autograd`.

    Parameters
    ----------
    batch : B.
    dtype : of the features.
    truncate : frames after which gradients through time are cut, in each direction counted from its own first frame;
        0: never.
    """

    def __init__(self, batch: int, dtype: torch.dtype, truncate: int = 0) -> None:
        self.batch, self.dtype, self.truncate = batch, dtype, truncate

    def to_layout(self, x_TBCYX: Tensor) -> Tensor:
        """See `ExecutionSchedule`."""
        return x_TBCYX.flatten(0, 1).to(self.dtype, memory_format=torch.channels_last)

    def from_layout(self, sequence: Tensor) -> Tensor:
        """See `ExecutionSchedule`."""
        output: Tensor = sequence.unflatten(0, (-1, self.batch))
        return output

    def recurrent(self, cell: Cell, x: Tensor, before: Tensor | None) -> Tensor:
        """See `ExecutionSchedule`; the terms that both directions share are computed once."""
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
        """See `ExecutionSchedule`."""
        output: Tensor = convolution(below)
        return output


def broadcast_bias(of: nn.Conv2d, like: Tensor) -> Tensor:
    """Bias of a convolution, broadcastable over (B, F, Y, X).

    Returns
    -------
    (1, F, 1, 1), in the dtype of ``like``.
    """
    assert of.bias is not None
    return of.bias.to(like.dtype).view(1, -1, 1, 1)


def checkpointed(function: Callable[..., tuple[Tensor, ...]], *arguments: object) -> tuple[Tensor, ...]:
    """Call a function under an activation checkpoint (Chen et al., arXiv 1604.06174).

    Only the arguments are kept for the backward pass, which calls the function again.
    """
    result: tuple[Tensor, ...] = checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return result
