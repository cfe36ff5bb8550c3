"""Centred orthonormal Fourier transforms between image and k-space.

Along each transformed axis of length N, with the centre c = floor(N / 2),

    k[u] = 1 / sqrt(N) sum_n x[n] exp(-2 pi i (u - c)(n - c) / N).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def image_to_kspace(image: Tensor, axes: Sequence[int] = (-2, -1)) -> Tensor:
    """Transform images to k-space; centred and orthonormal, so that energy is preserved.

    Parameters
    ----------
    image : complex tensor of any shape.
    axes : axes to transform; by default the last two, (ky, kx).

    Examples
    --------
    >>> kspace = image_to_kspace(torch.ones(4, 6, dtype=torch.complex64))
    >>> kspace.abs().argmax().item(), round(kspace.abs().max().item(), 3)  # all energy at the centre (2, 3)
    (15, 4.899)
    >>> torch.allclose(kspace_to_image(kspace), torch.ones(4, 6, dtype=torch.complex64))
    True
    """
    dim = list(axes)
    kspace: Tensor = torch.fft.fftn(torch.fft.ifftshift(image, dim), dim=dim, norm="ortho")
    return _shifted(kspace, dim)


def kspace_to_image(kspace: Tensor, axes: Sequence[int] = (-2, -1)) -> Tensor:
    """Transform k-space to images, the inverse and the adjoint of `image_to_kspace`."""
    dim = list(axes)
    image: Tensor = torch.fft.ifftn(torch.fft.ifftshift(kspace, dim), dim=dim, norm="ortho")
    return _shifted(image, dim)


def mirror_kspace(values: Tensor, axes: Sequence[int]) -> Tensor:
    """Mirror samples about the centre of k-space, u -> 2 c - u modulo N, along each of ``axes``.

    Along an even axis the first index maps to itself. Applies to k-space and to masks.

    >>> mirror_kspace(torch.arange(6), (0,)).tolist(), mirror_kspace(torch.arange(5), (0,)).tolist()
    ([0, 5, 4, 3, 2, 1], [4, 3, 2, 1, 0])
    """
    for axis in axes:
        flipped = values.flip(axis)
        values = flipped if values.shape[axis] % 2 else flipped.roll(1, axis)
    return values


def flip_in_kspace(kspace: Tensor, axes: Sequence[int]) -> Tensor:
    """Transform k-space to that of the flipped images, n -> N - 1 - n, along each of ``axes`` (negative numbers).

    The k-space is mirrored. Along an even axis, whose midpoint lies half a pixel from the centre c, it also gets a
    linear phase of 2 pi / N per sample.
    """
    kspace = mirror_kspace(kspace, axes)
    for axis in axes:
        count = kspace.shape[axis]
        if count % 2 == 0:
            turns = (torch.arange(count, device=kspace.device) - count // 2) / count
            phase = torch.polar(torch.ones_like(turns), 2 * math.pi * turns).to(kspace.dtype)
            kspace = kspace * phase.reshape(-1, *(1,) * (-axis - 1))
    return kspace


def _shifted(values: Tensor, dim: list[int]) -> Tensor:
    shifted: Tensor = torch.fft.fftshift(values, dim)
    return shifted
