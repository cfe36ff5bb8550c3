"""Low rank in space and time: a moving picture is made of few time courses, everywhere or block by block.

Legend: B batch, C coil, T frame, Y phase encoding, X readout, N block, P pixel of a block.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from crnn_cli.mri.conjugate_gradient import Progress, no_progress
from crnn_cli.mri.consistency import share_views
from crnn_cli.mri.encoding import Encoding

BLOCK = 8  # pixels, along Y and X
CHANGE = 1e-4  # relative change of the image in an iteration: done
BACKGROUND = 0.3  # l+s: weight of the singular values, in units of the sparse part's weight
_SEED = 0


def llr(
    encoding: Encoding, data_BCTYX: Tensor, weight: float, iterations: int, progress: Progress = no_progress
) -> Tensor:
    """Return about argmin_x 1/2 ||A x - y||^2 + w c sum_b ||M_b x||_*: locally low rank.

    M_b x is block b as a matrix of frames by pixels, ||.||_* the sum of its singular values, c = sqrt(T) + sqrt(P),
    which is how large the first singular value of noise of deviation 1 is. Blocks are 8 x 8 pixels; their grid is moved
    at random before each step, from a fixed seed, so that no edges show: the same image each time. Accelerated proximal
    gradient steps from the view-shared image; stops when a step changes it by less than 1e-4 of its norm. Good on
    perfusion and parameter mapping, where each place has its own few time courses, and on cine with fine motion.

    Parameters
    ----------
    weight : w >= 0, a deviation in the brightness of the image, whose bright parts are about 1.

    References
    ----------
    Trzasko & Manduca, ISMRM 2011; Zhang, Pauly, Levesque, MRM 73, 2015; Beck & Teboulle, SIAM J Imaging Sci 2, 2009.
    """
    dice = torch.Generator().manual_seed(_SEED)
    step = 1 / largest_eigenvalue_bound(encoding)
    adjoint = encoding.adjoint(data_BCTYX)

    def proximal(image: Tensor) -> Tensor:
        down, right = torch.randint(BLOCK, (2,), generator=dice).tolist()
        moved = image.roll((down, right), (-2, -1))
        return shrink_blocks(moved, weight * step, BLOCK).roll((-down, -right), (-2, -1))

    def descended(image: Tensor) -> Tensor:
        return image - step * (encoding.normal(image) - adjoint)

    return _accelerated(descended, proximal, share_views(encoding, data_BCTYX), iterations, progress)


def low_rank_plus_sparse(
    encoding: Encoding, data_BCTYX: Tensor, weight: float, iterations: int, progress: Progress = no_progress
) -> Tensor:
    """Return L + S of argmin 1/2 ||A (L + S) - y||^2 + w b c ||L||_* + w ||F_t S||_1: low rank plus sparse.

    L, as one matrix of frames by all pixels, is the background of few time courses (c = sqrt(T) + sqrt(Y X), b = 0.3);
    S is what moves, sparse after the orthonormal Fourier transform F_t along time. Accelerated proximal gradient
    steps on both, from L the view-shared image and S = 0; stops when a step changes them by less than 1e-4 of their
    norm. Good where a still background and periodic or brief changes add up: cine, perfusion, angiography.

    Parameters
    ----------
    weight : w >= 0, in the brightness of the image, whose bright parts are about 1.

    References
    ----------
    Otazo, Candes, Sodickson, MRM 73, 2015; Lin & Fessler, IEEE Trans Comput Imaging 5, 2019 (faster steps).
    """
    step = 1 / (2 * largest_eigenvalue_bound(encoding))
    adjoint = encoding.adjoint(data_BCTYX)

    def proximal(both: Tensor) -> Tensor:
        low, sparse = both
        low = _shrunk_values(low.flatten(2), weight * BACKGROUND * step).view_as(low)
        rates = torch.fft.fft(sparse, dim=1, norm="ortho")
        kept = 1 - weight * step / rates.abs().clamp_min(max(weight * step, 1e-30))
        return torch.stack((low, torch.fft.ifft(rates * kept, dim=1, norm="ortho")))

    def descended(both: Tensor) -> Tensor:
        return both - step * (encoding.normal(both[0] + both[1]) - adjoint)

    low = share_views(encoding, data_BCTYX)
    found = _accelerated(descended, proximal, torch.stack((low, torch.zeros_like(low))), iterations, progress)
    return found[0] + found[1]


def largest_eigenvalue_bound(encoding: Encoding) -> float:
    """Return a bound of the eigenvalues of A^H A: the largest sum of squared sensitivities of a pixel."""
    if encoding.maps_BCYX is None:
        return 1.0
    return max(float(encoding.maps_BCYX.abs().square().sum(1).max()), 1e-30)


def shrink_blocks(image_BTYX: Tensor, weight: float, block: int) -> Tensor:
    """Return the prox of w c sum_b ||M_b x||_* for blocks side by side, the last perhaps smaller."""
    lines, columns = image_BTYX.shape[-2:]
    padded = pad(image_BTYX, (0, -columns % block, 0, -lines % block))
    tiles = padded.unflatten(-1, (-1, block)).unflatten(-3, (-1, block))  # B T Y' y X' x
    order = tiles.permute(0, 2, 4, 1, 3, 5)
    shrunk = _shrunk_values(order.flatten(4).flatten(1, 2), weight).view(order.shape)
    return shrunk.permute(0, 3, 1, 4, 2, 5).reshape(padded.shape)[..., :lines, :columns]


def _shrunk_values(matrices_TP: Tensor, weight: float) -> Tensor:
    """Return matrices (..., T, P) with their singular values lowered by w (sqrt(T) + sqrt(P)), at least to 0.

    By the eigenvectors of the smaller Gram matrix, which costs less than the singular vectors.
    """
    frames, pixels = matrices_TP.shape[-2:]
    lowered_by = weight * (frames**0.5 + pixels**0.5)
    wide = frames <= pixels
    values, vectors = torch.linalg.eigh(matrices_TP @ matrices_TP.mH if wide else matrices_TP.mH @ matrices_TP)
    singular = values.clamp_min(0).sqrt()
    kept = 1 - lowered_by / singular.clamp_min(max(lowered_by, 1e-30))
    projection = (vectors * kept[..., None, :]) @ vectors.mH
    shrunk: Tensor = projection @ matrices_TP if wide else matrices_TP @ projection
    return shrunk


def _accelerated(
    descended: Callable[[Tensor], Tensor],
    proximal: Callable[[Tensor], Tensor],
    start: Tensor,
    iterations: int,
    progress: Progress,
) -> Tensor:
    """Return where accelerated proximal gradient steps end, their momentum dropped when it points back uphill.

    References
    ----------
    O'Donoghue & Candes, Found Comput Math 15, 2015 (restart).
    """
    image = ahead = start
    momentum = 1.0
    for done in range(iterations):
        before, image = image, proximal(descended(ahead))
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
