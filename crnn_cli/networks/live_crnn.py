"""Causal convolutional recurrent network: each frame is reconstructed from itself and what came before.

Frame t begins with its initial image (or, as the network is configured, the image of frame t - 1), made consistent with
its own data. One iteration i, at half resolution:

    h_i  = ReLU(cell * [input, h_i of frame t - 1, h_(i-1)])     input: x, initial image, mean, change
    H1_i = ReLU(layer1 * [h_i, H1_(i-1)])
    H2_i = ReLU(layer2 * [H1_i, H2_(i-1)])
    x    = consistency(x + output * H2_i)

``*`` is a convolution over joined channels. The first iteration of a frame goes on from the states of the last one of
the frame before, so the iterations never end: a stream is one long recurrence, with the memory of one frame. Images
enter as four half-size images each (pixel unshuffle), a quarter of the work for twice the field of view.

Legend: B batch, T frame, C real and imaginary part, F feature, Y undersampled axis, X readout, V = Y / 2, U = X / 2.

References
----------
Qin et al.: "Convolutional recurrent neural networks for dynamic MR image reconstruction", IEEE TMI 38(1), 2019, for the
recurrence over time and iterations; `crnn_cli.networks.pixel_shuffle` for the shuffle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crnn_cli.mri.consistency import Consistency
from crnn_cli.networks.pixel_shuffle import shuffle, small_size, unshuffle

_SHUFFLE = 2
_INPUTS = 4  # complex images that the cell sees: the image, the initial one, its mean over time, the last change
_LAYERS = 2  # after the cell
_MEAN_FRAMES = 16  # frames that the mean over time looks back, about

FrameStep = Callable[[Tensor, Tensor], Tensor]
"""Data consistency of one frame: image (B, 1, Y, X) and expected error to image; see `Consistency.step`."""


@dataclass(frozen=True)
class LiveCRNNConfig:
    """Sizes of the network.

    >>> sum(weight.numel() for weight in LiveCRNN(LiveCRNNConfig()).parameters())
    977700

    Attributes
    ----------
    features : channels of every hidden state.
    kernel : width of the square convolution kernels, odd.
    iterations : unrolled iterations of a frame.
    weight_sets : sets of weights; iteration i of I uses number S i // I.
    given_start : 1: a frame begins with its initial image; 0: with the image of the frame before. The change that the
        first iteration sees is from the image of the frame before in both.

    Raises
    ------
    ValueError
        If a size is out of range.
    """

    features: int = 64
    kernel: int = 3
    iterations: int = 4
    weight_sets: int = 4
    given_start: int = 0

    def __post_init__(self) -> None:
        for name, most in (("features", 1024), ("kernel", 15), ("iterations", 64), ("weight_sets", 64)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be an integer from 1 to {most}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}; it must be odd")
        if self.given_start not in (0, 1):
            raise ValueError(f"given_start is {self.given_start}; it must be 0 or 1")


@dataclass(frozen=True)
class LiveState:
    """What a frame hands on to the next.

    Attributes
    ----------
    image_B1YX, mean_B1YX : complex image of the frame, and the mean of the initial images.
    frames : how many have passed.
    cells : state of the cell in each iteration, (B, F, V, U).
    layers : states of the cell and of each layer in the last iteration.
    """

    image_B1YX: Tensor
    mean_B1YX: Tensor
    frames: int
    cells: tuple[Tensor, ...]
    layers: tuple[Tensor, ...]

    def detached(self) -> LiveState:
        """The same state, through which no gradient goes back."""
        return LiveState(
            self.image_B1YX.detach(), self.mean_B1YX.detach(), self.frames,
            tuple(each.detach() for each in self.cells), tuple(each.detach() for each in self.layers),
        )  # fmt: skip


class LiveLayers(nn.Module):
    """One set of weights: everything in an iteration but data consistency.

    Attributes
    ----------
    error : expected r.m.s. error of the images, against which known noise is weighed.
    """

    def __init__(self, config: LiveCRNNConfig) -> None:
        super().__init__()
        features, channels = config.features, 2 * _SHUFFLE**2

        def convolution(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, config.kernel, padding=config.kernel // 2)

        self.cell = convolution(_INPUTS * channels + 2 * features, features)
        self.layers = nn.ModuleList(convolution(2 * features, features) for _ in range(_LAYERS))
        self.output = convolution(features, channels)
        nn.init.zeros_(self.output.weight)  # an untrained network leaves the image to data consistency
        assert self.output.bias is not None
        nn.init.zeros_(self.output.bias)
        self.error = nn.Parameter(torch.tensor(0.05))

    def forward(self, entered_BCVU: Tensor, cell_BFVU: Tensor, before: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Compute the states of the next iteration, that of the cell first.

        Parameters
        ----------
        entered_BCVU : the input.
        cell_BFVU : state of the cell in this iteration of the frame before.
        before : states of the iteration before.
        """
        states = [F.relu(self.cell(torch.cat((entered_BCVU, cell_BFVU, before[0]), 1)))]
        for layer, state_BFVU in zip(self.layers, before[1:], strict=True):
            states.append(F.relu(layer(torch.cat((states[-1], state_BFVU), 1))))
        return tuple(states)


class LiveCRNN(nn.Module):
    """The network at the top of this file.

    `step` takes one frame after the other; `forward` does so for all frames of a series, and gives the same images to
    the bit.

    Attributes
    ----------
    truncate : training only. Frames after which gradients through time are cut; 0: never.
    """

    truncate: int = 0

    def __init__(self, config: LiveCRNNConfig) -> None:
        super().__init__()
        self.config = config
        self.sets = nn.ModuleList(LiveLayers(config) for _ in range(config.weight_sets))

    def forward(
        self, image_BTYX: Tensor, consistency: Consistency, iterations: int | None = None,
        progress: Callable[[], None] | None = None,
    ) -> Tensor:  # fmt: skip
        """Reconstruct a series frame by frame.

        Parameters
        ----------
        image_BTYX : initial images, complex, scaled as in training: running images (`crnn_cli.mri.running_samples`), or
            those of causal total variation (`crnn_cli.mri.total_variation.causal`).
        consistency : the data-consistency operator, in the same scale.
        iterations : of a frame; by default those of the configuration. 0 returns the initial images.
        progress : called as often as there are iterations, evenly over the frames.

        Returns
        -------
        Complex images (B, T, Y, X).
        """
        total, frames = self.config.iterations if iterations is None else iterations, image_BTYX.shape[1]
        if total == 0:
            return image_BTYX
        state, made = None, []
        for number in range(frames):
            if state is not None and self.truncate and number % self.truncate == 0:
                state = state.detached()
            part = slice(number, number + 1)

            def frame_step(image_B1YX: Tensor, error: Tensor, part: slice = part) -> Tensor:
                return consistency.step(image_B1YX, part, error)

            state = self.step(image_BTYX[:, part], frame_step, state, total)
            made.append(state.image_B1YX)
            if progress is not None:
                for _ in range(total * number // frames, total * (number + 1) // frames):
                    progress()
        return torch.cat(made, 1)

    def step(
        self, initial_B1YX: Tensor, consistency: FrameStep, state: LiveState | None, iterations: int | None = None
    ) -> LiveState:  # fmt: skip
        """Reconstruct the next frame.

        Parameters
        ----------
        initial_B1YX : its initial image, complex, scaled as in training.
        consistency : with its data, in the same scale.
        state : of the frame before; None for the first.
        iterations : by default those of the configuration; the same for all frames.

        Returns
        -------
        State of the frame, which holds its image.
        """
        total = self.config.iterations if iterations is None else iterations
        if state is None:
            state = self._first_state(initial_B1YX, total)
        frames = state.frames + 1
        mean_B1YX = state.mean_B1YX + (initial_B1YX - state.mean_B1YX) / min(frames, _MEAN_FRAMES)
        guess_B1YX = state.image_B1YX
        begun_B1YX = initial_B1YX if self.config.given_start else guess_B1YX
        image_B1YX = consistency(begun_B1YX, self._layers(0, total).error)
        kept, cells, states = [self._unshuffled(image) for image in (initial_B1YX, mean_B1YX)], [], state.layers
        for number in range(total):
            layers = self._layers(number, total)
            entered = [self._unshuffled(image_B1YX), *kept, self._unshuffled(image_B1YX - guess_B1YX)]
            states = layers(torch.cat(entered, 1), state.cells[number], states)
            cells.append(states[0])
            residual_BCVU = layers.output(states[-1]).to(initial_B1YX.real.dtype)
            guess_B1YX = image_B1YX + shuffle(residual_BCVU, _SHUFFLE, initial_B1YX.shape)[:, None]
            image_B1YX = consistency(guess_B1YX, layers.error)
        return LiveState(image_B1YX, mean_B1YX, frames, tuple(cells), states)

    def _layers(self, number: int, total: int) -> LiveLayers:
        """Weights of an iteration."""
        layers = self.sets[number * self.config.weight_sets // total]
        assert isinstance(layers, LiveLayers)
        return layers

    def _first_state(self, initial_B1YX: Tensor, total: int) -> LiveState:
        """State before the first frame: its initial image, and hidden states of zeros."""
        size = (len(initial_B1YX), self.config.features, *small_size(initial_B1YX.shape, _SHUFFLE))
        device = initial_B1YX.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else initial_B1YX.real.dtype
        zeros = torch.zeros(size, dtype=dtype, device=initial_B1YX.device).contiguous(memory_format=torch.channels_last)
        return LiveState(initial_B1YX, torch.zeros_like(initial_B1YX), 0, (zeros,) * total, (zeros,) * (1 + _LAYERS))

    @staticmethod
    def _unshuffled(image_B1YX: Tensor) -> Tensor:
        """Real and imaginary part as half-size images, (B, C, V, U)."""
        return unshuffle(image_B1YX[:, 0], _SHUFFLE).contiguous(memory_format=torch.channels_last)
