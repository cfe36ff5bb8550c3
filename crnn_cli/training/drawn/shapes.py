"""Stacks of random shapes with random textures: structures of every kind, none of them anatomy.

Bent ellipsoids lie over each other, some of them shells around others. Each has a mean intensity, a coarse and a fine
texture. Slices are means over their thickness, so that outlines are blurred where they run askew.

Legend: Z thin slice, S slice, Y row, X column.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from crnn_cli.training.drawn.stack import Stack

_SIDE = 128
_THIN = 2  # thin slices in a slice


def random_shapes(slices: int, rng: np.random.Generator) -> Stack:
    """Draw a stack of slices of 128 x 128 pixels with 5 to 14 shapes; intensities 0 ... 1.

    Parameters
    ----------
    slices : how many.
    rng : random numbers.
    """
    count = int(rng.integers(5, 15))
    thin = slices * _THIN
    z, y, x = np.meshgrid(
        np.linspace(-1, 1, thin, dtype=np.float32),
        *[np.linspace(-1, 1, _SIDE, dtype=np.float32)] * 2, indexing="ij",
    )  # fmt: skip
    labels_ZYX = np.zeros(z.shape, np.uint16)
    bend = [0.25 * smooth_noise(z.shape, (3, 5, 5), rng) for _ in range(2)]
    y, x = y + bend[0], x + bend[1]
    number = 0
    while number < count:
        centre, radii = rng.uniform(-0.8, 0.8, 3), rng.uniform((0.3, 0.1, 0.1), (1.6, 0.6, 0.6))
        lean, angle = rng.normal(0, 0.3, 2), rng.uniform(0, np.pi)
        dz, dy, dx = z - centre[0], y - centre[1] - lean[0] * z, x - centre[2] - lean[1] * z
        along, across = np.cos(angle) * dy + np.sin(angle) * dx, np.cos(angle) * dx - np.sin(angle) * dy
        far = np.sqrt((dz / radii[0]) ** 2 + (along / radii[1]) ** 2 + (across / radii[2]) ** 2)
        far = far + rng.uniform(0, 0.25) * smooth_noise(z.shape, (3, 8, 8), rng)
        number += 1
        labels_ZYX[far < 1] = number
        if rng.random() < 0.35:  # a shell: what is inside becomes another shape
            number += 1
            labels_ZYX[far < rng.uniform(0.45, 0.8)] = number
    thick_SYX = labels_ZYX.reshape(slices, _THIN, _SIDE, _SIDE)[:, _THIN // 2]
    image_ZYX = _textured(labels_ZYX, number, rng)
    image_SYX = image_ZYX.reshape(slices, _THIN, _SIDE, _SIDE).mean(axis=1)
    return Stack(image_SYX, np.ascontiguousarray(thick_SYX))


def smooth_noise(shape: tuple[int, ...], knots: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Random numbers of unit variance at some knots, interpolated linearly to a shape.

    Parameters
    ----------
    shape : (Z, Y, X).
    knots : how many along each axis.
    rng : random numbers.
    """
    coarse = torch.from_numpy(rng.standard_normal((1, 1, *knots), np.float32))
    fine: NDArray[np.float32] = F.interpolate(coarse, shape, mode="trilinear", align_corners=True)[0, 0].numpy()
    return fine


def _textured(labels_ZYX: NDArray[np.uint16], number: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Intensities of labels: a mean for each, textures that differ in strength."""
    mean = rng.uniform(0, 1, number + 1).astype(np.float32)
    strength = (rng.uniform(0, 0.12, number + 1) * (rng.random(number + 1) < 0.7)).astype(np.float32)
    fine = rng.standard_normal(labels_ZYX.shape, np.float32)
    coarse = smooth_noise(labels_ZYX.shape, (4, 24, 24), rng)
    slow = smooth_noise(labels_ZYX.shape, (3, 4, 4), rng)
    image: NDArray[np.float32] = (
        mean[labels_ZYX] + strength[labels_ZYX] * (coarse + 0.5 * fine) + rng.uniform(0, 0.08) * slow
    )
    return image
