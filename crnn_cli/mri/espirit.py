"""ESPIRiT: coil sensitivities from a calibration block, as eigenvectors of the k-space kernel operator.

Legend: M set of maps, C coil, K samples of a kernel (coil, line, sample), D displacement along lines, E along samples,
Y phase encoding, X readout. K-space is centred.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

ROW_BLOCK_VALUES = 2**22
"""Complex numbers of one block of image rows: 32 MiB."""


def espirit(
    block_CYX: Tensor, shape_YX: tuple[int, int], kernel: int = 6, threshold: float = 0.02, crop: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Estimate coil sensitivities (one set) and their eigenvalue map from a calibration block.

    All windows of ``kernel`` x ``kernel`` samples of the block are the rows of a matrix; V holds its right singular
    vectors above ``threshold``. The k-space of the coils is invariant under projecting every window onto V and
    averaging the overlaps. This operator is a convolution, so in image space a C x C matrix at each pixel r,

        G(r)[c, d] = 1 / kernel^2 sum_{i, j} (conj(V) V^T)[(c, i), (d, j)] exp(2 pi i (i - j) . r),

    with eigenvalues from 0 to 1. The sensitivities are the eigenvector of the largest, which is 1 where there is
    signal, with sum_c |s_c|^2 = 1. Their phase makes the strongest virtual coil of the block real and positive.

    Outside the body the eigenvalue falls and the vectors are arbitrary. By default they are kept, with norm 1: a
    reconstruction that must explain all samples can then place the noise and the artefacts of that region where they
    belong, instead of folding them into the body. ``crop`` sets the maps to 0 where the eigenvalue is below it.

    Parameters
    ----------
    block_CYX : complex, C coils; a block narrower than two kernels gets a narrower kernel.
    shape_YX : matrix of the sensitivities in pixels.
    kernel : width of the windows in samples.
    threshold : singular values below this fraction of the largest count as noise.
    crop : from 0 (keep all) to 1; 0.8 to 0.95 outlines the body.

    Returns
    -------
    maps_CYX : sensitivities, of the type of the block.
    eigenvalues_YX : largest eigenvalue, real; clearly below 1 inside the body means that one set of maps does not
        explain the scan (motion between calibration lines).

    References
    ----------
    Uecker et al., MRM 71, 2014.
    """
    maps_MCYX, values_CYX = espirit_eigenmaps(block_CYX, shape_YX, 1, kernel, threshold)
    return maps_MCYX[0] * (values_CYX[0] >= crop), values_CYX[0]


def espirit_eigenmaps(
    block_CYX: Tensor, shape_YX: tuple[int, int], sets: int, kernel: int = 6, threshold: float = 0.02
) -> tuple[Tensor, Tensor]:
    """Eigenvectors of the ``sets`` largest eigenvalues of the operator G(r) of `espirit`, and all eigenvalues.

    Where the field of view is smaller than the body, a pixel shows two places of it, which coils see differently. One
    vector cannot explain both, and the second eigenvalue is near 1 there.

    Parameters
    ----------
    block_CYX, shape_YX, kernel, threshold : as of `espirit`.
    sets : from 1 to C.

    Returns
    -------
    maps_MCYX : orthonormal at each pixel, of the type of the block; the strongest virtual coil is real and positive.
    values_CYX : all eigenvalues, largest first.
    """
    coils = block_CYX.shape[0]
    sizes = tuple(max(2, min(kernel, (n + 1) // 2)) for n in block_CYX.shape[1:])
    spectrum_CCDE = _overlaps(_signal_space(block_CYX, sizes, threshold), coils, sizes)
    rows, columns = (
        _waves(n, size).to(spectrum_CCDE.dtype).to(block_CYX.device) for n, size in zip(shape_YX, sizes, strict=True)
    )
    reference_C = strongest_coil(block_CYX)
    along_x_CCDX = spectrum_CCDE @ columns
    maps_MCYX = torch.empty(sets, coils, *shape_YX, dtype=block_CYX.dtype, device=block_CYX.device)
    values_CYX = torch.empty(coils, *shape_YX, dtype=block_CYX.real.dtype, device=block_CYX.device)
    step = max(1, ROW_BLOCK_VALUES // (coils**2 * shape_YX[1]))
    for first in range(0, shape_YX[0], step):
        part = slice(first, min(first + step, shape_YX[0]))
        matrices_YXCC = torch.einsum("cdhx,hy->yxcd", along_x_CCDX, rows[:, part]).contiguous()
        values_YXC, vectors_YXCC = torch.linalg.eigh(matrices_YXCC)
        for number in range(sets):
            vector_YXC = vectors_YXCC[..., -1 - number]
            phase_YX = torch.sgn(vector_YXC @ reference_C.conj())
            maps_MCYX[number, :, part] = (vector_YXC * phase_YX.conj()[..., None]).movedim(-1, 0)
        values_CYX[:, part] = values_YXC.flip(-1).movedim(-1, 0)
    return maps_MCYX, values_CYX


def strongest_coil(block_CYX: Tensor) -> Tensor:
    """Virtual coil of most energy, (C,) complex: the first left singular vector of the calibration block."""
    coil_C: Tensor = torch.linalg.svd(block_CYX.flatten(1), full_matrices=False)[0][:, 0]
    return coil_C


def _signal_space(block_CYX: Tensor, sizes: tuple[int, ...], threshold: float) -> Tensor:
    """Projection onto the signal space of the block's windows, (K, K), K = coil, line, sample."""
    windows = block_CYX.unfold(1, sizes[0], 1).unfold(2, sizes[1], 1)  # (C, window, window, line, sample)
    matrix_WK = windows.permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1)
    _, singular, right_QK = torch.linalg.svd(matrix_WK, full_matrices=False)
    signal_QK = right_QK[singular > threshold * singular[0]]
    projection_KK: Tensor = signal_QK.T @ signal_QK.conj()
    return projection_KK


def _overlaps(projection_KK: Tensor, coils: int, sizes: tuple[int, ...]) -> Tensor:
    """Mean of the projection over the samples of a window, by displacement: (C, C, 2 line - 1, 2 sample - 1)."""
    high, wide = sizes
    split = projection_KK.reshape(coils, high, wide, coils, high, wide).permute(0, 3, 1, 4, 2, 5)
    out = torch.zeros(coils, coils, 2 * high - 1, 2 * wide - 1, dtype=split.dtype, device=split.device)
    for i, j, k, m in itertools.product(range(high), range(high), range(wide), range(wide)):
        out[:, :, i - j + high - 1, k - m + wide - 1] += split[:, :, i, j, k, m]
    return out / math.prod(sizes)


def _waves(pixels: int, size: int) -> Tensor:
    """Plane waves exp(2 pi i d r / N) of displacements d from 1 - size to size - 1, at pixels r about the centre."""
    displacement = torch.arange(1 - size, size, dtype=torch.float64)
    position = torch.arange(pixels, dtype=torch.float64) - pixels // 2
    cycles = displacement[:, None] * position / pixels
    return torch.polar(torch.ones_like(cycles), 2 * math.pi * cycles)
