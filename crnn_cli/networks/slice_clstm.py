"""Slice CNN and ConvLSTM: a 2-D network labels each slice, a recurrent one walks through the slices and refines.

    e_m = block_m(pool(e_(m-1)))                     scale blocks of convolution, normalisation, ReLU; e_0 full size
    a_m = block(lateral_m * e_m + up(above_m * a_(m+1)))        aggregation, from the coarsest scale down; a_M = e_M
    s_m = side_m * a_m                               logits at every scale, for deep supervision
    h_t = ConvLSTM(a_0 of slice t, state)            in ascending order, in descending order, or both
    logits_t = s_0 + readout * (h_t ascending, h_t descending)

Unlike that of the papers, our ConvLSTM reads the features that the output layer reads, not its probabilities, and
corrects the logits. With the readout at zero it changes nothing, so it can be attached to a trained CNN without loss.

Legend: B sequence, S slice, F feature, G gate, K class (0 background), Y row, X column, N = B * S.

References
----------
Cai, Lu, Xie, Xing, Yang: "Improving deep pancreas segmentation in CT and MRI images via recurrent neural contextual
learning and direct loss function", MICCAI 2017.
Cai, Lu, Xing, Yang: "Pancreas segmentation in CT and MRI via task-specific network design and recurrent neural
contextual learning", arXiv 1803.11303 (deep supervision, multi-scale aggregation, both directions of slices).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crnn_cli.networks.convlstm import ConvLSTMCell
from crnn_cli.networks.engines.slice_layers import FoldedBatchNormLayers, ReferenceLayers, SliceLayers

_PIXELS_AT_ONCE = 2**16  # at inference, of the slices that the CNN computes at once; at least one slice
_MAX_KEPT_BYTES = 2**28  # at inference, of features kept for the second direction


@dataclass(frozen=True)
class SliceCLSTMConfig:
    """Sizes of the network.

    Attributes
    ----------
    classes : with the background.
    width : features at full size; they double from scale to scale.
    scales : of the CNN, 1 or more.
    hidden : features of the ConvLSTM, per direction.
    kernel : width of the ConvLSTM's convolution kernels, odd.
    directions : 0: the CNN alone; 1: the ConvLSTM in ascending order of slices; 2: in both orders.

    Raises
    ------
    ValueError
        If a size is out of range.
    """

    classes: int = 2
    width: int = 24
    scales: int = 4
    hidden: int = 16
    kernel: int = 3
    directions: int = 2

    def __post_init__(self) -> None:
        if not 2 <= self.classes <= 256:
            raise ValueError(f"classes is {self.classes}; with the background there are 2 to 256")
        if not 1 <= self.width <= 256 or not 1 <= self.scales <= 6 or not 1 <= self.hidden <= 256:
            raise ValueError("width and hidden go from 1 to 256, scales from 1 to 6")
        if self.kernel % 2 == 0 or not 1 <= self.kernel <= 15:
            raise ValueError(f"kernel is {self.kernel}; it must be odd, from 1 to 15")
        if self.directions not in (0, 1, 2):
            raise ValueError(f"directions is {self.directions}; it must be 0, 1 or 2")


class SliceCNN(nn.Module):
    """The 2-D part: scale blocks, multi-scale aggregation, a side output at every scale.

    Attributes
    ----------
    blocks, lateral, above, aggregate, side : layers by scale, full size first; names as at the top of this file.
    """

    def __init__(self, config: SliceCLSTMConfig) -> None:
        super().__init__()
        widths = [config.width * 2**m for m in range(config.scales)]
        self.blocks = nn.ModuleList(
            nn.Sequential(*_block(before, width), *_block(width, width))
            for before, width in zip([1, *widths[:-1]], widths, strict=True)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(width, width, 1, bias=False) for width in widths[:-1])
        self.above = nn.ModuleList(nn.Conv2d(2 * width, width, 1, bias=False) for width in widths[:-1])
        self.aggregate = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), *_block(width, width)) for width in widths[:-1]
        )
        self.side = nn.ModuleList(nn.Conv2d(width, config.classes, 1) for width in widths)

    def forward(self, image_N1YX: Tensor, engine: SliceLayers | None = None) -> list[Tensor]:
        """Compute the aggregated features a_m of every scale.

        Parameters
        ----------
        image_N1YX : slices, whose sides must divide by 2^(scales - 1).
        engine : how layers are computed; by default as PyTorch does.

        Returns
        -------
        Features (N, F, Y / 2^m, X / 2^m), full size first.
        """
        engine = engine or ReferenceLayers()
        features: list[Tensor] = []
        x = engine.to_layout(image_N1YX)
        for block in self.blocks:
            x = engine.block(block, F.max_pool2d(x, 2) if features else x)
            features.append(x)
        for m in reversed(range(len(features) - 1)):
            features[m] = engine.aggregate(
                self.lateral[m], self.above[m], self.aggregate[m], features[m], features[m + 1]
            )
        return features


class SliceCLSTM(nn.Module):
    """The network at the top of this file, for single-channel slices of any size.

    >>> network = SliceCLSTM(SliceCLSTMConfig(classes=3, width=4, scales=2, hidden=4)).eval()
    >>> network.label(torch.zeros(5, 30, 20)).shape
    torch.Size([5, 3, 30, 20])

    Attributes
    ----------
    truncate : slices after which `forward` cuts the gradients through the sequence, in each direction counted from its
        own first slice; states are carried on. 0, the default: never.
    """

    truncate: int = 0

    def __init__(self, config: SliceCLSTMConfig) -> None:
        super().__init__()
        self.config = config
        self.cnn = SliceCNN(config)
        self.cells = nn.ModuleList(
            ConvLSTMCell(config.width, config.hidden, config.kernel, config.kernel) for _ in range(config.directions)
        )
        self.readout = nn.ModuleList(
            nn.Conv2d(config.hidden, config.classes, 1, bias=False) for _ in range(config.directions)
        )
        for readout in self.readout:
            assert isinstance(readout, nn.Conv2d)
            nn.init.zeros_(readout.weight)

    def forward(self, image_BSYX: Tensor) -> list[Tensor]:
        """Compute logits for training; `label` is for inference.

        Parameters
        ----------
        image_BSYX : sequences of slices, intensities scaled as in training.

        Returns
        -------
        The refined logits (B, S, K, Y, X) first, then the side outputs s_0, s_1, ..., of the size of their scale:
        (B, S, K, Y / 2^m, X / 2^m) of the padded slice.
        """
        batch, slices, rows, columns = image_BSYX.shape
        features = self.cnn(self._pad(image_BSYX.flatten(0, 1)[:, None]))
        sides = [side(a) for side, a in zip(self.cnn.side, features, strict=True)]
        logits_BSKYX = sides[0].unflatten(0, (batch, slices))
        for direction, (cell, readout) in enumerate(zip(self.cells, self.readout, strict=True)):
            assert isinstance(cell, ConvLSTMCell)
            gates_SBGYX = cell.input_gates(features[0]).unflatten(0, (batch, slices)).unbind(1)
            state, hidden = None, []
            for s, gates_BGYX in enumerate(reversed(gates_SBGYX) if direction else gates_SBGYX):
                if state is not None and self.truncate > 0 and s % self.truncate == 0:
                    state = state[0].detach(), state[1].detach()
                state = cell(gates_BGYX, state)
                hidden.append(state[0])
            stacked = torch.stack(hidden[::-1] if direction else hidden, dim=1).flatten(0, 1)
            logits_BSKYX = logits_BSKYX + readout(stacked).unflatten(0, (batch, slices))
        unflattened = [side.unflatten(0, (batch, slices)) for side in sides]
        return [logits_BSKYX[..., :rows, :columns], *unflattened]

    @torch.no_grad()
    def label(self, image_SYX: Tensor, progress: Callable[[int, int], None] = lambda done, total: None) -> Tensor:
        """Compute class probabilities of a stack, without gradients.

        Under autocast features have its dtype. Memory beyond the result: the CNN's features of a few slices, one
        recurrent state, and the logits. For the second direction small features are kept, large ones computed again.

        Parameters
        ----------
        image_SYX : slices in their order in space, intensities scaled as in training.
        progress : called with (steps done, steps in all); a step is one slice in one direction.

        Returns
        -------
        Probabilities (S, K, Y, X), float32.
        """
        slices, rows, columns = image_SYX.shape
        directions, engine = self.config.directions, self._choose_layers(image_SYX)
        total, done = slices * max(1, directions), 0
        image_N1YX = self._pad(image_SYX[:, None])
        sizes = slices, self.config.classes, *image_N1YX.shape[-2:]
        logits_SKYX = image_N1YX.new_empty(sizes).contiguous(memory_format=torch.channels_last)
        kept: dict[int, Tensor] = {}
        at_once = max(1, _PIXELS_AT_ONCE // image_N1YX[0].numel())
        chunks = [range(k, min(k + at_once, slices)) for k in range(0, slices, at_once)]
        keep = directions == 2 and 4 * self.config.width * image_SYX.numel() <= _MAX_KEPT_BYTES
        for direction in range(max(1, directions)):
            state = None
            for chunk in chunks[::-1] if direction else chunks:
                if chunk.start in kept:
                    features = kept.pop(chunk.start)
                else:
                    features = self.cnn(image_N1YX[chunk.start : chunk.stop], engine)[0]
                if keep and direction == 0:
                    kept[chunk.start] = features
                if direction == 0:
                    logits_SKYX[chunk.start : chunk.stop] = engine.logits(self.cnn.side[0], features)
                for s in chunk[::-1] if direction else chunk:
                    if directions:
                        state = engine.step(self.cells[direction], features[s - chunk.start, None], state)
                        engine.refine(self.readout[direction], state, logits_SKYX[s : s + 1])
                    done += 1
                    progress(done, total)
        probability_SKYX = image_SYX.new_empty((slices, self.config.classes, rows, columns))
        for probability_KYX, logits_KYX in zip(probability_SKYX, logits_SKYX[..., :rows, :columns], strict=True):
            probability_KYX.copy_(torch.softmax(logits_KYX.contiguous(), dim=0))
        return probability_SKYX

    def _choose_layers(self, image_SYX: Tensor) -> SliceLayers:
        """The fastest implementation for a stack.

        `FoldedBatchNormLayers` holds kernels of the current weights, so it must not outlive the call.
        """
        if self.training or image_SYX.device.type != "cpu" or image_SYX.dtype != torch.float32:
            return ReferenceLayers()
        return FoldedBatchNormLayers(
            torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
        )

    def _pad(self, image_N1YX: Tensor) -> Tensor:
        """Repeat the last row and column until the sides divide by the coarsest pixel."""
        step = 2 ** (self.config.scales - 1)
        rows, columns = image_N1YX.shape[-2:]
        return F.pad(image_N1YX, (0, -columns % step, 0, -rows % step), mode="replicate")


def _block(channels_in: int, channels_out: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(channels_out), nn.ReLU()]
