"""A way over the frames of a recurrent network for inference on a CPU: lists of tensors of a frame or two each.

Legend: B batch, T frame, F feature, Y phase encoding, X readout; frames come first inside.
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
LARGEST = 2**25
"""Bytes; pairs are smaller. What is as large as this glibc hands back to the system when it is freed, and the pages of
the next tensor are made anew: that takes a third of the time of a convolution."""


_GONE = torch.empty(0)  # in the place of what was used for the last time: the memory is free


class CpuSchedule:
    """Sequences as lists of pairs of frames, or of frames; see `frames.Way`.

    A pair is frame t and frame T - 1 - t, (2 B, F, Y, X), the middle one alone where T is odd; a frame (B, F, Y, X).
    A direction of time is at frame t when the other is at T - 1 - t: a pair is what both need in a step, and what they
    made of it is a pair again. So nothing is copied to bring frames together, and half as many convolutions are called.
    Features lie innermost in memory. A sum is made where its first term lies, by the convolution that makes the second,
    where oneDNN has that (`fused`), else after it. States of the iteration before are replaced in their list as they
    are read, so that they are in memory once.

    frames : T. kind : of the features; weights are converted once.
    on_disk : so many of the five sequences that there are at once lie in files, from 0 to `SEQUENCES`.
    paired : pairs, not frames; see `LARGEST`.
    """

    SEQUENCES = 5
    """States of the layers, what both directions share, and what they made of it."""

    def __init__(self, frames: int, kind: torch.dtype, on_disk: int = 0, paired: bool = True) -> None:
        self.frames, self.kind, self.on_disk, self.paired = frames, kind, on_disk, paired
        last = frames - 1
        self._places: list[tuple[int, ...]] = [(t,) for t in range(frames)]
        if paired:
            self._places = [(t, last - t) if t < last - t else (t,) for t in range((frames + 1) // 2)]
        self._where = {t: (number, at) for number, places in enumerate(self._places) for at, t in enumerate(places)}
        self._of = CastWeightCache(kind)
        self._convolutions = Convolutions(kind)

    @classmethod
    def of(
        cls, shape_BTYX: torch.Size, features: int, kind: torch.dtype, on_disk: int, roomy: bool
    ) -> CpuSchedule:  # fmt: skip
        """Return the faster one for images of a shape: pairs, or frames where pairs are large and memory is plenty.

        256 x 256 x 12 in float32, two cores: 6.4 s and 5.2 s; 256 x 256 x 30: 2.5 GiB and 2.6 GiB.
        """
        batch, frames, lines, columns = shape_BTYX
        large = 2 * batch * lines * columns * features * kind.itemsize >= LARGEST
        return cls(frames, kind, on_disk, not (large and roomy))

    def enter(self, x_TBCYX: Tensor) -> list[Tensor]:
        """Return a sequence as this way keeps it."""
        together = (torch.cat([x_TBCYX[t] for t in places]) for places in self._places)
        return [each.to(self.kind, memory_format=torch.channels_last) for each in together]

    def leave(self, sequence: list[Tensor]) -> Tensor:
        """Return (T, B, C, Y, X) of a sequence."""
        return torch.stack([self._frame(sequence, t) for t in range(self.frames)])

    def recurrent(self, cell: Cell, x: list[Tensor], before: Sequence | None) -> Sequence:
        """See `Way`; x and the states before are gone afterwards."""
        shared = self._sequence(3)
        for t, inputs in enumerate(x):
            if before is None:
                made = self._convolutions.made(self._of(cell.i2h, cell.ih2ih), inputs)
            else:
                made = self._added(cell.ih2ih, before[t], self._convolved(cell.i2h, inputs))
                if isinstance(before, list):
                    before[t] = _GONE
            x[t] = _GONE
            shared.append(made)
        return (self._by_pairs if self.paired else self._one_by_one)(cell.h2h, shared, self._sequence(4))

    def layer(
        self, from_below: nn.Conv2d, from_before: nn.Conv2d, below: Sequence, before: Sequence | None, shift: int,
        number: int = 0,
    ) -> Sequence:  # fmt: skip
        """See `Way`; the states before are replaced."""
        found = self._sequence(number) if before is None else before
        for t in range(len(below)):
            inputs = self._shifted(below, t, shift) if shift else below[t]
            if before is None:
                found.append(self._convolutions.made(self._of(from_below, from_before), inputs, relu=True))
            else:
                found[t] = self._added(from_below, inputs, self._convolved(from_before, before[t]), relu=True)
        return found

    def output(self, convolution: nn.Conv2d, below: Sequence) -> list[Tensor]:
        """Return convolution * below, frame by frame."""
        kernel = self._of(convolution)
        return [self._convolutions.few(kernel, inputs) for inputs in below]

    def _by_pairs(self, h2h: nn.Conv2d, shared: Sequence, both: Sequence) -> Sequence:
        """Return the sum of both directions, run together, in an empty sequence; ``shared`` is used up."""
        hidden = shared[0]
        for t, places in enumerate(self._places):
            terms = shared[t] if len(places) == 2 else torch.cat([shared[t], shared[t]])
            hidden = self._plus(h2h, hidden, terms) if t else (terms + broadcast_bias(h2h, terms)).relu_()
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
                    self._added(h2h, before, there, relu=True)
                hidden = terms
            else:
                hidden = self._added(h2h, hidden, terms, relu=True)
            both[t] = both[t].add_(hidden)
        return both

    def _one_by_one(self, h2h: nn.Conv2d, shared: Sequence, both: Sequence) -> Sequence:
        """Return the sum of both directions, one after the other, in an empty sequence; ``shared`` is used up."""
        hidden = (shared[0] + broadcast_bias(h2h, shared[0])).relu_()
        both.append(hidden)
        for t in range(1, self.frames):
            hidden = self._plus(h2h, hidden, shared[t])
            both.append(hidden)
        hidden = shared.pop()
        hidden = hidden.add_(broadcast_bias(h2h, hidden)).relu_()
        both[-1] = both[-1].add_(hidden)
        for t in reversed(range(self.frames - 1)):
            hidden = self._added(h2h, hidden, shared.pop(), relu=True)
            both[t] = both[t].add_(hidden)
        return both

    def _frame(self, sequence: Sequence, t: int) -> Tensor:
        """Return a frame, (B, F, Y, X)."""
        number, at = self._where[t]
        return sequence[number].chunk(len(self._places[number]))[at]

    def _shifted(self, below: Sequence, number: int, shift: int) -> Tensor:
        """Return an element with channels from the frames before and after."""
        made = below[number].clone(memory_format=torch.preserve_format) if isinstance(below, list) else below[number]
        places = self._places[number]
        for t, out in zip(places, made.chunk(len(places)), strict=True):
            out[:, :shift] = self._frame(below, max(t - 1, 0))[:, :shift]
            out[:, shift : 2 * shift] = self._frame(below, min(t + 1, self.frames - 1))[:, shift : 2 * shift]
        return made

    def _sequence(self, number: int) -> Sequence:
        """Return an empty sequence; those of low numbers go to disk first."""
        return DiskTensorList() if number < self.on_disk else []

    def _convolved(self, convolution: nn.Conv2d, features: Tensor) -> Tensor:
        return self._convolutions.made(self._of(convolution), features)

    def _plus(self, convolution: nn.Conv2d, features: Tensor, terms: Tensor) -> Tensor:
        return self._convolutions.plus(self._of(convolution), features, terms)

    def _added(self, convolution: nn.Conv2d, features: Tensor, to: Tensor, relu: bool = False) -> Tensor:
        return self._convolutions.added(self._of(convolution), features, to, relu)
