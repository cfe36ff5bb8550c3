"""The part of an image that the data did not determine, and the noise of the data.

Legend: B batch of one, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from crnn_cli.mri.conjugate_gradient import conjugate_gradient
from crnn_cli.mri.encoding import Encoding

GAIN = 0.01
"""Share of the energy of an image that the scan must pass on for the image to count as determined by half."""
_ITERATIONS, _ENOUGH = 30, 1e-3
_OUTERMOST = 0.1
_FEWEST = 50
_ZERO = 1e-12  # of the energy of the brightest sample: was not measured, or is rounding


def undetermined(encoding: Encoding, image_BTYX: Tensor) -> Tensor:
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
    """Return the noise energy of one sample of all coils together, from the outermost samples; None where it cannot be.

    For each coil the median of |y|^2 over ln 2, which is the mean where y is complex Gaussian, over the tenth of the
    measured samples that lie farthest from the centre, relative to the size of k-space. Samples that are zero, as after
    interpolation, do not count; there must be 50. Where the outermost samples hold signal it is too large, where they
    were filtered too small.
    """
    frames, lines, samples = kspace_BCTYX.shape[-3:]
    energy_CTYX = kspace_BCTYX[0].abs().double().square()
    measured_TYX = mask_BTYX[0].bool().expand(frames, lines, samples)
    measured_TYX = measured_TYX & (energy_CTYX.sum(0) > _ZERO * float(energy_CTYX.sum(0).max()))
    far_YX = _from_centre(lines)[:, None].square() + _from_centre(samples).square()
    far_N = far_YX.to(kspace_BCTYX.device).expand(frames, lines, samples)[measured_TYX]
    count = math.ceil(_OUTERMOST * len(far_N))
    if count < _FEWEST:
        return None
    outermost_N = far_N.topk(count).indices
    medians_C = energy_CTYX[:, measured_TYX][:, outermost_N].median(1).values
    return float(medians_C.sum()) / math.log(2)


def _from_centre(size: int) -> Tensor:
    return (torch.arange(size) - size // 2) / max(1, size // 2)
