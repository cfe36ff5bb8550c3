"""A running average of the weights of a network: what training and tuning validate and keep."""

from __future__ import annotations

import torch
from torch import nn


def update_ema(averaged: nn.Module, network: nn.Module, step: int, slowest: float) -> None:
    """Move the running average of parameters and buffers towards the network's; early steps count more."""
    decay = min(slowest, (1 + step) / (10 + step))
    with torch.no_grad():
        for mean, now in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)
