"""Execution schedule for inference on a CPU: a sequence is a list of tensors of one or two frames each.

Legend: B batch, T frame, F feature, C channel, Y phase encoding, X readout; frames come first inside.
"""

from __future__ import annotations

from collections.abc import MutableSequence

import torch
from torch import Tensor, nn

from crnn_cli.networks.engines.onednn import Convolutions
from crnn_cli.networks.engines.schedule import Cell, broadcast_bias
from crnn_cli.networks.engines.spill import DiskTensorList
from crnn_cli.networks.engines.weight_cache import CastWeightCache

Sequence = MutableSequence[Tensor]
LARGEST_PAIR_BYTES = 2**25
"""From this size on frames are computed one by one, where memory allows: glibc returns blocks as large to the system
when they are freed, and the page faults of the next allocation cost about a third of a convolution."""

_FREED = torch.empty(0)  # in the place of a tensor that is not needed again: its memory is free


class CpuSchedule:
    """Sequences as lists of frames, or of pairs of frames, computed with oneDNN; see `schedule.ExecutionSchedule`.

    A pair is frame t with frame T - 1 - t, (2 B, F, Y, X); the middle frame is alone where T is odd. Frames are (B, F,
    Y, X). One direction of time is at frame t when the other is at T - 1 - t. So a pair is what both need in a step,
    their result is a pair again, nothing is copied to bring frames together, and half as many convolutions are called.

    Features lie innermost in memory. A sum is computed in place by the convolution that makes its second term, where
    oneDNN offers that (`onednn`). States of the iteration before are replaced in their list as they are read, so that
    they are in memory once.

    Parameters
    ----------
    frames : T.
    dtype : of the features; weights are cast once.
    on_disk : how many of the `SEQUENCES` sequences lie in files, see `spill.DiskTensorList`.
    paired : pairs, or single frames; see `LARGEST_PAIR_BYTES`.
    """

    SEQUENCES = 5
    """Sequences of states held at once: three layers, the terms that both directions share, and their sum."""

    def __init__(self, frames: int, dtype: torch.dtype, on_disk: int = 0, paired: bool = True) -> None:
        self.frames, self.dtype, self.on_disk, self.paired = frames, dtype, on_disk, paired
        last = frames - 1
        self._frames_of: list[tuple[int, ...]] = [(t,) for t in range(frames)]
        if paired:
            self._frames_of = [(t, last - t) if t < last - t else (t,) for t in range((frames + 1) // 2)]
        self._position_of = {
            t: (number, at) for number, frames in enumerate(self._frames_of) for at, t in enumerate(frames)
        }
        self._kernel = CastWeightCache(dtype)
        self._convolutions = Convolutions(dtype)

    @classmethod
    def fastest_for(
        cls, shape_BTYX: torch.Size, features: int, dtype: torch.dtype, on_disk: int, ample_memory: bool
    ) -> CpuSchedule:  # fmt: skip
        """Choose pairs of frames, or single frames where pairs are large and memory is ample: the faster of both.

        256 x 256 x 12 in float32 on two cores: 6.4 s in pairs, 5.2 s in frames; 256 x 256 x 30: 2.5 and 2.6 GiB.

        Parameters
        ----------
        shape_BTYX, features, dtype : of the images and of the hidden states.
        on_disk : see the class.
        ample_memory : whether there is memory for twice the sequences.
        """
        batch, frames, lines, columns = shape_BTYX
        large = 2 * batch * lines * columns * features * dtype.itemsize >= LARGEST_PAIR_BYTES
        return cls(frames, dtype, on_disk, not (large and ample_memory))

    def to_layout(self, x_TBCYX: Tensor) -> list[Tensor]:
        """See `ExecutionSchedule`."""
        together = (torch.cat([x_TBCYX[t] for t in frames]) for frames in self._frames_of)
        return [each.to(self.dtype, memory_format=torch.channels_last) for each in together]

    def from_layout(self, sequence: list[Tensor]) -> Tensor:
        """See `ExecutionSchedule`."""
        return torch.stack([self._frame(sequence, t) for t in range(self.frames)])

    def recurrent(self, cell: Cell, x: list[Tensor], before: Sequence | None) -> Sequence:
        """See `ExecutionSchedule`; x and the states before are freed."""
        shared = self._sequence(3)
        for t, inputs in enumerate(x):
            if before is None:
                output = self._convolutions.conv(self._kernel(cell.i2h, cell.ih2ih), inputs)
            else:
                output = self._conv_accumulate_(cell.ih2ih, before[t], self._conv(cell.i2h, inputs))
                if isinstance(before, list):
                    before[t] = _FREED
            x[t] = _FREED
            shared.append(output)
        return (self._recur_paired if self.paired else self._recur_by_frame)(cell.h2h, shared, self._sequence(4))

    def layer(
        self, from_below: nn.Conv2d, from_before: nn.Conv2d, below: Sequence, before: Sequence | None, shift: int,
        number: int = 0,
    ) -> Sequence:  # fmt: skip
        """See `ExecutionSchedule`; the states before are replaced."""
        states = self._sequence(number) if before is None else before
        for t in range(len(below)):
            inputs = self._shifted(below, t, shift) if shift else below[t]
            if before is None:
                states.append(self._convolutions.conv(self._kernel(from_below, from_before), inputs, relu=True))
            else:
                states[t] = self._conv_accumulate_(from_below, inputs, self._conv(from_before, before[t]), relu=True)
        return states

    def output(self, convolution: nn.Conv2d, below: Sequence) -> list[Tensor]:
        """See `ExecutionSchedule`."""
        kernel = self._kernel(convolution)
        return [self._convolutions.conv_few_outputs(kernel, inputs) for inputs in below]

    def _recur_paired(self, h2h: nn.Conv2d, shared: Sequence, both: Sequence) -> Sequence:
        """Sum of both directions, run as pairs, in the empty sequence ``both``; ``shared`` is used up."""
        hidden = shared[0]
        for t, frames in enumerate(self._frames_of):
            terms = shared[t] if len(frames) == 2 else torch.cat([shared[t], shared[t]])
            hidden = self._conv_add_relu(h2h, hidden, terms) if t else (terms + broadcast_bias(h2h, terms)).relu_()
            both.append(hidden)
        ahead, back = hidden.chunk(2)
        if self.frames % 2:
            shared.pop()
            both.pop()
            both.append(ahead + back)
        for t in reversed(range(self.frames // 2)):
            terms = shared.pop()
            if t == self.frames // 2 - 1:  # each direction goes on where the other has been
                for before, there in zip((back, ahead), terms.chunk(2), strict=True):
                    self._conv_accumulate_(h2h, before, there, relu=True)
                hidden = terms
            else:
                hidden = self._conv_accumulate_(h2h, hidden, terms, relu=True)
            both[t] = both[t].add_(hidden)
        return both

    def _recur_by_frame(self, h2h: nn.Conv2d, shared: Sequence, both: Sequence) -> Sequence:
        """Sum of both directions, one after the other, in the empty sequence ``both``; ``shared`` is used up."""
        hidden = (shared[0] + broadcast_bias(h2h, shared[0])).relu_()
        both.append(hidden)
        for t in range(1, self.frames):
            hidden = self._conv_add_relu(h2h, hidden, shared[t])
            both.append(hidden)
        hidden = shared.pop()
        hidden = hidden.add_(broadcast_bias(h2h, hidden)).relu_()
        both[-1] = both[-1].add_(hidden)
        for t in reversed(range(self.frames - 1)):
            hidden = self._conv_accumulate_(h2h, hidden, shared.pop(), relu=True)
            both[t] = both[t].add_(hidden)
        return both

    def _frame(self, sequence: Sequence, t: int) -> Tensor:
        """Frame t of a sequence, (B, F, Y, X)."""
        number, at = self._position_of[t]
        return sequence[number].chunk(len(self._frames_of[number]))[at]

    def _shifted(self, below: Sequence, number: int, shift: int) -> Tensor:
        """Element ``number`` with the first channels of the frame before, as many more of the frame after (TSM)."""
        output = below[number].clone(memory_format=torch.preserve_format) if isinstance(below, list) else below[number]
        frames = self._frames_of[number]
        for t, out in zip(frames, output.chunk(len(frames)), strict=True):
            out[:, :shift] = self._frame(below, max(t - 1, 0))[:, :shift]
            out[:, shift : 2 * shift] = self._frame(below, min(t + 1, self.frames - 1))[:, shift : 2 * shift]
        return output

    def _sequence(self, number: int) -> Sequence:
        """Empty sequence number 0 to 4; those of low numbers go to disk first."""
        return DiskTensorList() if number < self.on_disk else []

    def _conv(self, convolution: nn.Conv2d, features: Tensor) -> Tensor:
        return self._convolutions.conv(self._kernel(convolution), features)

    def _conv_add_relu(self, convolution: nn.Conv2d, features: Tensor, terms: Tensor) -> Tensor:
        return self._convolutions.conv_add_relu(self._kernel(convolution), features, terms)

    def _conv_accumulate_(self, convolution: nn.Conv2d, features: Tensor, to: Tensor, relu: bool = False) -> Tensor:
        return self._convolutions.conv_accumulate_(self._kernel(convolution), features, to, relu)
