"""Inverse sampling density: weights that make errors at measured samples representative of the missing ones.

Central lines are measured more often than outer ones. Weighted by the odds of being missed, the mean error over the
measured samples estimates the mean error over the unmeasured ones.

Legend: B batch of one, T frame, Y phase encoding, X readout (1 where whole lines were measured).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad

MOST = 20.0
"""Largest weight, relative to the smallest."""
_SIGMA = 3.0  # standard deviation in samples of the Gaussian that smooths the density


def inverse_density_weights(mask_BTYX: Tensor) -> Tensor:
    """Weights (1, 1, Y, X) of the samples: 0 where every frame measured, else from 1 to `MOST`.

    The weight is (1 - p) / p relative to its smallest value, with p the smoothed fraction of frames that measured a
    sample: the number of missing samples per measured one. Where all frames measured the same, all weights are 1.

    Parameters
    ----------
    mask_BTYX : 0/1; X may be 1.

    References
    ----------
    Millard, Chiew: "A theoretical framework for self-supervised MR image reconstruction using sub-sampling via variable
    density Noisier2Noise", IEEE TCI 9, 2023.
    """
    mean_1YX = mask_BTYX.float().mean((0, 1))[None]
    always_1YX = mean_1YX >= 1
    if bool((always_1YX == (mean_1YX > 0)).all()):
        return torch.ones_like(mean_1YX)[None]
    smooth_1YX = _smooth(mean_1YX.mT).mT
    if mean_1YX.shape[-1] > 1:
        smooth_1YX = _smooth(smooth_1YX)
    odds_1YX = (1 - smooth_1YX) / smooth_1YX.clamp_min(torch.finfo(torch.float32).tiny)
    least = odds_1YX.masked_fill(always_1YX, torch.inf).amin().clamp_min(1e-6)
    return (odds_1YX / least).clamp(1, MOST).masked_fill(always_1YX, 0)[None]


def _smooth(values_1YX: Tensor) -> Tensor:
    """Smooth values along the last axis by a Gaussian, with the end values repeated beyond it."""
    reach = round(3 * _SIGMA)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=values_1YX.device) / _SIGMA) ** 2)
    padded_1YX = pad(values_1YX, (reach, reach), mode="replicate")
    smooth: Tensor = conv1d(padded_1YX.movedim(0, 1), (kernel / kernel.sum())[None, None]).movedim(1, 0)
    return smooth
