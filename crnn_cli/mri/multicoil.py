"""Data consistency operator for several receive coils, by a few steps of conjugate gradients.

Legend: B batch, C coil, T frame, Y phase encoding, X readout, M measured lines or samples. Images and k-space are
complex, centred, orthonormal.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from crnn_cli.mri.consistency import ALL_FRAMES, NoiseLevel, SingleCoilConsistency
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.fourier import image_to_kspace, kspace_to_image
from crnn_cli.mri.gram import Gram, coils_per_batch, frame_chunks, sum_sets

STEPS = 3
"""Steps of conjugate gradients; `MultiCoilConsistency` has a table of what more steps bring."""
_ROUNDING = 10  # a residual below this many units in the last place counts as zero


class MultiCoilConsistency:
    """Data consistency of several coils on a Cartesian grid, with the methods of `SingleCoilConsistency`.

    The step replaces the image x by the minimiser z of v ||z - x||^2 + ||A z - y||^2, A = m F S. It solves
    (A^H A + v) (z - x) = A^H (y - A x) by conjugate gradients from z = x. For v = 0 they converge to the image nearest
    to x among those that fit the data best. Each frame is a system of its own, with its own step lengths. With one coil
    of unit modulus, or where everything was measured, the first step is exact and the others are skipped.

    With several coils no image explains the noise of all samples, so no sample is reproduced exactly. Where the coils
    determine the image (fewer unknowns than samples), many steps with v = 0 forget x altogether and end in the noise of
    parallel imaging. So few steps are better than many, and v = 0.1 is better than 0. Phantom of 128 x 128, 8 coils,
    8-fold, x 7 % off the truth: residual ||A z - y|| / ||y|| without noise, and error of the image with noise at an SNR
    of 50, in per cent:

        steps               0     1     2     3     4     8    12
        residual, v = 0   1.6   0.9   0.6   0.5   0.3   0.2   0.1
        residual, v = 0.1 1.6   0.9   0.7   0.6   0.6   0.6   0.6
        error, v = 0      7.1   8.0   8.7   9.7  10.9  15.7  20.1
        error, v = 0.1    7.1   7.8   8.0   8.3   8.4   8.4   8.4

    32 coils at 4-fold behave much the same. Three steps are the default.

    A truncated run is homogeneous but not linear in (x, y), as its step lengths depend on them. A frame that agrees
    with the data up to rounding is returned unchanged, with the gradient of the identity.

    Parameters
    ----------
    kspace_BCTYX : complex; values outside the mask are ignored, and only measured samples are stored.
    mask_BTYX : boolean or 0/1; X may be 1.
    maps_BCYX : complex sensitivities with sum_c |s_c|^2 = 1; constants, no gradients reach them. Maps of another norm
        are not refused, and change the meaning of v.
    noise : v above, >= 0: noise variance of the data relative to the error variance of the network.
    deviation : standard deviation of the complex noise of a sample, the same in all coils (see `whitening_matrix`),
        where known; given an expected error e of the image, v grows by (deviation / e)^2.
    steps : largest number of conjugate gradient steps.
    map_sets : sets of sensitivities, as of `crnn_cli.mri.encoding.Encoding`; the components are solved for together.

    References
    ----------
    Pruessmann et al., MRM 46, 2001 (CG-SENSE); Aggarwal, Mani, Jacob, IEEE TMI 38, 2019 (MoDL: conjugate gradients as
    data consistency between learned steps).
    """

    def __init__(
        self, kspace_BCTYX: Tensor, mask_BTYX: Tensor, maps_BCYX: Tensor, noise: float = 0.0, steps: int = STEPS,
        deviation: float = 0.0, *, map_sets: int = 1,
    ) -> None:  # fmt: skip
        encoding = Encoding(mask_BTYX, maps_BCYX, map_sets)
        self.noise, self.steps, self.map_sets = noise, steps, map_sets
        self._shape = (kspace_BCTYX.shape[0], *kspace_BCTYX.shape[2:])
        self._maps_BCYX = maps_BCYX
        self._mask_BTYX = encoding.mask_BTYX.expand(self._shape[0], self._shape[1], -1, -1)
        self._samples_CMX = kspace_BCTYX.movedim(1, 0)[:, self._measured]
        self._factor = torch.ones(1, 1, 1, 1, dtype=kspace_BCTYX.real.dtype, device=kspace_BCTYX.device)
        self._deviation = NoiseLevel(deviation, kspace_BCTYX)
        self._gram = Gram(self._mask_BTYX, maps_BCYX, encoding.axes, map_sets)
        self._adjoint_BTYX = self._combined(lambda kspace, masks: kspace_to_image(kspace))

    @property
    def coils(self) -> int:
        """Number of coils."""
        return len(self._samples_CMX)

    @property
    def _measured(self) -> Tensor:
        """Mask as booleans: (B, T, Y) for whole lines, else (B, T, Y, X)."""
        whole = self._mask_BTYX.shape[-1] == 1
        return (self._mask_BTYX[..., 0] if whole else self._mask_BTYX) > 0

    def scaled(self, factor: Tensor) -> MultiCoilConsistency:
        """Operator of the same data times a real factor, a scalar or (B, 1, 1, 1)."""
        twin = copy.copy(self)
        twin._factor, twin._adjoint_BTYX = self._factor * factor, self._adjoint_BTYX * factor
        twin._deviation = self._deviation.scaled(factor)
        return twin

    def at_samples(self, image_BTYX: Tensor) -> tuple[Tensor, Tensor]:
        """Residual A x - y and data y at the N measured samples of all coils, each complex (N,).

        Differentiable with respect to the image, for losses in k-space.
        """
        pairs = [self._at_coil(image_BTYX, coil) for coil in range(len(self._samples_CMX))]
        return torch.cat([difference for difference, _ in pairs]), torch.cat([data for _, data in pairs])

    def _at_coil(self, image_BTYX: Tensor, coil: int) -> tuple[Tensor, Tensor]:
        measured, data_BTYX = self._measured, self._kspace(slice(coil, coil + 1))[0]
        kspace_BTYX = image_to_kspace(sum_sets(image_BTYX * self._maps_BCYX[:, coil, None], self.map_sets))
        data = data_BTYX[measured].flatten()
        return kspace_BTYX[measured].flatten() - data, data

    def _kspace(self, coils: slice) -> Tensor:
        """Zero-filled k-space of some coils, (C, B, T, Y, X)."""
        samples_CMX = self._samples_CMX[coils]
        kspace_CBTYX = samples_CMX.new_zeros((len(samples_CMX), *self._shape))
        kspace_CBTYX[:, self._measured] = samples_CMX
        return kspace_CBTYX * self._factor

    def _combined(self, images: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Combine coil images: S^H of ``images(kspace, masks)``, called with coils in the batch axis."""
        total_BTYX = self._samples_CMX.new_zeros((self._shape[0] * self.map_sets, *self._shape[1:]))
        coils = len(self._samples_CMX)
        step = coils_per_batch(total_BTYX)
        for part in (slice(first, first + step) for first in range(0, coils, step)):
            maps_CBYX = self._maps_BCYX[:, part].movedim(1, 0).conj()
            masks = self._mask_BTYX.repeat(len(maps_CBYX), 1, 1, 1)
            images_CBTYX = images(self._kspace(part).flatten(0, 1), masks).unflatten(0, (len(maps_CBYX), -1))
            total_BTYX += (images_CBTYX * maps_CBYX[:, :, None]).sum(0)
        return total_BTYX

    def zero_filled(self) -> Tensor:
        """Zero-filled images A^H y: the coil images of the measured samples, combined."""
        return self._adjoint_BTYX

    def normal(self, image_BTYX: Tensor, frames: slice = ALL_FRAMES) -> Tensor:
        """Normal operator A^H A x = S^H F^H m F S x, (B, T, Y, X)."""
        return self._gram.normal(image_BTYX, frames.start or 0)

    def fourier_mask(self) -> None:
        """None: sensitivities couple the points of k-space."""

    def view_shared(self) -> Tensor:
        """View-shared images of the coils (`SingleCoilConsistency.view_shared`), combined."""
        return self._combined(lambda kspace, masks: SingleCoilConsistency(kspace, masks).view_shared())

    def time_wiener(self) -> Tensor:
        """Time-Wiener images of the coils (`SingleCoilConsistency.time_wiener`), combined."""
        return self._combined(lambda kspace, masks: SingleCoilConsistency(kspace, masks).time_wiener())

    def running(self) -> Tensor:
        """Running images of the coils (`SingleCoilConsistency.running`), combined."""
        return self._combined(lambda kspace, masks: SingleCoilConsistency(kspace, masks).running())

    def __call__(self, image_BTYX: Tensor, error: Tensor | None = None) -> Tensor:
        """Data consistency step; `error` as in `Consistency`."""
        parts = frame_chunks(image_BTYX)
        return torch.cat([self.step(image_BTYX[:, frames], frames, error) for frames in parts], 1)

    def step(self, image_BTYX: Tensor, frames: slice, error: Tensor | None = None) -> Tensor:
        """Data consistency step of some frames; see `Consistency.step`."""
        gram, noise = self._gram, self.noise + self._deviation.relative_variance(error)
        image, data = gram.to_layout(image_BTYX), gram.to_layout(self._adjoint_BTYX[:, frames])
        return gram.from_layout(image + self._change(image, data, noise, frames))

    def _change(self, image: Tensor, data: Tensor, noise: Tensor | float, frames: slice) -> Tensor:
        """Correction z - x of some frames by conjugate gradients, in the layout of `Gram`.

        A frame whose residual is at rounding level is left unchanged: its search directions would be rounding, too.
        """
        floor = (_ROUNDING * torch.finfo(image.real.dtype).eps) ** 2
        residual = data - self._gram(image, frames)
        least = (floor * (self._dot(data, data) + self._dot(image, image))).detach()
        change, direction, power = torch.zeros_like(residual), residual, self._dot(residual, residual)
        for _ in range(self.steps):
            active = power.detach() > least
            if _all_converged(active):
                break
            applied = self._gram(direction, frames) + noise * direction
            length = _ratio(power, self._dot(direction, applied), active)
            change = change + length * direction
            residual = residual - length * applied
            before, power = power, self._dot(residual, residual)
            direction = residual + _ratio(power, before, active) * direction
        return change

    def _dot(self, first_BTXY: Tensor, second_BTXY: Tensor) -> Tensor:
        """Real part of the inner product of each frame, (B, T, 1, 1), summed over the sets of sensitivities."""
        first, second = (torch.view_as_real(values).flatten(2) for values in (first_BTXY, second_BTXY))
        product = (first * second).sum(-1)[..., None, None]  # no matrix product: autocast would round it to bfloat16
        return sum_sets(product, self.map_sets)


def _all_converged(active: Tensor) -> bool:
    """Whether no frame needs another step; always False on a GPU, where reading the answer would stall the stream.

    A further step adds nothing to converged frames, so the result is the same.
    """
    return active.device.type == "cpu" and not bool(active.any())


def _ratio(above: Tensor, below: Tensor, where: Tensor) -> Tensor:
    """Quotient above / below where ``where`` and below > 0, else 0; its gradients are finite everywhere."""
    usable = where & (below.detach() > 0)
    return torch.where(usable, above / torch.where(usable, below, torch.ones_like(below)), torch.zeros_like(above))
