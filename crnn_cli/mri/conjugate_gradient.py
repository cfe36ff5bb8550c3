"""Conjugate gradients for A^H A with coils, and CG-SENSE, the least-squares image of a scan with several coils.

Legend: B batch, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from crnn_cli.mri.encoding import Encoding

Progress = Callable[[int, int], None]
"""Called with (iterations done, iterations in all)."""
RESIDUAL = 1e-5  # of the right-hand side: CG-SENSE is done


def no_progress(done: int, total: int) -> None:
    """Tell nobody about progress."""


def conjugate_gradient(
    operator: Callable[[Tensor], Tensor],
    right_BTYX: Tensor,
    start_BTYX: Tensor,
    iterations: int,
    tolerance: float = 0.0,
    progress: Progress = no_progress,
) -> Tensor:
    """Solve H x = b for a Hermitian, positive semidefinite H, every batch item on its own.

    Parameters
    ----------
    operator : x -> H x.
    right_BTYX : b.
    start_BTYX : where to begin; a good guess saves iterations.
    iterations : at most so many applications of H, and one for the start.
    tolerance : stop when ||b - H x|| <= tolerance ||b|| for every item.

    References
    ----------
    Hestenes & Stiefel, J Res Natl Bur Stand 49, 1952.
    """
    image = torch.view_as_real(start_BTYX)  # steps are real: half the work of complex ones
    residual = torch.view_as_real(right_BTYX - operator(start_BTYX))
    direction, power = residual, _dot(residual, residual)
    right = torch.view_as_real(right_BTYX)
    enough = tolerance**2 * _dot(right, right)
    for done in range(iterations):
        if bool((power <= enough).all()):
            break
        turned = torch.view_as_real(operator(torch.view_as_complex(direction)))
        step = _ratio(power, _dot(direction, turned))
        image = torch.addcmul(image, step, direction)
        residual = torch.addcmul(residual, step, turned, value=-1)
        before, power = power, _dot(residual, residual)
        direction = torch.addcmul(residual, _ratio(power, before), direction)
        progress(done + 1, iterations)
    progress(iterations, iterations)
    return torch.view_as_complex(image)


def sense(
    encoding: Encoding, data_BCTYX: Tensor, weight: float, iterations: int, progress: Progress = no_progress
) -> Tensor:
    """Return argmin_x ||A x - y||^2 + w ||x||^2, each frame on its own: CG-SENSE with a Tikhonov term.

    By conjugate gradients on (A^H A + w) x = A^H y from zero, which also picks the image of least norm for w = 0. Stops
    at a residual of 1e-5 of A^H y. Good where the coils alone can tell the aliases apart: static scans, few-fold
    acceleration. With one coil it is the zero-filled image over 1 + w.

    Parameters
    ----------
    weight : w >= 0; A^H A is at most 1, so w is a noise-to-signal ratio of powers.

    References
    ----------
    Pruessmann, Weiger, Boernert, Boesiger, MRM 46, 2001.
    """
    right_BTYX = encoding.adjoint(data_BCTYX)

    def operator(image_BTYX: Tensor) -> Tensor:
        return encoding.normal(image_BTYX) + weight * image_BTYX

    start_BTYX = torch.zeros_like(right_BTYX)
    return conjugate_gradient(operator, right_BTYX, start_BTYX, iterations, RESIDUAL, progress)


def _dot(one_BTYXC: Tensor, other_BTYXC: Tensor) -> Tensor:
    """Return the inner product of each batch item, (B, 1, 1, 1, 1); C is real and imaginary part."""
    return (one_BTYXC * other_BTYXC).sum((1, 2, 3, 4), keepdim=True)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Return above / below, 0 where below is 0."""
    return torch.where(below > 0, above / torch.where(below > 0, below, torch.ones_like(below)), 0 * above)
