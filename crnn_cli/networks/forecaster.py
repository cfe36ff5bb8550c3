"""Encoder and forecaster: recurrent layers read the frames so far; others begin with their states and look ahead.

    h_1, h_2, ... = encoder(x_t, states)                 one step for each frame that was seen
    g_1, g_2, ... = forecaster(input or none, states)    one step for each frame ahead; states begin as the encoder's
    next frame    = readout(g_1, g_2, ... together)

Frames go in and out as patches of p x p pixels, p^2 channels (pixel-unshuffle). Layers are ConvLSTM, or ConvGRU.

`PatchForecaster` is the network of Shi et al.: the forecaster has no input, and one 1 x 1 convolution of all hidden
states makes the patches.

`CineForecaster` is for a beating heart, where the best witness of the next frame is the beat before. Beside each frame
it reads two frames that memory recalls: the one that looked like it, and the one that followed. Looking k frames
ahead, it reads what followed k and k + 1 frames later, and puts the forecast together from known frames:

    x_(t+k) = sum_s m_s o warp(x_s, u_s) + d

    x_s     = the last frame; recalled k; recalled k + 1; the last frame + recalled k - recalled 0

with displacements u_s in pixels, weights m_s (softmax over s), and a correction d, all of them computed from g.

Legend: B sequence, T frame, R frame read in a step, S source, F feature, Y, X pixel.

References
----------
Shi, Chen, Wang, Yeung, Wong, Woo: "Convolutional LSTM network: a machine learning approach for precipitation
nowcasting", NeurIPS 2015.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crnn_cli.networks.convgru import ConvGRUCell
from crnn_cli.networks.convlstm import ConvLSTMCell

State = tuple[Tensor, ...]
States = list[State]
READ = 3
"""Frames that an encoder step of `CineForecaster` reads: the newest, the recalled one, and the one after that."""
SOURCES = 4
"""Frames that a forecaster step reads: the last one, the recalled one, and those that followed k and k + 1 later."""
_WARPED = 4


@dataclass(frozen=True)
class ForecasterConfig:
    """Sizes of the network.

    Attributes
    ----------
    patch : pixels along the side of a patch.
    layers : recurrent layers of the encoder, and of the forecaster.
    hidden : features of the first layer.
    hidden_above : features of each layer above it.
    input_kernel, hidden_kernel : widths of the convolutions from the layer below, and over the state; odd.
    gru : 1: ConvGRU layers; 0: ConvLSTM.
    readout : features between the recurrent layers and the patches; of `CineForecaster` alone.

    Raises
    ------
    ValueError
        If a size is out of range.
    """

    patch: int = 4
    layers: int = 2
    hidden: int = 32
    hidden_above: int = 32
    input_kernel: int = 3
    hidden_kernel: int = 3
    gru: int = 0
    readout: int = 48

    def __post_init__(self) -> None:
        if not 1 <= self.patch <= 16 or not 1 <= self.layers <= 6:
            raise ValueError("patch goes from 1 to 16, layers from 1 to 6")
        if not all(1 <= size <= 512 for size in (self.hidden, self.hidden_above, self.readout)):
            raise ValueError("hidden, hidden_above and readout go from 1 to 512")
        if not all(1 <= kernel <= 15 and kernel % 2 for kernel in (self.input_kernel, self.hidden_kernel)):
            raise ValueError("input_kernel and hidden_kernel must be odd, from 1 to 15")
        if self.gru not in (0, 1):
            raise ValueError(f"gru is {self.gru}; it must be 0 or 1")

    @property
    def widths(self) -> tuple[int, ...]:
        """Features of each layer."""
        return (self.hidden, *[self.hidden_above] * (self.layers - 1))


class RecurrentStack(nn.Module):
    """Recurrent layers on top of each other; each reads the hidden state of the one below.

    Parameters
    ----------
    features : channels that the first layer reads, 0 for none.
    config : sizes.
    """

    def __init__(self, features: int, config: ForecasterConfig) -> None:
        super().__init__()
        kind = ConvGRUCell if config.gru else ConvLSTMCell
        self.cells = nn.ModuleList(
            kind(below, width, config.input_kernel, config.hidden_kernel)
            for below, width in zip((features, *config.widths[:-1]), config.widths, strict=True)
        )

    def forward(self, x_BFYX: Tensor | None, states: States | None) -> States:
        """Compute the states after a step.

        Parameters
        ----------
        x_BFYX : input of the first layer; None where it has none.
        states : of all layers before; None for zeros.
        """
        after: States = []
        for number, cell in enumerate(self.cells):
            assert isinstance(cell, ConvLSTMCell | ConvGRUCell)
            gates = None if x_BFYX is None else cell.input_gates(x_BFYX)
            after.append(cell(gates, None if states is None else states[number]))
            x_BFYX = after[-1][0]
        return after


class PatchForecaster(nn.Module):
    """The encoder and forecaster of Shi et al.

    >>> network = PatchForecaster(ForecasterConfig(layers=2, hidden=8, hidden_above=4))
    >>> network(torch.zeros(1, 5, 16, 16), ahead=3).shape
    torch.Size([1, 3, 16, 16])

    The largest of the paper's networks for moving digits, in patches of 4 x 4:

    >>> with torch.device("meta"):
    ...     paper = PatchForecaster(ForecasterConfig(4, 1, 256, 256, 5, 5))
    >>> sum(p.numel() for p in paper.parameters())
    13524496
    """

    def __init__(self, config: ForecasterConfig) -> None:
        super().__init__()
        self.config = config
        patch_pixels = config.patch**2
        self.encoder = RecurrentStack(patch_pixels, config)
        self.forecaster = RecurrentStack(0, config)
        self.readout = nn.Conv2d(sum(config.widths), patch_pixels, 1)

    def forward(self, frames_BTYX: Tensor, ahead: int) -> Tensor:
        """Forecast frames.

        Parameters
        ----------
        frames_BTYX : sequences so far; sides must divide by the patch.
        ahead : frames to forecast.

        Returns
        -------
        (B, ahead, Y, X): logits, of which the paper takes the sigmoid.
        """
        states: States | None = None
        for frame_BYX in frames_BTYX.unbind(1):
            states = self.encoder(F.pixel_unshuffle(frame_BYX[:, None], self.config.patch), states)
        made = []
        for _ in range(ahead):
            states = self.forecaster(None, states)
            patches = self.readout(torch.cat([state[0] for state in states], dim=1))
            made.append(F.pixel_shuffle(patches, self.config.patch)[:, 0])
        return torch.stack(made, dim=1)


class CineForecaster(nn.Module):
    """Forecaster of cines; the formula is at the top of this file. Frames may have any size.

    >>> network = CineForecaster(ForecasterConfig(hidden=8, hidden_above=4, readout=8)).eval()
    >>> states = network.encode(torch.zeros(2, READ, 30, 21), None)
    >>> frame, states = network.forecast(torch.ones(2, SOURCES, 30, 21), states)
    >>> frame.shape, bool((frame - 1).abs().max() < 1e-5)
    (torch.Size([2, 30, 21]), True)
    """

    def __init__(self, config: ForecasterConfig) -> None:
        super().__init__()
        self.config = config
        pixels, width = config.patch**2, config.readout
        self.read = nn.Conv2d(READ * pixels, width, 3, padding=1)
        self.encoder = RecurrentStack(width, config)
        self.recall = nn.Conv2d(SOURCES * pixels, width, 3, padding=1)
        self.forecaster = RecurrentStack(width, config)
        self.gather = nn.Conv2d(width + sum(config.widths), width, 3, padding=1)
        self.readout = nn.Conv2d(width, 2 * _WARPED + (_WARPED + 1) * pixels, 3, padding=1)
        nn.init.zeros_(self.readout.weight)  # it begins as the mean of its sources
        assert self.readout.bias is not None
        nn.init.zeros_(self.readout.bias)

    def encode(self, read_BRYX: Tensor, states: States | None) -> States:
        """Take in a frame.

        Parameters
        ----------
        read_BRYX : the newest frame, the recalled one, and the one that followed it; see `READ`.
        states : after the frame before; None at the beginning.

        Returns
        -------
        The states after it.
        """
        after: States = self.encoder(F.relu(self.read(self._patches(read_BRYX))), states)
        return after

    def forecast(self, sources_BSYX: Tensor, states: States) -> tuple[Tensor, States]:
        """Look one frame further ahead.

        Parameters
        ----------
        sources_BSYX : see `SOURCES`.
        states : of the encoder for the first frame ahead; then those that this function returned.

        Returns
        -------
        The frame (B, Y, X), single precision, and the states after it.
        """
        rows, columns = sources_BSYX.shape[-2:]
        recalled = F.relu(self.recall(self._patches(sources_BSYX)))
        states = self.forecaster(recalled, states)
        features = F.relu(self.gather(torch.cat([recalled, *(state[0] for state in states)], dim=1)))
        made = self.readout(features).float()
        flows = F.interpolate(
            made[:, : 2 * _WARPED], scale_factor=self.config.patch, mode="bilinear", align_corners=False
        )
        fine = F.pixel_shuffle(made[:, 2 * _WARPED :], self.config.patch)[..., :rows, :columns]
        weights, correction = fine[:, :_WARPED].softmax(dim=1), fine[:, _WARPED]
        last, recalled_0, recalled_k, recalled_next = sources_BSYX.float().unbind(1)
        known = torch.stack([last, recalled_k, recalled_next, last + recalled_k - recalled_0], dim=1)
        warped = warp(known, flows[..., :rows, :columns].unflatten(1, (_WARPED, 2)))
        return (weights * warped).sum(dim=1) + correction, states

    def _patches(self, frames: Tensor) -> Tensor:
        """Patches of frames that are continued to whole patches by their last row and column."""
        rows, columns = (-size % self.config.patch for size in frames.shape[-2:])
        padded = F.pad(frames, (0, columns, 0, rows), mode="replicate") if rows or columns else frames
        return F.pixel_unshuffle(padded, self.config.patch)


def warp(frames_BSYX: Tensor, flow_BS2YX: Tensor) -> Tensor:
    """Sample frames at displaced places, linearly; beyond the edge the edge is taken.

    >>> ramp = torch.arange(4.0).expand(1, 1, 3, 4)
    >>> flow = torch.zeros(1, 1, 2, 3, 4); flow[:, :, 1] = 1
    >>> warp(ramp, flow)[0, 0, 0]
    tensor([1., 2., 3., 3.])

    Parameters
    ----------
    frames_BSYX : what is sampled.
    flow_BS2YX : displacement of the place that a pixel is taken from, y and x, in pixels.
    """
    batch, sources, rows, columns = frames_BSYX.shape
    y = torch.arange(rows, device=frames_BSYX.device)[:, None] + flow_BS2YX[:, :, 0]
    x = torch.arange(columns, device=frames_BSYX.device) + flow_BS2YX[:, :, 1]
    place = torch.stack([x * (2 / max(columns - 1, 1)) - 1, y * (2 / max(rows - 1, 1)) - 1], dim=-1)
    taken = F.grid_sample(
        frames_BSYX.flatten(0, 1)[:, None], place.flatten(0, 1), padding_mode="border", align_corners=True
    )
    return taken.view(batch, sources, rows, columns)
