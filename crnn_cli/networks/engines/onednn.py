"""Convolutions fused with a sum and ReLU by oneDNN on a CPU: the output is finished while it is in the cache.

PyTorch's operators for them are private (`torch.ops.mkldnn`). Where they are missing, `Convolutions` computes the same
with public operators, one after the other.

Legend: N batch, F feature, Y row, X column; features lie innermost in memory (channels last).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

CPU = torch.device("cpu")
Kernel = tuple[Tensor, Tensor | None]
"""Weight (out, in, Y, X) with odd Y and X, and bias (out)."""


class Convolutions:
    """Zero-padded convolutions that keep the size, in the dtype of the features.

    All take a `Kernel` and features (N, F, Y, X).

    Parameters
    ----------
    dtype, device : of features and kernels.

    Attributes
    ----------
    fused : whether oneDNN's operators are used.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device = CPU) -> None:
        self.fused = device.type == "cpu" and _has_fused(dtype)

    def conv(self, kernel: Kernel, features: Tensor, relu: bool = False, rows: range | None = None) -> Tensor:
        """Kernel * features, followed by ReLU if ``relu``.

        Parameters
        ----------
        kernel, features : (weight, bias), and (N, F, Y, X).
        relu : whether negative values become 0.
        rows : the rows of the output to compute; None for all.
        """
        features, padding = _crop_rows(kernel, features, rows)
        if not self.fused:
            output = conv2d(features, *kernel, padding=padding)
            return output.relu_() if relu else output
        one, after = [1, 1], "relu" if relu else "none"
        fused: Tensor = torch.ops.mkldnn._convolution_pointwise(
            features, *kernel, padding, one, one, 1, after, [], None
        )
        return fused

    def conv_few_outputs(self, kernel: Kernel, features: Tensor) -> Tensor:
        """Kernel * features for a kernel of few output channels, such as 2 for a complex image.

        oneDNN would compute at least 16 output channels. Here one matrix product gives the contribution of every tap of
        the kernel, and the shifted planes are summed, in float32 at least.

        Returns
        -------
        (N, F, Y, X), float32 or more precise.
        """
        weight, bias = kernel
        (outputs, inputs, rows, columns), (batch, _, height, width) = weight.shape, features.shape
        taps = weight.permute(2, 3, 0, 1).reshape(-1, inputs)
        planes = taps @ features.permute(0, 2, 3, 1).reshape(batch, height * width, inputs).mT
        planes = planes.view(batch, rows, columns, outputs, height, width)
        dtype = torch.promote_types(planes.dtype, torch.float32)
        output = torch.zeros(batch, outputs, height + rows - 1, width + columns - 1, dtype=dtype)
        for row in range(rows):
            for column in range(columns):
                top, left = rows - 1 - row, columns - 1 - column
                output[..., top : top + height, left : left + width] += planes[:, row, column]
        above, beside = _padding(kernel)
        output = output[..., above : above + height, beside : beside + width]
        return output if bias is None else output.add_(bias.view(-1, 1, 1))

    def conv_add_relu(self, kernel: Kernel, features: Tensor, terms: Tensor) -> Tensor:
        """ReLU(terms + kernel * features), in new memory.

        Parameters
        ----------
        kernel, features : (weight, bias), and (N, F, Y, X).
        terms : of the shape of the output.
        """
        if not self.fused:
            return conv2d(features, *kernel, padding=_padding(kernel)).add_(terms).relu_()
        one = [1, 1]
        output: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
            features, terms, *kernel, _padding(kernel), one, one, 1, "add", 1.0, "relu", [], None
        )
        return output

    def conv_accumulate_(
        self, kernel: Kernel, features: Tensor, total: Tensor, relu: bool = False, rows: range | None = None
    ) -> Tensor:
        """Add kernel * features to ``total`` in place, followed by ReLU if ``relu``.

        Parameters
        ----------
        kernel, features : (weight, bias), and (N, F, Y, X).
        total : what is added to, (N, F, Y, X).
        relu : whether negative sums become 0.
        rows : the rows of the whole that ``total`` holds; None for all.

        Returns
        -------
        ``total``, changed.
        """
        features, padding = _crop_rows(kernel, features, rows)
        if not self.fused or not total.is_contiguous(memory_format=torch.channels_last):
            output = total.add_(conv2d(features, *kernel, padding=padding))
            return output.relu_() if relu else output
        after, one = "relu" if relu else None, [1, 1]
        fused: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
            total, features, *kernel, padding, one, one, 1, "add", 1.0, after, [], None
        )
        return fused


def _padding(kernel: Kernel) -> tuple[int, int]:
    rows, columns = kernel[0].shape[-2:]
    return rows // 2, columns // 2


def _crop_rows(kernel: Kernel, features: Tensor, rows: range | None) -> tuple[Tensor, tuple[int, int]]:
    """Rows of the features that a range of output rows needs, and the padding that they still need."""
    reach, columns = _padding(kernel)
    height = features.shape[2]
    if rows is None or len(rows) == height:
        return features, (reach, columns)
    part = features[:, :, max(0, rows.start - reach) : rows.stop + reach]
    above, below = max(0, reach - rows.start), max(0, rows.stop + reach - height)
    return (pad(part, (0, 0, above, below)) if above or below else part), (0, columns)


@lru_cache
def _has_fused(dtype: torch.dtype) -> bool:
    """Whether this PyTorch has oneDNN's operators on a CPU for a dtype; tried on a small case, as they are private."""
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    features, weight, total = torch.ones(1, 1, 2, 2), torch.ones(1, 1, 1, 1), torch.full((1, 1, 2, 2), -3.0)
    ones, none = [1, 1], [0, 0]
    try:
        operators = torch.ops.mkldnn
        if dtype == torch.bfloat16 and not operators._is_mkldnn_bf16_supported():
            return False
        convolve, accumulate = operators._convolution_pointwise, operators._convolution_pointwise_
        added = convolve.binary(features, total, weight, None, none, ones, ones, 1, "add", 1.0, "relu", [], None)
        alone = convolve(features, -weight, None, none, ones, ones, 1, "relu", [], None)
        accumulate.binary(total, features, weight, torch.ones(1), none, ones, ones, 1, "add", 1.0, "relu", [], None)
        return bool(added.eq(0).all() and alone.eq(0).all() and total.eq(0).all())
    except (AttributeError, RuntimeError, TypeError):
        return False
