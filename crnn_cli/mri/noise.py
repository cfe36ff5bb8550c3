"""How much noise there is in measured k-space, from its outermost samples.

Legend: B batch, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_RINGS = 4  # each a sixteenth of the readout on either side
_SHARE = 16
_OUTER = 0.5  # of the way from the middle line to the last: lines farther out count
_FEWEST = 64  # samples that a ring must have


def noise_deviation(kspace_BCTYX: Tensor, mask_BTYX: Tensor) -> float:
    """Return the standard deviation of the complex noise of a sample, 0 where nothing tells it.

    Far out in k-space there is little but noise, whose power has a median of ln 2 times its mean. The measured samples
    of the outer lines are put in rings by how far out they lie along the readout, and the ring with the smallest median
    counts: signal only adds to it. What is still there is mostly edges that keep their place; so a sample less the one
    measured there before, which has twice the power of noise, is looked at too, and the smaller result counts. Samples
    of exactly zero were filled in and are left out. Where images were filtered or interpolated over time, the result is
    too small.

    Parameters
    ----------
    kspace_BCTYX : complex, the noise alike in all coils. mask_BTYX : 0/1; X may be 1.
    """
    lines, samples = kspace_BCTYX.shape[-2:]
    far_Y = (torch.arange(lines, device=kspace_BCTYX.device) - lines // 2).abs() >= _OUTER * (lines // 2)
    width = max(1, samples // _SHARE)
    least = math.inf
    for ring in range(min(_RINGS, samples // (2 * width))):
        first = ring * width
        sides = (slice(first, first + width), slice(samples - first - width, samples - first))
        outer = torch.cat([kspace_BCTYX[:, :, :, far_Y, side] for side in sides], -1)
        masks = [mask_BTYX[:, None, :, far_Y, side if mask_BTYX.shape[-1] > 1 else slice(None)] for side in sides]
        mask = torch.cat([m.expand(-1, -1, -1, -1, width) for m in masks], -1) > 0
        kept = mask.expand(outer.shape) & (outer != 0)
        least = min(least, _median(outer[kept]), _median(_changes(outer, kept)) / 2)
    return math.sqrt(least / math.log(2)) if math.isfinite(least) else 0.0


def _median(samples: Tensor) -> float:
    """Return the median of the power; infinite where there are too few."""
    return float(samples.abs().square().median()) if samples.numel() >= _FEWEST else math.inf


def _changes(samples_BCTYX: Tensor, kept_BCTYX: Tensor) -> Tensor:
    """Return each sample less the one measured there before."""
    frames = samples_BCTYX.shape[2]
    time_T = torch.arange(frames, device=samples_BCTYX.device)[:, None, None]
    last_BCTYX = torch.where(kept_BCTYX, time_T, -1).cummax(2).values
    before_BCTYX = torch.cat([torch.full_like(last_BCTYX[:, :, :1], -1), last_BCTYX[:, :, :-1]], 2)
    changes_BCTYX = samples_BCTYX - samples_BCTYX.gather(2, before_BCTYX.clamp_min(0))
    return changes_BCTYX[kept_BCTYX & (before_BCTYX >= 0)]
