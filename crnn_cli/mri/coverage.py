"""Coverage of an uncertainty map: how often the truth lies within k standard deviations of the image.

Legend: Z slice, T frame, Y and X pixel. Images are magnitudes (Z, T, Y, X), in the unit of their uncertainty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

WIDTHS = (1.0, 1.64, 2.0)
"""Half-widths of the intervals in standard deviations."""
DARK = 0.1
"""Threshold of the body mask, as a fraction of the 99th percentile of the temporal mean."""
RANGES = 4
"""Number of frame ranges in a summary."""


@dataclass(frozen=True)
class Coverage:
    """Fraction of the body pixels whose truth lies within k standard deviations of the image.

    Attributes
    ----------
    within : the fraction for each k of `WIDTHS`.
    within_T : the fraction in each frame, (width, T).
    body : fraction of all pixels that belong to the body.
    """

    within: list[float]
    within_T: Tensor
    body: float

    def summary(self) -> dict[str, Any]:
        """Coverage for JSON: overall, of `RANGES` ranges of frames, and the values of a normal distribution."""
        frames = self.within_T.shape[1]
        edges = [round(part * frames / min(RANGES, frames)) for part in range(min(RANGES, frames) + 1)]
        ranges = [
            {"first": first, "last": end - 1, **_named(self.within_T[:, first:end].mean(1).tolist())}
            for first, end in pairwise(edges)
        ]
        normal = _named([math.erf(width / math.sqrt(2)) for width in WIDTHS])
        return {"body_share": _digits(self.body), **_named(self.within), "normal": normal, "frames": ranges}


def body_mask(magnitude_ZTYX: Tensor) -> Tensor:
    """Mask of the body, (Z, 1, Y, X) boolean: where the temporal mean is at least a tenth of its 99th percentile.

    The percentile is over all slices. Lungs and air are dark and fall outside.
    """
    mean_Z1YX = magnitude_ZTYX.double().mean(1, keepdim=True)
    ordered = mean_Z1YX.flatten().sort().values
    white = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return (mean_Z1YX >= DARK * white) & (mean_Z1YX > 0)


def coverage(image_ZTYX: Tensor, truth_ZTYX: Tensor, deviation_ZTYX: Tensor) -> Coverage:
    """Measure how often |image - truth| <= k x deviation inside the body of the truth.

    Parameters
    ----------
    image_ZTYX, truth_ZTYX : magnitudes in one unit. A wrong brightness counts as error: fit it first if need be.
    deviation_ZTYX : standard deviation of the image magnitude, not negative.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> truth = torch.ones(1, 2, 8, 8)
    >>> coverage(truth + 1.5, truth, torch.ones_like(truth)).within  # within 1, 1.64 and 2 deviations
    [0.0, 1.0, 1.0]
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
