"""Data consistency of several receive coils: a few steps of conjugate gradients pull an image to what all measured.

Legend: B batch, C coil, T frame, Y phase encoding, X readout, M measured lines or samples. Images and k-space are
complex, centred, orthonormal.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from crnn_cli.mri.consistency import NoiseLevel, SingleCoilConsistency
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.fourier import image_to_kspace, kspace_to_image
from crnn_cli.mri.gram import Gram, coils_at_once

STEPS = 3
"""Steps of conjugate gradients; what more would bring is told by `MultiCoilConsistency`."""
_ROUNDING = 10  # a residual of so many units in the last place is zero


class MultiCoilConsistency:
    """Data consistency of several coils on a Cartesian grid; the same methods as `SingleCoilConsistency`.

    The image x becomes the minimiser z of v ||z - x||^2 + ||A z - y||^2, A = m F S, by conjugate gradients for
    (A^H A + v) (z - x) = A^H (y - A x), from z = x. For noise v = 0 that leads to the image next to x among those
    that fit the data best. Every frame is a system of its own, with its own step lengths. With one coil of unit
    modulus, and where everything was measured, the first step is exact and the others are left out.

    With several coils no image explains the noise of all samples, so none is kept exactly as it was measured. Where
    the coils determine the image (fewer unknowns than samples), many steps for v = 0 forget x altogether and have the
    noise of parallel imaging. So few steps are better than many, and v = 0.1 better than 0. Phantom of 128 x 128, 8
    coils, 8-fold, x 7 % off the truth: the residual ||A z - y|| / ||y|| without noise, and the error of the image with
    noise at an SNR of 50, in per cent:

        steps               0     1     2     3     4     8    12
        residual, v = 0   1.6   0.9   0.6   0.5   0.3   0.2   0.1
        residual, v = 0.1 1.6   0.9   0.7   0.6   0.6   0.6   0.6
        error, v = 0      7.1   8.0   8.7   9.7  10.9  15.7  20.1
        error, v = 0.1    7.1   7.8   8.0   8.3   8.4   8.4   8.4

    It is much the same with 32 coils and 4-fold. Three steps are the default.

    A truncated run is homogeneous but not linear in (x, y), as its step lengths depend on them. A frame that already
    agrees with the data to rounding is left as it is, and its gradient is that of the identity.

    Parameters
    ----------
    kspace_BCTYX : complex; what lies outside the mask is ignored. Only the measured samples are kept.
    mask_BTYX : boolean or 0/1; X may be 1.
    maps_BCYX : complex sensitivities with sum_c |s_c|^2 = 1; constants, no gradients reach them.
    noise : v above, >= 0: the noise variance of the data relative to the network's error.
    deviation : standard deviation of the complex noise of a sample, the same in all coils, where it is known; with an
        expected error e of the image, v grows by (deviation / e)^2.
    steps : of conjugate gradients, at most.

    References
    ----------
    Pruessmann et al., MRM 46, 2001 (conjugate gradients for coils); Aggarwal, Mani, Jacob, IEEE TMI 38, 2019 (as data
    consistency between learned steps).
    """

    def __init__(
        self, kspace_BCTYX: Tensor, mask_BTYX: Tensor, maps_BCYX: Tensor, noise: float = 0.0, steps: int = STEPS,
        deviation: float = 0.0,
    ) -> None:  # fmt: skip
        encoding = Encoding(mask_BTYX, maps_BCYX)
        self.noise, self.steps = noise, steps
        self._shape = (kspace_BCTYX.shape[0], *kspace_BCTYX.shape[2:])
        self._maps_BCYX = maps_BCYX
        self._mask_BTYX = encoding.mask_BTYX.expand(self._shape[0], self._shape[1], -1, -1)
        self._samples_CMX = kspace_BCTYX.movedim(1, 0)[:, self._measured]
        self._factor = torch.ones(1, 1, 1, 1, dtype=kspace_BCTYX.real.dtype, device=kspace_BCTYX.device)
        self._deviation = NoiseLevel(deviation, kspace_BCTYX)
        self._gram = Gram(self._mask_BTYX, maps_BCYX, encoding.axes)
        self._adjoint_BTYX = self._combined(lambda kspace, masks: kspace_to_image(kspace))

    @property
    def _measured(self) -> Tensor:
        """Return where k-space was measured: (B, T, Y) where whole lines were, or (B, T, Y, X)."""
        whole = self._mask_BTYX.shape[-1] == 1
        return (self._mask_BTYX[..., 0] if whole else self._mask_BTYX) > 0

    def scaled(self, factor: Tensor) -> MultiCoilConsistency:
        """Return the operator of the same data times a real factor, a scalar or (B, 1, 1, 1)."""
        twin = copy.copy(self)
        twin._factor, twin._adjoint_BTYX = self._factor * factor, self._adjoint_BTYX * factor
        twin._deviation = self._deviation.scaled(factor)
        return twin

    def to(self, device: torch.device) -> MultiCoilConsistency:
        """Return the operator with its data on a device."""
        twin = copy.copy(self)
        for name in ("_maps_BCYX", "_mask_BTYX", "_samples_CMX", "_factor", "_deviation", "_gram", "_adjoint_BTYX"):
            setattr(twin, name, getattr(self, name).to(device))
        return twin

    def misfit(self, image_BTYX: Tensor) -> tuple[float, float]:
        """Return ||A x - y||^2 and ||y||^2."""
        error = energy = 0.0
        for coil in range(len(self._samples_CMX)):
            difference, data = self._at_coil(image_BTYX, coil)
            error, energy = error + _energy(difference), energy + _energy(data)
        return error, energy

    def at_samples(self, image_BTYX: Tensor) -> tuple[Tensor, Tensor]:
        """Return A x - y and y at the N measured samples of all coils, each complex (N,); differentiable."""
        pairs = [self._at_coil(image_BTYX, coil) for coil in range(len(self._samples_CMX))]
        return torch.cat([difference for difference, _ in pairs]), torch.cat([data for _, data in pairs])

    def _at_coil(self, image_BTYX: Tensor, coil: int) -> tuple[Tensor, Tensor]:
        measured, data_BTYX = self._measured, self._kspace(slice(coil, coil + 1))[0]
        kspace_BTYX = image_to_kspace(image_BTYX * self._maps_BCYX[:, coil, None])
        data = data_BTYX[measured].flatten()
        return kspace_BTYX[measured].flatten() - data, data

    def _kspace(self, coils: slice) -> Tensor:
        """Return the measured k-space of some coils, zeros elsewhere, (C, B, T, Y, X)."""
        samples_CMX = self._samples_CMX[coils]
        kspace_CBTYX = samples_CMX.new_zeros((len(samples_CMX), *self._shape))
        kspace_CBTYX[:, self._measured] = samples_CMX
        return kspace_CBTYX * self._factor

    def _combined(self, images: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return S^H of images made from k-space and masks, in which coils lie in the batch."""
        total_BTYX = self._samples_CMX.new_zeros(self._shape)
        coils = len(self._samples_CMX)
        step = coils_at_once(total_BTYX)
        for part in (slice(first, first + step) for first in range(0, coils, step)):
            maps_CBYX = self._maps_BCYX[:, part].movedim(1, 0).conj()
            masks = self._mask_BTYX.repeat(len(maps_CBYX), 1, 1, 1)
            made_CBTYX = images(self._kspace(part).flatten(0, 1), masks).unflatten(0, maps_CBYX.shape[:2])
            total_BTYX += (made_CBTYX * maps_CBYX[:, :, None]).sum(0)
        return total_BTYX

    def zero_filled(self) -> Tensor:
        """Return A^H y: the coils' images of the measured samples, combined."""
        return self._adjoint_BTYX

    def normal(self, image_BTYX: Tensor) -> Tensor:
        """Return S^H F^H m F S x."""
        return self._gram.normal(image_BTYX)

    def view_shared(self) -> Tensor:
        """Return the combination of what `SingleCoilConsistency.view_shared` makes of each coil."""
        return self._combined(lambda kspace, masks: SingleCoilConsistency(kspace, masks).view_shared())

    def time_wiener(self) -> Tensor:
        """Return the combination of what `SingleCoilConsistency.time_wiener` makes of each coil."""
        return self._combined(lambda kspace, masks: SingleCoilConsistency(kspace, masks).time_wiener())

    def __call__(self, image_BTYX: Tensor, error: Tensor | None = None) -> Tensor:
        """Return the image pulled to the measured samples of all coils."""
        gram, noise = self._gram, self.noise + self._deviation.over(error)
        parts = []
        for frames in gram.parts(image_BTYX.shape[1]):
            image = gram.enter(image_BTYX[:, frames])
            data = gram.enter(self._adjoint_BTYX[:, frames])
            parts.append(gram.leave(image + self._change(image, data, noise, frames)))
        return torch.cat(parts, 1)

    def _change(self, image: Tensor, data: Tensor, noise: Tensor | float, frames: slice) -> Tensor:
        """Return z - x of some frames after the steps, all in the layout of `Gram`.

        A system whose residual is at the level of rounding is left alone: its directions would be rounding too.
        """
        floor = (_ROUNDING * torch.finfo(image.real.dtype).eps) ** 2
        residual = data - self._gram(image, frames)
        least = (floor * (_dot(data, data) + _dot(image, image))).detach()
        change, direction, power = torch.zeros_like(residual), residual, _dot(residual, residual)
        for _ in range(self.steps):
            going = power.detach() > least
            if _all_known(going):
                break
            applied = self._gram(direction, frames) + noise * direction
            length = _ratio(power, _dot(direction, applied), going)
            change = change + length * direction
            residual = residual - length * applied
            before, power = power, _dot(residual, residual)
            direction = residual + _ratio(power, before, going) * direction
        return change


def _all_known(going: Tensor) -> bool:
    """Return whether no frame needs another step; never on a GPU, where asking would mean to wait for it.

    A step adds nothing to the frames that need none, so the result is the same.
    """
    return going.device.type == "cpu" and not bool(going.any())


def _dot(first_BTXY: Tensor, second_BTXY: Tensor) -> Tensor:
    """Return the real part of the inner product of every frame, (B, T, 1, 1)."""
    one, two = (torch.view_as_real(values).flatten(2) for values in (first_BTXY, second_BTXY))
    return (one * two).sum(-1)[..., None, None]  # no matrix product: autocast would round it to bfloat16


def _ratio(above: Tensor, below: Tensor, where: Tensor) -> Tensor:
    """Return above / below where told to and below > 0, else 0, with gradients that are finite everywhere."""
    usable = where & (below.detach() > 0)
    return torch.where(usable, above / torch.where(usable, below, torch.ones_like(below)), torch.zeros_like(above))


def _energy(values: Tensor) -> float:
    return float(values.abs().double().square().sum())
