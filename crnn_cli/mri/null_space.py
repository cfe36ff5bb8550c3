"""The part of an image that the data did not determine, and the noise of the data.

Legend: B batch of one, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crnn_cli.mri.conjugate_gradient import conjugate_gradient
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.noise import noise_deviation

GAIN = 0.01
"""Share of the energy of an image that the scan must pass on for the image to count as determined by half."""
_ITERATIONS, _ENOUGH = 30, 1e-3
_ZERO = 1e-12  # of the energy of the brightest sample: was not measured, or is rounding


def null_space_component(encoding: Encoding, image_BTYX: Tensor) -> Tensor:
    """Return u, the part of an image x that the samples do not determine: what the method added.

    One coil: u = x - A^H A x, exactly what lies outside the mask. Several: u = w (A^H A + w)^-1 x with w = 0.01. What
    the scan passes on with a share g of its energy remains by w / (g + w): nothing of what is well seen, all of what
    is not seen, and half at g = w, where a plain inversion would make the noise ten times stronger. For one coil
    this is the same for small w. By at most 30 conjugate gradients, to 0.1 % of the right-hand side.

    It says where an image rests on the method alone, not that it is wrong there.
    """
    seen_BTYX = encoding.normal(image_BTYX)
    if encoding.maps_BCYX is None:
        return image_BTYX - seen_BTYX

    def operator(part_BTYX: Tensor) -> Tensor:
        return encoding.normal(part_BTYX) + GAIN * part_BTYX

    start_BTYX = torch.zeros_like(image_BTYX)
    return image_BTYX - conjugate_gradient(operator, seen_BTYX, start_BTYX, _ITERATIONS, _ENOUGH)


def noise_energy(kspace_BCTYX: Tensor, mask_BTYX: Tensor) -> float | None:
    """Return the noise energy of one sample of all coils together; None where the samples do not tell it.

    Coil by coil, by `noise_deviation`: where the outermost samples hold signal it is too large, where they were
    filtered too small. Samples that are zero but for rounding, as after interpolation, do not count.
    """
    total = 0.0
    for coil in range(kspace_BCTYX.shape[1]):
        one = kspace_BCTYX[:, coil : coil + 1]
        if not bool(one.any()):  # not connected
            continue
        power = one.abs().square()
        variance = noise_deviation(torch.where(power > _ZERO * power.max(), one, 0), mask_BTYX) ** 2
        if not variance:
            return None
        total += variance
    return total or None
