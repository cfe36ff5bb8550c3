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
    counts: signal only adds to it. Samples of exactly zero were filled in and are left out. Where images were filtered,
    the outermost samples have less noise than the others, and the result is too small.

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
        sides = [slice(first, first + width), slice(samples - first - width, samples - first)]
        outer = torch.cat([kspace_BCTYX[:, :, :, far_Y, side] for side in sides], -1)
        whole = mask_BTYX.shape[-1] == 1
        masks = [mask_BTYX[:, None, :, far_Y, :] if whole else mask_BTYX[:, None, :, far_Y, side] for side in sides]
        kept = torch.cat([m.expand(-1, -1, -1, -1, width) for m in masks], -1) > 0
        power = outer.abs().square()[kept.expand(outer.shape) & (outer != 0)]
        if power.numel() >= _FEWEST:
            least = min(least, float(power.median()))
    return math.sqrt(least / math.log(2)) if math.isfinite(least) else 0.0
