"""Encoding operator A = m F S of a Cartesian scan, from images to the samples of the coils.

S multiplies by the coil sensitivities, F is the centred orthonormal Fourier transform, m the sampling mask.

With M sets of sensitivities an image has M components, in the place of the batch (soft SENSE), and each coil receives
their sum: (S x)_c = sum_m s_cm x_m. Data then have a batch of one.

Legend: B batch, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from crnn_cli.mri.fourier import image_to_kspace, kspace_to_image
from crnn_cli.mri.gram import Gram, convolve, sum_sets


class Encoding:
    """Encoding operator A = m F S, its adjoint A^H and the normal operator A^H A, for one coil or several.

    Where the mask is constant along kx, the readout stays in image space: the transform along x is unitary, so norms
    and adjoints are the same at half the cost. `to_data_space` brings measured k-space to that space; `forward` and
    `adjoint` work in it.

    Parameters
    ----------
    mask_BTYX : boolean or 0/1; X may be 1.
    maps_BCYX : complex sensitivities; None for one coil of uniform sensitivity. A^H A is at most the identity where
        sum_c |s_c|^2 <= 1 everywhere, as for maps normalised to 1; of several sets, where they are also orthogonal.
    map_sets : number M of sets of sensitivities; if above 1, they lie along B.

    Examples
    --------
    >>> encoding = Encoding(torch.ones(1, 2, 6, 1))
    >>> image = torch.randn(1, 2, 6, 4, dtype=torch.complex64)
    >>> torch.allclose(encoding.adjoint(encoding.forward(image)), image, atol=1e-5)
    True
    """

    def __init__(self, mask_BTYX: Tensor, maps_BCYX: Tensor | None = None, map_sets: int = 1) -> None:
        require_sets(mask_BTYX, maps_BCYX, map_sets)
        constant = mask_BTYX.shape[-1] == 1 or bool((mask_BTYX == mask_BTYX[..., :1]).all())
        self.axes: tuple[int, ...] = (-2,) if constant else (-2, -1)
        self.mask_BTYX = (mask_BTYX[..., :1] if constant else mask_BTYX).float()
        self.maps_BCYX, self.map_sets = maps_BCYX, map_sets

    @property
    def coils(self) -> int:
        """Number of coils."""
        return 1 if self.maps_BCYX is None else self.maps_BCYX.shape[1]

    def to_data_space(self, kspace_BCTYX: Tensor) -> Tensor:
        """Bring measured k-space to the space of `forward`: masked, and in image space along x for masks of lines.

        Data consistency terms ||A x - y||^2 need y in that space; `zero_filled` and `squared_residual` take k-space.
        """
        data_BCTYX = torch.empty_like(kspace_BCTYX)
        for coil in range(kspace_BCTYX.shape[1]):
            kspace_BTYX = kspace_BCTYX[:, coil]
            data = kspace_BTYX if len(self.axes) == 2 else kspace_to_image(kspace_BTYX, (-1,))
            torch.mul(data, self.mask_BTYX, out=data_BCTYX[:, coil])
        return data_BCTYX

    def forward(self, image_BTYX: Tensor) -> Tensor:
        """Encode an image (B, T, Y, X): the data A x, (B, C, T, Y, X), in the space of `to_data_space`."""
        return torch.stack([self._forward(image_BTYX, coil) for coil in range(self.coils)], 1)

    def adjoint(self, data_BCTYX: Tensor) -> Tensor:
        """Adjoint A^H y, (B, T, Y, X), of data in the space of `forward` and `to_data_space`.

        K-space as measured gives a wrong image without an error where the mask is constant along kx: use `zero_filled`.
        """
        total = self._backward(data_BCTYX[:, 0], 0, self.axes)
        for coil in range(1, self.coils):
            total += self._backward(data_BCTYX[:, coil], coil, self.axes)
        return total

    def zero_filled(self, kspace_BCTYX: Tensor) -> Tensor:
        """Adjoint A^H y, (B, T, Y, X), of k-space as measured, without a copy in data space."""
        total = self._backward(kspace_BCTYX[:, 0], 0, (-2, -1))
        for coil in range(1, self.coils):
            total += self._backward(kspace_BCTYX[:, coil], coil, (-2, -1))
        return total

    def squared_residual(self, image_BTYX: Tensor, kspace_BCTYX: Tensor) -> tuple[float, float]:
        """Squared residual ||A x - y||^2 and data energy ||y||^2 over all samples.

        Parameters
        ----------
        image_BTYX : x, in the scale of the data.
        kspace_BCTYX : y as measured, not in data space; values outside the mask are ignored.
        """
        error_T, energy_T = self.squared_residual_by_frame(image_BTYX, kspace_BCTYX)
        return float(error_T.sum()), float(energy_T.sum())

    def squared_residual_by_frame(self, image_BTYX: Tensor, kspace_BCTYX: Tensor) -> tuple[Tensor, Tensor]:
        """Squared residual and data energy of each frame, (T,) in double precision on the CPU."""
        error_T = energy_T = torch.zeros(image_BTYX.shape[1], dtype=torch.float64)
        for coil in range(self.coils):
            measured = kspace_BCTYX[:, coil] * self.mask_BTYX
            predicted = image_to_kspace(self._coil_image(image_BTYX, coil)) * self.mask_BTYX
            error_T, energy_T = error_T + energy_by_frame(predicted - measured), energy_T + energy_by_frame(measured)
        return error_T, energy_T

    def normal(self, image_BTYX: Tensor) -> Tensor:
        """Normal operator A^H A x, (B, T, Y, X), in the memory of one coil; see `crnn_cli.mri.gram`."""
        if self.maps_BCYX is None:
            return convolve(image_BTYX, torch.fft.ifftshift(self.mask_BTYX, self.axes), self.axes)
        return self._gram.normal(image_BTYX)

    @cached_property
    def _gram(self) -> Gram:
        assert self.maps_BCYX is not None
        return Gram(self.mask_BTYX, self.maps_BCYX, self.axes, self.map_sets)

    def coil_images(self, image_BTYX: Tensor) -> Tensor:
        """Coil images S x, (B, C, T, Y, X)."""
        if self.maps_BCYX is None:
            return image_BTYX[:, None]
        return sum_sets(image_BTYX[:, None] * self.maps_BCYX[:, :, None], self.map_sets)

    def _forward(self, image_BTYX: Tensor, coil: int) -> Tensor:
        return image_to_kspace(self._coil_image(image_BTYX, coil), self.axes) * self.mask_BTYX

    def _backward(self, data_BTYX: Tensor, coil: int, axes: tuple[int, ...]) -> Tensor:
        images = kspace_to_image(data_BTYX * self.mask_BTYX, axes)
        return images if self.maps_BCYX is None else images * self.maps_BCYX[:, coil, None].conj()

    def _coil_image(self, image_BTYX: Tensor, coil: int) -> Tensor:
        if self.maps_BCYX is None:
            return image_BTYX
        return sum_sets(image_BTYX * self.maps_BCYX[:, coil, None], self.map_sets)


def require_sets(mask_BTYX: Tensor, maps_BCYX: Tensor | None, map_sets: int) -> None:
    """Raise ValueError unless several sets of sensitivities lie along the batch axis, and the data are of one item."""
    if map_sets > 1 and (maps_BCYX is None or len(maps_BCYX) != map_sets or len(mask_BTYX) != 1):
        count = 0 if maps_BCYX is None else len(maps_BCYX)
        raise ValueError(f"{map_sets} sets of maps: there are {count}, for data of {len(mask_BTYX)} items instead of 1")


def energy_by_frame(values_BTYX: Tensor) -> Tensor:
    """Energy ||v||^2 of each frame, summed over the batch, (T,) in double precision on the CPU."""
    norms_BT: Tensor = torch.linalg.vector_norm(values_BTYX, dim=(-2, -1), dtype=torch.complex128)
    return norms_BT.square().sum(0).cpu()
