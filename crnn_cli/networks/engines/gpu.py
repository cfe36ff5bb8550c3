"""Execution schedule for inference on a GPU: as many frames at once as memory allows.

Legend: B batch, T frame, F feature, C channel, Y phase encoding, X readout, N = T * B; frames come first.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from crnn_cli.networks.engines.onednn import CPU
from crnn_cli.networks.engines.schedule import Cell, broadcast_bias
from crnn_cli.networks.engines.weight_cache import CastWeightCache

_CHANNEL_MULTIPLE = 8  # of tensor cores in bfloat16


class ChunkedGpuSchedule:
    """Sequences (N, F, Y, X), computed in chunks of frames; see `schedule.ExecutionSchedule`.

    Features lie innermost in memory, frames in pairs: the first and the last, the second and the last but one, up to
    the middle one. Both directions of time run as one batch, one at frame t when the other is at T - 1 - t, so that
    each step reads and writes one piece of memory. New states take the memory of those of the iteration before: five
    sequences are held at once, and beside them the work space of one chunk. Sums, biases and ReLU are part of the
    convolution where cuDNN offers that.

    Parameters
    ----------
    frames, batch : T and B.
    dtype : of the features; weights are cast once.
    at_once : frames of a chunk, from 1 to T; fewer need less memory and more kernel launches.
    device : of the sequences.
    """

    SEQUENCES = 5
    """Sequences held at once: states of the four layers, and the terms that both directions share."""
    WORK = 4
    """Sequences of a chunk, at most, that are held for it."""

    def __init__(self, frames: int, batch: int, dtype: torch.dtype, at_once: int, device: torch.device = CPU) -> None:
        self.frames, self.batch, self.dtype = frames, batch, dtype
        self._frame_chunks = [slice(t, min(t + at_once, frames)) for t in range(0, frames, at_once)]
        self._kernel = CastWeightCache(dtype)
        t = torch.arange(frames, device=device)  # made there: a CUDA graph cannot capture a copy from the host
        self._order = torch.stack([t, frames - 1 - t], 1).flatten()[:frames]
        self._index_of_frame = self._order.argsort()
        self._biases = dict[tuple[nn.Conv2d, ...], Tensor]()

    def to_layout(self, x_TBCYX: Tensor) -> Tensor:
        """See `ExecutionSchedule`; channels of zeros are added up to a multiple that tensor cores take."""
        flat = x_TBCYX[self._order].flatten(0, 1).to(self.dtype, memory_format=torch.channels_last)
        more = -flat.shape[1] % _CHANNEL_MULTIPLE if self.dtype != torch.float32 and flat.is_cuda else 0
        return nn.functional.pad(flat, (0, 0, 0, 0, 0, more)) if more else flat

    def from_layout(self, sequence: Tensor) -> Tensor:
        """See `ExecutionSchedule`."""
        return self._by_frame(sequence)[self._index_of_frame]

    def recurrent(self, cell: Cell, x: Tensor, before: Tensor | None) -> Tensor:
        """See `ExecutionSchedule`; the result takes the memory of the states before."""
        shared = _empty(x, cell.i2h.out_channels)
        for chunk in self._chunks():
            if before is None:
                shared[chunk] = self._conv(cell.i2h, x[chunk])
            else:
                torch.add(self._conv(cell.i2h, x[chunk]), self._conv(cell.ih2ih, before[chunk]), out=shared[chunk])
        both = torch.empty_like(shared) if before is None else before
        biases = cell.i2h, cell.ih2ih, cell.h2h
        pairs, hidden = self.frames // 2, shared
        for t in range((self.frames + 1) // 2):
            terms = self._pair(shared, t)
            hidden = (
                self._conv_add_relu(cell.h2h, hidden, terms, biases) if t else (terms + self._bias(*biases)).relu_()
            )
            if t == pairs:  # both are at the frame in the middle
                torch.add(*hidden.chunk(2), out=both[2 * t * self.batch :])
            else:
                self._pair(both, t).copy_(hidden)
        hidden = torch.cat(hidden.chunk(2)[::-1])  # each direction goes on where the other has been
        for t in reversed(range(pairs)):
            hidden = self._conv_add_relu(cell.h2h, hidden, self._pair(shared, t), biases)
            self._pair(both, t).add_(hidden)
        return both

    def layer(
        self, from_below: nn.Conv2d, from_before: nn.Conv2d, below: Tensor, before: Tensor | None, shift: int,
        number: int = 0,
    ) -> Tensor:  # fmt: skip
        """See `ExecutionSchedule`; the states before are replaced."""
        del number
        biases = from_below, from_before
        output = torch.empty_like(below) if before is None else before
        for frames, chunk in zip(self._frame_chunks, self._chunks(), strict=True):
            inputs = self._shifted(below, frames, shift) if shift else below[chunk]
            if before is None:
                torch.clamp_min(self._conv(from_below, inputs).add_(self._bias(*biases)), 0, out=output[chunk])
                continue
            new = self._conv_add_relu(from_below, inputs, self._conv(from_before, before[chunk]), biases)
            if len(self._frame_chunks) == 1:
                return new  # it need not be copied: nothing else is held of this layer
            output[chunk].copy_(new)
        return output

    def output(self, convolution: nn.Conv2d, below: Tensor) -> Tensor:
        """See `ExecutionSchedule`."""
        return torch.cat([self._conv(convolution, below[chunk]) for chunk in self._chunks()]) + self._bias(convolution)

    def _chunks(self) -> list[slice]:
        """The chunks as slices of N."""
        return [slice(frames.start * self.batch, frames.stop * self.batch) for frames in self._frame_chunks]

    def _by_frame(self, sequence: Tensor) -> Tensor:
        """View of a sequence, (T, B, F, Y, X), in the order of this schedule."""
        output: Tensor = sequence.unflatten(0, (self.frames, self.batch))
        return output

    def _pair(self, sequence: Tensor, t: int) -> Tensor:
        """View of frames t and T - 1 - t, t at most the middle, (2 B, F, Y, X); the middle frame twice, a copy."""
        pair = sequence[2 * t * self.batch : 2 * (t + 1) * self.batch]
        return pair if len(pair) == 2 * self.batch else torch.cat([pair, pair])

    def _shifted(self, below: Tensor, chunk: slice, shift: int) -> Tensor:
        """A chunk with the first channels of the frames before, as many more of those after (TSM)."""
        all_TBFYX, frames = self._by_frame(below), self._order[chunk]
        output_TBFYX = all_TBFYX[chunk].clone()
        before, after = (
            self._index_of_frame[(frames - 1).clamp_min(0)],
            self._index_of_frame[(frames + 1).clamp_max(self.frames - 1)],
        )
        output_TBFYX[:, :, :shift] = all_TBFYX[:, :, :shift][before]
        output_TBFYX[:, :, shift : 2 * shift] = all_TBFYX[:, :, shift : 2 * shift][after]
        return output_TBFYX.flatten(0, 1)

    def _bias(self, *convolutions: nn.Conv2d) -> Tensor:
        """Sum of the biases of convolutions, (1, F, 1, 1)."""
        if convolutions not in self._biases:
            each = torch.stack([broadcast_bias(convolution, convolution.weight) for convolution in convolutions])
            self._biases[convolutions] = each.sum(0).to(self.dtype)
        return self._biases[convolutions]

    def _conv(self, convolution: nn.Conv2d, features: Tensor) -> Tensor:
        """Convolution * features without its bias, which PyTorch would add in another pass."""
        weight = self._kernel(convolution)[0]
        if features.shape[1] > weight.shape[1]:
            weight = nn.functional.pad(weight, (0, 0, 0, 0, 0, features.shape[1] - weight.shape[1]))
        output: Tensor = nn.functional.conv2d(features, weight, padding=convolution.padding)
        return output

    def _conv_add_relu(
        self, convolution: nn.Conv2d, features: Tensor, terms: Tensor, biases: tuple[nn.Conv2d, ...]
    ) -> Tensor:
        """ReLU(terms + convolution * features + biases), in new memory; ``biases`` has its own, too."""
        if not _has_fused(features.device, self.dtype):
            return self._conv(convolution, features).add_(terms).add_(self._bias(*biases)).relu_()
        return _cudnn_conv_add_relu(features, terms, self._kernel(convolution)[0], self._bias(*biases).flatten())


def _empty(like: Tensor, features: int) -> Tensor:
    """Uninitialised memory for the features of as many frames, (N, F, Y, X)."""
    shape = (len(like), features, *like.shape[2:])
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _cudnn_conv_add_relu(features: Tensor, terms: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """ReLU(terms + weight * features + bias) by one call of cuDNN."""
    terms = terms.contiguous(memory_format=torch.channels_last)
    one, padding = (1, 1), (weight.shape[2] // 2, weight.shape[3] // 2)
    return torch.cudnn_convolution_add_relu(features, weight, terms, 1.0, bias, one, padding, one, 1)


@lru_cache
def _has_fused(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether cuDNN convolves into a sum there, correctly; tried once on a small case."""
    if device.type != "cuda" or not torch.backends.cudnn.is_available():
        return False
    features, terms, weight = (
        torch.rand(shape, device=device).sub_(0.5).to(dtype, memory_format=torch.channels_last)
        for shape in ((2, 64, 16, 16), (2, 64, 16, 16), (64, 64, 3, 3))
    )
    bias = terms[0, :, 0, 0].contiguous()
    try:
        output = _cudnn_conv_add_relu(features, terms, weight, bias)
    except (AttributeError, RuntimeError, TypeError):
        return False
    expected = (nn.functional.conv2d(features.double(), weight.double(), bias.double(), padding=1) + terms).relu()
    return bool((output - expected).norm() < 0.01 * expected.norm())
