"""ConvLSTM: a long short-term memory whose states are feature maps, with peepholes.

One step, * convolution with zero padding, o the product per channel:

    i = sigmoid(Wxi * X + Whi * H + wci o C + bi)        input gate
    f = sigmoid(Wxf * X + Whf * H + wcf o C + bf)        forget gate
    C' = f o C + i o tanh(Wxc * X + Whc * H + bc)        cell
    g = sigmoid(Wxo * X + Who * H + wco o C' + bo)       output gate, which sees the new cell
    H' = g o tanh(C')                                    hidden state

Legend: B batch, F input feature, H hidden feature, G = 4 H gate (in the order i, f, c, o), Y, X pixel.

References
----------
Shi, Chen, Wang, Yeung, Wong, Woo: "Convolutional LSTM network: a machine learning approach for precipitation
nowcasting", NeurIPS 2015.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvLSTMCell(nn.Module):
    """One step of a ConvLSTM; the formula is at the top of this file.

    One convolution computes all four gates. Each gate has one bias and, but for the cell input, one peephole weight per
    channel. Without input features the cell runs on its own state, as the forecaster of Shi et al. does.

    >>> cell = ConvLSTMCell(features=2, hidden=4)
    >>> hidden, state = cell(cell.input_gates(torch.zeros(1, 2, 8, 8)), None)
    >>> hidden.shape
    torch.Size([1, 4, 8, 8])

    Parameters
    ----------
    features : channels of the input, 0 for none.
    hidden : channels of the hidden state and of the cell.
    input_kernel, hidden_kernel : widths of the square convolution kernels, odd.
    """

    def __init__(self, features: int, hidden: int, input_kernel: int = 3, hidden_kernel: int = 3) -> None:
        super().__init__()
        self.hidden = hidden
        self.x2g = (
            nn.Conv2d(features, 4 * hidden, input_kernel, padding=input_kernel // 2, bias=False) if features else None
        )
        self.h2g = nn.Conv2d(hidden, 4 * hidden, hidden_kernel, padding=hidden_kernel // 2)
        self.peephole_i = nn.Parameter(torch.zeros(hidden, 1, 1))
        self.peephole_f = nn.Parameter(torch.zeros(hidden, 1, 1))
        self.peephole_o = nn.Parameter(torch.zeros(hidden, 1, 1))

    def input_gates(self, x_BFYX: Tensor) -> Tensor:
        """Contribution of the input to all gates, Wx * X.

        It needs no state, so the input of many steps can be passed at once, as one batch.

        Parameters
        ----------
        x_BFYX : input.

        Returns
        -------
        (B, G, Y, X).

        Raises
        ------
        ValueError
            If the cell was made without input features.
        """
        if self.x2g is None:
            raise ValueError("this cell was made without input features")
        gates_BGYX: Tensor = self.x2g(x_BFYX)
        return gates_BGYX

    def forward(self, input_gates_BGYX: Tensor | None, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """Compute the next state.

        Parameters
        ----------
        input_gates_BGYX : `input_gates` of this step; None for a cell without input.
        state : (hidden, cell) of the step before; None for zeros.

        Returns
        -------
        The next (hidden, cell), each (B, H, Y, X).

        Raises
        ------
        ValueError
            If there is neither input nor state.
        """
        if state is None:
            if input_gates_BGYX is None:
                raise ValueError("a cell with neither input nor state has nothing to work on")
            gates = input_gates_BGYX + _channels(self.h2g.bias)
            i, _, c, o = gates.chunk(4, dim=1)
            cell = torch.sigmoid(i) * torch.tanh(c)
        else:
            hidden, before = state
            gates = self.h2g(hidden)
            if input_gates_BGYX is not None:
                gates = gates + input_gates_BGYX
            i, f, c, o = gates.chunk(4, dim=1)
            keep = torch.sigmoid(f + self.peephole_f * before)
            cell = keep * before + torch.sigmoid(i + self.peephole_i * before) * torch.tanh(c)
        return torch.sigmoid(o + self.peephole_o * cell) * torch.tanh(cell), cell


def _channels(bias: Tensor | None) -> Tensor:
    assert bias is not None
    return bias.view(1, -1, 1, 1)
