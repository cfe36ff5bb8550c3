"""ConvGRU: a gated recurrent unit whose state is a feature map.

One step, * convolution with zero padding, o the product per pixel:

    z = sigmoid(Wxz * X + Whz * H + bz)              update gate
    r = sigmoid(Wxr * X + Whr * H + br)              reset gate
    n = tanh(Wxn * X + r o (Whn * H + bn))           new state
    H' = (1 - z) o n + z o H                         hidden state

It has three quarters of the weights of a ConvLSTM of the same width, no peepholes, and no cell beside its state.

Legend: B batch, F input feature, H hidden feature, G = 3 H gate (in the order z, r, n), Y, X pixel.

References
----------
Ballas, Yao, Pal, Courville: "Delving deeper into convolutional networks for learning video representations", ICLR 2016.
Shi, Gao, Lausen, Wang, Yeung, Wong, Woo: "Deep learning for precipitation nowcasting: a benchmark and a new model",
NeurIPS 2017 (the reset gate after the convolution, as here).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvGRUCell(nn.Module):
    """One step of a ConvGRU; the formula is at the top of this file.

    It is called as a `crnn_cli.networks.convlstm.ConvLSTMCell`, with a state of one tensor.

    >>> cell = ConvGRUCell(features=2, hidden=4)
    >>> (hidden,) = cell(cell.input_gates(torch.zeros(1, 2, 8, 8)), None)
    >>> hidden.shape
    torch.Size([1, 4, 8, 8])

    Parameters
    ----------
    features : channels of the input, 0 for none.
    hidden : channels of the hidden state.
    input_kernel, hidden_kernel : widths of the square convolution kernels, odd.
    """

    def __init__(self, features: int, hidden: int, input_kernel: int = 3, hidden_kernel: int = 3) -> None:
        super().__init__()
        self.hidden = hidden
        self.x2g = (
            nn.Conv2d(features, 3 * hidden, input_kernel, padding=input_kernel // 2, bias=False) if features else None
        )
        self.h2g = nn.Conv2d(hidden, 3 * hidden, hidden_kernel, padding=hidden_kernel // 2)

    def input_gates(self, x_BFYX: Tensor) -> Tensor:
        """Contribution of the input to all gates, Wx * X.

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

    def forward(self, input_gates_BGYX: Tensor | None, state: tuple[Tensor] | None) -> tuple[Tensor]:
        """Compute the next state.

        Parameters
        ----------
        input_gates_BGYX : `input_gates` of this step; None for a cell without input.
        state : (hidden,) of the step before; None for zeros.

        Returns
        -------
        The next (hidden,), (B, H, Y, X).

        Raises
        ------
        ValueError
            If there is neither input nor state.
        """
        if state is None:
            if input_gates_BGYX is None:
                raise ValueError("a cell with neither input nor state has nothing to work on")
            batch, _, rows, columns = input_gates_BGYX.shape
            state = (input_gates_BGYX.new_zeros(batch, self.hidden, rows, columns),)
        hidden = state[0]
        z, r, n = self.h2g(hidden).chunk(3, dim=1)
        if input_gates_BGYX is None:
            update, new = torch.sigmoid(z), torch.tanh(torch.sigmoid(r) * n)
        else:
            x_z, x_r, x_n = input_gates_BGYX.chunk(3, dim=1)
            update, new = torch.sigmoid(z + x_z), torch.tanh(x_n + torch.sigmoid(r + x_r) * n)
        return (new + update * (hidden - new),)
