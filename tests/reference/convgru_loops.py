"""ConvGRU as the paper's formulas read: loops over features, pixels and kernel taps; slow and obvious."""

import numpy as np

from tests.reference.convlstm_loops import convolve, sigmoid


def step(weights, x_FYX, hidden_HYX):
    """Return the next hidden state; ``weights`` by the names of the formula, Wxz, Whz, bz, ..., Wxn, Whn, bn.

    Without an input, ``x_FYX`` is None and the Wx are not looked at.
    """

    def from_input(name):
        return 0.0 if x_FYX is None else convolve(x_FYX, weights[f"Wx{name}"])

    def from_hidden(name):
        return convolve(hidden_HYX, weights[f"Wh{name}"]) + weights[f"b{name}"][:, None, None]

    z = sigmoid(from_input("z") + from_hidden("z"))
    r = sigmoid(from_input("r") + from_hidden("r"))
    n = np.tanh(from_input("n") + r * from_hidden("n"))
    return (1 - z) * n + z * hidden_HYX
