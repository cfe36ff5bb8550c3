"""Receive coils before a reconstruction: white noise, fewer virtual coils, and the block that sensitivities come from.

Legend: C coil, N virtual coil, T frame, Y phase encoding, X readout. K-space is centred and orthonormal.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crnn_cli.errors import UnsupportedDataError, UsageError

BLOCK = 24
"""Lines and samples of a calibration block; a larger one costs time and sharpens the sensitivities little."""
LEAST_LINES = 6
"""Lines that a calibration block needs."""


def whitening_matrix(noise_CC: Tensor) -> Tensor:
    """Return the matrix after which the noise of the coils is white: W N W^H = v I.

    W = sqrt(v) L^-1, L L^H = N the Cholesky factors. v is the median of the coils' variances, so that intensities stay
    in the scale of the file, even where one broken coil is a thousand times noisier than the others.

    Parameters
    ----------
    noise_CC : covariance of the complex noise, Hermitian.

    Returns
    -------
    (C, C) complex, lower triangular; apply it with `mix_coils`.

    Raises
    ------
    UnsupportedDataError
        If the matrix is not the covariance of noise in every coil: not finite, not Hermitian, or singular.

    References
    ----------
    Roemer et al., MRM 16, 1990; Pruessmann et al., MRM 42, 1999, appendix A.
    """
    said = "the noise covariance of the coils"
    wide = noise_CC.to(torch.complex128)
    if not bool(torch.isfinite(torch.view_as_real(wide)).all()):
        raise UnsupportedDataError(f"{said} has values that are not finite: leave the noise scan out")
    if float((wide - wide.mH).abs().max()) > 1e-3 * float(wide.abs().max()):
        raise UnsupportedDataError(f"{said} is not Hermitian, so it is not a covariance: leave the noise scan out")
    variance_C = wide.diagonal().real
    dead = [str(c) for c, value in enumerate(variance_C.tolist()) if value <= 0]
    if dead:
        raise UnsupportedDataError(f"{said} is 0 in coil {', '.join(dead)} (counted from 0): leave those coils out")
    scale_C = variance_C.sqrt()
    factor, failed = torch.linalg.cholesky_ex(wide / (scale_C[:, None] * scale_C))
    if int(failed) or float(factor.diagonal().real.min()) < 1e-4:
        raise UnsupportedDataError(
            f"{said} ({len(scale_C)} coils) is singular: the noise scan has too few samples, or one coil is made of "
            "others; leave the noise scan out, or the coil"
        )
    inverse = torch.linalg.solve_triangular(factor, torch.diag(1 / scale_C).to(wide.dtype), upper=False)
    whitening_CC: Tensor = inverse * variance_C.median().sqrt()
    return whitening_CC.to(noise_CC.dtype)


def mix_coils(kspace_CTYX: Tensor, matrix_NC: Tensor) -> Tensor:
    """Return virtual coils (N, ...), each a sum of coils (C, ...) weighted by a row of the matrix."""
    virtual: Tensor = torch.tensordot(matrix_NC.to(kspace_CTYX.dtype), kspace_CTYX, dims=([1], [0]))
    return virtual


def compression_matrix(kspace_CTYX: Tensor, coils: int) -> tuple[Tensor, float]:
    """Return the matrix (N, C) onto the virtual coils of most energy, and the share of the energy they keep.

    The rows are the first left singular vectors of the measured samples, conjugate: orthonormal, strongest first, so
    white noise stays white. Zeros where nothing was measured change nothing.

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
    matrix_CC = (vectors_CC * (largest.conj() / largest.abs())).mH  # the phase of a singular vector is free: fix it
    total = float(energy_C.sum())
    kept = float(energy_C[:coils].sum()) / total if total else 1.0
    return matrix_CC[:coils].to(kspace_CTYX.dtype).contiguous(), kept


def normalise_maps(maps_CYX: Tensor) -> Tensor:
    """Return sensitivities with sum_c |s_c|^2 = 1; they stay 0 where all coils are 0."""
    norm_YX = maps_CYX.abs().square().sum(0).sqrt()
    return maps_CYX / torch.where(norm_YX > 0, norm_YX, torch.ones_like(norm_YX))


def calibration_block(
    kspace_CTYX: Tensor, mask_TYX: Tensor, calibration_CYX: Tensor | None = None, least_lines: int = LEAST_LINES
) -> Tensor:
    """Return the block of k-space around its centre that coil sensitivities are estimated from.

    Samples are averaged over the frames that measured them. The block is made of the consecutive lines around the
    centre that at least one frame measured, and of the samples along X that they share, at most 24 x 24; where the
    corners were left out, the rectangle whose shorter side is longest.

    Parameters
    ----------
    kspace_CTYX : complex, zero where not measured.
    mask_TYX : boolean or 0/1; X may be 1.
    calibration_CYX : separate calibration lines, zero elsewhere; where given, the block comes from them alone, as
        their contrast may be another.

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
            f"{lines} with {samples} samples each: give sensitivities with --maps FILE, take --coils 1, or measure "
            "more centre lines"
        )
    if calibration_CYX is not None:
        return calibration_CYX[:, along, across].clone()
    total_CYX = kspace_CTYX[:, :, along, across].sum(1)
    return total_CYX / count_YX.expand(measured_YX.shape)[along, across]


def _block(measured_YX: Tensor) -> tuple[slice, slice]:
    """Return the lines and the samples of the block: of all widths around the centre, the one nearest to a square."""
    widest = _around_centre(measured_YX[measured_YX.shape[0] // 2])
    centre, best = measured_YX.shape[1] // 2, (slice(0, 0), slice(0, 0))
    for side in range(1, BLOCK // 2 + 1):
        across = slice(max(widest.start, centre - side), min(widest.stop, centre + side))
        along = _around_centre(measured_YX[:, across].all(1)) if across.stop > across.start else slice(0, 0)
        if _sides(along, across) > _sides(*best):
            best = along, across
    return best


def _sides(along: slice, across: slice) -> tuple[int, int]:
    """Return the shorter side and the longer one."""
    lines, samples = along.stop - along.start, across.stop - across.start
    return min(lines, samples), max(lines, samples)


def _around_centre(measured: Tensor) -> slice:
    """Return the run of true values around floor(N / 2), at most 24 of them; empty where the centre is false."""
    values = measured.tolist()
    centre = len(values) // 2
    first, last = centre, centre
    while first > max(0, centre - BLOCK // 2) and values[first - 1]:
        first -= 1
    while last < min(len(values), centre + BLOCK // 2) and values[last]:
        last += 1
    return slice(first, last) if last > centre else slice(centre, centre)
