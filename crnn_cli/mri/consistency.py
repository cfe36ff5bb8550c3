"""Data consistency: what keeps a reconstruction true to the samples that were measured.

Legend: B batch, T frame, Y phase encoding, X readout. Images and k-space are complex, centred, orthonormal.

An operator of this room has five methods, and networks know no more of it than these:
``operator(image, error)`` pulls an image to the measured data, ``operator.zero_filled()`` is the adjoint A^H applied to
the data, ``operator.normal(image)`` is A^H A, ``operator.view_shared()`` and ``operator.time_wiener()`` fill what a
frame lacks from other frames.
"""

from __future__ import annotations

import copy
from typing import Protocol

import torch
from torch import Tensor

from crnn_cli.mri.fourier import image_to_kspace, kspace_to_image


class Consistency(Protocol):
    """What a reconstruction network may ask of the measured data."""

    def __call__(self, image_BTYX: Tensor, error: Tensor | None = None) -> Tensor:
        """Return the image pulled to the measured data.

        error : r.m.s. error that the image is expected to have in a pixel, a scalar: what the noise of the data is
            weighed against. None: the data are taken as they are.
        """
        ...

    def zero_filled(self) -> Tensor:
        """Return the images of the measured samples with zeros elsewhere, (B, T, Y, X)."""
        ...

    def normal(self, image_BTYX: Tensor) -> Tensor:
        """Return A^H A x, the zero-filled images of what an image would be measured as, (B, T, Y, X)."""
        ...

    def view_shared(self) -> Tensor:
        """Return the images with missing samples taken from other frames, (B, T, Y, X)."""
        ...

    def time_wiener(self) -> Tensor:
        """Return the images with missing samples estimated from those of other frames, (B, T, Y, X)."""
        ...


class NoiseLevel:
    """Standard deviation of the noise of a sample, scaled with the data; 0 where the data are taken as they are."""

    def __init__(self, value: float, like: Tensor) -> None:
        self._value = torch.full((1, 1, 1, 1), value, dtype=like.real.dtype, device=like.device)

    def scaled(self, factor: Tensor) -> NoiseLevel:
        """Return that of data times a factor."""
        twin = copy.copy(self)
        twin._value = self._value * factor
        return twin

    def to(self, device: torch.device) -> NoiseLevel:
        """Return it on a device."""
        twin = copy.copy(self)
        twin._value = self._value.to(device)
        return twin

    def over(self, error: Tensor | None) -> Tensor | float:
        """Return (deviation / error)^2, (B, 1, 1, 1); 0 without an error."""
        return 0.0 if error is None else (self._value / error) ** 2


_MIDDLE = 2  # lines from the middle of k-space whose energy would hide how the others change
_RIDGE = 1e-3  # of the mean energy of a frame
_AT_ONCE = 2**24  # coefficients of equations that a GPU solves at once


class SingleCoilConsistency:
    """Data consistency of one receive channel on a Cartesian grid.

    With k the k-space of the image and y the measured samples under mask m:
    noise 0 (hard): k <- (1 - m) k + m y. noise v > 0: k <- (1 - m) k + m (v k + y) / (1 + v), the minimiser of
    v ||x - x_net||^2 + ||m F x - y||^2. So v is the noise variance of the data relative to the network's error.

    Where a mask does not change along kx, the readout stays in image space: along x the transform is unitary
    and the result the same, at half the cost.

    Parameters
    ----------
    kspace_BTYX : complex, zero where nothing was measured; what lies outside the mask is ignored.
    mask_BTYX : boolean or 0/1, broadcastable to the k-space; X may be 1.
    noise : v above, >= 0.
    deviation : standard deviation of the complex noise of a sample, where it is known; with an expected error e of the
        image, v grows by (deviation / e)^2.

    Notes
    -----
    The demo code of Qin et al. writes (k + v y) / (1 + v) with v the weight of the data, the reciprocal of ours.
    """

    def __init__(
        self, kspace_BTYX: Tensor, mask_BTYX: Tensor, noise: float = 0.0, deviation: float = 0.0
    ) -> None:  # fmt: skip
        self._axes = (-2,) if _constant_along_readout(mask_BTYX) else (-2, -1)
        self._mask = mask_BTYX[..., :1] if len(self._axes) == 1 else mask_BTYX
        self._mask = self._mask.to(kspace_BTYX.real.dtype)
        data = kspace_BTYX if len(self._axes) == 2 else kspace_to_image(kspace_BTYX, (-1,))
        self._data = data * self._mask
        self._zero_filled = kspace_to_image(self._data, self._axes)
        self._mask_from_corner = torch.fft.ifftshift(self._mask, self._axes)
        self._noise, self._deviation = noise, NoiseLevel(deviation, kspace_BTYX)

    def scaled(self, factor: Tensor) -> SingleCoilConsistency:
        """Return the operator of the same data times a real factor, a scalar or (B, 1, 1, 1)."""
        twin = copy.copy(self)
        twin._data, twin._zero_filled = self._data * factor, self._zero_filled * factor
        twin._deviation = self._deviation.scaled(factor)
        return twin

    def to(self, device: torch.device) -> SingleCoilConsistency:
        """Return the operator with its data on a device."""
        twin = copy.copy(self)
        for name in ("_mask", "_mask_from_corner", "_data", "_zero_filled", "_deviation"):
            setattr(twin, name, getattr(self, name).to(device))
        return twin

    def misfit(self, image_BTYX: Tensor) -> tuple[float, float]:
        """Return ||m F x - y||^2 and ||y||^2."""
        return _energy(self._difference(image_BTYX)), _energy(self._data)

    def at_samples(self, image_BTYX: Tensor) -> tuple[Tensor, Tensor]:
        """Return m F x - y and y at the N measured samples of k-space, each complex (N,); differentiable."""
        difference, data = self._difference(image_BTYX), self._data
        if len(self._axes) == 1:
            difference, data = (image_to_kspace(values, (-1,)) for values in (difference, data))
        measured = (self._mask > 0).expand(difference.shape)
        return difference[measured], data[measured]

    def _difference(self, image_BTYX: Tensor) -> Tensor:
        """Return m F x - y, along x in the space of the data."""
        return image_to_kspace(image_BTYX, self._axes) * self._mask - self._data

    def __call__(self, image_BTYX: Tensor, error: Tensor | None = None) -> Tensor:
        """Return the image with its k-space pulled to the measured samples."""
        weight = 1 / (1 + self._noise + self._deviation.over(error))
        return image_BTYX + weight * (self._zero_filled - self.normal(image_BTYX))

    def zero_filled(self) -> Tensor:
        """Return the images of the measured samples, zeros elsewhere."""
        return self._zero_filled

    def normal(self, image_BTYX: Tensor) -> Tensor:
        """Return F^H m F x: a circular convolution, so that images need not be centred for it."""
        kspace = torch.fft.fftn(image_BTYX, dim=self._axes).mul_(self._mask_from_corner)
        image: Tensor = torch.fft.ifftn(kspace, dim=self._axes)  # in memory with the axes transformed innermost
        return image.contiguous()

    def view_shared(self) -> Tensor:
        """Return the images with missing samples averaged from other frames, near ones counting most.

        A sample missing in frame t becomes sum_s w(t - s) m_s y_s / sum_s w(t - s) m_s, w(d) = 1 / (1 + |d|)^2;
        zero where no frame measured it. View sharing in the sense of Markl & Hennig, MRM 45, 2001.
        """
        frames = self._data.shape[1]
        index = torch.arange(frames, device=self._data.device)
        weight = (1 + (index[:, None] - index[None, :]).abs()).to(self._mask.dtype) ** -2
        total = torch.einsum("ts,bsyx->btyx", weight, self._mask)
        shared = torch.einsum("ts,bsyx->btyx", weight.to(self._data.dtype), self._data)
        shared = shared / torch.where(total > 0, total, torch.ones_like(total))
        return kspace_to_image(self._data + (1 - self._mask) * shared, self._axes)

    def time_wiener(self) -> Tensor:
        """Return the images with missing samples estimated linearly from the same sample in other frames.

        The estimate is that of least mean square error (Wiener) for the covariance over time C of the view-shared
        k-space without its middle lines: a missing sample in frame t becomes C[t, o] (C[o, o] + ridge I)^-1 y[o],
        o the frames that measured it. So frames that look alike share, wherever in the cycle they are; it is k-t BLAST
        (Tsao, Boesiger, Pruessmann, MRM 50, 2003) with one covariance for all positions, learned from the scan.
        """
        shared = image_to_kspace(self.view_shared(), self._axes)
        middle = shared.shape[2] // 2
        left_out = slice(middle - _MIDDLE + 1, middle + _MIDDLE) if shared.shape[2] > 4 * _MIDDLE else slice(0)
        outer = shared.clone()
        outer[:, :, left_out] = 0
        gram_BTT = _gram(outer)
        ridge_TT = _RIDGE * torch.eye(shared.shape[1], dtype=gram_BTT.dtype, device=gram_BTT.device)
        estimates, lines = [], shared.shape[2]
        step = _lines_at_once(self._mask)
        for part in (slice(first, first + step) for first in range(0, lines, step)):  # L lines of S systems of T
            seen_BLST = self._mask[:, :, part].movedim(1, -1).to(gram_BTT.dtype)  # equations, R right-hand sides each
            system = gram_BTT[:, None, None] * seen_BLST[..., :, None] * seen_BLST[..., None, :]
            system = system + torch.diag_embed(1 - seen_BLST) + ridge_TT
            data_BLSTR = self._data[:, :, part].unflatten(-1, (seen_BLST.shape[2], -1)).movedim(1, 3)
            weights_BLSTR = seen_BLST[..., None] * torch.linalg.solve(system, data_BLSTR)
            estimates.append((gram_BTT[:, None, None] @ weights_BLSTR).movedim(3, 1).flatten(3))
        filled = torch.where(self._mask > 0, self._data, torch.cat(estimates, 2))
        return kspace_to_image(filled, self._axes)


def _lines_at_once(mask_BTYX: Tensor) -> int:
    """Return for how many lines to solve at once: one on a CPU, on a GPU as many as fit in some hundred MB."""
    if mask_BTYX.device.type == "cpu":
        return 1
    batch, frames, lines, columns = mask_BTYX.shape
    return min(lines, max(1, _AT_ONCE // (batch * columns * frames**2)))


def _gram(images_or_kspace_BTYX: Tensor) -> Tensor:
    """Return the inner products of all pairs of frames, (B, T, T), divided by their mean square norm."""
    flat = images_or_kspace_BTYX.flatten(2)
    gram_BTT = flat @ flat.mH
    power = torch.diagonal(gram_BTT, dim1=-2, dim2=-1).real.mean(-1)
    return gram_BTT / power.clamp_min(torch.finfo(power.dtype).tiny)[:, None, None]


def energy_weighted_rms(image_BTYX: Tensor) -> Tensor:
    """Return sqrt(sum |x|^4 / sum |x|^2) per batch item, (B, 1, 1, 1): how bright the bright parts are.

    Empty background does not change it, so a cropped and a full field of view get the same scale.
    Zero for an image of zeros.
    """
    power = image_BTYX.abs().double() ** 2
    second = power.sum(dim=(1, 2, 3), keepdim=True)
    fourth = (power**2).sum(dim=(1, 2, 3), keepdim=True)
    return (fourth / second.clamp_min(torch.finfo(torch.float64).tiny)).sqrt().float()


def _constant_along_readout(mask: Tensor) -> bool:
    return mask.shape[-1] == 1 or bool((mask == mask[..., :1]).all())


def _energy(values: Tensor) -> float:
    return float(values.abs().double().square().sum())
