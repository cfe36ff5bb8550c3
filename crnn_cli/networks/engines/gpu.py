"""A way over the frames of a recurrent network for inference on a GPU: so many frames at once as memory allows.

Legend: B batch, T frame, F feature, Y phase encoding, X readout, N = T * B; frames come first.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from crnn_cli.networks.engines.onednn import CPU
from crnn_cli.networks.engines.schedule import Cell, broadcast_bias
from crnn_cli.networks.engines.weight_cache import CastWeightCache

_CHANNELS = 8  # tensor cores take multiples of it in bfloat16


class ChunkedGpuSchedule:
    """Sequences (N, F, Y, X), features innermost in memory, gone over in parts of a few frames; see `frames.Way`.

    Frames lie in pairs, the first and the last, the second and the last but one, up to the middle one: both directions
    of time run as one batch, in which one is at frame t when the other is at T - 1 - t, and so each step reads and
    writes one piece of memory. New states take the memory of those of the iteration before, so five sequences are held
    at once, and beside them what is computed from one part. Sums, biases and ReLU are made inside the convolution where
    cuDNN has that.

    frames, batch : T and B. kind : of the features; weights are converted once.
    at_once : frames of a part, from 1 to T; fewer need less memory and more launches.
    """

    SEQUENCES = 5
    """States of the four layers, and what both directions share."""
    WORK = 4
    """Sequences of a part, at most, that are held for it."""

    def __init__(self, frames: int, batch: int, kind: torch.dtype, at_once: int, device: torch.device = CPU) -> None:
        self.frames, self.batch, self.kind = frames, batch, kind
        self._parts = [slice(t, min(t + at_once, frames)) for t in range(0, frames, at_once)]
        self._of = CastWeightCache(kind)
        t = torch.arange(frames, device=device)  # nothing is sent there: a CUDA graph could not record that
        self._order = torch.stack([t, frames - 1 - t], 1).flatten()[:frames]
        self._place = self._order.argsort()
        self._biases = dict[tuple[nn.Conv2d, ...], Tensor]()

    def enter(self, x_TBCYX: Tensor) -> Tensor:
        """Return a sequence as this way keeps it, with channels of zeros up to what tensor cores take."""
        flat = x_TBCYX[self._order].flatten(0, 1).to(self.kind, memory_format=torch.channels_last)
        more = -flat.shape[1] % _CHANNELS if self.kind != torch.float32 and flat.is_cuda else 0
        return nn.functional.pad(flat, (0, 0, 0, 0, 0, more)) if more else flat

    def leave(self, sequence: Tensor) -> Tensor:
        """Return (T, B, C, Y, X) of a sequence."""
        return self._by_frame(sequence)[self._place]

    def recurrent(self, cell: Cell, x: Tensor, before: Tensor | None) -> Tensor:
        """See `Way`; the memory of the states before is used for those returned."""
        shared = _empty(x, cell.i2h.out_channels)
        for part in self._each():
            if before is None:
                shared[part] = self._alone(cell.i2h, x[part])
            else:
                torch.add(self._alone(cell.i2h, x[part]), self._alone(cell.ih2ih, before[part]), out=shared[part])
        both = torch.empty_like(shared) if before is None else before
        biases = cell.i2h, cell.ih2ih, cell.h2h
        pairs, hidden = self.frames // 2, shared
        for t in range((self.frames + 1) // 2):
            terms = self._pair(shared, t)
            hidden = self._plus(cell.h2h, hidden, terms, biases) if t else (terms + self._bias(*biases)).relu_()
            if t == pairs:  # both are at the frame in the middle
                torch.add(*hidden.chunk(2), out=both[2 * t * self.batch :])
            else:
                self._pair(both, t).copy_(hidden)
        hidden = torch.cat(hidden.chunk(2)[::-1])  # each direction goes on where the other has been
        for t in reversed(range(pairs)):
            hidden = self._plus(cell.h2h, hidden, self._pair(shared, t), biases)
            self._pair(both, t).add_(hidden)
        return both

    def layer(
        self, from_below: nn.Conv2d, from_before: nn.Conv2d, below: Tensor, before: Tensor | None, shift: int,
        number: int = 0,
    ) -> Tensor:  # fmt: skip
        """See `Way`; the states before are replaced."""
        del number
        biases = from_below, from_before
        made = torch.empty_like(below) if before is None else before
        for frames, part in zip(self._parts, self._each(), strict=True):
            seen = self._shifted(below, frames, shift) if shift else below[part]
            if before is None:
                torch.clamp_min(self._alone(from_below, seen).add_(self._bias(*biases)), 0, out=made[part])
                continue
            new = self._plus(from_below, seen, self._alone(from_before, before[part]), biases)
            if len(self._parts) == 1:
                return new  # it need not be copied: nothing else is held of this layer
            made[part].copy_(new)
        return made

    def output(self, convolution: nn.Conv2d, below: Tensor) -> Tensor:
        """Return convolution * below, frame by frame."""
        return torch.cat([self._alone(convolution, below[part]) for part in self._each()]) + self._bias(convolution)

    def _each(self) -> list[slice]:
        """Return the parts as slices of N."""
        return [slice(frames.start * self.batch, frames.stop * self.batch) for frames in self._parts]

    def _by_frame(self, sequence: Tensor) -> Tensor:
        """Return a view of a sequence, (T, B, F, Y, X), in the order of this way."""
        made: Tensor = sequence.unflatten(0, (self.frames, self.batch))
        return made

    def _pair(self, sequence: Tensor, t: int) -> Tensor:
        """Return frames t and T - 1 - t, t at most the middle, (2 B, F, Y, X), a view; of the middle one, twice."""
        pair = sequence[2 * t * self.batch : 2 * (t + 1) * self.batch]
        return pair if len(pair) == 2 * self.batch else torch.cat([pair, pair])

    def _shifted(self, below: Tensor, part: slice, shift: int) -> Tensor:
        """Return a part whose first channels come from the frames before, as many more from those after."""
        all_TBFYX, frames = self._by_frame(below), self._order[part]
        made_TBFYX = all_TBFYX[part].clone()
        before, after = self._place[(frames - 1).clamp_min(0)], self._place[(frames + 1).clamp_max(self.frames - 1)]
        made_TBFYX[:, :, :shift] = all_TBFYX[:, :, :shift][before]
        made_TBFYX[:, :, shift : 2 * shift] = all_TBFYX[:, :, shift : 2 * shift][after]
        return made_TBFYX.flatten(0, 1)

    def _bias(self, *convolutions: nn.Conv2d) -> Tensor:
        """Return the sum of biases, what convolutions of zeros give, (1, F, 1, 1)."""
        if convolutions not in self._biases:
            each = torch.stack([broadcast_bias(convolution, convolution.weight) for convolution in convolutions])
            self._biases[convolutions] = each.sum(0).to(self.kind)
        return self._biases[convolutions]

    def _alone(self, convolution: nn.Conv2d, features: Tensor) -> Tensor:
        """Return convolution * features without its bias, which PyTorch would add in a pass of its own."""
        weight = self._of(convolution)[0]
        if features.shape[1] > weight.shape[1]:
            weight = nn.functional.pad(weight, (0, 0, 0, 0, 0, features.shape[1] - weight.shape[1]))
        made: Tensor = nn.functional.conv2d(features, weight, padding=convolution.padding)
        return made

    def _plus(self, convolution: nn.Conv2d, features: Tensor, terms: Tensor, biases: tuple[nn.Conv2d, ...]) -> Tensor:
        """Return ReLU(terms + convolution * features + biases) in new memory; its own bias is one of them."""
        if not _has_fused(features.device, self.kind):
            return self._alone(convolution, features).add_(terms).add_(self._bias(*biases)).relu_()
        return _fused(features, terms, self._of(convolution)[0], self._bias(*biases).flatten())


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
    except (AttributeError, RuntimeError, TypeError):
        return False
    wanted = (nn.functional.conv2d(features.double(), weight.double(), bias.double(), padding=1) + terms).relu()
    return bool((made - wanted).norm() < 0.01 * wanted.norm())
