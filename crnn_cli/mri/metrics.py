"""Image quality against a reference: PSNR, SSIM, NMSE and HFEN, of a whole sequence and of each frame.

Images are real, mostly magnitudes, (T, Y, X) or (Z, T, Y, X). The brightness is compared as it is, unless a scale is
asked for. Everything is computed in double precision on the CPU, a few frames at a time.

Legend: Z slice, T frame, Y and X pixel, F frames of all slices in a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from crnn_cli.errors import UnsupportedDataError

Scale = Literal["none", "least-squares"]
"""How the brightness of an image is fitted before it is compared."""

SIGMA = 1.5
"""Standard deviation in pixels of the SSIM window and of the Laplacian of Gaussian of HFEN."""
WINDOW, LOG_WINDOW = 11, 15
"""Widths in pixels of the SSIM window and of the Laplacian of Gaussian of HFEN."""
K1, K2 = 0.01, 0.03
"""Constants of SSIM."""
_PIXELS_AT_ONCE = 2**18
_STRIP = 2**15  # pixels of a strip of rows that is filtered at once
_NO_EDGES = 1e-18
"""Energy of the edges relative to that of the frame below which a frame has no edges; rounding leaves 1e-32."""


@dataclass(frozen=True)
class Measure:
    """Values of one quality measure.

    Attributes
    ----------
    whole : of the whole sequence.
    frames : of each frame, float64, (T,) or (Z, T); NaN where undefined, as that frame of the reference is empty.
    """

    whole: float
    frames: Tensor


@dataclass(frozen=True)
class Quality:
    """All quality measures of an image.

    Attributes
    ----------
    psnr : in dB, infinite where identical.
    ssim, nmse, hfen : dimensionless.
    data_range : peak of the reference, in its units; see `data_range`.
    scale : factor by which the image was multiplied before the comparison; None if none was fitted.
    """

    psnr: Measure
    ssim: Measure
    nmse: Measure
    hfen: Measure
    data_range: float
    scale: float | None

    def summary(self) -> dict[str, Any]:
        """Measures of the whole sequence for JSON; an infinite PSNR becomes null, with ``identical`` true."""
        values = _entry(self.psnr.whole, self.ssim.whole, self.nmse.whole, self.hfen.whole)
        return {**values, "data_range": self.data_range, "scale": self.scale}

    def frames(self) -> list[dict[str, Any]]:
        """Measures of each frame for JSON, slices and frames counted from 0; undefined values become null."""
        measures = (self.psnr, self.ssim, self.nmse, self.hfen)
        stack_ZTM = torch.stack([m.frames.reshape(-1, m.frames.shape[-1]) for m in measures], dim=-1)
        return [
            {"slice": z, "frame": t, **_entry(*values)}
            for z, row in enumerate(stack_ZTM.tolist())
            for t, values in enumerate(row)
        ]


def quality(image: Tensor, reference: Tensor, scale: Scale = "none") -> Quality:
    """Compute all quality measures of an image against a reference of the same shape, (T, Y, X) or (Z, T, Y, X).

    Parameters
    ----------
    scale : ``none`` compares the brightness as it is; ``least-squares`` first multiplies the image by one factor,
        `least_squares_scale`. That hides a wrong brightness and never worsens NMSE and PSNR: report that it was done.

    Raises
    ------
    UnsupportedDataError
        If the shapes differ, a value is complex or not finite, Y or X is below 11, or the reference is constant.

    Examples
    --------
    >>> reference = torch.arange(256.0).reshape(1, 16, 16)
    >>> result = quality(1.1 * reference, reference)
    >>> round(result.psnr.whole, 2), round(result.nmse.whole, 3)
    (24.76, 0.01)
    >>> quality(1.1 * reference, reference, "least-squares").nmse.whole < 1e-12
    True
    """
    factor = least_squares_scale(image, reference) if scale == "least-squares" else None
    if factor is not None:
        image = image.double() * factor
    return Quality(
        psnr(image, reference),
        ssim(image, reference),
        nmse(image, reference),
        hfen(image, reference),
        data_range(reference),
        factor,
    )


def data_range(reference: Tensor) -> float:
    """Data range of PSNR and SSIM: max |r| over all slices and frames of the reference.

    Raises
    ------
    UnsupportedDataError
        If the reference is zero everywhere.
    """
    peak = max(float(part.abs().max()) for part in reference.split(1))
    if peak == 0:
        raise UnsupportedDataError("the reference is zero everywhere, so there is nothing to compare with")
    return peak


def least_squares_scale(image: Tensor, reference: Tensor) -> float:
    """Least-squares scale s = <x, r> / <x, x>, which minimises ||s x - r|| over all slices and frames.

    Raises
    ------
    UnsupportedDataError
        If the image is zero everywhere; else as `quality`.

    Examples
    --------
    >>> least_squares_scale(torch.full((1, 4, 4), 2.0), torch.ones(1, 4, 4))
    0.5
    """
    _require_comparable(image, reference)
    sums = _by_frame(lambda x, r: torch.stack([_sum(x * r), _sum(x * x)], -1), image, reference)
    both, own = sums.reshape(-1, 2).sum(0).tolist()
    if own == 0:
        raise UnsupportedDataError("the image is zero everywhere: no brightness can be fitted to it")
    return float(both / own)


def psnr(image: Tensor, reference: Tensor) -> Measure:
    """Peak signal-to-noise ratio 10 log10(R^2 / mean |x - r|^2) in dB, R the `data_range` of the whole reference.

    The value of the sequence comes from the mean over all pixels of all frames; it is not the mean of the decibels of
    frames. Infinite where x and r are identical.

    Raises
    ------
    UnsupportedDataError
        As `quality`, but for any size.
    """
    _require_comparable(image, reference)
    peak = data_range(reference)
    error = _by_frame(lambda x, r: (x - r).square().mean((-2, -1)), image, reference)
    return Measure(float(_decibel(peak, error.mean())), _decibel(peak, error))


def nmse(image: Tensor, reference: Tensor) -> Measure:
    """Normalised mean squared error ||x - r||^2 / ||r||^2; NaN in a frame where r is zero.

    Raises
    ------
    UnsupportedDataError
        If the reference is zero everywhere; else as `quality`, but for any size.
    """
    _require_comparable(image, reference)
    data_range(reference)
    energy = _by_frame(lambda x, r: torch.stack([_sum((x - r) ** 2), _sum(r**2)], -1), image, reference)
    return _ratio(energy[..., 0], energy[..., 1], torch.zeros_like(energy[..., 1]))


def ssim(image: Tensor, reference: Tensor) -> Measure:
    """Structural similarity, averaged over each frame, then over frames; 1 where identical.

    With C1 = (0.01 R)^2, C2 = (0.03 R)^2 and R the `data_range`, the similarity at a pixel is

        (2 m_x m_r + C1) (2 c_xr + C2) / ((m_x^2 + m_r^2 + C1) (v_x + v_r + C2)).

    Means m, variances v and covariance c are weighted by a Gaussian of 1.5 pixels over 11 x 11 pixels and divided by n,
    not n - 1. Only windows inside the frame count, so the 5 pixels along its border are no centres. Agrees with
    scikit-image for gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=R.

    Raises
    ------
    UnsupportedDataError
        If Y or X is below 11; else as `quality`.

    References
    ----------
    Wang et al., IEEE TIP 13(4), 2004.
    """
    _require_comparable(image, reference, WINDOW)
    peak = data_range(reference)
    frames = _by_frame(lambda x, r: ssim_per_frame(x, r, peak), image, reference)
    return Measure(float(frames.mean()), frames)


def ssim_per_frame(x_FYX: Tensor, r_FYX: Tensor, peak: float | Tensor) -> Tensor:
    """Structural similarity of each frame, (F,), differentiable: the formula of `ssim`, for training losses.

    Parameters
    ----------
    x_FYX, r_FYX : image and reference, real, at least 11 x 11 pixels; not checked.
    peak : the data range R, a number or one per frame, (F, 1, 1).
    """
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    weights = _gaussian(WINDOW)
    mean_x, mean_r, xx, rr, xr = (
        _inside(moment, weights, weights) for moment in (x_FYX, r_FYX, x_FYX**2, r_FYX**2, x_FYX * r_FYX)
    )
    luminance = (2 * mean_x * mean_r + c1) / (mean_x**2 + mean_r**2 + c1)
    structure = (2 * (xr - mean_x * mean_r) + c2) / ((xx - mean_x**2) + (rr - mean_r**2) + c2)
    return (luminance * structure).mean((-2, -1))


def hfen(image: Tensor, reference: Tensor) -> Measure:
    """High-frequency error norm ||L(x - r)|| / ||L r||; NaN in a frame where r has no edges.

    L filters each frame with a Laplacian of Gaussian of 15 x 15 pixels and sigma 1.5 that sums to zero, as MATLAB's
    fspecial("log", 15, 1.5). Frames are mirrored at their border, so that the border is no edge.

    Raises
    ------
    UnsupportedDataError
        If Y or X is below 7; else as `quality`.

    References
    ----------
    Ravishankar & Bresler, IEEE TMI 30(5), 2011, who do not divide by ||L r||.
    """
    _require_comparable(image, reference, LOG_WINDOW // 2)
    data_range(reference)

    def energies(x_FYX: Tensor, r_FYX: Tensor) -> Tensor:
        edges = (_laplacian_of_gaussian(x_FYX - r_FYX), _laplacian_of_gaussian(r_FYX), r_FYX)
        return torch.stack([_sum(e**2) for e in edges], -1)

    energy = _by_frame(energies, image, reference)
    result = _ratio(energy[..., 0], energy[..., 1], _NO_EDGES * energy[..., 2])
    return Measure(math.sqrt(result.whole), result.frames.sqrt())


def _require_comparable(image: Tensor, reference: Tensor, smallest: int = 1) -> None:
    if image.shape != reference.shape or image.ndim not in (3, 4) or image.numel() == 0:
        raise UnsupportedDataError(
            f"the image is {tuple(image.shape)}, the reference {tuple(reference.shape)}: both must be the same "
            "(T, Y, X) or (Z, T, Y, X)"
        )
    for name, values in (("image", image), ("reference", reference)):
        if values.is_complex():
            raise UnsupportedDataError(f"the {name} is complex: compare magnitudes")
        if not all(bool(part.isfinite().all()) for part in values.split(1)):
            raise UnsupportedDataError(f"the {name} has NaN or infinite values: replace them before comparing")
    rows, columns = image.shape[-2:]
    if min(rows, columns) < smallest:
        raise UnsupportedDataError(
            f"frames are {columns} x {rows} pixels (x, y); the quality measures need at least {smallest} both ways"
        )


def _by_frame(measure: Callable[[Tensor, Tensor], Tensor], image: Tensor, reference: Tensor) -> Tensor:
    """Apply a function of frames (F, Y, X) to a few at a time in double precision; (T, ...) or (Z, T, ...)."""
    x_FYX, r_FYX = image.detach().flatten(0, -3), reference.detach().flatten(0, -3)
    several = max(1, _PIXELS_AT_ONCE // x_FYX[0].numel())
    batches = zip(torch.split(x_FYX, several), torch.split(r_FYX, several), strict=True)
    values = torch.cat([measure(*(v.to("cpu", torch.float64).contiguous() for v in pair)) for pair in batches])
    return values.reshape(*image.shape[:-2], *values.shape[1:])


def _sum(values_FYX: Tensor) -> Tensor:
    return values_FYX.sum((-2, -1))


def _decibel(peak: float, mean_squared_error: Tensor) -> Tensor:
    return 10 * torch.log10(peak**2 / mean_squared_error)


def _ratio(error: Tensor, energy: Tensor, floor: Tensor) -> Measure:
    """Quotient error / energy, NaN where the energy does not exceed ``floor``."""
    whole = float(error.sum() / energy.sum()) if energy.sum() > floor.sum() else math.nan
    return Measure(whole, torch.where(energy > floor, error / energy, math.nan))


def _offsets(taps: int) -> Tensor:
    return torch.arange(taps, dtype=torch.float64) - taps // 2


def _gaussian(taps: int) -> Tensor:
    weights = torch.exp(-(_offsets(taps) ** 2) / (2 * SIGMA**2))
    return weights / weights.sum()


def _inside(image_FYX: Tensor, weights_Y: Tensor, weights_X: Tensor) -> Tensor:
    """Separable filter along Y, then X, at windows inside the frame: (F, Y - taps + 1, X - taps + 1).

    Large frames are filtered strip by strip, which stay in the cache; the result is the same to the bit.
    """
    rows, around = image_FYX.shape[-2] - len(weights_Y) + 1, len(weights_Y) - 1
    step = max(16, _STRIP // (image_FYX.shape[0] * image_FYX.shape[-1]))
    strips = [
        _filtered(image_FYX.narrow(-2, first, min(step, rows - first) + around), weights_Y, weights_X)
        for first in range(0, rows, step)
    ]
    return strips[0] if len(strips) == 1 else torch.cat(strips, -2)


def _filtered(image_FYX: Tensor, weights_Y: Tensor, weights_X: Tensor) -> Tensor:
    for axis, weights in ((-2, weights_Y), (-1, weights_X)):
        length = image_FYX.shape[axis] - len(weights) + 1
        shifted = (w * image_FYX.narrow(axis, k, length) for k, w in enumerate(weights.tolist()))
        image_FYX = sum(shifted, start=torch.zeros(()))
    return image_FYX


def _laplacian_of_gaussian(image_FYX: Tensor) -> Tensor:
    """Filter by g(x) g(y) (x^2 + y^2 - 2 s^2) / s^4 minus its mean, a sum of three separable kernels."""
    smooth = _gaussian(LOG_WINDOW)
    second = smooth * (_offsets(LOG_WINDOW) ** 2 - SIGMA**2) / SIGMA**4
    flat = torch.ones_like(smooth)
    mean = 2 * second.sum() / LOG_WINDOW**2
    padded = _pad_mirrored(_pad_mirrored(image_FYX, -2), -1)
    curvature = _inside(padded, second, smooth) + _inside(padded, smooth, second)
    return curvature - _inside(padded, mean * flat, flat)


def _pad_mirrored(image_FYX: Tensor, axis: int) -> Tensor:
    """Add 7 pixels on either side, mirrored at the outer edge of the last pixel (c b a | a b c)."""
    pad, length = LOG_WINDOW // 2, image_FYX.shape[axis]
    before, after = image_FYX.narrow(axis, 0, pad), image_FYX.narrow(axis, length - pad, pad)
    return torch.cat([before.flip(axis), image_FYX, after.flip(axis)], axis)


def _entry(psnr_db: float, ssim: float, nmse: float, hfen: float) -> dict[str, Any]:
    values = {"psnr_db": psnr_db, "ssim": ssim, "nmse": nmse, "hfen": hfen}
    finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return {**finite, "identical": psnr_db == math.inf}
