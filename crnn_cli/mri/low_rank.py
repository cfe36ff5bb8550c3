"""Low-rank reconstructions: locally low rank (LLR), and low rank plus sparse (L+S).

Legend: B batch, C coil, T frame, Y phase encoding, X readout, N block, P pixel of a block.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from crnn_cli.mri.consistency import share_views
from crnn_cli.mri.encoding import Encoding
from crnn_cli.notices import Progress, no_progress

BLOCK = 8  # width of LLR blocks in pixels, along Y and X
CHANGE = 1e-4  # relative change of the image per iteration at which iterations stop
BACKGROUND = 0.3  # L+S: weight of the singular values relative to the weight of the sparse part
_SEED = 0


def llr(
    encoding: Encoding, data_BCTYX: Tensor, weight: float, iterations: int, progress: Progress = no_progress
) -> Tensor:
    """Locally low-rank reconstruction: about argmin_x 1/2 ||A x - y||^2 + w c sum_b ||M_b x||_*.

    M_b x is block b as a matrix of frames by pixels, ||.||_* the sum of its singular values, and c = sqrt(T) + sqrt(P)
    the largest singular value of noise of standard deviation 1. Blocks are 8 x 8 pixels. Their grid is shifted at
    random before each step, from a fixed seed, so that no block edges show and the result is reproducible; the cost
    function is therefore minimised only on average. Accelerated proximal gradient steps start at the view-shared image
    and stop when a step changes it by less than 1e-4 of its norm.

    Suited to perfusion and parameter mapping, where each region has few time courses of its own, and to cine with fine
    motion.

    Parameters
    ----------
    data_BCTYX : y, as `Encoding.to_data_space` returns it, scaled so that bright parts of the image are about 1.
    weight : w >= 0, in the standard deviation of the noise that it removes from a block.
    iterations : largest number of steps.

    Returns
    -------
    (B, T, Y, X) complex.

    References
    ----------
    Trzasko & Manduca, ISMRM 2011; Zhang, Pauly, Levesque, MRM 73, 2015; Beck & Teboulle, SIAM J Imaging Sci 2, 2009.
    """
    generator = torch.Generator().manual_seed(_SEED)
    step = 1 / largest_eigenvalue_bound(encoding)
    adjoint = encoding.adjoint(data_BCTYX)

    def proximal(image: Tensor) -> Tensor:
        down, right = torch.randint(BLOCK, (2,), generator=generator).tolist()
        shifted = image.roll((down, right), (-2, -1))
        return shrink_blocks(shifted, weight * step, BLOCK).roll((-down, -right), (-2, -1))

    def gradient_step(image: Tensor) -> Tensor:
        return image - step * (encoding.normal(image) - adjoint)

    start = share_views(encoding, data_BCTYX)
    return _accelerated_proximal_gradient(gradient_step, proximal, start, iterations, progress)


def low_rank_plus_sparse(
    encoding: Encoding, data_BCTYX: Tensor, weight: float, iterations: int, progress: Progress = no_progress
) -> Tensor:
    """Low rank plus sparse: L + S of argmin 1/2 ||A (L + S) - y||^2 + w b c ||L||_* + w ||F_t S||_1.

    L, as one matrix of frames by all pixels, is the background with few time courses (c = sqrt(T) + sqrt(Y X),
    b = 0.3). S holds the dynamics, sparse after the orthonormal Fourier transform F_t along time. Accelerated proximal
    gradient steps on both start at L = the view-shared image and S = 0, and stop when a step changes them by less than
    1e-4 of their norm.

    Suited to a static background with periodic or brief changes: cine, perfusion, angiography.

    Parameters
    ----------
    data_BCTYX : y, as `Encoding.to_data_space` returns it, scaled so that bright parts of the image are about 1.
    weight : w >= 0, in the brightness of the image.
    iterations : largest number of steps.

    Returns
    -------
    (B, T, Y, X) complex.

    References
    ----------
    Otazo, Candes, Sodickson, MRM 73, 2015; Lin & Fessler, IEEE Trans Comput Imaging 5, 2019 (faster steps).
    """
    step = 1 / (2 * largest_eigenvalue_bound(encoding))
    adjoint = encoding.adjoint(data_BCTYX)

    def proximal(both: Tensor) -> Tensor:
        low, sparse = both
        low = _shrink_singular_values(low.flatten(2), weight * BACKGROUND * step).view_as(low)
        spectrum = torch.fft.fft(sparse, dim=1, norm="ortho")
        factor = 1 - weight * step / spectrum.abs().clamp_min(max(weight * step, 1e-30))
        return torch.stack((low, torch.fft.ifft(spectrum * factor, dim=1, norm="ortho")))

    def gradient_step(both: Tensor) -> Tensor:
        return both - step * (encoding.normal(both[0] + both[1]) - adjoint)

    low = share_views(encoding, data_BCTYX)
    start = torch.stack((low, torch.zeros_like(low)))
    both = _accelerated_proximal_gradient(gradient_step, proximal, start, iterations, progress)
    return both[0] + both[1]


def largest_eigenvalue_bound(encoding: Encoding) -> float:
    """Upper bound of the eigenvalues of A^H A: the largest sum_c |s_c|^2 of a pixel; 1 for one uniform coil.

    With M sets of sensitivities it is the largest eigenvalue of the M x M matrices sum_c conj(s_cm) s_cn. The
    reciprocal is a safe step length of gradient descent.
    """
    if encoding.maps_BCYX is None:
        return 1.0
    if encoding.map_sets > 1:
        gram_YXMM = torch.einsum("mcyx,ncyx->yxmn", encoding.maps_BCYX.conj(), encoding.maps_BCYX)
        return max(float(torch.linalg.eigvalsh(gram_YXMM).max()), 1e-30)
    return max(float(encoding.maps_BCYX.abs().square().sum(1).max()), 1e-30)


def shrink_blocks(image_BTYX: Tensor, weight: float, block: int) -> Tensor:
    """Proximal operator of w c sum_b ||M_b x||_* for adjacent square blocks of width ``block``, zero-padded at the end.

    Each block, a matrix of frames by pixels, has its singular values lowered by w c, at least to 0.
    """
    lines, columns = image_BTYX.shape[-2:]
    padded = pad(image_BTYX, (0, -columns % block, 0, -lines % block))
    tiles = padded.unflatten(-1, (-1, block)).unflatten(-3, (-1, block))  # B T Y' y X' x
    order = tiles.permute(0, 2, 4, 1, 3, 5)
    shrunk = _shrink_singular_values(order.flatten(4).flatten(1, 2), weight).view(order.shape)
    return shrunk.permute(0, 3, 1, 4, 2, 5).reshape(padded.shape)[..., :lines, :columns]


def _shrink_singular_values(matrices_TP: Tensor, weight: float) -> Tensor:
    """Soft-threshold the singular values of matrices (..., T, P) by w (sqrt(T) + sqrt(P)).

    Uses the eigenvectors of the smaller Gram matrix, which cost less than singular vectors.
    """
    frames, pixels = matrices_TP.shape[-2:]
    threshold = weight * (frames**0.5 + pixels**0.5)
    wide = frames <= pixels
    values, vectors = torch.linalg.eigh(matrices_TP @ matrices_TP.mH if wide else matrices_TP.mH @ matrices_TP)
    singular = values.clamp_min(0).sqrt()
    factor = 1 - threshold / singular.clamp_min(max(threshold, 1e-30))
    projection = (vectors * factor[..., None, :]) @ vectors.mH
    shrunk: Tensor = projection @ matrices_TP if wide else matrices_TP @ projection
    return shrunk


def _accelerated_proximal_gradient(
    gradient_step: Callable[[Tensor], Tensor],
    proximal: Callable[[Tensor], Tensor],
    start: Tensor,
    iterations: int,
    progress: Progress,
) -> Tensor:
    """Iterate accelerated proximal gradient steps, restarting the momentum whenever it points uphill.

    References
    ----------
    Beck & Teboulle, SIAM J Imaging Sci 2, 2009 (FISTA); O'Donoghue & Candes, Found Comput Math 15, 2015 (restart).
    """
    image = ahead = start
    momentum = 1.0
    for done in range(iterations):
        before, image = image, proximal(gradient_step(ahead))
        change = image - before
        uphill = torch.view_as_real(ahead - image).mul(torch.view_as_real(change)).sum() > 0
        momentum_before = 1.0 if bool(uphill) else momentum
        momentum = (1 + (1 + 4 * momentum_before**2) ** 0.5) / 2
        ahead = image + (momentum_before - 1) / momentum * change
        progress(done + 1, iterations)
        if float(change.norm()) <= CHANGE * float(image.norm()):
            break
    progress(iterations, iterations)
    return image
