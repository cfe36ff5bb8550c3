"""The linear system of total variation: its interface, and its solution where one coil of uniform sensitivity measures.

Legend: B batch, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

Factors = tuple[float, float, float]
"""Weights of the differences along T, X and Y."""
_SMALLEST = 1e-6  # of a pivot: that of the mean image where no frame measured it


class LinearSystem(Protocol):
    """Solver of (A^H A + r K^H K) x = b for K = (f_t D_t, f_x D_x, f_y D_y)."""

    @property
    def factors(self) -> Factors:
        """Weights of the differences along T, X and Y."""
        ...

    @property
    def across_border(self) -> bool:
        """Whether spatial differences go from the last pixel to the first as well."""
        ...

    def __call__(self, right_BTXY: Tensor, image_BTXY: Tensor) -> Tensor:
        """Solve for x, or come nearer to it.

        Parameters
        ----------
        right_BTXY : b, which may be changed.
        image_BTXY : x as it is known.
        """
        ...


class FourierSolver:
    """Solves (F^H m F + r K^H K) x = b without iterations; a `LinearSystem`.

    In k-space m is a factor, and so are the spatial differences, which go across the border. What is left are
    differences between frames: a tridiagonal system over time for each point of k-space, solved by elimination and
    substitution (Thomas), which is stable as the matrix is diagonally dominant. It costs two Fourier transforms and a
    few passes over the images, less than two steps of conjugate gradients.

    Parameters
    ----------
    mask_BTYX : m, 0/1, its centre at the corner; T or X may be 1.
    shape : (T, X, Y) of the images.
    penalty : r.
    factors : weights of the differences along T, X and Y.
    """

    across_border = True

    def __init__(
        self, mask_BTYX: Tensor, shape: tuple[int, int, int], penalty: float, factors: Factors
    ) -> None:  # fmt: skip
        frames, columns, lines = shape
        self.factors, self._coupling = factors, penalty * factors[0] ** 2
        squares = (factor**2 * _second_difference(size, mask_BTYX)
                   for factor, size in zip(factors[1:], (columns, lines), strict=True))  # fmt: skip
        space_XY = penalty * sum(torch.meshgrid(*squares, indexing="ij"))
        self._pivots: list[Tensor] = []
        for t in range(frames):
            neighbours = (t > 0) + (t < frames - 1)
            mask_BXY = mask_BTYX[:, t if mask_BTYX.shape[1] > 1 else 0].mT
            pivot_BXY = mask_BXY + (neighbours * self._coupling + space_XY)
            if self._pivots:
                pivot_BXY -= self._coupling**2 * self._pivots[-1]
            self._pivots.append(pivot_BXY.clamp_min_(_SMALLEST).reciprocal_())

    def __call__(self, right_BTXY: Tensor, image_BTXY: Tensor) -> Tensor:
        """Solve for x."""
        kspace_BTXY = torch.fft.fft2(right_BTXY)
        frames = kspace_BTXY.unbind(1)
        for t, pivot_BXY in enumerate(self._pivots):
            if t:
                frames[t].add_(frames[t - 1], alpha=self._coupling)
            frames[t].mul_(pivot_BXY)
        for t in range(len(frames) - 2, -1, -1):
            frames[t].addcmul_(frames[t + 1], self._pivots[t], value=self._coupling)
        found_BTXY: Tensor = torch.fft.ifft2(kspace_BTXY)
        return found_BTXY


def _second_difference(length: int, like: Tensor) -> Tensor:
    """Eigenvalues 2 - 2 cos k of D^H D around an axis."""
    angles = torch.arange(length, dtype=torch.float64) * (2 * math.pi / length)
    return (2 - 2 * angles.cos()).to(like)
