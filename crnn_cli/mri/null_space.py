"""Null-space component of an image, which the data did not determine, and the noise energy of the data.

Legend: B batch of one, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crnn_cli.mri.conjugate_gradient import conjugate_gradient
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.noise import noise_deviation

GAIN = 0.01
"""Eigenvalue w of A^H A at which an image component counts as half determined."""
_ITERATIONS, _TOLERANCE = 30, 1e-3
_ZERO = 1e-12  # power, relative to the strongest sample, below which a sample is zero up to rounding


def null_space_component(encoding: Encoding, image_BTYX: Tensor) -> Tensor:
    """Null-space component u of an image x: the part that the samples do not determine, which the method added.

    One coil: u = x - A^H A x, exactly the k-space outside the mask. Several: u = w (A^H A + w)^-1 x with w = 0.01, a
    soft null space. A component with eigenvalue g of A^H A remains by w / (g + w): nothing of what is well encoded, all
    of what is not encoded, and half at g = w, where plain inversion would amplify the noise tenfold. For one coil both
    agree as w goes to 0. Solved by at most 30 conjugate gradients, to a relative residual of 0.1 %.

    u shows where an image rests on the method alone, not that it is wrong there.

    Parameters
    ----------
    image_BTYX : x, complex, in the scale of the data.

    Returns
    -------
    (B, T, Y, X) complex.
    """
    normal_BTYX = encoding.normal(image_BTYX)
    if encoding.maps_BCYX is None:
        return image_BTYX - normal_BTYX

    def operator(x_BTYX: Tensor) -> Tensor:
        return encoding.normal(x_BTYX) + GAIN * x_BTYX

    start_BTYX = torch.zeros_like(image_BTYX)
    return image_BTYX - conjugate_gradient(
        operator, normal_BTYX, start_BTYX, _ITERATIONS, _TOLERANCE, map_sets=encoding.map_sets
    )


def noise_energy(kspace_BCTYX: Tensor, mask_BTYX: Tensor) -> float | None:
    """Noise energy of one sample, summed over the coils; None where the samples do not allow an estimate.

    Each coil is estimated by `noise_deviation`, with its errors: too large where the outermost samples hold signal, too
    small where they were filtered. Samples that are zero up to rounding, as after interpolation, are ignored, and so
    are coils without any signal.
    """
    total = 0.0
    for coil in range(kspace_BCTYX.shape[1]):
        coil_BCTYX = kspace_BCTYX[:, coil : coil + 1]
        if not bool(coil_BCTYX.any()):  # not connected
            continue
        power = coil_BCTYX.abs().square()
        variance = noise_deviation(torch.where(power > _ZERO * power.max(), coil_BCTYX, 0), mask_BTYX) ** 2
        if not variance:
            return None
        total += variance
    return total or None
