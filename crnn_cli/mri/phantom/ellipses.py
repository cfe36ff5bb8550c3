"""Analytic k-space of moving ellipses: the signal of an ideal scanner in closed form, without a discrete transform.

Legend: C receive coil, T frame, Y phase encoding, X readout, H and W the half-step k-space grid along Y and X.
Lengths in mm, spatial frequencies in 1/mm, angles in rad; x and y are 0 in the centre pixel floor(N / 2).

    signal_c(k, t) = integral of object(r, t) modulation_c(r) exp(-2 pi i k.r) dr,
    object(r, t) = sum of the amplitudes of the ellipses that contain r at t.

A modulation (object phase, coil sensitivity) is a Fourier series with a period of twice the field of view. Each of its
terms shifts the transform of the object by a whole number of half k-space steps, so the sum stays exact.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_NEAR = 20.0  # torch's Bessel function (2.4 ... 2.13) is accurate to 5e-7 only below this argument, to 1e-14 above
_BLOCK = 2**14  # samples per block: fits the cache, and too few for torch to split between threads


@dataclass(frozen=True)
class Ellipse:
    """An ellipse over time; T is the number of frames, or 1 for an ellipse that never moves.

    Attributes
    ----------
    amplitude : intensity that it adds to the object inside; negative values subtract.
    centre_T2 : (x, y) in mm, float64.
    semi_axes_T2 : the two semi-axes in mm, > 0.
    angle_T : from the x axis to the first semi-axis in rad.
    """

    amplitude: float
    centre_T2: Tensor
    semi_axes_T2: Tensor
    angle_T: Tensor

    @property
    def still(self) -> bool:
        """Whether the ellipse does not move."""
        rows = torch.cat([self.centre_T2, self.semi_axes_T2, self.angle_T[:, None]], dim=1)
        return bool((rows == rows[:1]).all())


@dataclass(frozen=True)
class Grid:
    """Grid of a Cartesian scan.

    Attributes
    ----------
    samples, lines : pixels along readout (x) and phase encoding (y).
    spacing : pixel size along both in mm.
    """

    samples: int
    lines: int
    spacing: float


@dataclass(frozen=True)
class Modulation:
    """Smooth complex factor of the object, separable and band-limited: an object phase or a coil sensitivity.

    m(x, y) = [sum_p a_p exp(i pi p x / FOV_x)] [sum_p b_p exp(i pi p y / FOV_y)], p = -P ... P.

    Attributes
    ----------
    x_terms, y_terms : a and b, complex128, of odd lengths 2 P + 1.
    """

    x_terms: Tensor
    y_terms: Tensor

    def times(self, other: Modulation) -> Modulation:
        """Product of two modulations; their orders P add."""
        return Modulation(_product(self.x_terms, other.x_terms), _product(self.y_terms, other.y_terms))

    def sampled(self, grid: Grid) -> Tensor:
        """Values m at the pixel centres, (Y, X) complex128."""
        return _values(self.y_terms, grid.lines)[:, None] * _values(self.x_terms, grid.samples)


def uniform() -> Modulation:
    """Modulation that is 1 everywhere."""
    one = torch.ones(1, dtype=torch.complex128)
    return Modulation(one, one)


def ellipse_transform(ellipse: Ellipse, frame: int, kx_W: Tensor, ky_H: Tensor) -> Tensor:
    """Continuous Fourier transform of one ellipse in one frame.

    F(k) = amplitude pi A B jinc(2 pi q) exp(-2 pi i k.c), with jinc(r) = 2 J1(r) / r and q = |(A k_u, B k_v)|,
    k rotated into the axes of the ellipse. F(0) is amplitude times area.

    Parameters
    ----------
    kx_W, ky_H : spatial frequencies in 1/mm, float64.

    Returns
    -------
    (H, W) complex128, in intensity mm^2.

    References
    ----------
    Van de Walle et al., IEEE TMI 19(1), 2000; Guerquin-Kern et al., IEEE TMI 31(3), 2012.
    """
    index = min(frame, ellipse.angle_T.shape[0] - 1)
    x, y = ellipse.centre_T2[index].tolist()
    a, b = ellipse.semi_axes_T2[index].tolist()
    cos, sin = math.cos(float(ellipse.angle_T[index])), math.sin(float(ellipse.angle_T[index]))
    along = a * (ky_H[:, None] * sin + kx_W * cos)
    across = b * (ky_H[:, None] * cos - kx_W * sin)
    jinc_HW = jinc(torch.hypot(along, across).mul_(2 * math.pi)).mul_(ellipse.amplitude * math.pi * a * b)
    transform_HW: Tensor = _turns(ky_H * -y)[:, None] * _turns(kx_W * -x) * jinc_HW
    return transform_HW


def jinc(r: Tensor) -> Tensor:
    """Jinc function 2 J1(r) / r for r >= 0, with jinc(0) = 1, accurate to 1e-14.

    A Chebyshev series in r^2 up to r = 20, `torch.special.bessel_j1` beyond.

    >>> jinc(torch.tensor([0.0, 3.8317059702], dtype=torch.float64)).abs().round(decimals=6).tolist()
    [1.0, 0.0]
    """
    if bool((r < _NEAR).all()):
        return _near_jinc(r)
    far = 2 * torch.special.bessel_j1(r) / r.clamp_min(_NEAR)
    return far if bool((r >= _NEAR).all()) else torch.where(r < _NEAR, _near_jinc(r.clamp_max(_NEAR)), far)


def _near_jinc(r: Tensor) -> Tensor:
    """Chebyshev series of jinc for r up to 20, summed by Clenshaw's recurrence."""
    t = r**2 * (2 / _NEAR**2) - 1
    first, *terms = _near_series()
    before, last = torch.zeros_like(t), torch.zeros_like(t)
    for term in reversed(terms):
        before, last = last, before.neg_().add_(term).addcmul_(t, last, value=2)
    return before.neg_().add_(first).addcmul_(t, last)


@functools.cache
def _near_series() -> tuple[float, ...]:
    """Chebyshev coefficients of jinc over r^2 = 0 ... 400.

    From jinc(r) = 2 / pi integral of cos(r cos a) sin^2 a over a = 0 ... pi (Poisson), by the trapezoid rule.
    """
    degree, angles = 25, 64
    node = (torch.arange(degree, dtype=torch.float64) + 0.5) * (math.pi / degree)
    r = _NEAR * torch.sqrt((torch.cos(node) + 1) / 2)
    a = torch.arange(angles, dtype=torch.float64) * (math.pi / angles)
    value = (torch.cos(r[:, None] * torch.cos(a)) * torch.sin(a) ** 2).sum(dim=1) * (2 / angles)
    order = torch.arange(degree, dtype=torch.float64)
    terms = torch.cos(order[:, None] * node) @ value * (2 / degree)
    terms[0] /= 2
    return tuple(terms.tolist())


def ellipses_to_kspace(
    ellipses: Sequence[Ellipse],
    grid: Grid,
    frames: int,
    modulations: Sequence[Modulation],
    dtype: torch.dtype = torch.complex128,
) -> Tensor:
    """Exact k-space of the object times each modulation.

    Scaled by 1 / (spacing^2 sqrt(X Y)), so that `kspace_to_image` gives the band-limited object in its own intensities.
    Parts outside the field of view alias into it, as on a scanner. Ellipses that never move are transformed once. Sums
    are complex128 and stored as ``dtype``.

    Parameters
    ----------
    modulations : one for each coil C: sensitivity times object phase.

    Returns
    -------
    (C, T, Y, X), centred, orthonormal.
    """
    order_x = max(m.x_terms.numel() // 2 for m in modulations)
    order_y = max(m.y_terms.numel() // 2 for m in modulations)
    kx_W = _half_steps(grid.samples, order_x) / grid.spacing
    ky_H = _half_steps(grid.lines, order_y) / grid.spacing
    ky_H = ky_H[ky_H >= 0]  # the object is real: F(-k) is the conjugate of F(k)
    scale = 1 / (grid.spacing**2 * math.sqrt(grid.samples * grid.lines))
    still_HW = torch.zeros(ky_H.numel(), kx_W.numel(), dtype=torch.complex128)
    _add(still_HW, [ellipse for ellipse in ellipses if ellipse.still], 0, kx_W, ky_H)
    moving = [ellipse for ellipse in ellipses if not ellipse.still]
    kspace_CTYX = torch.empty(len(modulations), frames, grid.lines, grid.samples, dtype=dtype)
    for frame in range(frames):
        upper_HW = still_HW.clone()
        _add(upper_HW, moving, frame, kx_W, ky_H)
        object_HW = torch.cat([upper_HW[1:].flip(0, 1).conj(), upper_HW])
        for coil, modulation in enumerate(modulations):
            rows_YW = _shifted_sum(object_HW.mT, modulation.y_terms * scale, order_y, grid.lines).mT
            kspace_CTYX[coil, frame] = _shifted_sum(rows_YW, modulation.x_terms, order_x, grid.samples)
    return kspace_CTYX


def _add(total_HW: Tensor, ellipses: Sequence[Ellipse], frame: int, kx_W: Tensor, ky_H: Tensor) -> None:
    """Add the transforms of ellipses in place, a block of rows at a time."""
    for rows in _blocks(total_HW):
        for ellipse in ellipses:
            total_HW[rows] += ellipse_transform(ellipse, frame, kx_W, ky_H[rows])


def _half_steps(pixels: int, order: int) -> Tensor:
    """Spatial frequencies in cycles per pixel: half steps, symmetric about 0, ``order`` of them beyond the grid."""
    reach = 2 * (pixels // 2) + order
    return torch.arange(-reach, reach + 1, dtype=torch.float64) / (2 * pixels)


def _shifted_sum(object_HW: Tensor, terms: Tensor, order: int, pixels: int) -> Tensor:
    """Sum over p of terms_p F(k - p / 2 steps), at the whole steps of the last axis."""
    own = terms.numel() // 2
    total = torch.zeros(object_HW.shape[0], pixels, dtype=object_HW.dtype)
    for rows in _blocks(total):
        for p in range(-own, own + 1):
            first = order - p
            total[rows] += terms[p + own] * object_HW[rows, first : first + 2 * pixels - 1 : 2]
    return total


def _blocks(array: Tensor) -> Iterator[slice]:
    rows = max(1, _BLOCK // array.shape[1])
    return (slice(first, first + rows) for first in range(0, array.shape[0], rows))


def _values(terms: Tensor, pixels: int) -> Tensor:
    order = terms.numel() // 2
    position = torch.arange(pixels, dtype=torch.float64) - pixels // 2
    p = torch.arange(-order, order + 1, dtype=torch.float64)
    return _turns(position[:, None] * p / (2 * pixels)) @ terms


def _product(first: Tensor, second: Tensor) -> Tensor:
    product = torch.zeros(first.numel() + second.numel() - 1, dtype=torch.complex128)
    for index, value in enumerate(first):
        product[index : index + second.numel()] += value * second
    return product


def _turns(cycles: Tensor) -> Tensor:
    """Phasors exp(2 pi i cycles)."""
    return torch.polar(torch.ones_like(cycles), 2 * math.pi * cycles)
