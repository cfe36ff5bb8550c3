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
        data = kspace_BCTYX if len(self.axes) == 2 else kspace_to_image(kspace_BCTYX, (-1,))
        return data * self.mask_BTYX[:, None]

    def forward(self, image_BTYX: Tensor) -> Tensor:
        """Return A x, (B, C, T, Y, X)."""
        return image_to_kspace(self.seen(image_BTYX), self.axes) * self.mask_BTYX[:, None]

    def adjoint(self, data_BCTYX: Tensor) -> Tensor:
        """Return A^H y, (B, T, Y, X)."""
        return self.combined(kspace_to_image(data_BCTYX * self.mask_BTYX[:, None], self.axes))

    def normal(self, image_BTYX: Tensor) -> Tensor:
        """Return A^H A x, (B, T, Y, X), a coil at a time: memory for one coil is enough."""
        if self.maps_BCYX is None:
            return self.adjoint(self.forward(image_BTYX))
        gram = self._gram
        parts = gram.parts(image_BTYX.shape[1])
        return torch.cat([gram.leave(gram(gram.enter(image_BTYX[:, part]), part)) for part in parts], 1)

    @cached_property
    def _gram(self) -> Gram:
        assert self.maps_BCYX is not None
        return Gram(self.mask_BTYX, self.maps_BCYX, self.axes)

    def seen(self, image_BTYX: Tensor) -> Tensor:
        """Return S x: what each coil sees, (B, C, T, Y, X)."""
        return image_BTYX[:, None] if self.maps_BCYX is None else image_BTYX[:, None] * self.maps_BCYX[:, :, None]

    def combined(self, images_BCTYX: Tensor) -> Tensor:
        """Return S^H of the coils' images, (B, T, Y, X)."""
        if self.maps_BCYX is None:
            return images_BCTYX[:, 0]
        return torch.einsum("bcyx,bctyx->btyx", self.maps_BCYX.conj(), images_BCTYX)
