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
from typing import Any

import torch
from torch import Tensor, nn

from crnn_cli.mri.consistency import Consistency
from crnn_cli.networks.engines.cpu import CpuSchedule
from crnn_cli.networks.engines.cuda_graph import CudaGraphRunner
from crnn_cli.networks.engines.gpu import ChunkedGpuSchedule
from crnn_cli.networks.engines.schedule import BatchedSchedule, ExecutionSchedule, checkpointed


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


_PAIRS = 4  # of frames with features, beside the sequences
_IMAGES = 160  # bytes of a pixel of a frame: complex images, channels, what data consistency works with


class RecurrentCell(nn.Module):
    """The convolutions of the cell that runs through time: from input, from the neighbour frame, from iteration."""

    def __init__(self, inputs: int, features: int, kernel: int) -> None:
        super().__init__()
        self.i2h = _convolution(inputs, features, kernel)
        self.h2h = _convolution(features, features, kernel)
        self.ih2ih = _convolution(features, features, kernel)


class Layers(nn.Module):
    """One set of weights: what an iteration does to an image and the states, but for data consistency."""

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

    def iterate(self, way: ExecutionSchedule, x: Any, states: list[Any] | None) -> tuple[Tensor, list[Any]]:
        """Return the residual image (T, B, 2, Y, X) and the next states, reusing the memory of x and the old ones."""
        before: list[Any] = states or [None] * 4
        made = [way.recurrent(self.bcrnn, x, before[0])]
        layers = ((self.conv1_x, self.conv1_h), (self.conv2_x, self.conv2_h), (self.conv3_x, self.conv3_h))
        for number, (from_below, from_before) in enumerate(layers):
            made.append(way.layer(from_below, from_before, made[-1], before[number + 1], self.shift, number))
        return way.leave(way.output(self.conv4_x, made[-1])), made


class CRNNMRI(Layers):
    """The network of Qin et al.; see the top of this file for the formula.

    Memory at inference: five feature states of the whole sequence, 5 * 4 * F * T * Y * X bytes in float32, half of it
    in bfloat16, plus a few frames of work space, on a GPU four times what ``at_once`` says. With gradients everything
    is kept, six new states in each iteration, unless ``checkpoint`` is set.

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
    on_disk : so many of the five sequences of states lie in files, not in memory; only inference on a CPU sees it.
    at_once : so many frames are computed at once by inference on a GPU, or in its way on a CPU; 0: all on a GPU.
    roomy : there is memory for twice as much, so that large frames may be computed faster in more; see `Listed.of`.
    together : all frames at once, in the way of training, which is faster for narrow images (100 x 16 x 30, six
        iterations in bfloat16 on two cores: 163 for 260 ms); only inference on a CPU sees it.
    replay : records what inference does on a GPU; progress is told at the end there.
    """

    truncate: int = 0
    checkpoint: int = 0
    on_disk: int = 0
    at_once: int = 0
    roomy: bool = False
    together: bool = False

    def __init__(self, config: CRNNMRIConfig) -> None:
        super().__init__(config, config.sets - 1)
        self.config, self.replay = config, CudaGraphRunner()
        self._scarce = dict[torch.Size, int]()
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
        if torch.is_grad_enabled():
            self.replay.forget()  # training needs the memory
        if torch.is_grad_enabled() or image_BTYX.device.type == "cpu":
            return self._run(image_BTYX, consistency, total, progress)

        def run(image_BTYX: Tensor, consistency: Consistency) -> Tensor:
            return self._run(image_BTYX, consistency, total, None)

        places = tuple(weight.data_ptr() for weight in self.parameters())
        kind = total, self.at_once, self._kind(image_BTYX), torch.backends.cudnn.allow_tf32, places
        made = self.replay(run, image_BTYX, consistency, kind)
        if progress is not None:
            for _ in range(total):
                progress()
        return made

    def _run(
        self, image_BTYX: Tensor, consistency: Consistency, total: int, progress: Callable[[], None] | None
    ) -> Tensor:  # fmt: skip
        """Return what `forward` does, after so many iterations."""
        group = max(0, self.checkpoint) if torch.is_grad_enabled() else 0
        way = self._way(image_BTYX)
        carried: tuple[Any, ...] = (image_BTYX, torch.zeros_like(image_BTYX) if self.config.context else image_BTYX)
        for first in range(0, total, group or 1):
            numbers = range(first, min(first + (group or 1), total))
            if group:
                carried = checkpointed(self._iterations, way, consistency, numbers, total, *carried)
            else:
                carried = self._iteration(way, consistency, first, total, *carried)
            if progress is not None:
                for _ in numbers:
                    progress()
        image: Tensor = carried[0]
        return image

    def plan_memory(self, image_BTYX: Tensor, free: int) -> None:
        """Prepare for an image in ``free`` bytes beyond those held already.

        On a CPU ``on_disk`` becomes the fewest sequences with which it fits; on a GPU ``at_once`` all frames, or half
        of them, a fourth and so on, at least one: how much memory a convolution takes there is not known beforehand.
        An image of the shape that `reduce_memory` was last called for gets no more than that.

        Raises
        ------
        MemoryError
            If it does not fit with all of them on disk.
        """
        work, sequence = self.memory_required(image_BTYX)
        frames = image_BTYX.shape[1]
        if image_BTYX.device.type != "cpu":
            left = free - _IMAGES * image_BTYX.numel() - ChunkedGpuSchedule.SEQUENCES * sequence
            self.at_once = self._scarce.get(image_BTYX.shape, frames)
            while self.at_once > 1 and self.at_once * ChunkedGpuSchedule.WORK * sequence // frames > left:
                self.at_once = (self.at_once + 1) // 2
            return
        self.roomy = free > 2 * (work + CpuSchedule.SEQUENCES * sequence)
        self.on_disk = self.sequences_on_disk(image_BTYX, free)

    def sequences_on_disk(self, image_BTYX: Tensor, free: int) -> int:
        """Fewest of the sequences of states that must lie on disk for an image to fit ``free`` bytes, on a CPU.

        Raises
        ------
        MemoryError
            If it does not fit with all of them on disk.
        """
        work, sequence = self.memory_required(image_BTYX)
        _, frames, lines, columns = image_BTYX.shape
        on_disk = max(0, -((free - work - CpuSchedule.SEQUENCES * sequence) // sequence))
        if on_disk > CpuSchedule.SEQUENCES:
            raise MemoryError(
                f"{frames} frames of {lines} x {columns} need {work / 2**30:.1f} GiB beyond what is held already, and "
                f"{max(0, free) / 2**30:.1f} are free"
            )
        return on_disk

    def reduce_memory(self, image_BTYX: Tensor) -> int:
        """Halve ``at_once``, let recordings go, and return how many frames there are at once; 0 if no fewer can be."""
        at_once = min(self.at_once or image_BTYX.shape[1], image_BTYX.shape[1])
        self.replay.forget()
        if at_once == 1 or image_BTYX.device.type == "cpu":
            return 0
        self.at_once = (at_once + 1) // 2
        self._scarce = {image_BTYX.shape: self.at_once}
        return self.at_once

    def memory_required(self, image_BTYX: Tensor) -> tuple[int, int]:
        """Return the bytes that an image needs whatever is on disk, and those of each sequence that is not."""
        batch, frames, lines, columns = image_BTYX.shape
        frame = batch * lines * columns
        features = self.config.features * self._kind(image_BTYX).itemsize
        return frame * (_PAIRS * 2 * features + _IMAGES * frames), frame * frames * features

    def _kind(self, image_BTYX: Tensor) -> torch.dtype:
        """Return the kind of the features: under autocast that of autocast."""
        kind = image_BTYX.device.type
        lower = torch.is_autocast_enabled(kind)
        return torch.get_autocast_dtype(kind) if lower else image_BTYX.real.dtype

    def _way(self, image_BTYX: Tensor) -> ExecutionSchedule:
        """Return how to go over the frames here."""
        (batch, frames), kind = image_BTYX.shape[:2], self._kind(image_BTYX)
        on_cpu = image_BTYX.device.type == "cpu"
        if torch.is_grad_enabled() or (self.together and on_cpu):
            return BatchedSchedule(batch, kind, self.truncate)
        if on_cpu and not self.at_once:
            return CpuSchedule.of(image_BTYX.shape, self.config.features, kind, self.on_disk, self.roomy)
        return ChunkedGpuSchedule(frames, batch, kind, self.at_once or frames, image_BTYX.device)

    def _iterations(
        self, way: ExecutionSchedule, consistency: Consistency, numbers: range, total: int, *carried: Any
    ) -> tuple[Any, ...]:  # fmt: skip
        """Return what is carried after some iterations; of several, each is a checkpoint of its own."""
        for number in numbers:
            if len(numbers) > 1:
                carried = checkpointed(self._iteration, way, consistency, number, total, *carried)
            else:
                carried = self._iteration(way, consistency, number, total, *carried)
        return carried

    def _iteration(
        self, way: ExecutionSchedule, consistency: Consistency, number: int, total: int,
        image_BTYX: Tensor, change_BTYX: Tensor, *states: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        """Return image, what data consistency changed in it, and states; the first iteration is given no states."""
        chosen = number * self.config.sets // total
        layers: Layers = self.earlier[chosen] if chosen < len(self.earlier) else self  # type: ignore[assignment]
        entered = way.enter(self._seen(image_BTYX, change_BTYX))
        residual_TBCYX, next_states = layers.iterate(way, entered, list(states) or None)
        residual_BTYXC = residual_TBCYX.to(image_BTYX.real.dtype).permute(1, 0, 3, 4, 2).contiguous()
        guess_BTYX = image_BTYX + torch.view_as_complex(residual_BTYXC)
        made_BTYX = consistency(guess_BTYX, layers.error)
        return made_BTYX, made_BTYX - guess_BTYX if self.config.context else made_BTYX, *next_states

    def _seen(self, image_BTYX: Tensor, change_BTYX: Tensor) -> Tensor:
        """Return what the recurrent cell sees, real and imaginary channels, (T, B, C, Y, X)."""
        images = [image_BTYX]
        if self.config.context:
            images += [image_BTYX.mean(1, keepdim=True).expand_as(image_BTYX), change_BTYX]
        return torch.cat([torch.view_as_real(each).permute(1, 0, 4, 2, 3) for each in images], 2)


def _convolution(channels_in: int, channels_out: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2)
