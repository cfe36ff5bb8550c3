"""Centred orthonormal Fourier transforms between image and k-space.

k[u] = 1/sqrt(N) sum_n x[n] exp(-2 pi i (u - c)(n - c) / N), c = floor(N / 2), along each axis named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def image_to_kspace(image: Tensor, axes: Sequence[int] = (-2, -1)) -> Tensor:
    """Transform images to k-space: centred, orthonormal, so that energy is kept.

    Parameters
    ----------
    image : complex tensor of any shape.
    axes : the axes to transform; by default the last two, (ky, kx).
    """
    dim = list(axes)
    kspace: Tensor = torch.fft.fftn(torch.fft.ifftshift(image, dim), dim=dim, norm="ortho")
    return _shifted(kspace, dim)


def kspace_to_image(kspace: Tensor, axes: Sequence[int] = (-2, -1)) -> Tensor:
    """Transform k-space to images: the inverse, and the adjoint, of `image_to_kspace`."""
    dim = list(axes)
    image: Tensor = torch.fft.ifftn(torch.fft.ifftshift(kspace, dim), dim=dim, norm="ortho")
    return _shifted(image, dim)


def mirror_kspace(values: Tensor, axes: Sequence[int]) -> Tensor:
    """Return samples mirrored about the centre of k-space, u -> 2 c - u modulo N, along each axis named.

    Along an even axis the first index stays where it is.
    """
    for axis in axes:
        flipped = values.flip(axis)
        values = flipped if values.shape[axis] % 2 else flipped.roll(1, axis)
    return values


def flip_in_kspace(kspace: Tensor, axes: Sequence[int]) -> Tensor:
    """Return the k-space of images that are flipped, n -> N - 1 - n, along each axis named, counted from the last.

    It is mirrored; along an even axis, whose middle lies half a pixel from the pixel at c, with a phase that grows
    along it by 2 pi / N a sample.
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
