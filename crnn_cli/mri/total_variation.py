"""Total variation in time and space (TV), solved by ADMM, and the TV initial image of the networks.

Legend: B batch, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from crnn_cli.mri.conjugate_gradient import conjugate_gradient
from crnn_cli.mri.consistency import Consistency, energy_weighted_rms, share_views
from crnn_cli.mri.encoding import Encoding
from crnn_cli.notices import Progress, no_progress

SPACE = 0.1  # weight of spatial relative to temporal differences
CHANGE = 1e-4  # relative change of the image per iteration at which iterations stop
PENALTY = 20.0  # ADMM penalty over the weight, for data of scale 1
INNER = 8  # conjugate gradient iterations per ADMM iteration
Factors = tuple[float, float, float]  # weights of the differences along T, X and Y


@dataclass(frozen=True)
class Steps:
    """Parameters of an ADMM run: weight, penalty, relative weight of space, iterations, sets of sensitivities.

    inner : conjugate gradient iterations per ADMM iteration.
    """

    weight: float
    penalty: float
    space: float
    iterations: int
    map_sets: int = 1
    inner: int = INNER


_START = Steps(0.01, 0.3, SPACE, 5)


def tv(
    encoding: Encoding,
    data_BCTYX: Tensor,
    weight: float,
    iterations: int,
    progress: Progress = no_progress,
    space: float = SPACE,
) -> Tensor:
    """Total variation reconstruction: argmin_x 1/2 ||A x - y||^2 + w ||D_t x||_1 + w s TV(x); of one frame, w TV(x).

    D_t is the difference of successive frames, without one from the last frame to the first. TV is the isotropic total
    variation of each frame, without differences across the border. ADMM with K = (D_t, s D_yx) and penalty r = 20 w, at
    most 1, iterates

        z = shrink(K x + u, w / r),  u = u + K x - z,  x = argmin 1/2 ||A x - y||^2 + r/2 ||K x - z + u||^2,

    the last by eight conjugate gradient iterations from the previous x. It starts at the view-shared image and stops
    when x changes by less than 1e-4 of its norm.

    Suited to cine and perfusion: motion stays sharp and edges are preserved. Small slow changes turn into steps
    (staircasing).

    Parameters
    ----------
    data_BCTYX : y, as `Encoding.to_data_space` returns it, scaled so that bright parts of the image are about 1.
    weight : w >= 0, in the brightness of the image.
    iterations : largest number of ADMM iterations.
    space : s, weight of spatial relative to temporal differences.

    Returns
    -------
    (B, T, Y, X) complex.

    References
    ----------
    Feng et al., MRM 70, 2013 (temporal total variation of undersampled cine); Rudin, Osher, Fatemi, Physica D 60, 1992;
    Boyd et al., Found Trends Mach Learn 3, 2011 (ADMM).
    """
    image = share_views(encoding, data_BCTYX)
    penalty = min(PENALTY * max(weight, 1e-4), 1.0)
    adjoint = encoding.adjoint(data_BCTYX)
    steps = Steps(weight, penalty, space, iterations, encoding.map_sets)
    return _admm(image, adjoint, encoding.normal, steps, progress)


def tv_start(consistency: Consistency) -> Tensor:
    """TV initial image of the networks, (B, T, Y, X): a few iterations of `tv` from the time-Wiener image.

    Five iterations with w = 0.01 relative to `energy_weighted_rms`, and r = 0.3. Mean PSNR in dB at 4x, 8x and 12x over
    a phantom and two cines (their central columns, noise 1/100), of the two initial images, and of the reconstructions
    that a network trained to start from time-Wiener images makes from them:

        coils   time-Wiener           TV                    network from the first  network from TV
        1       28.51  24.87  22.23   31.68  26.95  23.58   34.56  29.14  25.73     34.68  29.31  25.95
        8       29.24  25.52  23.02   31.75  28.26  25.33   33.21  29.57  26.56     33.22  29.79  26.75
    """
    start = consistency.time_wiener()
    scale = energy_weighted_rms(start, consistency.map_sets).clamp_min(torch.finfo(start.real.dtype).tiny)
    adjoint = consistency.zero_filled() / scale
    steps = replace(_START, map_sets=consistency.map_sets)
    return _admm(start / scale, adjoint, consistency.normal, steps) * scale


def _admm(
    image: Tensor, adjoint: Tensor, normal: Callable[[Tensor], Tensor], steps: Steps, progress: Progress = no_progress
) -> Tensor:
    """Iterate ADMM from ``image``; ``adjoint`` is A^H y, ``normal`` is x -> A^H A x.

    Images are held as (B, T, X, Y) meanwhile: transforms are fastest along the last axis.
    """
    image, adjoint = image.mT.contiguous(), adjoint.mT.contiguous()
    factors = (1.0, steps.space, steps.space) if image.shape[1] > 1 else (0.0, 1.0, 1.0)
    dual = image.new_zeros(3 if factors[1] else 1, *image.shape)
    return iterate(image, dual, adjoint, normal, steps, factors=factors, progress=progress).mT.contiguous()


def iterate(
    image: Tensor, dual: Tensor, adjoint: Tensor, normal: Callable[[Tensor], Tensor], steps: Steps, *,
    factors: Factors, progress: Progress = no_progress, held: bool = False,
) -> Tensor:  # fmt: skip
    """Iterate ADMM from an image and the scaled dual variable u of `tv`.

    Values are changed in place where that is possible: fresh memory costs as much as the arithmetic.

    Parameters
    ----------
    image : x, (B, T, X, Y).
    dual : u, (3 or 1, B, T, X, Y), changed in place: along T, and if it is 3 along X and Y.
    adjoint : A^H y, (B, T, X, Y).
    normal : x -> A^H A x of images (B, T, Y, X).
    steps : parameters.
    factors : weights of the differences along T, X and Y.
    held : the first frame stays as it is.

    Returns
    -------
    x, (B, T, X, Y).
    """
    penalty, iterations = steps.penalty, steps.iterations

    def operator(x_BTXY: Tensor) -> Tensor:
        applied = _add_second_differences(normal(x_BTXY.mT).mT, x_BTXY, penalty, factors)
        if held:
            applied[:, 0] = 0  # as on the right-hand side: no step changes this frame, and the others see it
        return applied

    for done in range(iterations):
        _add_differences(dual, image, factors)
        kept = _kept(dual, steps.weight / penalty)
        right = adjoint.clone()
        for axis, (change, factor) in enumerate(zip(dual, factors, strict=False), start=1):
            share = kept[0 if axis == 1 else 1]
            _add_adjoint_difference(right, change * (1 - 2 * share), axis, penalty * factor)  # of z - u
            change.mul_(share)
        if held:
            right[:, 0] = 0
        before, image = image, conjugate_gradient(operator, right, image, steps.inner, map_sets=steps.map_sets)
        progress(done + 1, iterations)
        if _norm(image - before) <= CHANGE * _norm(image):
            break
    progress(iterations, iterations)
    return image


def _norm(image: Tensor) -> float:
    return float(torch.view_as_real(image).norm())  # ten times as fast as of complex numbers


def _kept(sum_KBTXY: Tensor, threshold: float) -> Tensor:
    """Share of K x + u that stays in u, real, of temporal differences and of spatial vectors; z has the rest of it.

    These are the proximal operators of the norms: z is shorter by the threshold, so that u is at most as long.
    """
    power = sum_KBTXY.real.square().addcmul_(sum_KBTXY.imag, sum_KBTXY.imag)
    length = torch.stack((power[0], power[1:].sum(0))).sqrt_()
    return threshold / length.clamp_min_(max(threshold, 1e-30))


def _add_differences(sum_KBTXY: Tensor, image_BTXY: Tensor, factors: Factors) -> None:
    """Add differences K x to a sum, in place: along T and, if K is 3, X and Y; nothing at the far end of each."""
    for axis, (change, factor) in enumerate(zip(sum_KBTXY, factors, strict=False), start=1):
        change.narrow(axis, 0, change.shape[axis] - 1).add_(image_BTXY.diff(dim=axis), alpha=factor)


def _add_adjoint_difference(sum_BTXY: Tensor, change_BTXY: Tensor, axis: int, factor: float) -> None:
    """Add the adjoint of the differences along an axis to a sum, in place."""
    count = change_BTXY.shape[axis] - 1
    change_BTXY = change_BTXY.narrow(axis, 0, count)
    sum_BTXY.narrow(axis, 1, count).add_(change_BTXY, alpha=factor)
    sum_BTXY.narrow(axis, 0, count).sub_(change_BTXY, alpha=factor)


def _add_second_differences(sum_BTXY: Tensor, image_BTXY: Tensor, penalty: float, factors: Factors) -> Tensor:
    """Add r K^H K x to a sum, in place: 2 x less its neighbours along each axis, at either end x less its only one."""
    total, image = torch.view_as_real(sum_BTXY), torch.view_as_real(image_BTXY)  # real factors: half the work
    weights = [(axis, penalty * factor**2) for axis, factor in enumerate(factors, start=1) if image.shape[axis] > 1]
    total.add_(image, alpha=2 * sum(weight for _, weight in weights))
    for axis, weight in weights:
        count = image.shape[axis] - 1
        total.narrow(axis, 1, count).sub_(image.narrow(axis, 0, count), alpha=weight)
        total.narrow(axis, 0, count).sub_(image.narrow(axis, 1, count), alpha=weight)
        for end in (0, count):
            total.select(axis, end).sub_(image.select(axis, end), alpha=weight)
    return sum_BTXY
