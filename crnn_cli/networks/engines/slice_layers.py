"""Layers of the slice network: `ReferenceLayers` as PyTorch has them, `FoldedBatchNormLayers` fast on a CPU.

Both compute the formulas at the top of `slice_clstm` and `convlstm`, and hold no weights of their own.

Legend: N slice, F feature, H hidden feature, G = 4 H gate (in the order i, f, c, o), K class, Y row, X column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crnn_cli.networks.convlstm import ConvLSTMCell
from crnn_cli.networks.engines.onednn import Convolutions, Kernel

State = tuple[Tensor, Tensor]

_GATES_PER_THREAD = 2**18  # values for each thread: 1 MiB


class SliceLayers(Protocol):
    """The layers of the slice network. States, of type Any here, are in a form of the implementation."""

    def to_layout(self, image_N1YX: Tensor) -> Tensor:
        """Convert slices to the memory layout and dtype of the implementation."""
        ...

    def block(self, layers: nn.Module, x_NFYX: Tensor) -> Tensor:
        """Apply convolution, batch normalisation and ReLU, as often as they come in ``layers``."""
        ...

    def aggregate(
        self, lateral: nn.Module, above: nn.Module, layers: nn.Module, fine_NFYX: Tensor, coarse_NFYX: Tensor
    ) -> Tensor:
        """layers(lateral * fine + upsample(above * coarse)): aggregation of two scales.

        Parameters
        ----------
        lateral, above : 1 x 1 convolutions of the finer and the coarser scale.
        layers : what follows the sum; a batch normalisation and a ReLU come first.
        fine_NFYX, coarse_NFYX : features, the coarse ones of half the size.
        """
        ...

    def logits(self, side: nn.Module, features_NFYX: Tensor) -> Tensor:
        """Side * features, float32."""
        ...

    def step(self, cell: nn.Module, features_1FYX: Tensor, state: Any) -> Any:
        """Next state of the recurrent cell.

        Parameters
        ----------
        cell : a `crnn_cli.networks.convlstm.ConvLSTMCell`.
        features_1FYX : of the slice.
        state : of the slice before, None before the first. Its memory may be reused.
        """
        ...

    def refine(self, readout: nn.Module, state: Any, logits_1KYX: Tensor) -> None:
        """Add readout * hidden to the logits, in place."""
        ...


@dataclass(frozen=True)
class _CellKernels:
    """Kernels of a cell from input (with bias) and hidden state; peepholes of i, f, o, each (1, H, 1, 1)."""

    x2g: Kernel
    h2g: Kernel
    peepholes: tuple[Tensor, ...]

    @property
    def hidden(self) -> int:
        """H."""
        return self.peepholes[0].shape[1]


class ReferenceLayers:
    """The modules as PyTorch computes them: with gradients, on any device, in training or not."""

    def to_layout(self, image_N1YX: Tensor) -> Tensor:
        """See `SliceLayers`."""
        return image_N1YX.contiguous(memory_format=torch.channels_last)

    def block(self, layers: nn.Module, x_NFYX: Tensor) -> Tensor:
        """See `SliceLayers`."""
        output: Tensor = layers(x_NFYX)
        return output

    def aggregate(
        self, lateral: nn.Module, above: nn.Module, layers: nn.Module, fine_NFYX: Tensor, coarse_NFYX: Tensor
    ) -> Tensor:
        """See `SliceLayers`."""
        output: Tensor = layers(lateral(fine_NFYX) + _upsample(above(coarse_NFYX)))
        return output

    def logits(self, side: nn.Module, features_NFYX: Tensor) -> Tensor:
        """See `SliceLayers`."""
        output: Tensor = side(features_NFYX)
        return output

    def step(self, cell: nn.Module, features_1FYX: Tensor, state: State | None) -> State:
        """See `SliceLayers`; a state is (hidden, cell)."""
        assert isinstance(cell, ConvLSTMCell)
        output: State = cell(cell.input_gates(features_1FYX), state)
        return output

    def refine(self, readout: nn.Module, state: State, logits_1KYX: Tensor) -> None:
        """See `SliceLayers`."""
        logits_1KYX += readout(state[0])


class FoldedBatchNormLayers:
    """Inference on a CPU: batch normalisation is folded into the kernels, sums and ReLU are part of the convolutions.

    Normalisation is that of evaluation. Kernels are folded at their first use and not renewed when weights change: make
    a new object for every stack, it costs 2 ms.

    The recurrent cell needs tanh x = 2 s(2 x) - 1, s the sigmoid, which PyTorch computes much faster. So that the
    factors cost nothing, a state is (-h, 2 C): with the kernels of the cell input doubled, those of the hidden state
    negated and the peepholes halved,

        2 C' = f o 2 C + 4 i o s(2 c) - 2 i,    -h' = g - 2 g o s(2 C').

    Parameters
    ----------
    dtype : of features and kernels; states are summed in float32.
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self._convolutions = Convolutions(dtype)
        self._kernels: dict[nn.Module, Kernel] = {}
        self._cells: dict[nn.Module, _CellKernels] = {}

    def to_layout(self, image_N1YX: Tensor) -> Tensor:
        """See `SliceLayers`."""
        return image_N1YX.to(self.dtype, memory_format=torch.channels_last)

    def block(self, layers: nn.Module, x_NFYX: Tensor) -> Tensor:
        """See `SliceLayers`."""
        return self._blocks(list(layers.children()), x_NFYX)

    def _blocks(self, layers: list[nn.Module], x_NFYX: Tensor) -> Tensor:
        for convolution, norm in zip(layers[::3], layers[1::3], strict=True):
            x_NFYX = self._convolutions.conv(self._folded_kernel(convolution, norm), x_NFYX, relu=True)
        return x_NFYX

    def aggregate(
        self, lateral: nn.Module, above: nn.Module, layers: nn.Module, fine_NFYX: Tensor, coarse_NFYX: Tensor
    ) -> Tensor:
        """See `SliceLayers`; the first normalisation is folded into both kernels, its shift into one."""
        norm, _, *rest = layers.children()
        weight, _ = self._folded_kernel(above, norm)
        both = _upsample(self._convolutions.conv((weight, None), coarse_NFYX))
        both = self._convolutions.conv_accumulate_(self._folded_kernel(lateral, norm), fine_NFYX, both, relu=True)
        return self._blocks(rest, both)

    def logits(self, side: nn.Module, features_NFYX: Tensor) -> Tensor:
        """See `SliceLayers`."""
        return self._convolutions.conv(self._kernel(side), features_NFYX).float()

    def step(self, cell: nn.Module, features_1FYX: Tensor, state: State | None) -> State:
        """See `SliceLayers`; the cell of the state before is replaced.

        Rows are computed in blocks, so that the gates stay in the cache.
        """
        kernels = self._cell_kernels(cell)
        _, _, height, width = features_1FYX.shape
        sizes = (1, kernels.hidden, height, width)
        after = torch.empty(sizes, dtype=self.dtype, memory_format=torch.channels_last)
        double = torch.empty(sizes, memory_format=torch.channels_last) if state is None else state[1]
        at_once = max(1, _GATES_PER_THREAD * torch.get_num_threads() // (4 * kernels.hidden * width))
        for first in range(0, height, at_once):
            rows = range(first, min(first + at_once, height))
            gates = self._convolutions.conv(kernels.x2g, features_1FYX, rows=rows)
            if state is not None:
                gates = self._convolutions.conv_accumulate_(kernels.h2g, state[0], gates, rows=rows)
            part = double[:, :, rows.start : rows.stop]
            after[:, :, rows.start : rows.stop] = _next_state(gates.float(), part, kernels, state is None)
        return after, double

    def refine(self, readout: nn.Module, state: State, logits_1KYX: Tensor) -> None:
        """See `SliceLayers`."""
        weight, _ = self._kernel(readout)
        if self.dtype == torch.float32:
            self._convolutions.conv_accumulate_((weight, None), state[0], logits_1KYX)
        else:
            logits_1KYX += self._convolutions.conv((weight, None), state[0])

    def _cast(self, weight: Tensor, bias: Tensor | None) -> Kernel:
        """A kernel in the dtype and layout that the convolutions take fastest."""
        cast = weight.to(self.dtype, memory_format=torch.channels_last)
        return cast, None if bias is None else bias.to(self.dtype)

    def _kernel(self, convolution: nn.Module) -> Kernel:
        """Kernel of a convolution; of a readout, which has no bias, the negated one, for -h."""
        if convolution not in self._kernels:
            assert isinstance(convolution, nn.Conv2d)
            weight = convolution.weight if convolution.bias is not None else -convolution.weight
            self._kernels[convolution] = self._cast(weight, convolution.bias)
        return self._kernels[convolution]

    def _folded_kernel(self, convolution: nn.Module, norm: nn.Module) -> Kernel:
        """Kernel of a convolution and the batch normalisation after it."""
        if convolution not in self._kernels:
            assert isinstance(convolution, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
            weight = convolution.weight * scale.view(-1, 1, 1, 1)
            self._kernels[convolution] = self._cast(weight, norm.bias - norm.running_mean * scale)
        return self._kernels[convolution]

    def _cell_kernels(self, cell: nn.Module) -> _CellKernels:
        """Kernels of a cell for the states of this class."""
        if cell not in self._cells:
            assert isinstance(cell, ConvLSTMCell)
            assert cell.x2g is not None
            assert cell.h2g.bias is not None
            factor = torch.ones(4, cell.hidden)
            factor[2] = 2
            each = factor.view(-1, 1, 1, 1)
            self._cells[cell] = _CellKernels(
                self._cast(cell.x2g.weight * each, cell.h2g.bias * factor.flatten()),
                self._cast(cell.h2g.weight * -each, None),
                tuple(peephole[None] / 2 for peephole in (cell.peephole_i, cell.peephole_f, cell.peephole_o)),
            )
        return self._cells[cell]


def _upsample(coarse_NFYX: Tensor) -> Tensor:
    return F.interpolate(coarse_NFYX, scale_factor=2.0, mode="nearest")


def _next_state(gates_1GYX: Tensor, double_1HYX: Tensor, kernels: _CellKernels, first: bool) -> Tensor:
    """-h', with 2 C' in the place of 2 C; see `FoldedBatchNormLayers`. At the first slice 2 C is taken as 0."""
    hidden = kernels.hidden
    peep_i, peep_f, peep_o = kernels.peepholes
    if first:
        double_1HYX.zero_()
    else:
        gates_1GYX[:, :hidden].addcmul_(double_1HYX, peep_i)
        gates_1GYX[:, hidden : 2 * hidden].addcmul_(double_1HYX, peep_f)
    i, f, c, _ = torch.sigmoid(gates_1GYX).split(hidden, 1)  # all at once: parts take many times as long
    double_1HYX.mul_(f).addcmul_(i, c, value=4).sub_(i, alpha=2)
    o = torch.addcmul(gates_1GYX[:, 3 * hidden :], double_1HYX, peep_o).sigmoid_()
    return o.addcmul_(o, torch.sigmoid(double_1HYX), value=-2)
