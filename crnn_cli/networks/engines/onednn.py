"""Convolutions that finish their output while it is in the cache: with a sum and ReLU, as oneDNN has them on a CPU.

PyTorch's names for them are private (`torch.ops.mkldnn`): where they are missing, the same is done one after the other.

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
    """Convolutions with zero padding that keep the size, in the kind of the features.

    kind, device : of features and kernels.
    """

    def __init__(self, kind: torch.dtype, device: torch.device = CPU) -> None:
        self.fused = device.type == "cpu" and _has_fused(kind)

    def made(self, kernel: Kernel, features: Tensor, relu: bool = False, rows: range | None = None) -> Tensor:
        """Return kernel * features, perhaps without what is negative, perhaps a range of rows of it only."""
        features, padding = _part(kernel, features, rows)
        if not self.fused:
            found = conv2d(features, *kernel, padding=padding)
            return found.relu_() if relu else found
        one = [1, 1]
        made: Tensor = torch.ops.mkldnn._convolution_pointwise(
            features, *kernel, padding, one, one, 1, "relu" if relu else "none", [], None
        )
        return made

    def few(self, kernel: Kernel, features: Tensor) -> Tensor:
        """Return kernel * features, in single precision at least, for a kernel of few outputs.

        oneDNN computes at least 16 outputs. One matrix product gives what every tap of the kernel adds, as features
        lie innermost in memory, and the shifted planes are summed.
        """
        weight, bias = kernel
        (outputs, inputs, rows, columns), (batch, _, height, width) = weight.shape, features.shape
        taps = weight.permute(2, 3, 0, 1).reshape(-1, inputs)
        planes = taps @ features.permute(0, 2, 3, 1).reshape(batch, height * width, inputs).mT
        planes = planes.view(batch, rows, columns, outputs, height, width)
        kind = torch.promote_types(planes.dtype, torch.float32)
        found = torch.zeros(batch, outputs, height + rows - 1, width + columns - 1, dtype=kind)
        for row in range(rows):
            for column in range(columns):
                top, left = rows - 1 - row, columns - 1 - column
                found[..., top : top + height, left : left + width] += planes[:, row, column]
        above, beside = _padding(kernel)
        made = found[..., above : above + height, beside : beside + width]
        return made if bias is None else made.add_(bias.view(-1, 1, 1))

    def plus(self, kernel: Kernel, features: Tensor, terms: Tensor) -> Tensor:
        """Return ReLU(terms + kernel * features) in new memory."""
        if not self.fused:
            return conv2d(features, *kernel, padding=_padding(kernel)).add_(terms).relu_()
        one = [1, 1]
        made: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
            features, terms, *kernel, _padding(kernel), one, one, 1, "add", 1.0, "relu", [], None
        )
        return made

    def added(
        self, kernel: Kernel, features: Tensor, to: Tensor, relu: bool = False, rows: range | None = None
    ) -> Tensor:
        """Return to + kernel * features in the memory of ``to``, perhaps without what is negative.

        rows : where ``to`` is only this range of rows.
        """
        features, padding = _part(kernel, features, rows)
        if not self.fused or not to.is_contiguous(memory_format=torch.channels_last):
            made = to.add_(conv2d(features, *kernel, padding=padding))
            return made.relu_() if relu else made
        after, one = "relu" if relu else None, [1, 1]
        accumulated: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
            to, features, *kernel, padding, one, one, 1, "add", 1.0, after, [], None
        )
        return accumulated


def _padding(kernel: Kernel) -> tuple[int, int]:
    rows, columns = kernel[0].shape[-2:]
    return rows // 2, columns // 2


def _part(kernel: Kernel, features: Tensor, rows: range | None) -> tuple[Tensor, tuple[int, int]]:
    """Return what of the features a range of rows needs, and how much padding it still needs."""
    reach, columns = _padding(kernel)
    height = features.shape[2]
    if rows is None or len(rows) == height:
        return features, (reach, columns)
    part = features[:, :, max(0, rows.start - reach) : rows.stop + reach]
    above, below = max(0, reach - rows.start), max(0, rows.stop + reach - height)
    return (pad(part, (0, 0, above, below)) if above or below else part), (0, columns)


@lru_cache
def _has_fused(dtype: torch.dtype) -> bool:
    """Whether this PyTorch has oneDNN's operators on a CPU for a type; tried on a small case, as the names are private."""
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
