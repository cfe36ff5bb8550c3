"""Noise level of measured k-space, estimated from its outermost samples.

Legend: B batch, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_BANDS = 4  # readout bands, each a sixteenth of the readout on either side
_BANDS_PER_READOUT = 16
_OUTER = 0.5  # lines count beyond this fraction of the way from the central line to the last
_FEWEST = 64  # smallest number of samples of a band


def noise_deviation(kspace_BCTYX: Tensor, mask_BTYX: Tensor) -> float:
    """Estimate the standard deviation of the complex noise of a sample; 0 where the samples do not allow it.

    The periphery of k-space holds little but noise, whose power has a median of ln 2 times its mean. The measured
    samples of the outer lines are divided into bands by their distance along the readout, and the band of smallest
    median power counts: signal only adds to it. The signal that remains is mostly static edges. So the difference
    between a sample and the previous measurement of the same sample, which has twice the noise power, is evaluated too,
    and the smaller result counts.

    Parameters
    ----------
    kspace_BCTYX : complex; the noise level is the same in all coils. Exact zeros count as zero-filled and are ignored.
    mask_BTYX : 0/1; X may be 1.

    Notes
    -----
    The result is too small where images were filtered or interpolated over time, and too large where the outermost
    samples hold much signal (small matrices); neither is detected.
    """
    lines, samples = kspace_BCTYX.shape[-2:]
    far_Y = (torch.arange(lines, device=kspace_BCTYX.device) - lines // 2).abs() >= _OUTER * (lines // 2)
    width = max(1, samples // _BANDS_PER_READOUT)
    least = math.inf
    for band in range(min(_BANDS, samples // (2 * width))):
        first = band * width
        sides = (slice(first, first + width), slice(samples - first - width, samples - first))
        outer = torch.cat([kspace_BCTYX[:, :, :, far_Y, side] for side in sides], -1)
        masks = [mask_BTYX[:, None, :, far_Y, side if mask_BTYX.shape[-1] > 1 else slice(None)] for side in sides]
        mask = torch.cat([m.expand(-1, -1, -1, -1, width) for m in masks], -1) > 0
        measured = mask.expand(outer.shape) & (outer != 0)
        least = min(least, _median_power(outer[measured]), _median_power(_changes(outer, measured)) / 2)
    return math.sqrt(least / math.log(2)) if math.isfinite(least) else 0.0


def _median_power(samples: Tensor) -> float:
    """Median of the power; infinite where there are too few samples."""
    return float(samples.abs().square().median()) if samples.numel() >= _FEWEST else math.inf


def _changes(samples_BCTYX: Tensor, measured_BCTYX: Tensor) -> Tensor:
    """Difference between each measured sample and the previous measurement of the same sample."""
    frames = samples_BCTYX.shape[2]
    time_T = torch.arange(frames, device=samples_BCTYX.device)[:, None, None]
    last_BCTYX = torch.where(measured_BCTYX, time_T, -1).cummax(2).values
    before_BCTYX = torch.cat([torch.full_like(last_BCTYX[:, :, :1], -1), last_BCTYX[:, :, :-1]], 2)
    changes_BCTYX = samples_BCTYX - samples_BCTYX.gather(2, before_BCTYX.clamp_min(0))
    return changes_BCTYX[measured_BCTYX & (before_BCTYX >= 0)]
