"""How the layers of the slice network go over slices: `ReferenceLayers` as PyTorch has them, `FoldedBatchNormLayers` fast on a CPU.

Both compute the formulas at the top of `slice_clstm` and `convlstm`, and have no weights of their own.

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

_GATES_AT_ONCE = 2**18  # values for each thread: 1 MiB


class SliceLayers(Protocol):
    """A way to compute the layers. States, of type Any here, are as the way keeps them."""

    def enter(self, image_N1YX: Tensor) -> Tensor:
        """Return slices in the memory and kind of this way."""
        ...

    def block(self, layers: nn.Module, x_NFYX: Tensor) -> Tensor:
        """Return what convolution, normalisation and ReLU make of x, as often as they come in the layers."""
        ...

    def aggregate(
        self, lateral: nn.Module, above: nn.Module, layers: nn.Module, fine_NFYX: Tensor, coarse_NFYX: Tensor
    ) -> Tensor:
        """Return layers(lateral * fine + up(above * coarse)); layers begin with a normalisation and ReLU."""
        ...

    def logits(self, side: nn.Module, features_NFYX: Tensor) -> Tensor:
        """Return side * features, float32."""
        ...

    def step(self, cell: nn.Module, features_1FYX: Tensor, state: Any) -> Any:
        """Return the next state of the cell; ``state`` is None before the first slice."""
        ...

    def refine(self, readout: nn.Module, state: Any, logits_1KYX: Tensor) -> None:
        """Add readout * hidden to the logits, in place."""
        ...


@dataclass(frozen=True)
class _CellKernels:
    """Of a cell: kernels from input (with bias) and hidden state; peepholes of i, f, o, each (1, H, 1, 1)."""

    x2g: Kernel
    h2g: Kernel
    peepholes: tuple[Tensor, ...]

    @property
    def hidden(self) -> int:
        """Return H."""
        return self.peepholes[0].shape[1]


class ReferenceLayers:
    """The modules as they are: with gradients, on any device, in training or not."""

    def enter(self, image_N1YX: Tensor) -> Tensor:
        """Return slices in the memory and kind of this way."""
        return image_N1YX.contiguous(memory_format=torch.channels_last)

    def block(self, layers: nn.Module, x_NFYX: Tensor) -> Tensor:
        """See `SliceLayers`."""
        made: Tensor = layers(x_NFYX)
        return made

    def aggregate(
        self, lateral: nn.Module, above: nn.Module, layers: nn.Module, fine_NFYX: Tensor, coarse_NFYX: Tensor
    ) -> Tensor:
        """See `SliceLayers`."""
        made: Tensor = layers(lateral(fine_NFYX) + _up(above(coarse_NFYX)))
        return made

    def logits(self, side: nn.Module, features_NFYX: Tensor) -> Tensor:
        """See `SliceLayers`."""
        made: Tensor = side(features_NFYX)
        return made

    def step(self, cell: nn.Module, features_1FYX: Tensor, state: State | None) -> State:
        """See `SliceLayers`; a state is (hidden, cell)."""
        assert isinstance(cell, ConvLSTMCell)
        made: State = cell(cell.input_gates(features_1FYX), state)
        return made

    def refine(self, readout: nn.Module, state: State, logits_1KYX: Tensor) -> None:
        """See `SliceLayers`."""
        logits_1KYX += readout(state[0])


class FoldedBatchNormLayers:
    """For inference on a CPU: normalisations lie in the kernels, sums and ReLU are made inside the convolutions.

    Normalisations are those of evaluation. Kernels are folded from the modules at their first use, so an object of this
    class serves as long as the weights stay: make a new one for every stack, it costs 2 ms.

    The recurrent cell needs tanh x = 2 s(2 x) - 1, s the sigmoid, which PyTorch has much faster. So that the factors
    cost nothing, a state is (-h, 2 C): with the kernels of the cell input doubled, those of the hidden state negated
    and the peepholes halved,

        2 C' = f o 2 C + 4 i o s(2 c) - 2 i,    -h' = g - 2 g o s(2 C').

    kind : of features and kernels; the sums of states are made in single precision.
    """

    def __init__(self, kind: torch.dtype = torch.float32) -> None:
        self.kind = kind
        self._convolutions = Convolutions(kind)
        self._kernels: dict[nn.Module, Kernel] = {}
        self._cells: dict[nn.Module, _CellKernels] = {}

    def enter(self, image_N1YX: Tensor) -> Tensor:
        """Return slices in the memory and kind of this way."""
        return image_N1YX.to(self.kind, memory_format=torch.channels_last)

    def block(self, layers: nn.Module, x_NFYX: Tensor) -> Tensor:
        """See `SliceLayers`."""
        return self._blocks(list(layers.children()), x_NFYX)

    def _blocks(self, layers: list[nn.Module], x_NFYX: Tensor) -> Tensor:
        for convolution, norm in zip(layers[::3], layers[1::3], strict=True):
            x_NFYX = self._convolutions.made(self._normalised(convolution, norm), x_NFYX, relu=True)
        return x_NFYX

    def aggregate(
        self, lateral: nn.Module, above: nn.Module, layers: nn.Module, fine_NFYX: Tensor, coarse_NFYX: Tensor
    ) -> Tensor:
        """See `SliceLayers`. The first normalisation lies in both kernels, its shift in one."""
        norm, _, *rest = layers.children()
        weight, _ = self._normalised(above, norm)
        both = _up(self._convolutions.made((weight, None), coarse_NFYX))
        both = self._convolutions.added(self._normalised(lateral, norm), fine_NFYX, both, relu=True)
        return self._blocks(rest, both)

    def logits(self, side: nn.Module, features_NFYX: Tensor) -> Tensor:
        """See `SliceLayers`."""
        return self._convolutions.made(self._kernel(side), features_NFYX).float()

    def step(self, cell: nn.Module, features_1FYX: Tensor, state: State | None) -> State:
        """See `SliceLayers`; the cell of the state before is replaced. Some rows at a time, so that gates stay in the cache."""
        kernels = self._of(cell)
        _, _, height, width = features_1FYX.shape
        sizes = (1, kernels.hidden, height, width)
        after = torch.empty(sizes, dtype=self.kind, memory_format=torch.channels_last)
        double = torch.empty(sizes, memory_format=torch.channels_last) if state is None else state[1]
        at_once = max(1, _GATES_AT_ONCE * torch.get_num_threads() // (4 * kernels.hidden * width))
        for first in range(0, height, at_once):
            rows = range(first, min(first + at_once, height))
            gates = self._convolutions.made(kernels.x2g, features_1FYX, rows=rows)
            if state is not None:
                gates = self._convolutions.added(kernels.h2g, state[0], gates, rows=rows)
            part = double[:, :, rows.start : rows.stop]
            after[:, :, rows.start : rows.stop] = _next(gates.float(), part, kernels, state is None)
        return after, double

    def refine(self, readout: nn.Module, state: State, logits_1KYX: Tensor) -> None:
        """See `SliceLayers`."""
        weight, _ = self._kernel(readout)
        if self.kind == torch.float32:
            self._convolutions.added((weight, None), state[0], logits_1KYX)
        else:
            logits_1KYX += self._convolutions.made((weight, None), state[0])

    def _kept(self, weight: Tensor, bias: Tensor | None) -> Kernel:
        """Return a kernel as the convolutions have it fastest."""
        kept = weight.to(self.kind, memory_format=torch.channels_last)
        return kept, None if bias is None else bias.to(self.kind)

    def _kernel(self, convolution: nn.Module) -> Kernel:
        """Return the kernel of a convolution; of a readout, which has no bias, that for -h."""
        if convolution not in self._kernels:
            assert isinstance(convolution, nn.Conv2d)
            weight = convolution.weight if convolution.bias is not None else -convolution.weight
            self._kernels[convolution] = self._kept(weight, convolution.bias)
        return self._kernels[convolution]

    def _normalised(self, convolution: nn.Module, norm: nn.Module) -> Kernel:
        """Return the kernel of a convolution and the normalisation after it."""
        if convolution not in self._kernels:
            assert isinstance(convolution, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
            weight = convolution.weight * scale.view(-1, 1, 1, 1)
            self._kernels[convolution] = self._kept(weight, norm.bias - norm.running_mean * scale)
        return self._kernels[convolution]

    def _of(self, cell: nn.Module) -> _CellKernels:
        """Return the kernels of a cell for the states of this way."""
        if cell not in self._cells:
            assert isinstance(cell, ConvLSTMCell)
            assert cell.x2g is not None
            assert cell.h2g.bias is not None
            factor = torch.ones(4, cell.hidden)
            factor[2] = 2
            each = factor.view(-1, 1, 1, 1)
            self._cells[cell] = _CellKernels(
                self._kept(cell.x2g.weight * each, cell.h2g.bias * factor.flatten()),
                self._kept(cell.h2g.weight * -each, None),
                tuple(peephole[None] / 2 for peephole in (cell.peephole_i, cell.peephole_f, cell.peephole_o)),
            )
        return self._cells[cell]


def _up(coarse_NFYX: Tensor) -> Tensor:
    return F.interpolate(coarse_NFYX, scale_factor=2.0, mode="nearest")


def _next(gates_1GYX: Tensor, double_1HYX: Tensor, kernels: _CellKernels, first: bool) -> Tensor:
    """Return -h' and put 2 C' in the place of 2 C, which at the first slice is taken as 0; see `FoldedBatchNormLayers`."""
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
