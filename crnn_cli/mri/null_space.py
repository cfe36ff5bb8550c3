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


def noise_energy(kspace_BCTYX: Tensor, mask_BTYX: Tensor, deviation: float = 0.0) -> float | None:
    """Noise energy of one sample, summed over the coils that have signal; None where the samples do not allow it.

    Parameters
    ----------
    kspace_BCTYX, mask_BTYX : the samples.
    deviation : standard deviation of the noise of a sample, where it is known; 0 to estimate it (`noise_deviation`).
    """
    coils = int(kspace_BCTYX.abs().amax((0, 2, 3, 4)).count_nonzero())
    variance = (deviation or noise_deviation(kspace_BCTYX, mask_BTYX)) ** 2
    return coils * variance or None
