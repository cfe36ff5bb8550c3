"""The encoding operator of a Cartesian scan, from images to the samples that the coils measure.

A = m F S: S multiplies by the coil sensitivities, F is the centred orthonormal transform, m the sampling mask.
Legend: B batch, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from crnn_cli.mri.fourier import image_to_kspace, kspace_to_image
from crnn_cli.mri.gram import Gram


class Encoding:
    """A, its adjoint and A^H A, for one coil or several.

    Where a mask does not change along kx, the readout stays in image space: along x the transform is unitary, so that
    norms and adjoints are the same at half the cost. `prepared` brings measured k-space there.

    Parameters
    ----------
    mask_BTYX : boolean or 0/1; X may be 1.
    maps_BCYX : complex sensitivities; None for one coil of uniform sensitivity. A^H A is at most the identity where
        sum_c |s_c|^2 <= 1 everywhere, as it is for maps normalised to 1.
    """

    def __init__(self, mask_BTYX: Tensor, maps_BCYX: Tensor | None = None) -> None:
        constant = mask_BTYX.shape[-1] == 1 or bool((mask_BTYX == mask_BTYX[..., :1]).all())
        self.axes: tuple[int, ...] = (-2,) if constant else (-2, -1)
        self.mask_BTYX = (mask_BTYX[..., :1] if constant else mask_BTYX).float()
        self.maps_BCYX = maps_BCYX

    @property
    def coils(self) -> int:
        """Return the number of coils."""
        return 1 if self.maps_BCYX is None else self.maps_BCYX.shape[1]

    def prepared(self, kspace_BCTYX: Tensor) -> Tensor:
        """Return measured k-space as `forward` returns it: zero outside the mask, along x perhaps in image space."""
        data_BCTYX = torch.empty_like(kspace_BCTYX)
        for coil in range(kspace_BCTYX.shape[1]):
            kspace_BTYX = kspace_BCTYX[:, coil]
            data = kspace_BTYX if len(self.axes) == 2 else kspace_to_image(kspace_BTYX, (-1,))
            torch.mul(data, self.mask_BTYX, out=data_BCTYX[:, coil])
        return data_BCTYX

    def forward(self, image_BTYX: Tensor) -> Tensor:
        """Return A x, (B, C, T, Y, X)."""
        return torch.stack([self._forward(image_BTYX, coil) for coil in range(self.coils)], 1)

    def adjoint(self, data_BCTYX: Tensor) -> Tensor:
        """Return A^H y, (B, T, Y, X), a coil at a time."""
        total = self._backward(data_BCTYX[:, 0], 0, self.axes)
        for coil in range(1, self.coils):
            total += self._backward(data_BCTYX[:, coil], coil, self.axes)
        return total

    def zero_filled(self, kspace_BCTYX: Tensor) -> Tensor:
        """Return A^H y of measured k-space that is not `prepared`, without a copy of it."""
        total = self._backward(kspace_BCTYX[:, 0], 0, (-2, -1))
        for coil in range(1, self.coils):
            total += self._backward(kspace_BCTYX[:, coil], coil, (-2, -1))
        return total

    def misfit(self, image_BTYX: Tensor, kspace_BCTYX: Tensor) -> tuple[float, float]:
        """Return ||A x - y||^2 and ||y||^2 of measured k-space that is not `prepared`."""
        error_T, energy_T = self.misfit_by_frame(image_BTYX, kspace_BCTYX)
        return float(error_T.sum()), float(energy_T.sum())

    def misfit_by_frame(self, image_BTYX: Tensor, kspace_BCTYX: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same for each frame, (T,) in double precision on the CPU."""
        error_T = energy_T = torch.zeros(image_BTYX.shape[1], dtype=torch.float64)
        for coil in range(self.coils):
            measured = kspace_BCTYX[:, coil] * self.mask_BTYX
            seen = image_to_kspace(self._seen(image_BTYX, coil)) * self.mask_BTYX
            error_T, energy_T = error_T + energy_by_frame(seen - measured), energy_T + energy_by_frame(measured)
        return error_T, energy_T

    def normal(self, image_BTYX: Tensor) -> Tensor:
        """Return A^H A x, (B, T, Y, X), a coil at a time: memory for one coil is enough."""
        if self.maps_BCYX is None:
            return self.adjoint(self.forward(image_BTYX))
        return self._gram.normal(image_BTYX)

    @cached_property
    def _gram(self) -> Gram:
        assert self.maps_BCYX is not None
        return Gram(self.mask_BTYX, self.maps_BCYX, self.axes)

    def seen(self, image_BTYX: Tensor) -> Tensor:
        """Return S x: what each coil sees, (B, C, T, Y, X)."""
        return image_BTYX[:, None] if self.maps_BCYX is None else image_BTYX[:, None] * self.maps_BCYX[:, :, None]

    def _forward(self, image_BTYX: Tensor, coil: int) -> Tensor:
        return image_to_kspace(self._seen(image_BTYX, coil), self.axes) * self.mask_BTYX

    def _backward(self, data_BTYX: Tensor, coil: int, axes: tuple[int, ...]) -> Tensor:
        images = kspace_to_image(data_BTYX * self.mask_BTYX, axes)
        return images if self.maps_BCYX is None else images * self.maps_BCYX[:, coil, None].conj()

    def _seen(self, image_BTYX: Tensor, coil: int) -> Tensor:
        return image_BTYX if self.maps_BCYX is None else image_BTYX * self.maps_BCYX[:, coil, None]


def energy_by_frame(values_BTYX: Tensor) -> Tensor:
    """Return ||v||^2 of each frame, (T,) in double precision on the CPU."""
    norms_BT: Tensor = torch.linalg.vector_norm(values_BTYX, dim=(-2, -1), dtype=torch.complex128)
    return norms_BT.square().sum(0).cpu()
