"""How the layers of a recurrent network go over the frames of sequences: what is computed at once, and in which memory.

`Whole` works with gradients, `Pairs` is fast on a CPU, `parts.Parts` is for a GPU. All have the same four layers and no
weights.

Legend: B batch, T frame, F feature, Y phase encoding, X readout; frames come first inside.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from crnn_cli.networks.converted import Converted
from crnn_cli.networks.fused import Convolutions
from crnn_cli.networks.on_disk import OnDisk

Pairlist = MutableSequence[Tensor]


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
            shared = inputs.add_(_bias(cell.ih2ih, inputs))
        else:
            shared = inputs.add_(cell.ih2ih(before.flatten(0, 1)))
        each = shared.unflatten(0, (frames, batch)).unbind()  # one node of the graph: indexing makes whole gradients
        hidden = torch.cat([each[0], each[-1]]).add_(_bias(cell.h2h, shared)).relu_()
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
        if shift:
            ahead, back = flat[:, :shift], flat[:, shift : 2 * shift]
            ahead = torch.cat([ahead[:batch], ahead[:-batch]])
            back = torch.cat([back[batch:], back[-batch:]])
            flat = torch.cat([ahead, back, flat[:, 2 * shift :]], 1)
        made = from_below(flat)
        made = made.add_(_bias(from_before, made) if before is None else from_before(before.flatten(0, 1))).relu_()
        sequence: Tensor = made.unflatten(0, (frames, batch))
        return sequence

    def output(self, convolution: nn.Conv2d, below: Tensor) -> Tensor:
        """Return convolution * below, frame by frame."""
        made: Tensor = convolution(below.flatten(0, 1)).unflatten(0, below.shape[:2])
        return made


class Pairs:
    """Sequences as lists of frames t and T - 1 - t, (2 B, F, Y, X), the middle one alone where T is odd.

    A direction of time is at frame t when the other is at T - 1 - t: a pair is what both need in a step, and what they
    made of it is a pair again. So nothing is copied to bring frames together, and a pair stays near the cache. Features
    lie innermost in memory. A sum is made where its first term lies, by the convolution that makes the second, where
    oneDNN has that (`fused`), else after it. States of the iteration before are replaced in their list as they are
    read, so that they are in memory once.

    frames : T. kind : of the features; weights are converted once.
    on_disk : so many of the five sequences that there are at once lie in files, from 0 to `SEQUENCES`.
    """

    SEQUENCES = 5
    """States of the layers, what both directions share, and what they made of it."""

    def __init__(self, frames: int, kind: torch.dtype, on_disk: int = 0) -> None:
        self.frames, self.kind, self.on_disk = frames, kind, on_disk
        self._pairs, self._middle = (frames + 1) // 2, (frames // 2 if frames % 2 else -1)
        self._of = Converted(kind)
        self._convolutions = Convolutions(kind)

    def enter(self, x_TBCYX: Tensor) -> list[Tensor]:
        """Return a sequence as this way keeps it."""
        found = []
        for t in range(self._pairs):
            pair = x_TBCYX[t] if t == self._middle else torch.cat([x_TBCYX[t], x_TBCYX[-1 - t]])
            found.append(pair.to(self.kind, memory_format=torch.channels_last))
        return found

    def leave(self, sequence: list[Tensor]) -> Tensor:
        """Return (T, B, C, Y, X) of a sequence."""
        return torch.stack([self._frame(sequence, t) for t in range(self.frames)])

    def _sequence(self, number: int) -> Pairlist:
        """Return an empty sequence; those of low numbers go to disk first."""
        return OnDisk() if number < self.on_disk else []

    def recurrent(self, cell: Cell, x: list[Tensor], before: Pairlist | None) -> Pairlist:
        """See `Way`; the states before are gone afterwards."""
        shared, both = self._sequence(3), self._sequence(4)
        for t, inputs in enumerate(x):
            made = self._convolved(cell.i2h, inputs)
            if before is None:
                made.add_(_bias(cell.ih2ih, made))
            else:
                made = self._added(cell.ih2ih, before[t], made)
                if isinstance(before, list):
                    before[t] = inputs  # its last use: the memory is free
            shared.append(made)
        hidden = shared[0]
        for t in range(self._pairs):
            pair = shared[t]
            terms = torch.cat([pair, pair]) if t == self._middle else pair
            hidden = self._plus(cell.h2h, hidden, terms) if t else (terms + _bias(cell.h2h, terms)).relu_()
            both.append(hidden)
        ahead, back = hidden.chunk(2)
        if self._middle >= 0:
            shared.pop()
            both.pop()
            both.append(ahead + back)
        hidden = torch.cat([back, ahead])  # each direction goes on where the other has been
        for t in reversed(range(self.frames // 2)):
            hidden = self._added(cell.h2h, hidden, shared.pop(), relu=True)
            both[t] = both[t].add_(hidden)
        return both

    def layer(
        self, from_below: nn.Conv2d, from_before: nn.Conv2d, below: Pairlist, before: Pairlist | None, shift: int,
        number: int = 0,
    ) -> Pairlist:  # fmt: skip
        """See `Way`; the states before are replaced."""
        found = self._sequence(number) if before is None else before
        for t in range(self._pairs):
            pair = self._shifted(below, t, shift) if shift else below[t]
            if before is None:
                made = self._convolved(from_below, pair)
                found.append(made.add_(_bias(from_before, made)).relu_())
            else:
                found[t] = self._added(from_below, pair, self._convolved(from_before, before[t]), relu=True)
        return found

    def output(self, convolution: nn.Conv2d, below: Pairlist) -> list[Tensor]:
        """Return convolution * below, frame by frame."""
        kernel = self._of(convolution)
        return [self._convolutions.few(kernel, pair) for pair in below]

    def _frame(self, sequence: Pairlist, t: int) -> Tensor:
        """Return a frame, (B, F, Y, X)."""
        pair = sequence[min(t, self.frames - 1 - t)]
        if t == self._middle:
            return pair
        return pair.chunk(2)[0 if t < self.frames - 1 - t else 1]

    def _shifted(self, below: Pairlist, pair: int, shift: int) -> Tensor:
        made = below[pair].clone(memory_format=torch.preserve_format) if isinstance(below, list) else below[pair]
        places = (pair,) if pair == self._middle else (pair, self.frames - 1 - pair)
        for t, out in zip(places, made.chunk(len(places)), strict=True):
            out[:, :shift] = self._frame(below, max(t - 1, 0))[:, :shift]
            out[:, shift : 2 * shift] = self._frame(below, min(t + 1, self.frames - 1))[:, shift : 2 * shift]
        return made

    def _convolved(self, convolution: nn.Conv2d, features: Tensor) -> Tensor:
        return self._convolutions.made(self._of(convolution), features)

    def _plus(self, convolution: nn.Conv2d, features: Tensor, terms: Tensor) -> Tensor:
        return self._convolutions.plus(self._of(convolution), features, terms)

    def _added(self, convolution: nn.Conv2d, features: Tensor, to: Tensor, relu: bool = False) -> Tensor:
        return self._convolutions.added(self._of(convolution), features, to, relu)


def _bias(of: nn.Conv2d, like: Tensor) -> Tensor:
    """Return what a convolution of zeros gives: its bias, (1, F, 1, 1)."""
    assert of.bias is not None
    return of.bias.to(like.dtype).view(1, -1, 1, 1)
