"""CRNN-MRI: a convolutional recurrent network over frames and over its own iterations.

Qin, Schlemper, Caballero, Price, Hajnal, Rueckert: "Convolutional recurrent neural networks for dynamic MR image
reconstruction", IEEE Transactions on Medical Imaging 38(1), 2019.

One iteration i, with all weights shared over the iterations and all states zero before the first:

    h_t  = ReLU(i2h * x_t + h2h * h_(t -+ 1) + ih2ih * H0_t^(i-1))     one cell, run in both directions of time
    H0_t = h_t forward + h_t backward
    Hl_t = ReLU(convl_x * H(l-1)_t + convl_h * Hl_t^(i-1)),  l = 1, 2, 3
    x    = consistency(x + conv4_x * H3)

Legend: B batch, T frame, C real and imaginary part, F feature, Y undersampled axis, X readout, N = T * B.
Frames come first inside, so that the frames of one sequence lie together: ``hidden_TBFYX``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from crnn_cli.mri.consistency import Consistency

Convolutions = Callable[..., Tensor]


@dataclass(frozen=True)
class CRNNMRIConfig:
    """Sizes of the network; the defaults are the published ones (297,794 parameters).

    features : channels of every hidden state.
    kernel : width of the square convolution kernels, odd.
    iterations : unrolled iterations; free at run time as far as training made it so.

    What the paper does not have, off by default:

    sets : sets of weights; with S sets, iteration i of I takes number S i // I, so that neighbours share one.
    shift : channels that the layers after the recurrent one take from the frame before, and as many from the frame
        after (Lin, Gan, Han: TSM, ICCV 2019); they cost no multiplications. At the ends a frame is its own neighbour.
    context : 1: the recurrent cell sees two more images, the mean over time and what data consistency changed last.
    trust : 1: each set of weights has the r.m.s. error that it expects of its images; data consistency weighs the noise
        of the data against it, where that is known (as the learned weights of Aggarwal, Mani, Jacob: MoDL, TMI 2019).
    """

    features: int = 64
    kernel: int = 3
    iterations: int = 5
    sets: int = 1
    shift: int = 0
    context: int = 0
    trust: int = 0

    def __post_init__(self) -> None:
        for name in ("features", "kernel", "iterations"):
            value = getattr(self, name)
            if not 1 <= value <= 1024:
                raise ValueError(f"{name} is {value!r}; it must be an integer from 1 to 1024")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}; it must be odd")
        if not 1 <= self.sets <= 64 or not 0 <= self.shift <= self.features // 2:
            raise ValueError("sets must be from 1 to 64, shift from 0 to half the features")
        if self.context not in (0, 1) or self.trust not in (0, 1):
            raise ValueError("context and trust must be 0 or 1")


class RecurrentCell(nn.Module):
    """The convolutions of the cell that runs through time: from input, from the neighbour frame, from iteration."""

    def __init__(self, inputs: int, features: int, kernel: int) -> None:
        super().__init__()
        self.i2h = _convolution(inputs, features, kernel)
        self.h2h = _convolution(features, features, kernel)
        self.ih2ih = _convolution(features, features, kernel)


class Layers(nn.Module):
    """One set of weights: what an iteration does to an image and the states, but for data consistency."""

    truncate: int = 0

    def __init__(self, config: CRNNMRIConfig, number: int) -> None:
        super().__init__()
        features, kernel = config.features, config.kernel
        self.shift = config.shift
        self.bcrnn = RecurrentCell(6 if config.context else 2, features, kernel)
        self.conv1_x = _convolution(features, features, kernel)
        self.conv1_h = _convolution(features, features, kernel)
        self.conv2_x = _convolution(features, features, kernel)
        self.conv2_h = _convolution(features, features, kernel)
        self.conv3_x = _convolution(features, features, kernel)
        self.conv3_h = _convolution(features, features, kernel)
        self.conv4_x = _convolution(features, 2, kernel)
        first = 0.05 * 8 ** (1 - (number + 1) / config.sets)  # it falls from set to set
        self.error = nn.Parameter(torch.tensor(first)) if config.trust else None

    def iterate(self, x_TBCYX: Tensor, states: list[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
        """Return the residual image (T, B, 2, Y, X) and the next states, reusing the memory of the old ones."""
        recurrent = self._recurrent_layer(x_TBCYX, states[0] if states else None)
        next_states = [recurrent]
        layers = ((self.conv1_x, self.conv1_h), (self.conv2_x, self.conv2_h), (self.conv3_x, self.conv3_h))
        for index, (from_below, from_before) in enumerate(layers, start=1):
            below, before = next_states[-1], states[index] if states else None
            next_states.append(_frame_layer(from_below, from_before, below, before, self.shift))
        return _map_frames(self.conv4_x, None, next_states[-1]), next_states

    def _recurrent_layer(self, x_TBCYX: Tensor, before_TBFYX: Tensor | None) -> Tensor:
        """Return H0. What both directions of time share is computed once; both run as one batch of 2 B."""
        cell = self.bcrnn
        if before_TBFYX is None:
            shared = _map_frames(lambda x: _plus_bias(cell.i2h(x), cell.ih2ih), None, x_TBCYX)
        else:
            shared = _map_frames(lambda x, h: cell.i2h(x).add_(cell.ih2ih(h)), before_TBFYX, x_TBCYX, before_TBFYX)
        frames, batch = shared.shape[:2]
        hidden = _plus_bias(torch.cat([shared[0], shared[-1]]), cell.h2h).relu_()
        forward, backward = [hidden[:batch]], [hidden[batch:]]
        if torch.is_grad_enabled():
            each = shared.unbind()  # one node of the graph: indexing would make gradients of all frames for each
            for t in range(1, frames):
                if self.truncate > 0 and t % self.truncate == 0:
                    hidden = hidden.detach()
                hidden = cell.h2h(hidden).add_(torch.cat([each[t], each[-1 - t]])).relu_()
                ahead, back = hidden.chunk(2)
                forward.append(ahead)
                backward.append(back)
            both: Tensor = (torch.cat(forward) + torch.cat(backward[::-1])).unflatten(0, (frames, batch))
            return both
        both = _empty_states(shared)
        seen = [False] * frames
        for t in range(frames):
            if t > 0:
                hidden = cell.h2h(hidden)
                hidden[:batch] += shared[t]
                hidden[batch:] += shared[-1 - t]
                hidden.relu_()
            for frame, part in ((t, hidden[:batch]), (frames - 1 - t, hidden[batch:])):
                if seen[frame]:
                    both[frame] += part
                else:
                    both[frame] = part
                    seen[frame] = True
        return both


class CRNNMRI(Layers):
    """The network of Qin et al.; see the top of this file for the formula.

    Memory at inference: five feature states of the whole sequence, 5 * 4 * F * T * Y * X bytes in float32, plus a
    few frames of work space. With gradients everything is kept, six new states in each iteration, unless
    ``checkpoint`` is set.

    Attributes
    ----------
    truncate : frames after which gradients through time are cut, in each direction counted from its own first frame;
        the states themselves are carried on. 0, the default: never, the whole sequence. Only training sees it.
    checkpoint : iterations per activation checkpoint; only training sees it. 0, the default, keeps everything. With
        n > 0 the image and the four states before every n-th iteration are kept, and the n iterations from there are
        computed again in the backward pass (Chen et al., arXiv 1604.06174): twice the forward work for n = 1. For
        n > 1 each of the n is a checkpoint of its own while they are computed again: three times the forward work, and
        of I iterations at most about I / n + n sets of four states are held, besides what one iteration keeps.
        Results and gradients are the same.
    """

    truncate: int = 0
    checkpoint: int = 0

    def __init__(self, config: CRNNMRIConfig) -> None:
        super().__init__(config, config.sets - 1)
        self.config = config
        self.earlier = nn.ModuleList(Layers(config, number) for number in range(config.sets - 1))

    def forward(
        self,
        image_BTYX: Tensor,
        consistency: Consistency,
        iterations: int | None = None,
        progress: Callable[[], None] | None = None,
    ) -> Tensor:
        """Return reconstructed sequences, complex (B, T, Y, X), consistent with the data.

        Parameters
        ----------
        image_BTYX : complex start images, scaled to what the weights were trained with.
        consistency : the operator that holds the measured data in the same scale.
        iterations : how many; the configuration's number where not given.
        progress : called after each iteration; in training with checkpoints, after each group for all of its own.
        """
        total = self.config.iterations if iterations is None else iterations
        group = max(0, self.checkpoint) if torch.is_grad_enabled() else 0
        carried: tuple[Tensor, ...] = (image_BTYX, torch.zeros_like(image_BTYX) if self.config.context else image_BTYX)
        for first in range(0, total, group or 1):
            numbers = range(first, min(first + (group or 1), total))
            if group:
                carried = _recomputed(self._iterations, consistency, numbers, total, *carried)
            else:
                carried = self._iteration(consistency, first, total, *carried)
            if progress is not None:
                for _ in numbers:
                    progress()
        return carried[0]

    def _iterations(self, consistency: Consistency, numbers: range, total: int, *carried: Tensor) -> tuple[Tensor, ...]:
        """Return what is carried after some iterations; of several, each is a checkpoint of its own."""
        for number in numbers:
            if len(numbers) > 1:
                carried = _recomputed(self._iteration, consistency, number, total, *carried)
            else:
                carried = self._iteration(consistency, number, total, *carried)
        return carried

    def _iteration(
        self, consistency: Consistency, number: int, total: int,
        image_BTYX: Tensor, change_BTYX: Tensor, *states: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Return image, what data consistency changed in it, and states; the first iteration is given no states."""
        chosen = number * self.config.sets // total
        layers: Layers = self.earlier[chosen] if chosen < len(self.earlier) else self  # type: ignore[assignment]
        x_TBCYX = _channels(image_BTYX)
        if self.config.context:
            mean_BTYX = image_BTYX.mean(1, keepdim=True).expand_as(image_BTYX)
            x_TBCYX = torch.cat([x_TBCYX, _channels(mean_BTYX), _channels(change_BTYX)], 2)
        residual_TBCYX, next_states = layers.iterate(x_TBCYX, list(states) or None)
        residual_BTYXC = residual_TBCYX.to(x_TBCYX.dtype).permute(1, 0, 3, 4, 2).contiguous()
        guess_BTYX = image_BTYX + torch.view_as_complex(residual_BTYXC)
        made_BTYX = consistency(guess_BTYX, layers.error)
        return made_BTYX, made_BTYX - guess_BTYX if self.config.context else made_BTYX, *next_states


def _channels(image_BTYX: Tensor) -> Tensor:
    """Return a complex image as real and imaginary channels (T, B, 2, Y, X)."""
    return torch.view_as_real(image_BTYX).permute(1, 0, 4, 2, 3)


def _recomputed(function: Callable[..., tuple[Tensor, ...]], *arguments: object) -> tuple[Tensor, ...]:
    """Return function(arguments), of which only the arguments are kept until the backward pass."""
    result: tuple[Tensor, ...] = checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return result


def _frame_layer(
    from_below: nn.Conv2d, from_before: nn.Conv2d, below: Tensor, before: Tensor | None, shift: int
) -> Tensor:
    """Return ReLU(from_below * below + from_before * before), frame by frame; a state not yet there is zero."""
    if shift:
        below = _shifted(below, shift)
    if before is None:
        return _map_frames(lambda a: _plus_bias(from_below(a), from_before).relu_(), None, below)
    return _map_frames(lambda a, b: from_below(a).add_(from_before(b)).relu_(), before, below, before)


def _shifted(below_TBFYX: Tensor, shift: int) -> Tensor:
    """Return features of which ``shift`` channels come from the frame before and ``shift`` from the one after."""
    frames, batch = below_TBFYX.shape[:2]
    flat = below_TBFYX.flatten(0, 1)
    ahead, back = flat[:, :shift], flat[:, shift : 2 * shift]
    ahead = torch.cat([ahead[:batch], ahead[:-batch]])
    back = torch.cat([back[batch:], back[-batch:]])
    shifted: Tensor = torch.cat([ahead, back, flat[:, 2 * shift :]], 1).unflatten(0, (frames, batch))
    return shifted


_FRAMES_AT_ONCE = 2  # at inference on a CPU: keeps a chunk's features near the cache


def _map_frames(function: Convolutions, out: Tensor | None, *sequences: Tensor) -> Tensor:
    """Apply a function of (N, C, Y, X) to (T, B, C, Y, X) sequences; without gradients in chunks, into ``out``.

    ``out`` may be one of the sequences: a chunk is read before it is written.
    """
    frames, batch = sequences[0].shape[:2]
    if torch.is_grad_enabled() or sequences[0].is_cuda:
        whole: Tensor = function(*(s.flatten(0, 1) for s in sequences)).unflatten(0, (frames, batch))
        return whole
    for start in range(0, frames, _FRAMES_AT_ONCE):
        chunk = slice(start, start + _FRAMES_AT_ONCE)
        value = function(*(s[chunk].flatten(0, 1) for s in sequences)).unflatten(0, (-1, batch))
        if out is None:
            out = _empty_states(value, frames)
        out[chunk] = value
    assert out is not None
    return out


def _empty_states(like_TBFYX: Tensor, frames: int | None = None) -> Tensor:
    """Return uninitialised states (T, B, F, Y, X) whose features lie innermost in memory (channels last)."""
    t, b, f, y, x = like_TBFYX.shape
    return like_TBFYX.new_empty((frames or t, b, y, x, f)).permute(0, 1, 4, 2, 3)


def _convolution(channels_in: int, channels_out: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2)


def _plus_bias(value_NFYX: Tensor, of: nn.Conv2d) -> Tensor:
    """Return the value with what a convolution of zeros gives added to it: its bias."""
    assert of.bias is not None
    return value_NFYX.add_(of.bias.to(value_NFYX.dtype).view(1, -1, 1, 1))
