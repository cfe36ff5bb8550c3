"""A way over the frames of a recurrent network for inference on a GPU: so many frames at once as memory allows.

Legend: B batch, T frame, F feature, Y phase encoding, X readout, N = T * B; frames come first.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from crnn_cli.networks.converted import Converted
from crnn_cli.networks.frames import Cell


class Parts:
    """Sequences (N, F, Y, X), features innermost in memory, gone over in parts of a few frames; see `frames.Way`.

    New states take the memory of those of the iteration before, so five sequences are held at once, and beside them
    what is computed from one part. Both directions of time run as one batch: one is at frame t when the other is at
    T - 1 - t. Sums and ReLU are made inside the convolution where cuDNN has that.

    frames, batch : T and B. kind : of the features; weights are converted once.
    at_once : frames of a part, from 1 to T; fewer need less memory and more launches.
    """

    SEQUENCES = 5
    """States of the four layers, and what both directions share."""
    WORK = 4
    """Sequences of a part, at most, that are held for it."""

    def __init__(self, frames: int, batch: int, kind: torch.dtype, at_once: int) -> None:
        self.frames, self.batch, self.kind = frames, batch, kind
        firsts = range(0, frames, at_once)
        self._parts = [slice(t * batch, min(t + at_once, frames) * batch) for t in firsts]
        self._of = Converted(kind)

    def enter(self, x_TBCYX: Tensor) -> Tensor:
        """Return a sequence as this way keeps it."""
        return x_TBCYX.flatten(0, 1).to(self.kind, memory_format=torch.channels_last)

    def leave(self, sequence: Tensor) -> Tensor:
        """Return (T, B, C, Y, X) of a sequence."""
        made: Tensor = sequence.unflatten(0, (self.frames, self.batch))
        return made

    def recurrent(self, cell: Cell, x: Tensor, before: Tensor | None) -> Tensor:
        """See `Way`; the memory of the states before is used for those returned."""
        shared = _empty(x, cell.i2h.out_channels)
        for part in self._parts:
            from_before = self._bias(cell.ih2ih) if before is None else self._convolved(cell.ih2ih, before[part])
            torch.add(self._convolved(cell.i2h, x[part]), from_before, out=shared[part])
        both = torch.empty_like(shared) if before is None else before
        middle = self.frames // 2 if self.frames % 2 else -1
        hidden = shared
        for t in range((self.frames + 1) // 2):
            terms = self._pair(shared, t).flatten(0, 1)
            hidden = self._plus(cell.h2h, hidden, terms) if t else (terms + self._bias(cell.h2h)).relu_()
            if t == middle:
                torch.add(*hidden.chunk(2), out=self.leave(both)[t])
            else:
                self._pair(both, t).copy_(hidden.unflatten(0, (2, self.batch)))
        hidden = torch.cat(hidden.chunk(2)[::-1])  # each direction goes on where the other has been
        for t in reversed(range(self.frames // 2)):
            hidden = self._plus(cell.h2h, hidden, self._pair(shared, t).flatten(0, 1))
            self._pair(both, t).add_(hidden.unflatten(0, (2, self.batch)))
        return both

    def layer(
        self, from_below: nn.Conv2d, from_before: nn.Conv2d, below: Tensor, before: Tensor | None, shift: int,
        number: int = 0,
    ) -> Tensor:  # fmt: skip
        """See `Way`; the states before are replaced."""
        del number
        made = torch.empty_like(below) if before is None else before
        for part in self._parts:
            seen = self._shifted(below, part, shift) if shift else below[part]
            if before is None:
                with_bias = self._convolved(from_below, seen).add_(self._bias(from_before))
                torch.clamp_min(with_bias, 0, out=made[part])
            else:
                made[part].copy_(self._plus(from_below, seen, self._convolved(from_before, before[part])))
        return made

    def output(self, convolution: nn.Conv2d, below: Tensor) -> Tensor:
        """Return convolution * below, frame by frame."""
        return torch.cat([self._convolved(convolution, below[part]) for part in self._parts])

    def _pair(self, sequence: Tensor, t: int) -> Tensor:
        """Return a view of frames t and T - 1 - t, t at most the middle, (2, B, F, Y, X); of the middle one, twice."""
        sequence_TBFYX, other = self.leave(sequence), self.frames - 1 - t
        if t == other:
            return sequence_TBFYX[t].expand(2, -1, -1, -1, -1)
        return sequence_TBFYX[t :: other - t][:2]

    def _shifted(self, below: Tensor, part: slice, shift: int) -> Tensor:
        """Return a part whose first channels come from the frames before, as many more from those after."""
        made, n = below[part].clone(memory_format=torch.channels_last), self.batch
        before, after = max(part.start - n, 0), min(part.stop, len(below) - n)
        ahead, back = slice(0, shift), slice(shift, 2 * shift)
        made[:n, ahead] = below[before : before + n, ahead]
        made[n:, ahead] = below[part.start : part.stop - n, ahead]
        made[:-n, back] = below[part.start + n : part.stop, back]
        made[-n:, back] = below[after : after + n, back]
        return made

    def _bias(self, of: nn.Conv2d) -> Tensor:
        """Return what a convolution of zeros gives: its bias, (1, F, 1, 1)."""
        return self._of(of)[1].view(1, -1, 1, 1)

    def _convolved(self, convolution: nn.Conv2d, features: Tensor) -> Tensor:
        made: Tensor = nn.functional.conv2d(features, *self._of(convolution), padding=convolution.padding)
        return made

    def _plus(self, convolution: nn.Conv2d, features: Tensor, terms: Tensor) -> Tensor:
        """Return ReLU(terms + convolution * features) in new memory."""
        if not _has_fused(features.device, self.kind):
            return self._convolved(convolution, features).add_(terms).relu_()
        return _fused(features, terms, *self._of(convolution))


def _empty(like: Tensor, features: int) -> Tensor:
    """Return memory for features of as many frames, (N, F, Y, X)."""
    shape = (len(like), features, *like.shape[2:])
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _fused(features: Tensor, terms: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ReLU(terms + weight * features + bias) by one call of cuDNN."""
    terms = terms.contiguous(memory_format=torch.channels_last)
    one, padding = (1, 1), (weight.shape[2] // 2, weight.shape[3] // 2)
    return torch.cudnn_convolution_add_relu(features, weight, terms, 1.0, bias, one, padding, one, 1)


@lru_cache
def _has_fused(device: torch.device, kind: torch.dtype) -> bool:
    """Return whether cuDNN convolves into a sum there, and right; on a small case, once."""
    if device.type != "cuda" or not torch.backends.cudnn.is_available():
        return False
    features, terms, weight = (
        torch.rand(shape, device=device).sub_(0.5).to(kind, memory_format=torch.channels_last)
        for shape in ((2, 64, 16, 16), (2, 64, 16, 16), (64, 64, 3, 3))
    )
    bias = terms[0, :, 0, 0].contiguous()
    try:
        made = _fused(features, terms, weight, bias)
    except RuntimeError:
        return False
    wanted = (nn.functional.conv2d(features.double(), weight.double(), bias.double(), padding=1) + terms).relu()
    return bool((made - wanted).norm() < 0.01 * wanted.norm())
