"""How often a truth lies within the uncertainty that was stated for it.

Legend: Z slice, T frame, Y and X pixel. Images are magnitudes, (Z, T, Y, X), in one unit with their uncertainty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

WIDTHS = (1.0, 1.64, 2.0)
"""Of the intervals, in standard deviations."""
DARK = 0.1
"""Of the 99th percentile: what is darker, on the mean over time, is not body."""
RANGES = 4
"""Parts that the frames are divided into."""


@dataclass(frozen=True)
class Coverage:
    """What share of the pixels in the body has its truth within so many standard deviations.

    within : a share for each of `WIDTHS`. within_T : the same of each frame, (width, T). body : share of all pixels.
    """

    within: list[float]
    within_T: Tensor
    body: float

    def summary(self) -> dict[str, Any]:
        """Return it for JSON, with what a normal distribution would give, overall and of ranges of frames."""
        frames = self.within_T.shape[1]
        edges = [round(part * frames / min(RANGES, frames)) for part in range(min(RANGES, frames) + 1)]
        ranges = [
            {"first": first, "last": end - 1, **_named(self.within_T[:, first:end].mean(1).tolist())}
            for first, end in pairwise(edges)
        ]
        normal = _named([math.erf(width / math.sqrt(2)) for width in WIDTHS])
        return {"body_share": _digits(self.body), **_named(self.within), "normal": normal, "frames": ranges}


def body_mask(magnitude_ZTYX: Tensor) -> Tensor:
    """Return where the mean over time is at least a tenth of the 99th percentile of these means, (Z, 1, Y, X)."""
    mean_Z1YX = magnitude_ZTYX.double().mean(1, keepdim=True)
    ordered = mean_Z1YX.flatten().sort().values
    white = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return (mean_Z1YX >= DARK * white) & (mean_Z1YX > 0)


def coverage(image_ZTYX: Tensor, truth_ZTYX: Tensor, deviation_ZTYX: Tensor) -> Coverage:
    """Return how often |image - truth| <= width x deviation, where the truth has its body.

    Parameters
    ----------
    deviation_ZTYX : standard deviation of the image's magnitude, not negative.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if not image_ZTYX.shape == truth_ZTYX.shape == deviation_ZTYX.shape:
        raise ValueError(f"shapes {image_ZTYX.shape}, {truth_ZTYX.shape} and {deviation_ZTYX.shape} differ")
    inside_Z1YX = body_mask(truth_ZTYX)
    count = int(inside_Z1YX.sum())
    error_ZTYX = (image_ZTYX.double() - truth_ZTYX.double()).abs()
    within_T = torch.stack(
        [
            ((error_ZTYX <= width * deviation_ZTYX.double()) & inside_Z1YX).sum((0, 2, 3)).double() / max(1, count)
            for width in WIDTHS
        ]
    )
    return Coverage(within_T.mean(1).tolist(), within_T, count / inside_Z1YX.numel())


def _named(shares: list[float]) -> dict[str, float]:
    return {f"within_{width:g}": _digits(share) for width, share in zip(WIDTHS, shares, strict=True)}


def _digits(value: float) -> float:
    return float(f"{value:.6g}")
