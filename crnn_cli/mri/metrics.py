"""How near images are to a reference: PSNR, SSIM, NMSE and HFEN, of a whole sequence and of each frame.

Legend: Z slice, T frame, Y and X pixel, F any number of frames in a row. Images are real, mostly magnitudes,
(T, Y, X) or (Z, T, Y, X); a "frame" is one (Y, X) picture. No brightness is fitted unless asked for.
Everything is computed in double precision on the CPU, a few frames at a time.
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

SIGMA = 1.5
"""Standard deviation in pixels of SSIM's window and of HFEN's Laplacian of Gaussian."""
WINDOW, LOG_WINDOW = 11, 15
K1, K2 = 0.01, 0.03
_PIXELS_AT_ONCE = 2**18
_NO_EDGES = 1e-18
"""A frame has no edges where the energy of its edges is below this share of its energy: rounding leaves 1e-32."""


@dataclass(frozen=True)
class Measure:
    """One measure.

    whole : of the whole sequence. frames : of each frame, float64, (T,) or (Z, T); NaN where it is undefined because
    that frame of the reference is empty.
    """

    whole: float
    frames: Tensor


@dataclass(frozen=True)
class Quality:
    """All measures of an image.

    psnr in dB, infinite where identical; ssim, nmse, hfen without unit. data_range : see `data_range`, in the units of
    the reference. scale : the factor that the image was multiplied by before it was compared, None if none was fitted.
    """

    psnr: Measure
    ssim: Measure
    nmse: Measure
    hfen: Measure
    data_range: float
    scale: float | None

    def summary(self) -> dict[str, Any]:
        """Return the measures of the whole sequence for JSON: infinite PSNR is null, and ``identical`` true."""
        values = _entry(self.psnr.whole, self.ssim.whole, self.nmse.whole, self.hfen.whole)
        return {**values, "data_range": self.data_range, "scale": self.scale}

    def frames(self) -> list[dict[str, Any]]:
        """Return the measures of each frame for JSON, counted from 0; an undefined one is null."""
        measures = (self.psnr, self.ssim, self.nmse, self.hfen)
        stack_ZTM = torch.stack([m.frames.reshape(-1, m.frames.shape[-1]) for m in measures], dim=-1)
        return [
            {"slice": z, "frame": t, **_entry(*values)}
            for z, row in enumerate(stack_ZTM.tolist())
            for t, values in enumerate(row)
        ]


def quality(image: Tensor, reference: Tensor, scale: Scale = "none") -> Quality:
    """Measure an image against a reference of the same shape, (T, Y, X) or (Z, T, Y, X).

    Parameters
    ----------
    scale : ``none`` compares as it is; ``least-squares`` multiplies the image by `least_squares_scale` first, one
        factor for all. That hides a wrong brightness and never worsens NMSE and PSNR: say so where you report it.

    Raises
    ------
    UnsupportedDataError
        If the shapes differ, a value is complex or not finite, Y or X is below 11, or the reference is the same
        everywhere.
    """
    factor = least_squares_scale(image, reference) if scale == "least-squares" else None
    if factor is not None:
        image = image.double() * factor
    measured = [measure(image, reference) for measure in (psnr, ssim, nmse, hfen)]
    return Quality(measured[0], measured[1], measured[2], measured[3], data_range(reference), factor)


def data_range(reference: Tensor) -> float:
    """Return max |r| over the whole reference, all slices and frames: what PSNR and SSIM call the data range.

    Raises
    ------
    UnsupportedDataError
        If it is 0.
    """
    peak = max(float(part.abs().max()) for part in reference.split(1))
    if peak == 0:
        raise UnsupportedDataError("the reference is zero everywhere, so there is nothing to compare with")
    return peak


def least_squares_scale(image: Tensor, reference: Tensor) -> float:
    """Return s = <x, r> / <x, x>, the factor that makes ||s x - r|| smallest, over all slices and frames.

    Raises
    ------
    UnsupportedDataError
        If the image is zero everywhere, or as under `quality`.
    """
    _require_comparable(image, reference)
    sums = _by_frame(lambda x, r: torch.stack([_sum(x * r), _sum(x * x)], -1), image, reference)
    both, own = sums.reshape(-1, 2).sum(0).tolist()
    if own == 0:
        raise UnsupportedDataError("the image is zero everywhere: no brightness can be fitted to it")
    return float(both / own)


def psnr(image: Tensor, reference: Tensor) -> Measure:
    """Return the peak signal-to-noise ratio 10 log10(R^2 / mean |x - r|^2) in dB, R the `data_range`.

    The whole: from the mean over all pixels of all frames, not the mean of decibels. Frames: with the same R.
    Infinite where x and r are identical.

    Raises
    ------
    UnsupportedDataError
        As under `quality`; any size will do.
    """
    _require_comparable(image, reference)
    peak = data_range(reference)
    error = _by_frame(lambda x, r: (x - r).square().mean((-2, -1)), image, reference)
    return Measure(float(_decibel(peak, error.mean())), _decibel(peak, error))


def nmse(image: Tensor, reference: Tensor) -> Measure:
    """Return the normalised squared error ||x - r||^2 / ||r||^2; undefined (NaN) in a frame where r is zero.

    Raises
    ------
    UnsupportedDataError
        If the reference is zero everywhere, or as under `quality`; any size will do.
    """
    _require_comparable(image, reference)
    data_range(reference)
    energy = _by_frame(lambda x, r: torch.stack([_sum((x - r) ** 2), _sum(r**2)], -1), image, reference)
    return _ratio(energy[..., 0], energy[..., 1], torch.zeros_like(energy[..., 1]))


def ssim(image: Tensor, reference: Tensor) -> Measure:
    """Return the structural similarity, averaged over each frame, then over frames; 1 where identical.

    (2 m_x m_r + C1) (2 c_xr + C2) / ((m_x^2 + m_r^2 + C1) (v_x + v_r + C2)), C1 = (0.01 R)^2, C2 = (0.03 R)^2, R the
    `data_range`. Means m, variances v and covariance c are weighted by a Gaussian of 1.5 pixels over 11 x 11 pixels and
    normalised by 1, not n - 1. Only windows that lie inside the frame count, so the 5 pixels along its border are no
    centres. scikit-image agrees with gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=R.

    Raises
    ------
    UnsupportedDataError
        If Y or X is below 11, or as under `quality`.

    References
    ----------
    Wang et al., IEEE TIP 13(4), 2004.
    """
    _require_comparable(image, reference, WINDOW)
    peak = data_range(reference)
    frames = _by_frame(lambda x, r: ssim_per_frame(x, r, peak), image, reference)
    return Measure(float(frames.mean()), frames)


def ssim_per_frame(x_FYX: Tensor, r_FYX: Tensor, peak: float | Tensor) -> Tensor:
    """Return the `ssim` of each frame (F,), differentiable; ``peak`` is its R, a number or one a frame (F, 1, 1)."""
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    weights = _gaussian(WINDOW)
    mean_x, mean_r, xx, rr, xr = (
        _inside(moment, weights, weights) for moment in (x_FYX, r_FYX, x_FYX**2, r_FYX**2, x_FYX * r_FYX)
    )
    luminance = (2 * mean_x * mean_r + c1) / (mean_x**2 + mean_r**2 + c1)
    structure = (2 * (xr - mean_x * mean_r) + c2) / ((xx - mean_x**2) + (rr - mean_r**2) + c2)
    return (luminance * structure).mean((-2, -1))


def hfen(image: Tensor, reference: Tensor) -> Measure:
    """Return the high-frequency error norm ||L(x - r)|| / ||L r||; undefined (NaN) in a frame where r has no edges.

    L filters each frame with a Laplacian of Gaussian: 15 x 15 pixels, 1.5 pixels wide, made to sum to zero as MATLAB's
    fspecial("log", 15, 1.5) does. Frames are mirrored at their border, so that the border is no edge.

    Raises
    ------
    UnsupportedDataError
        If Y or X is below 7, no frame of the reference has any edge, or as under `quality`.

    References
    ----------
    Ravishankar & Bresler, IEEE TMI 30(5), 2011, there not divided by ||L r||.
    """
    _require_comparable(image, reference, LOG_WINDOW // 2)
    data_range(reference)

    def energies(x_FYX: Tensor, r_FYX: Tensor) -> Tensor:
        edges = (_laplacian_of_gaussian(x_FYX - r_FYX), _laplacian_of_gaussian(r_FYX), r_FYX)
        return torch.stack([_sum(e**2) for e in edges], -1)

    energy = _by_frame(energies, image, reference)
    result = _ratio(energy[..., 0], energy[..., 1], _NO_EDGES * energy[..., 2])
    if math.isnan(result.whole):
        raise UnsupportedDataError("the reference is the same all over each frame: without edges HFEN is undefined")
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
    """Apply a measure of frames (F, Y, X) to a few at a time, in one memory layout; return (T, ...) or (Z, T, ...)."""
    x_FYX, r_FYX = image.detach().flatten(0, -3), reference.detach().flatten(0, -3)
    several = max(1, _PIXELS_AT_ONCE // x_FYX[0].numel())
    batches = zip(torch.split(x_FYX, several), torch.split(r_FYX, several), strict=True)
    found = torch.cat([measure(*(v.to("cpu", torch.float64).contiguous() for v in pair)) for pair in batches])
    return found.reshape(*image.shape[:-2], *found.shape[1:])


def _sum(values_FYX: Tensor) -> Tensor:
    return values_FYX.sum((-2, -1))


def _decibel(peak: float, mean_squared_error: Tensor) -> Tensor:
    return 10 * torch.log10(peak**2 / mean_squared_error)


def _ratio(error: Tensor, energy: Tensor, nothing: Tensor) -> Measure:
    """Return error / energy, NaN where the energy is no more than ``nothing``."""
    whole = float(error.sum() / energy.sum()) if energy.sum() > nothing.sum() else math.nan
    return Measure(whole, torch.where(energy > nothing, error / energy, math.nan))


def _offsets(taps: int) -> Tensor:
    return torch.arange(taps, dtype=torch.float64) - taps // 2


def _gaussian(taps: int) -> Tensor:
    weights = torch.exp(-(_offsets(taps) ** 2) / (2 * SIGMA**2))
    return weights / weights.sum()


def _inside(image_FYX: Tensor, weights_Y: Tensor, weights_X: Tensor) -> Tensor:
    """Filter along Y, then X, where the window lies inside the frame: (F, Y - taps + 1, X - taps + 1)."""
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
    mirrored = _mirrored(_mirrored(image_FYX, -2), -1)
    curvature = _inside(mirrored, second, smooth) + _inside(mirrored, smooth, second)
    return curvature - _inside(mirrored, mean * flat, flat)


def _mirrored(image_FYX: Tensor, axis: int) -> Tensor:
    """Add 7 pixels on either side, mirrored at the edge of the outermost pixel (c b a | a b c)."""
    pad, length = LOG_WINDOW // 2, image_FYX.shape[axis]
    before, after = image_FYX.narrow(axis, 0, pad), image_FYX.narrow(axis, length - pad, pad)
    return torch.cat([before.flip(axis), image_FYX, after.flip(axis)], axis)


def _entry(psnr_db: float, ssim: float, nmse: float, hfen: float) -> dict[str, Any]:
    values = {"psnr_db": psnr_db, "ssim": ssim, "nmse": nmse, "hfen": hfen}
    shown = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return {**shown, "identical": psnr_db == math.inf}
