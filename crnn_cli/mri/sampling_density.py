"""How rare the samples of a scan are at their place in k-space.

Lines are measured more often near the centre: what stands for all that was not measured are the few far out. Weighed by
how seldom their place is measured, the samples at hand say on average what all the missing ones would.

Legend: B batch of one, T frame, Y phase encoding, X readout, 1 where whole lines were measured.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad

MOST = 20.0
"""The largest weight."""
_REACH = 3.0  # samples: standard deviation of the Gaussian that smooths the density


def inverse_density_weights(mask_BTYX: Tensor) -> Tensor:
    """Return the weights (1, 1, Y, X) of the samples at each place: 0 where all frames have it, else from 1 to `MOST`.

    (1 - p) / p over its least value, with p the share of the frames that measured a place, smoothed: how many samples
    are missing there for each that was measured. Where all frames measured the same, all weights are 1.

    References
    ----------
    Millard, Chiew: "A theoretical framework for self-supervised MR image reconstruction using sub-sampling via variable
    density Noisier2Noise", IEEE TCI 9, 2023.
    """
    mean_1YX = mask_BTYX.float().mean((0, 1))[None]
    always_1YX = mean_1YX >= 1
    if bool((always_1YX == (mean_1YX > 0)).all()):
        return torch.ones_like(mean_1YX)[None]
    smooth_1YX = _smoothed(mean_1YX.mT).mT
    if mean_1YX.shape[-1] > 1:
        smooth_1YX = _smoothed(smooth_1YX)
    odds_1YX = (1 - smooth_1YX) / smooth_1YX.clamp_min(torch.finfo(torch.float32).tiny)
    least = odds_1YX.masked_fill(always_1YX, torch.inf).amin().clamp_min(1e-6)
    return (odds_1YX / least).clamp(1, MOST).masked_fill(always_1YX, 0)[None]


def _smoothed(values_1YX: Tensor) -> Tensor:
    """Return values smoothed along the last axis, the ends going on beyond it."""
    reach = round(3 * _REACH)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=values_1YX.device) / _REACH) ** 2)
    beyond_YX = pad(values_1YX, (reach, reach), mode="replicate")
    smooth: Tensor = conv1d(beyond_YX.movedim(0, 1), (kernel / kernel.sum())[None, None]).movedim(1, 0)
    return smooth
