"""Conjugate gradients, and CG-SENSE: the regularised least-squares image of a multi-coil scan.

Legend: B batch, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.gram import sum_sets
from crnn_cli.notices import Progress, no_progress

RESIDUAL = 1e-5  # relative residual at which CG-SENSE stops


def conjugate_gradient(
    operator: Callable[[Tensor], Tensor],
    right_BTYX: Tensor,
    start_BTYX: Tensor,
    iterations: int,
    tolerance: float = 0.0,
    progress: Progress = no_progress,
    *,
    map_sets: int = 1,
) -> Tensor:
    """Solve H x = b for a Hermitian positive semidefinite H, each batch item with its own step lengths.

    Vectors are changed in place, as fresh memory costs as much as the arithmetic: no gradients pass.

    Parameters
    ----------
    operator : x -> H x. A matrix that is not Hermitian gives a wrong result without an error.
    right_BTYX : b, complex.
    start_BTYX : initial x; a good one saves iterations.
    iterations : largest number of applications of H, besides one for the initial residual.
    tolerance : stops once ||b - H x|| <= tolerance ||b|| for every item.
    map_sets : sets of sensitivities; with several, the batch is one item, whose components H couples.

    Returns
    -------
    x, (B, T, Y, X) complex, also where the tolerance was not reached.

    References
    ----------
    Hestenes & Stiefel, J Res Natl Bur Stand 49, 1952.
    """
    image = torch.view_as_real(start_BTYX).clone()  # steps are real: half the work of complex ones
    residual = torch.view_as_real(right_BTYX - operator(start_BTYX))
    direction, product = residual.clone(), torch.empty_like(residual)

    def dot(first: Tensor, second: Tensor) -> Tensor:
        """Real inner product of each item, (B, 1, 1, 1, 1)."""
        return sum_sets(torch.mul(first, second, out=product).sum((1, 2, 3, 4), keepdim=True), map_sets)

    power = dot(residual, residual)
    right = torch.view_as_real(right_BTYX)
    enough = tolerance**2 * dot(right, right)
    for done in range(iterations):
        if bool((power <= enough).all()):
            break
        applied = torch.view_as_real(operator(torch.view_as_complex(direction)))
        step = _ratio(power, dot(direction, applied))
        image.addcmul_(step, direction)
        residual.addcmul_(step, applied, value=-1)
        before, power = power, dot(residual, residual)
        torch.addcmul(residual, _ratio(power, before), direction, out=direction)
        progress(done + 1, iterations)
    progress(iterations, iterations)
    return torch.view_as_complex(image)


def sense(
    encoding: Encoding, data_BCTYX: Tensor, weight: float, iterations: int, progress: Progress = no_progress
) -> Tensor:
    """CG-SENSE with a Tikhonov term: argmin_x ||A x - y||^2 + w ||x||^2, without a model of time.

    Solved by conjugate gradients on (A^H A + w) x = A^H y from zero, which gives the least-norm image for w = 0. Stops
    at a relative residual of 1e-5. Suited to static scans and few-fold acceleration, where the coils alone can separate
    the aliases. With one coil it is the zero-filled image divided by 1 + w.

    Parameters
    ----------
    data_BCTYX : y, as `Encoding.to_data_space` returns it.
    weight : w >= 0; A^H A is at most 1, so w is a noise-to-signal ratio of powers.
    iterations : largest number of conjugate gradient iterations.

    Returns
    -------
    (B, T, Y, X) complex.

    References
    ----------
    Pruessmann, Weiger, Boernert, Boesiger, MRM 46, 2001.
    """
    right_BTYX = encoding.adjoint(data_BCTYX)

    def operator(image_BTYX: Tensor) -> Tensor:
        return encoding.normal(image_BTYX) + weight * image_BTYX

    start_BTYX = torch.zeros_like(right_BTYX)
    return conjugate_gradient(
        operator, right_BTYX, start_BTYX, iterations, RESIDUAL, progress, map_sets=encoding.map_sets
    )


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Quotient above / below, 0 where below is 0."""
    return torch.where(below > 0, above / torch.where(below > 0, below, torch.ones_like(below)), 0 * above)
