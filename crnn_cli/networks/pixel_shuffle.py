"""Complex images as channels of smaller images, and back.

A factor r turns an image into r^2 images of one r-th of the size: a quarter of the multiplications of a convolution for
r = 2, and twice its field of view. Sides that r does not divide are filled up with zeros.

References
----------
Shi et al.: "Real-time single image and video super-resolution using an efficient sub-pixel convolutional neural
network", CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def small_size(shape: Sequence[int], factor: int) -> tuple[int, int]:
    """Lines and columns of the smaller images of images (..., Y, X).

    >>> small_size((3, 9, 8), 2)
    (5, 4)
    """
    return -(-shape[-2] // factor), -(-shape[-1] // factor)


def unshuffle(image_NYX: Tensor, factor: int) -> Tensor:
    """Real and imaginary part as smaller images, (N, 2 r^2, Y / r, X / r); (N, 2, Y, X) for r = 1.

    Parameters
    ----------
    image_NYX : complex.
    factor : r.
    """
    image_NCYX = torch.view_as_real(image_NYX).movedim(-1, 1)
    if factor == 1:
        return image_NCYX
    lines, columns = image_NCYX.shape[-2:]
    if lines % factor or columns % factor:
        image_NCYX = F.pad(image_NCYX, (0, -columns % factor, 0, -lines % factor))
    return F.pixel_unshuffle(image_NCYX, factor)


def shuffle(channels_NCVU: Tensor, factor: int, shape: Sequence[int]) -> Tensor:
    """Complex images (N, Y, X) of smaller ones; the inverse of `unshuffle`.

    Parameters
    ----------
    channels_NCVU : real, 2 r^2 channels.
    factor : r.
    shape : of the images, (..., Y, X).
    """
    image_NCYX = F.pixel_shuffle(channels_NCVU, factor) if factor > 1 else channels_NCVU
    return torch.view_as_complex(image_NCYX[..., : shape[-2], : shape[-1]].movedim(1, -1).contiguous())
