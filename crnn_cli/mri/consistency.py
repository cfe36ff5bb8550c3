"""Data consistency operators for one receive channel, and initial images that share samples between frames.

A network sees a `Consistency` only: ``operator(image, error)`` is the data consistency step, ``operator.zero_filled()``
is A^H y, ``operator.normal(image)`` is A^H A x; ``operator.view_shared()`` and ``operator.time_wiener()`` are initial
images in which each frame borrows missing samples from other frames. `crnn_cli.mri.multicoil` has the operator of
several coils.

Legend: B batch, C coil, T frame, Y phase encoding, X readout. Images and k-space are complex, centred, orthonormal.
"""

from __future__ import annotations

import copy
from typing import Protocol

import torch
from torch import Tensor

from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.fourier import image_to_kspace, kspace_to_image
from crnn_cli.mri.gram import convolve, sum_sets
from crnn_cli.mri.running_samples import running_series

ALL_FRAMES = slice(None)


class Consistency(Protocol):
    """Interface between a reconstruction network and the measured data.

    All images are (B, T, Y, X) complex.

    Attributes
    ----------
    map_sets : sets of coil sensitivities; with several, B holds the components of one image
        (`crnn_cli.mri.encoding`).
    """

    map_sets: int

    @property
    def coils(self) -> int:
        """Number of coils."""
        ...

    def __call__(self, image_BTYX: Tensor, error: Tensor | None = None) -> Tensor:
        """Apply the data consistency step to an image.

        Parameters
        ----------
        error : expected r.m.s. error of the image per pixel, a scalar, against which the noise of the data is weighed.
            None: the data are taken as noiseless.
        """
        ...

    def step(self, image_BTYX: Tensor, frames: slice, error: Tensor | None = None) -> Tensor:
        """Apply the data consistency step to some frames alone; ``error`` as above.

        Parameters
        ----------
        image_BTYX : as many images as there are frames.
        frames : which they are.
        """
        ...

    def zero_filled(self) -> Tensor:
        """Zero-filled images A^H y."""
        ...

    def normal(self, image_BTYX: Tensor, frames: slice = ALL_FRAMES) -> Tensor:
        """Normal operator A^H A x: the zero-filled images of the samples that an image would give.

        Differentiable with respect to the image.

        Parameters
        ----------
        image_BTYX : as many images as there are frames.
        frames : which they are, one after the other; by default all.
        """
        ...

    def fourier_mask(self) -> Tensor | None:
        """Mask m, (B, T, Y, X), its centre at the corner, where A^H A = F^H m F: of one coil; None of several."""
        ...

    def scaled(self, factor: Tensor) -> Consistency:
        """Operator of the same data times a real factor, a scalar or (B, 1, 1, 1)."""
        ...

    def view_shared(self) -> Tensor:
        """Images whose missing samples are averaged from other frames."""
        ...

    def time_wiener(self) -> Tensor:
        """Images whose missing samples are Wiener estimates from other frames."""
        ...

    def running(self) -> Tensor:
        """Images whose missing samples are averaged from the frames before."""
        ...


class NoiseLevel:
    """Standard deviation of the complex noise of a sample, which scales with the data; 0 where unknown.

    Parameters
    ----------
    value : the standard deviation, in the units of the k-space.
    like : a tensor whose real type and device the level takes.
    """

    def __init__(self, value: float, like: Tensor) -> None:
        self._value = torch.full((1, 1, 1, 1), value, dtype=like.real.dtype, device=like.device)

    def scaled(self, factor: Tensor) -> NoiseLevel:
        """Noise level of the data times a real factor."""
        twin = copy.copy(self)
        twin._value = self._value * factor
        return twin

    def relative_variance(self, error: Tensor | None) -> Tensor | float:
        """Noise variance relative to the error variance of the image: (deviation / error)^2, (B, 1, 1, 1).

        Parameters
        ----------
        error : expected r.m.s. error of the image per pixel; None gives 0, hard data consistency.
        """
        return 0.0 if error is None else (self._value / error) ** 2


_CENTRE_LINES = 2  # central lines on either side, left out of the covariance: their energy would hide how others change
_RIDGE = 1e-3  # Tikhonov term of the Wiener filter, relative to the mean energy of a frame
_GPU_COEFFICIENTS = 2**24  # coefficients of linear systems that a GPU solves at once


class SingleCoilConsistency:
    """Data consistency of one receive channel on a Cartesian grid.

    With k = F x the k-space of the image and y the measured samples under mask m, the step is

        k <- (1 - m) k + m y                    for v = 0 (hard data consistency),
        k <- (1 - m) k + m (v k + y) / (1 + v)  for v > 0, the minimiser of v ||x - x_net||^2 + ||m F x - y||^2.

    So v is the noise variance of the data relative to the error variance of the network.

    Where the mask is constant along kx, the readout stays in image space: the transform along x is unitary, so the
    result is the same at half the cost.

    Parameters
    ----------
    kspace_BTYX : complex; values outside the mask are ignored.
    mask_BTYX : boolean or 0/1, broadcastable to the k-space; X may be 1.
    noise : v above, >= 0.
    deviation : standard deviation of the complex noise of a sample where known; given an expected error e of the
        image, v grows by (deviation / e)^2.

    Notes
    -----
    The demo code of Qin et al. writes (k + v y) / (1 + v), where v is the weight of the data: the reciprocal of v here.
    The mask is trusted: samples that it calls measured but that are zero pull the image to zero without an error.

    References
    ----------
    Schlemper et al., IEEE TMI 37(2), 2018; Qin et al., IEEE TMI 38(1), 2019.
    """

    map_sets = coils = 1

    def __init__(
        self, kspace_BTYX: Tensor, mask_BTYX: Tensor, noise: float = 0.0, deviation: float = 0.0
    ) -> None:  # fmt: skip
        self._axes: tuple[int, ...] = (-2,) if _constant_along_readout(mask_BTYX) else (-2, -1)
        self._mask = mask_BTYX[..., :1] if len(self._axes) == 1 else mask_BTYX
        self._mask = self._mask.to(kspace_BTYX.real.dtype)
        data = kspace_BTYX if len(self._axes) == 2 else kspace_to_image(kspace_BTYX, (-1,))
        self._data = data * self._mask
        self._zero_filled = kspace_to_image(self._data, self._axes)
        self._mask_from_corner = torch.fft.ifftshift(self._mask, self._axes)
        self._noise, self._deviation = noise, NoiseLevel(deviation, kspace_BTYX)

    def scaled(self, factor: Tensor) -> SingleCoilConsistency:
        """Operator of the same data times a real factor, a scalar or (B, 1, 1, 1)."""
        twin = copy.copy(self)
        twin._data, twin._zero_filled = self._data * factor, self._zero_filled * factor
        twin._deviation = self._deviation.scaled(factor)
        return twin

    def at_samples(self, image_BTYX: Tensor) -> tuple[Tensor, Tensor]:
        """Residual m F x - y and data y at the N measured samples of k-space, each complex (N,).

        Differentiable with respect to the image, for losses in k-space.
        """
        difference = image_to_kspace(image_BTYX, self._axes) * self._mask - self._data
        data = self._data
        if len(self._axes) == 1:
            difference, data = (image_to_kspace(values, (-1,)) for values in (difference, data))
        measured = (self._mask > 0).expand(difference.shape)
        return difference[measured], data[measured]

    def __call__(self, image_BTYX: Tensor, error: Tensor | None = None) -> Tensor:
        """Data consistency step; `error` as in `Consistency`."""
        return self.step(image_BTYX, slice(None), error)

    def step(self, image_BTYX: Tensor, frames: slice, error: Tensor | None = None) -> Tensor:
        """Data consistency step of some frames; see `Consistency.step`."""
        weight = 1 / (1 + self._noise + self._deviation.relative_variance(error))
        return image_BTYX + weight * (self._zero_filled[:, frames] - self.normal(image_BTYX, frames))

    def zero_filled(self) -> Tensor:
        """Zero-filled images A^H y, (B, T, Y, X)."""
        return self._zero_filled

    def normal(self, image_BTYX: Tensor, frames: slice = ALL_FRAMES) -> Tensor:
        """Normal operator F^H m F x, (B, T, Y, X)."""
        mask = self._mask_from_corner if self._mask_from_corner.shape[1] == 1 else self._mask_from_corner[:, frames]
        return convolve(image_BTYX, mask, self._axes)

    def fourier_mask(self) -> Tensor:
        """The mask, (B, T, Y, X), its centre at the corner; T and X may be 1."""
        mask_BTYX: Tensor = self._mask_from_corner
        return mask_BTYX

    def view_shared(self) -> Tensor:
        """View-shared images, (B, T, Y, X): missing samples are averages over the frames that measured them.

        A sample missing in frame t becomes

            sum_s w(t - s) m_s y_s / sum_s w(t - s) m_s,  w(d) = 1 / (1 + |d|)^2,

        zero where no frame measured it. Motion blurs in time.

        References
        ----------
        Markl & Hennig, MRM 45, 2001 (view sharing).
        """
        frames = self._data.shape[1]
        index = torch.arange(frames, device=self._data.device)
        weight = (1 + (index[:, None] - index[None, :]).abs()).to(self._mask.dtype) ** -2
        total = torch.einsum("ts,bsyx->btyx", weight, self._mask)
        shared = torch.einsum("ts,bsyx->btyx", weight.to(self._data.dtype), self._data)
        shared = shared / torch.where(total > 0, total, torch.ones_like(total))
        return kspace_to_image(self._data + (1 - self._mask) * shared, self._axes)

    def running(self) -> Tensor:
        """Running images, (B, T, Y, X): missing samples are averaged from the frames before, as in a stream.

        See `crnn_cli.mri.running_samples.RunningSamples`.
        """
        return kspace_to_image(running_series(self._data, self._mask), self._axes)

    def time_wiener(self) -> Tensor:
        """Time-Wiener images, (B, T, Y, X): missing samples are linear estimates from the same sample in other frames.

        With o the frames that measured a sample, its value in any other frame t becomes

            C[t, o] (C[o, o] + ridge I)^-1 y[o],

        the linear minimum-mean-square-error estimate for the temporal covariance C of the view-shared k-space without
        its central lines. Frames that look alike share samples wherever in the cardiac cycle they are. This is k-t
        BLAST with one covariance for all positions, learned from the scan itself.

        References
        ----------
        Tsao, Boesiger, Pruessmann, MRM 50, 2003 (k-t BLAST).
        """
        shared = image_to_kspace(self.view_shared(), self._axes)
        middle, width = shared.shape[2] // 2, _CENTRE_LINES
        centre = slice(middle - width + 1, middle + width) if shared.shape[2] > 4 * width else slice(0)
        outer = shared.clone()
        outer[:, :, centre] = 0
        gram_BTT = _gram(outer)
        ridge_TT = _RIDGE * torch.eye(shared.shape[1], dtype=gram_BTT.dtype, device=gram_BTT.device)
        estimates, lines = [], shared.shape[2]
        step = _lines_per_batch(self._mask)
        for part in (slice(first, first + step) for first in range(0, lines, step)):  # L lines of S systems of T
            mask_BLST = self._mask[:, :, part].movedim(1, -1).to(gram_BTT.dtype)  # R right-hand sides for each system
            system = gram_BTT[:, None, None] * mask_BLST[..., :, None] * mask_BLST[..., None, :]
            system = system + torch.diag_embed(1 - mask_BLST) + ridge_TT
            data_BLSTR = self._data[:, :, part].unflatten(-1, (mask_BLST.shape[2], -1)).movedim(1, 3)
            weights_BLSTR = mask_BLST[..., None] * torch.linalg.solve(system, data_BLSTR)
            estimates.append((gram_BTT[:, None, None] @ weights_BLSTR).movedim(3, 1).flatten(3))
        filled = torch.where(self._mask > 0, self._data, torch.cat(estimates, 2))
        return kspace_to_image(filled, self._axes)


def share_views(encoding: Encoding, data_BCTYX: Tensor) -> Tensor:
    """Combined view-shared image of one coil or several, S^H of each coil's `SingleCoilConsistency.view_shared`.

    Parameters
    ----------
    data_BCTYX : measured data as `Encoding.to_data_space` returns them.

    Returns
    -------
    (B, T, Y, X) complex; k-space that no frame measured is zero. B are the components, where there are several sets of
    sensitivities.
    """
    batch, coils, frames = data_BCTYX.shape[:3]
    mask_BTYX = encoding.mask_BTYX.expand(batch, frames, -1, -1)
    total_BTYX = data_BCTYX.new_zeros((batch * encoding.map_sets, *data_BCTYX.shape[2:]))
    for coil in range(coils):
        data_BTYX = data_BCTYX[:, coil]
        kspace_BTYX = data_BTYX if len(encoding.axes) == 2 else image_to_kspace(data_BTYX, (-1,))
        shared_BTYX = SingleCoilConsistency(kspace_BTYX, mask_BTYX).view_shared()
        total_BTYX += (
            shared_BTYX if encoding.maps_BCYX is None else shared_BTYX * encoding.maps_BCYX[:, coil, None].conj()
        )
    return total_BTYX


def _lines_per_batch(mask_BTYX: Tensor) -> int:
    """Lines to solve for at once: one on a CPU; on a GPU as many as fit in a few hundred MB."""
    if mask_BTYX.device.type == "cpu":
        return 1
    batch, frames, lines, columns = mask_BTYX.shape
    return min(lines, max(1, _GPU_COEFFICIENTS // (batch * columns * frames**2)))


def _gram(images_or_kspace_BTYX: Tensor) -> Tensor:
    """Gram matrix of the frames, (B, T, T), divided by their mean square norm."""
    flat = images_or_kspace_BTYX.flatten(2)
    gram_BTT = flat @ flat.mH
    power = torch.diagonal(gram_BTT, dim1=-2, dim2=-1).real.mean(-1)
    return gram_BTT / power.clamp_min(torch.finfo(power.dtype).tiny)[:, None, None]


def energy_weighted_rms(image_BTYX: Tensor, map_sets: int = 1) -> Tensor:
    """Brightness of the bright parts of each batch item, sqrt(sum |x|^4 / sum |x|^2), (B, 1, 1, 1) float32.

    With several sets of sensitivities |x|^2 is the sum over the components, and the result is (1, 1, 1, 1).

    Networks and weights of regularisation are scaled by it. Empty background does not change it, so a cropped and a
    full field of view get the same scale. Zero for an image of zeros: guard the division.

    >>> image = torch.zeros(1, 1, 8, 8, dtype=torch.complex64)
    >>> image[..., 2:4, 2:4] = 3j
    >>> energy_weighted_rms(image).item()
    3.0
    """
    power = sum_sets(image_BTYX.abs().double() ** 2, map_sets)
    second = power.sum(dim=(1, 2, 3), keepdim=True)
    fourth = (power**2).sum(dim=(1, 2, 3), keepdim=True)
    return (fourth / second.clamp_min(torch.finfo(torch.float64).tiny)).sqrt().float()


def _constant_along_readout(mask: Tensor) -> bool:
    return mask.shape[-1] == 1 or bool((mask == mask[..., :1]).all())
