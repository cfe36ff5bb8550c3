"""ConvLSTM as the paper's formulas read: loops over features, pixels and kernel taps; slow and obvious."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def convolve(image_FYX, weight_HFyx):
    """Return the cross-correlation with zeros outside, (H, Y, X), pixel by pixel."""
    features, rows, columns = image_FYX.shape
    out, _, height, width = weight_HFyx.shape
    found = np.zeros((out, rows, columns))
    for h in range(out):
        for y in range(rows):
            for x in range(columns):
                total = 0.0
                for f in range(features):
                    for i in range(height):
                        for j in range(width):
                            yy, xx = y + i - height // 2, x + j - width // 2
                            if 0 <= yy < rows and 0 <= xx < columns:
                                total += weight_HFyx[h, f, i, j] * image_FYX[f, yy, xx]
                found[h, y, x] = total
    return found


def step(weights, x_FYX, hidden_HYX, cell_HYX):
    """Return the next (hidden, cell); ``weights`` by the names of the formula, Wxi, Whi, wci, bi, ..., Who, wco, bo.

    Without an input, ``x_FYX`` is None and the Wx are not looked at.
    """

    def gate(name, look=None):
        total = convolve(hidden_HYX, weights[f"Wh{name}"]) + weights[f"b{name}"][:, None, None]
        if x_FYX is not None:
            total = total + convolve(x_FYX, weights[f"Wx{name}"])
        return total if look is None else total + weights[f"wc{name}"][:, None, None] * look

    i, f = sigmoid(gate("i", cell_HYX)), sigmoid(gate("f", cell_HYX))
    cell = f * cell_HYX + i * np.tanh(gate("c"))
    return sigmoid(gate("o", cell)) * np.tanh(cell), cell
