"""CRNN-MRI: a convolutional recurrent network over frames and over its own iterations.

One iteration i, with all weights shared over the iterations and all states zero before the first:

    h_t  = ReLU(i2h * x_t + h2h * h_(t -+ 1) + ih2ih * H0_t^(i-1))     one cell, run in both directions of time
    H0_t = h_t forward + h_t backward
    Hl_t = ReLU(convl_x * H(l-1)_t + convl_h * Hl_t^(i-1)),  l = 1, 2, 3
    x    = consistency(x + conv4_x * H3)

Legend: B batch, T frame, C real and imaginary part, F feature, Y undersampled axis, X readout, V = Y / r, U = X / r,
N = T * B. Inside, frames come first, so that the frames of one sequence lie together: ``hidden_TBFVU``.

References
----------
Qin, Schlemper, Caballero, Price, Hajnal, Rueckert: "Convolutional recurrent neural networks for dynamic MR image
reconstruction", IEEE Transactions on Medical Imaging 38(1), 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from crnn_cli.data.host_memory import bytes_in_words
from crnn_cli.mri.consistency import Consistency
from crnn_cli.networks.engines.cpu import CpuSchedule
from crnn_cli.networks.engines.cuda_graph import CudaGraphRunner
from crnn_cli.networks.engines.gpu import ChunkedGpuSchedule
from crnn_cli.networks.engines.schedule import BatchedSchedule, ExecutionSchedule, checkpointed
from crnn_cli.networks.pixel_shuffle import shuffle, small_size, unshuffle


@dataclass(frozen=True)
class CRNNMRIConfig:
    """Sizes of the network; the defaults are those of the paper (297,794 parameters).

    >>> sum(weight.numel() for weight in CRNNMRI(CRNNMRIConfig()).parameters())
    297794

    Attributes
    ----------
    features : channels of every hidden state.
    kernel : width of the square convolution kernels, odd.
    iterations : unrolled iterations; other numbers work at run time as far as training covered them.

    Extensions of the paper's network, off by default:

    weight_sets : with S sets of weights, iteration i of I uses number S i // I, so that neighbours share one.
    tsm_channels : channels that the layers after the recurrent one take from the frame before, and as many from the
        frame after (temporal shift module; Lin, Gan, Han: TSM, ICCV 2019). They cost no multiplications. At the ends a
        frame is its own neighbour.
    temporal_context : 1: the recurrent cell also sees the mean over time, and the last change by data consistency.
    noise_aware : 1: each set of weights learns the r.m.s. error that it expects of its images. Where the noise of the
        data is known, data consistency weighs it against this error (compare the learned weights of Aggarwal, Mani,
        Jacob: MoDL, TMI 2019).
    pixel_unshuffle : r. Images enter as r^2 smaller ones, all features have one r-th of the size: with r = 2 a quarter
        of the work for twice the field of view; see `crnn_cli.networks.pixel_shuffle`.

    Raises
    ------
    ValueError
        If a size is out of range.
    """

    features: int = 64
    kernel: int = 3
    iterations: int = 5
    weight_sets: int = 1
    tsm_channels: int = 0
    temporal_context: int = 0
    noise_aware: int = 0
    pixel_unshuffle: int = 1

    def __post_init__(self) -> None:
        for name in ("features", "kernel", "iterations"):
            value = getattr(self, name)
            if not 1 <= value <= 1024:
                raise ValueError(f"{name} is {value!r}; it must be an integer from 1 to 1024")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}; it must be odd")
        if not 1 <= self.weight_sets <= 64 or not 0 <= self.tsm_channels <= self.features // 2:
            raise ValueError("weight_sets must be from 1 to 64, tsm_channels from 0 to half the features")
        if self.temporal_context not in (0, 1) or self.noise_aware not in (0, 1):
            raise ValueError("temporal_context and noise_aware must be 0 or 1")
        if not 1 <= self.pixel_unshuffle <= 4:
            raise ValueError(f"pixel_unshuffle is {self.pixel_unshuffle!r}; it must be an integer from 1 to 4")

    @property
    def channels(self) -> int:
        """Real channels of a complex image as it enters."""
        return 2 * self.pixel_unshuffle**2


_PAIRS = 4  # pairs of frames of features held beside the sequences
_IMAGES = 160  # bytes per pixel and frame: complex images, their channels, work space of data consistency


class RecurrentCell(nn.Module):
    """Convolutions of the cell that runs through time.

    Attributes
    ----------
    i2h, h2h, ih2ih : from the input, from the neighbour frame, from the iteration before.
    """

    def __init__(self, inputs: int, features: int, kernel: int) -> None:
        super().__init__()
        self.i2h = _convolution(inputs, features, kernel)
        self.h2h = _convolution(features, features, kernel)
        self.ih2ih = _convolution(features, features, kernel)


class Layers(nn.Module):
    """One set of weights: everything in an iteration but data consistency."""

    def __init__(self, config: CRNNMRIConfig, number: int) -> None:
        super().__init__()
        features, kernel = config.features, config.kernel
        self.tsm_channels = config.tsm_channels
        images = 3 if config.temporal_context else 1
        self.bcrnn = RecurrentCell(images * config.channels, features, kernel)
        self.conv1_x = _convolution(features, features, kernel)
        self.conv1_h = _convolution(features, features, kernel)
        self.conv2_x = _convolution(features, features, kernel)
        self.conv2_h = _convolution(features, features, kernel)
        self.conv3_x = _convolution(features, features, kernel)
        self.conv3_h = _convolution(features, features, kernel)
        self.conv4_x = _convolution(features, config.channels, kernel)
        first = 0.05 * 8 ** (1 - (number + 1) / config.weight_sets)  # smaller from set to set
        self.error = nn.Parameter(torch.tensor(first)) if config.noise_aware else None

    def iterate(self, schedule: ExecutionSchedule, x: Any, states: list[Any] | None) -> tuple[Tensor, list[Any]]:
        """Compute the residual image and the next states of one iteration.

        Parameters
        ----------
        schedule : how the frames are computed.
        x : images in the layout of the schedule; its memory may be reused.
        states : of the iteration before, None before the first; their memory may be reused.

        Returns
        -------
        Residual (T, B, C, Y, X), and the states.
        """
        before: list[Any] = states or [None] * 4
        new_states = [schedule.recurrent(self.bcrnn, x, before[0])]
        layers = ((self.conv1_x, self.conv1_h), (self.conv2_x, self.conv2_h), (self.conv3_x, self.conv3_h))
        for number, (from_below, from_before) in enumerate(layers):
            new_states.append(
                schedule.layer(from_below, from_before, new_states[-1], before[number + 1], self.tsm_channels, number)
            )
        return schedule.from_layout(schedule.output(self.conv4_x, new_states[-1])), new_states


class CRNNMRI(Layers):
    """The network of Qin et al.; the formula is at the top of this file.

    Memory at inference: five feature states of the whole sequence, 5 * 4 * F * T * Y * X bytes in float32, half of it
    in bfloat16, plus work space for a few frames; on a GPU for four times ``at_once``. With gradients everything is
    kept, six new states in each iteration, unless ``checkpoint`` is set.

    >>> from crnn_cli.mri.consistency import SingleCoilConsistency
    >>> mask = torch.eye(16)[:4].sum(0)[None, None, :, None]
    >>> consistency = SingleCoilConsistency(torch.ones(1, 3, 16, 8, dtype=torch.complex64) * mask, mask)
    >>> with torch.no_grad():
    ...     image_BTYX = CRNNMRI(CRNNMRIConfig(features=4))(consistency.zero_filled(), consistency)
    >>> image_BTYX.shape
    torch.Size([1, 3, 16, 8])

    Attributes
    ----------
    truncate : training only. Frames after which gradients through time are cut, in each direction counted from its own
        first frame; states are carried on. 0, the default: never.
    checkpoint : training only. Iterations per activation checkpoint. 0, the default, keeps everything. With n > 0 the
        image and the four states before every n-th iteration are kept, and the n iterations from there are computed
        again in the backward pass (Chen et al., arXiv 1604.06174): twice the forward work for n = 1. For n > 1 each of
        the n is a checkpoint of its own while they are computed again: three times the forward work, and of I
        iterations at most about I / n + n sets of four states are held, besides what one iteration keeps. Results and
        gradients are the same.
    on_disk : inference on a CPU only. How many of the five sequences of states lie in files.
    at_once : inference only. Frames computed at once on a GPU, or on a CPU by its schedule; 0: all on a GPU.
    ample_memory : inference on a CPU only. There is memory for twice the sequences, so that large frames may be
        computed faster in more; see `crnn_cli.networks.engines.cpu.CpuSchedule.fastest_for`.
    batch_frames : inference on a CPU only. Compute all frames at once, as in training. That is faster for narrow images
        (100 x 16 x 30, six iterations in bfloat16 on two cores: 163 instead of 260 ms).
    cuda_graph : captures and replays inference on a GPU; ``progress`` is called at the end there.
    """

    truncate: int = 0
    checkpoint: int = 0
    on_disk: int = 0
    at_once: int = 0
    ample_memory: bool = False
    batch_frames: bool = False

    def __init__(self, config: CRNNMRIConfig) -> None:
        super().__init__(config, config.weight_sets - 1)
        self.config, self.cuda_graph = config, CudaGraphRunner()
        self._scarce = dict[torch.Size, int]()
        self.earlier = nn.ModuleList(Layers(config, number) for number in range(config.weight_sets - 1))

    def forward(
        self,
        image_BTYX: Tensor,
        consistency: Consistency,
        iterations: int | None = None,
        progress: Callable[[], None] | None = None,
    ) -> Tensor:
        """Reconstruct sequences.

        Parameters
        ----------
        image_BTYX : complex initial images, scaled as in training: see ``input_rms`` of a bundle. With another scale
            the result is worse, and nothing warns of it.
        consistency : the data-consistency operator, which holds the measured data in the same scale.
        iterations : how many; by default those of the configuration. 0 returns the initial images.
        progress : called after each iteration; in training with checkpoints, after each group, once for each of its
            iterations.

        Returns
        -------
        Complex images (B, T, Y, X), consistent with the data.
        """
        total = self.config.iterations if iterations is None else iterations
        if torch.is_grad_enabled():
            self.cuda_graph.release()  # training needs the memory
        if torch.is_grad_enabled() or image_BTYX.device.type == "cpu":
            return self._run(image_BTYX, consistency, total, progress)

        def run(image_BTYX: Tensor, consistency: Consistency) -> Tensor:
            return self._run(image_BTYX, consistency, total, None)

        addresses = tuple(weight.data_ptr() for weight in self.parameters())
        key = total, self.at_once, self._feature_dtype(image_BTYX), torch.backends.cudnn.allow_tf32, addresses
        output_BTYX = self.cuda_graph(run, image_BTYX, consistency, key)
        if progress is not None:
            for _ in range(total):
                progress()
        return output_BTYX

    def _run(
        self, image_BTYX: Tensor, consistency: Consistency, total: int, progress: Callable[[], None] | None
    ) -> Tensor:  # fmt: skip
        """`forward`, without a CUDA graph."""
        group = max(0, self.checkpoint) if torch.is_grad_enabled() else 0
        schedule = self._schedule(image_BTYX)
        carried: tuple[Any, ...] = (
            image_BTYX,
            torch.zeros_like(image_BTYX) if self.config.temporal_context else image_BTYX,
        )
        for first in range(0, total, group or 1):
            numbers = range(first, min(first + (group or 1), total))
            if group:
                carried = checkpointed(self._iterations, schedule, consistency, numbers, total, *carried)
            else:
                carried = self._iteration(schedule, consistency, first, total, *carried)
            if progress is not None:
                for _ in numbers:
                    progress()
        image: Tensor = carried[0]
        return image

    def plan_memory(self, image_BTYX: Tensor, free: int) -> None:
        """Choose ``on_disk``, ``ample_memory`` or ``at_once`` so that an image fits into memory.

        On a CPU ``on_disk`` becomes the fewest sequences with which it fits. On a GPU ``at_once`` becomes all frames,
        or half of them, a fourth and so on, at least one: the memory that a convolution takes there is not known
        beforehand. An image of the shape that `reduce_memory` was last called for gets no more frames than that.

        Parameters
        ----------
        image_BTYX : the image, or one of the same shape, dtype and device.
        free : bytes that may be used in addition.

        Raises
        ------
        MemoryError
            On a CPU, if it does not fit with all sequences on disk.
        """
        work, sequence = self.memory_required(image_BTYX)
        frames = image_BTYX.shape[1]
        if image_BTYX.device.type != "cpu":
            left = free - _IMAGES * image_BTYX.numel() - ChunkedGpuSchedule.SEQUENCES * sequence
            self.at_once = self._scarce.get(image_BTYX.shape, frames)
            while self.at_once > 1 and self.at_once * ChunkedGpuSchedule.WORK * sequence // frames > left:
                self.at_once = (self.at_once + 1) // 2
            return
        self.ample_memory = free > 2 * (work + CpuSchedule.SEQUENCES * sequence)
        self.on_disk = self.sequences_on_disk(image_BTYX, free)

    def sequences_on_disk(self, image_BTYX: Tensor, free: int) -> int:
        """Fewest of the sequences of states that must lie on disk for an image to fit into ``free`` bytes, on a CPU.

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
                f"{frames} frames of {lines} x {columns} need {bytes_in_words(work)} beyond what is held already, and "
                f"{bytes_in_words(max(0, free))} are free"
            )
        return on_disk

    def reduce_memory(self, image_BTYX: Tensor) -> int:
        """Halve ``at_once`` after memory ran out on a GPU, and let the captured graph go.

        Returns
        -------
        Frames computed at once from now on; 0 if there can be no fewer.
        """
        at_once = min(self.at_once or image_BTYX.shape[1], image_BTYX.shape[1])
        self.cuda_graph.release()
        if at_once == 1 or image_BTYX.device.type == "cpu":
            return 0
        self.at_once = (at_once + 1) // 2
        self._scarce = {image_BTYX.shape: self.at_once}
        return self.at_once

    def memory_required(self, image_BTYX: Tensor) -> tuple[int, int]:
        """Estimate the memory of inference on a CPU.

        Returns
        -------
        Bytes that are needed whatever lies on disk, and bytes of each of the five sequences of states.
        """
        batch, frames = image_BTYX.shape[:2]
        lines, columns = self._feature_size(image_BTYX)
        features = batch * lines * columns * self.config.features * self._feature_dtype(image_BTYX).itemsize
        return _PAIRS * 2 * features + _IMAGES * image_BTYX.numel(), frames * features

    def _feature_size(self, image_BTYX: Tensor) -> tuple[int, int]:
        """Lines and columns of the features."""
        return small_size(image_BTYX.shape, self.config.pixel_unshuffle)

    def _feature_dtype(self, image_BTYX: Tensor) -> torch.dtype:
        """Dtype of the features: that of autocast, where it is on."""
        device = image_BTYX.device.type
        autocast = torch.is_autocast_enabled(device)
        return torch.get_autocast_dtype(device) if autocast else image_BTYX.real.dtype

    def _schedule(self, image_BTYX: Tensor) -> ExecutionSchedule:
        """Execution schedule for an image, by device and attributes."""
        (batch, frames), dtype = image_BTYX.shape[:2], self._feature_dtype(image_BTYX)
        on_cpu = image_BTYX.device.type == "cpu"
        if torch.is_grad_enabled() or (self.batch_frames and on_cpu):
            return BatchedSchedule(batch, dtype, self.truncate)
        if on_cpu and not self.at_once:
            shape = torch.Size([batch, frames, *self._feature_size(image_BTYX)])
            return CpuSchedule.fastest_for(shape, self.config.features, dtype, self.on_disk, self.ample_memory)
        return ChunkedGpuSchedule(frames, batch, dtype, self.at_once or frames, image_BTYX.device)

    def _iterations(
        self, schedule: ExecutionSchedule, consistency: Consistency, numbers: range, total: int, *carried: Any
    ) -> tuple[Any, ...]:  # fmt: skip
        """Some iterations, which are one checkpoint; of several, each is a checkpoint of its own, too."""
        for number in numbers:
            if len(numbers) > 1:
                carried = checkpointed(self._iteration, schedule, consistency, number, total, *carried)
            else:
                carried = self._iteration(schedule, consistency, number, total, *carried)
        return carried

    def _iteration(
        self, schedule: ExecutionSchedule, consistency: Consistency, number: int, total: int,
        image_BTYX: Tensor, change_BTYX: Tensor, *states: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        """One iteration: image, its change by data consistency, and states; the first is given no states."""
        chosen = number * self.config.weight_sets // total
        layers: Layers = self.earlier[chosen] if chosen < len(self.earlier) else self  # type: ignore[assignment]
        entered = schedule.to_layout(self._recurrent_input(image_BTYX, change_BTYX))
        residual_TBCYX, next_states = layers.iterate(schedule, entered, list(states) or None)
        guess_BTYX = image_BTYX + self._as_image(residual_TBCYX.to(image_BTYX.real.dtype), image_BTYX)
        consistent_BTYX = consistency(guess_BTYX, layers.error)
        return (
            consistent_BTYX,
            consistent_BTYX - guess_BTYX if self.config.temporal_context else consistent_BTYX,
            *next_states,
        )

    def _recurrent_input(self, image_BTYX: Tensor, change_BTYX: Tensor) -> Tensor:
        """Input of the recurrent cell, real and imaginary channels, (T, B, C, V, U)."""
        entered_TBCVU = self._as_channels(image_BTYX)
        if not self.config.temporal_context:
            return entered_TBCVU
        mean_TBCVU = self._as_channels(image_BTYX.mean(1, keepdim=True)).expand_as(entered_TBCVU)
        return torch.cat([entered_TBCVU, mean_TBCVU, self._as_channels(change_BTYX)], 2)

    def _as_channels(self, image_BTYX: Tensor) -> Tensor:
        images_NYX = image_BTYX.transpose(0, 1).flatten(0, 1)
        channels_TBCVU: Tensor = unshuffle(images_NYX, self.config.pixel_unshuffle).unflatten(0, (-1, len(image_BTYX)))
        return channels_TBCVU

    def _as_image(self, channels_TBCVU: Tensor, like_BTYX: Tensor) -> Tensor:
        images_NYX = shuffle(channels_TBCVU.flatten(0, 1), self.config.pixel_unshuffle, like_BTYX.shape)
        image_TBYX: Tensor = images_NYX.unflatten(0, (-1, len(like_BTYX)))
        return image_TBYX.transpose(0, 1).contiguous()


def _convolution(channels_in: int, channels_out: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2)
