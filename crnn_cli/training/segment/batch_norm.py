"""Batch normalisation with the statistics of all processes, also on a CPU, where PyTorch has none.

Legend: N items and slices, F feature, Y row, X column.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx


class _Sum(torch.autograd.Function):
    """Sum over all processes. Each calls backward on its own loss, so the gradients are summed as well."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:
        """Sum the values of all processes."""
        del ctx
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Tensor:
        """Sum the gradients of all processes."""
        del ctx
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class SharedBatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` over the batches of all processes, which must all hold as many pixels.

    With mean m and variance v over the pixels of every process, (x - m) / sqrt(v + eps) weight + bias. In evaluation
    mode it is the same as its base class, without communication.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Normalise features (N, F, Y, X)."""
        if not self.training:
            return super().forward(input)
        x_NFYX, processes = input.float(), dist.get_world_size()
        mean_F = _total(x_NFYX.mean((0, 2, 3))) / processes
        centred_NFYX = x_NFYX - mean_F[:, None, None]
        variance_F = _total(centred_NFYX.square().mean((0, 2, 3))) / processes
        self._follow(mean_F.detach(), variance_F.detach(), processes * input[:, 0].numel())
        scale_F = torch.rsqrt(variance_F + self.eps) * self.weight
        made_NFYX: Tensor = centred_NFYX * scale_F[:, None, None] + self.bias[:, None, None]
        return made_NFYX.to(input.dtype)

    def _follow(self, mean_F: Tensor, variance_F: Tensor, pixels: int) -> None:
        """Update the running statistics as the base class does: the variance is the unbiased one."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean_F, self.momentum)
        self.running_var.lerp_(variance_F * (pixels / max(1, pixels - 1)), self.momentum)


def share_batch_norm(network: nn.Module) -> nn.Module:
    """Convert every batch normalisation of a network to `SharedBatchNorm2d`, in place, and return the network."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d
    return network


def _total(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total
