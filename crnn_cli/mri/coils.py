"""Receive coils: noise whitening, coil compression, normalised sensitivities, and the calibration block.

Legend: C coil, N virtual coil, T frame, Y phase encoding, X readout. K-space is centred and orthonormal.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crnn_cli.errors import Param, UnsupportedDataError, UsageError

BLOCK = 24
"""Largest width of a calibration block; a larger one costs time and sharpens the sensitivities little."""
LEAST_LINES = 6
"""Smallest number of lines of a calibration block."""


def whitening_matrix(noise_CC: Tensor) -> Tensor:
    """Whitening (noise prewhitening) matrix W of the coils, with W N W^H = v I.

    W = sqrt(v) L^-1 with the Cholesky factor L L^H = N. v is the median of the coil variances, so that intensities stay
    in the scale of the file even where one broken coil is a thousand times noisier than the others.

    Parameters
    ----------
    noise_CC : covariance N of the complex noise, Hermitian.

    Returns
    -------
    (C, C) complex, lower triangular; apply it with `mix_coils`.

    Raises
    ------
    UnsupportedDataError
        If N is not the covariance of noise in every coil: not finite, not Hermitian, or singular.

    References
    ----------
    Roemer et al., MRM 16, 1990; Pruessmann et al., MRM 42, 1999, appendix A.
    """
    subject = "the noise covariance of the coils"
    wide = noise_CC.to(torch.complex128)
    if not bool(torch.isfinite(torch.view_as_real(wide)).all()):
        raise UnsupportedDataError(f"{subject} has values that are not finite: leave the noise scan out")
    if float((wide - wide.mH).abs().max()) > 1e-3 * float(wide.abs().max()):
        raise UnsupportedDataError(f"{subject} is not Hermitian, so it is not a covariance: leave the noise scan out")
    variance_C = wide.diagonal().real
    dead = [str(c) for c, value in enumerate(variance_C.tolist()) if value <= 0]
    if dead:
        raise UnsupportedDataError(f"{subject} is 0 in coil {', '.join(dead)} (counted from 0): leave those coils out")
    scale_C = variance_C.sqrt()
    factor, info = torch.linalg.cholesky_ex(wide / (scale_C[:, None] * scale_C))
    if int(info) or float(factor.diagonal().real.min()) < 1e-4:
        raise UnsupportedDataError(
            f"{subject} ({len(scale_C)} coils) is singular: the noise scan has too few samples, or one coil is made of "
            "others; leave the noise scan out, or the coil"
        )
    inverse = torch.linalg.solve_triangular(factor, torch.diag(1 / scale_C).to(wide.dtype), upper=False)
    whitening_CC: Tensor = inverse * variance_C.median().sqrt()
    return whitening_CC.to(noise_CC.dtype)


def mix_coils(kspace_CTYX: Tensor, matrix_NC: Tensor) -> Tensor:
    """Combine coils (C, ...) to virtual coils (N, ...): each is the sum weighted by a row of the matrix (N, C).

    Applies to k-space, images and calibration lines alike; sensitivities must be mixed by the same matrix.
    """
    virtual: Tensor = torch.tensordot(matrix_NC.to(kspace_CTYX.dtype), kspace_CTYX, dims=([1], [0]))
    return virtual


def compression_matrix(kspace_CTYX: Tensor, coils: int) -> tuple[Tensor, float]:
    """Coil compression matrix (N, C) onto the ``coils`` virtual coils of most energy, and the fraction they retain.

    Its rows are the conjugates of the first left singular vectors of the measured samples (principal components):
    orthonormal, strongest first, so white noise stays white. Zeros where nothing was measured have no effect.

    Parameters
    ----------
    kspace_CTYX : complex, of one slice; whiten it first, or a noisy coil counts as signal.
    coils : number N of virtual coils.

    Returns
    -------
    The matrix, for `mix_coils`, and the retained fraction of the energy (1 for k-space of zeros).

    Raises
    ------
    UsageError
        If ``coils`` is not from 1 to C.

    References
    ----------
    Buehrer et al., MRM 57, 2007; Huang et al., Magn Reson Imaging 26, 2008.
    """
    count = kspace_CTYX.shape[0]
    if not 1 <= coils <= count:
        raise UsageError(f"{count} coils cannot become {coils} virtual coils: choose 1 to {count}")
    gram_CC = torch.zeros(count, count, dtype=torch.complex128, device=kspace_CTYX.device)
    for kspace_CYX in kspace_CTYX.unbind(1):
        flat = kspace_CYX.flatten(1)
        gram_CC += flat @ flat.mH
    energy_C, vectors_CC = torch.linalg.eigh(gram_CC)
    energy_C, vectors_CC = energy_C.flip(0).clamp_min(0), vectors_CC.flip(1)
    largest = vectors_CC.gather(0, vectors_CC.abs().argmax(0, keepdim=True))
    matrix_CC = (vectors_CC * (largest.conj() / largest.abs())).mH  # fixes the arbitrary phase of singular vectors
    total = float(energy_C.sum())
    retained = float(energy_C[:coils].sum()) / total if total else 1.0
    return matrix_CC[:coils].to(kspace_CTYX.dtype).contiguous(), retained


def normalise_maps(maps_CYX: Tensor) -> Tensor:
    """Normalise sensitivities to sum_c |s_c|^2 = 1 at each pixel; pixels where all are 0 stay 0.

    >>> normalise_maps(torch.tensor([3.0, 4.0]).reshape(2, 1, 1)).flatten().tolist()
    [0.6000000238418579, 0.800000011920929]
    """
    norm_YX = maps_CYX.abs().square().sum(0).sqrt()
    return maps_CYX / torch.where(norm_YX > 0, norm_YX, torch.ones_like(norm_YX))


def calibration_block(
    kspace_CTYX: Tensor, mask_TYX: Tensor, calibration_CYX: Tensor | None = None, least_lines: int = LEAST_LINES
) -> Tensor:
    """Cut out the calibration block: the fully sampled centre of k-space, averaged over time.

    Samples are averaged over the frames that measured them. The block holds the consecutive lines around the centre
    that at least one frame measured, and the samples along X that they share, at most 24 x 24. Where the corners of
    k-space are missing, it is the rectangle whose shorter side is longest.

    Parameters
    ----------
    kspace_CTYX : complex, zero where not measured.
    mask_TYX : boolean or 0/1; X may be 1.
    calibration_CYX : separate calibration lines, zero elsewhere. Where given, the block comes from them alone, as
        their contrast may differ.
    least_lines : smallest accepted number of lines, and of samples along X.

    Returns
    -------
    (C, lines, samples) complex.

    Raises
    ------
    UnsupportedDataError
        If the block has fewer than ``least_lines`` lines, or as few samples along X.
    """
    if calibration_CYX is None:
        count_YX = (mask_TYX > 0).sum(0)
        measured_YX = (count_YX > 0).expand(kspace_CTYX.shape[2:])
    else:
        measured_YX = (calibration_CYX != 0).any(0)
    along, across = _block(measured_YX)
    lines, samples = along.stop - along.start, across.stop - across.start
    if min(lines, samples) < least_lines:
        raise UnsupportedDataError(
            f"coil sensitivities need {least_lines} consecutive lines around the centre of k-space, and this scan has "
            f"{lines} with {samples} samples each",
            remedy=("give sensitivities with ", Param("maps", "FILE"), ", take ", Param("coils", 1), ", or measure "
                    "more centre lines"),
        )  # fmt: skip
    if calibration_CYX is not None:
        return calibration_CYX[:, along, across].clone()
    total_CYX = kspace_CTYX[:, :, along, across].sum(1)
    return total_CYX / count_YX.expand(measured_YX.shape)[along, across]


def _block(measured_YX: Tensor) -> tuple[slice, slice]:
    """Lines and samples of the block: the most square one of all widths around the centre."""
    widest = _around_centre(measured_YX[measured_YX.shape[0] // 2])
    centre, best = measured_YX.shape[1] // 2, (slice(0, 0), slice(0, 0))
    for side in range(1, BLOCK // 2 + 1):
        across = slice(max(widest.start, centre - side), min(widest.stop, centre + side))
        along = _around_centre(measured_YX[:, across].all(1)) if across.stop > across.start else slice(0, 0)
        if _sides(along, across) > _sides(*best):
            best = along, across
    return best


def _sides(along: slice, across: slice) -> tuple[int, int]:
    """Shorter and longer side of a block."""
    lines, samples = along.stop - along.start, across.stop - across.start
    return min(lines, samples), max(lines, samples)


def _around_centre(measured: Tensor) -> slice:
    """Run of true values around floor(N / 2), at most 24 long; empty where the centre is false."""
    values = measured.tolist()
    centre = len(values) // 2
    first, last = centre, centre
    while first > max(0, centre - BLOCK // 2) and values[first - 1]:
        first -= 1
    while last < min(len(values), centre + BLOCK // 2) and values[last]:
        last += 1
    return slice(first, last) if last > centre else slice(centre, centre)
