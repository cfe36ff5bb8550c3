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
from crnn_cli.mri.total_variation.solver import Factors, FourierSolver, LinearSystem
from crnn_cli.notices import Progress, no_progress

SPACE = 0.1  # weight of spatial relative to temporal differences
CHANGE = 1e-4  # relative change of the image per iteration at which iterations stop
PENALTY = 20.0  # ADMM penalty over the weight, for data of scale 1
INNER = 8  # conjugate gradient iterations per ADMM iteration


@dataclass(frozen=True)
class Steps:
    """Parameters of an ADMM run.

    Attributes
    ----------
    weight, penalty : w and r of `tv`.
    space : s, weight of spatial relative to temporal differences.
    iterations : of ADMM, at most.
    map_sets : sets of sensitivities.
    inner : conjugate gradient iterations in each.
    """

    weight: float
    penalty: float
    space: float
    iterations: int
    map_sets: int = 1
    inner: int = INNER

    @property
    def factors(self) -> Factors:
        """Weights of the differences along T, X and Y."""
        return 1.0, self.space, self.space


_SEVERAL_COILS = Steps(0.01, 0.3, SPACE, 5)
_ONE_COIL = Steps(0.006, 0.3, 0.05, 5)


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

    Five iterations with r = 0.3, relative to `energy_weighted_rms`. Several coils: w = 0.01 and s = 0.1. One coil: w =
    0.006 and s = 0.05, differences across the border too, and an exact minimum in each iteration (`FourierSolver`).
    Mean PSNR in dB at 4x, 8x and 12x of four cines, and of the images that `cine-crnn-fast` makes from them:

        one coil                 initial image          cine-crnn-fast
        conjugate gradients      36.53  31.33  29.16    37.47  32.29  30.30
        exact minimum            36.89  31.85  30.22    37.74  32.57  30.97

    The exact minimum takes half the time. With a noise of 1/100, 8x, cines gain 0.2 dB and two phantoms lose 0.4.
    """
    start = consistency.time_wiener()
    scale = energy_weighted_rms(start, consistency.map_sets).clamp_min(torch.finfo(start.real.dtype).tiny)
    image, adjoint = ((values / scale).mT.contiguous() for values in (start, consistency.zero_filled()))
    steps = replace(start_steps(consistency), map_sets=consistency.map_sets)
    system = _start_system(consistency, steps)
    return iterate(image, image.new_zeros(3, *image.shape), adjoint, system, steps).mT.contiguous() * scale


def start_steps(consistency: Consistency) -> Steps:
    """Parameters of initial images, for one coil or several."""
    return _SEVERAL_COILS if consistency.fourier_mask() is None else _ONE_COIL


def _admm(
    image: Tensor, adjoint: Tensor, normal: Callable[[Tensor], Tensor], steps: Steps, progress: Progress
) -> Tensor:
    """Iterate ADMM from ``image``; ``adjoint`` is A^H y, ``normal`` is x -> A^H A x.

    Images are held as (B, T, X, Y) meanwhile: transforms are fastest along the last axis.
    """
    image, adjoint = image.mT.contiguous(), adjoint.mT.contiguous()
    factors = steps.factors if image.shape[1] > 1 else (0.0, 1.0, 1.0)
    dual = image.new_zeros(3 if factors[1] else 1, *image.shape)
    system = GradientSolver(normal, steps, factors)
    return iterate(image, dual, adjoint, system, steps, progress).mT.contiguous()


def _start_system(consistency: Consistency, steps: Steps) -> LinearSystem:
    """Solver of the linear system of initial images: exact for one coil, by conjugate gradients for several."""
    mask_BTYX = consistency.fourier_mask()
    if mask_BTYX is None:
        return GradientSolver(consistency.normal, steps)
    frames, lines, columns = consistency.zero_filled().shape[1:]
    return FourierSolver(mask_BTYX, (frames, columns, lines), steps.penalty, steps.factors)


class GradientSolver:
    """Solves (A^H A + r K^H K) x = b by some steps of conjugate gradients from the image there is; a `LinearSystem`.

    Parameters
    ----------
    normal : x -> A^H A x of images (B, T, Y, X).
    steps : parameters.
    factors : weights of the differences along T, X and Y; by default those of the steps.
    held : the first frame stays as it is.
    """

    across_border = False

    def __init__(
        self, normal: Callable[[Tensor], Tensor], steps: Steps, factors: Factors | None = None, *, held: bool = False
    ) -> None:  # fmt: skip
        self._normal, self._steps, self._held = normal, steps, held
        self.factors = factors or steps.factors

    def __call__(self, right_BTXY: Tensor, image_BTXY: Tensor) -> Tensor:
        """Come nearer to x."""
        if self._held:
            right_BTXY[:, 0] = 0  # as of the operator: no step changes this frame, and the others see it
        steps = self._steps
        return conjugate_gradient(self._operator, right_BTXY, image_BTXY, steps.inner, map_sets=steps.map_sets)

    def _operator(self, x_BTXY: Tensor) -> Tensor:
        applied = self._normal(x_BTXY.mT).mT
        _add_second_differences(applied, x_BTXY, self._steps.penalty, self.factors)
        if self._held:
            applied[:, 0] = 0
        return applied


def iterate(
    image: Tensor, dual: Tensor, adjoint: Tensor, system: LinearSystem, steps: Steps, progress: Progress = no_progress
) -> Tensor:
    """Iterate ADMM from an image and the scaled dual variable u of `tv`.

    Values are changed in place where that is possible: fresh memory costs as much as the arithmetic.

    Parameters
    ----------
    image : x, (B, T, X, Y).
    dual : u, (3 or 1, B, T, X, Y), changed in place: along T, and if it is 3 along X and Y.
    adjoint : A^H y, (B, T, X, Y).
    system : solver of the linear system.
    steps : parameters.

    Returns
    -------
    x, (B, T, X, Y).
    """
    penalty, iterations = steps.penalty, steps.iterations
    for done in range(iterations):
        _add_differences(dual, image, system)
        kept = _kept(dual, steps.weight / penalty)
        right = adjoint.clone()
        for axis, (change, factor) in enumerate(zip(dual, system.factors, strict=False), start=1):
            share = kept[0 if axis == 1 else 1]
            around = axis > 1 and system.across_border
            _add_adjoint_difference(right, change * (1 - 2 * share), axis, penalty * factor, around)  # of z - u
            change.mul_(share)
        before, image = image, system(right, image)
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


def _add_differences(sum_KBTXY: Tensor, image_BTXY: Tensor, system: LinearSystem) -> None:
    """Add differences K x to a sum, in place: along T and, if K is 3, X and Y.

    The far end of each has none, or that to the near end where differences go across the border.
    """
    for axis, (change, factor) in enumerate(zip(sum_KBTXY, system.factors, strict=False), start=1):
        count = change.shape[axis] - 1
        change.narrow(axis, 0, count).add_(image_BTXY.diff(dim=axis), alpha=factor)
        if axis > 1 and system.across_border:
            change.select(axis, count).add_(image_BTXY.select(axis, 0) - image_BTXY.select(axis, count), alpha=factor)


def _add_adjoint_difference(sum_BTXY: Tensor, change_BTXY: Tensor, axis: int, factor: float, around: bool) -> None:
    """Add the adjoint of the differences along an axis to a sum, in place; around the border where they go so."""
    count = change_BTXY.shape[axis] - 1
    inside_BTXY = change_BTXY.narrow(axis, 0, count)
    sum_BTXY.narrow(axis, 1, count).add_(inside_BTXY, alpha=factor)
    sum_BTXY.narrow(axis, 0, count).sub_(inside_BTXY, alpha=factor)
    if around:
        last = change_BTXY.select(axis, count)
        sum_BTXY.select(axis, 0).add_(last, alpha=factor)
        sum_BTXY.select(axis, count).sub_(last, alpha=factor)


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
