"""Intensities as the network knows them: the bright parts of the first frame are 1."""

from __future__ import annotations

import torch
from torch import Tensor

_BRIGHT = 0.99
_MOST_PIXELS = 2**22  # of torch.quantile, which takes no more than 2^24


def intensity_scale(frame_YX: Tensor) -> float:
    """The 99th percentile of a frame, by which a series is divided.

    >>> intensity_scale(torch.full((4, 4), 20.0))
    20.0

    Where that is not above 0, the largest value is taken, and 1 where that is not above 0 either.
    """
    values = frame_YX.flatten().float()
    values = values[:: -(-len(values) // _MOST_PIXELS)]
    bright = float(torch.quantile(values, _BRIGHT))
    if bright > 0:
        return bright
    largest = float(values.max())
    return largest if largest > 0 else 1.0
