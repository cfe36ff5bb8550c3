"""Noise covariance of the coils, from the noise readouts (flag 19) of an ISMRMRD file.

Legend: C coil.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crnn_cli.io.kspace.ismrmrd.file import ReadoutHeaders
from crnn_cli.io.kspace.ismrmrd.grid import Lines
from crnn_cli.io.kspace.ismrmrd.header import IsmrmrdHeader
from crnn_cli.notices import Doubt, Fact, Remark


def noise_covariance(
    noise: ReadoutHeaders, lines: Lines, header: IsmrmrdHeader
) -> tuple[NDArray[np.complex64] | None, list[Remark]]:
    """Covariance E[n n^H] of the noise of a complex sample of k-space, scaled to the imaging readouts.

    Noise power grows with the bandwidth, 1 / dwell time. The receiver's filter removes a part of it at the edges of its
    band. Where the readout is oversampled, only the middle is kept, whose power is 1 / relative noise bandwidth of the
    mean. Averaging n readouts divides it by n; where n differs, the mean over the lines is taken.

    Parameters
    ----------
    noise : headers of the noise readouts.
    lines : the imaging readouts.

    Returns
    -------
    The covariance (C, C), complex64, and remarks. None where there are no noise readouts, too few samples, another
    number of coils, or a covariance beyond single precision.
    """
    coils = lines.grid.coils
    if not len(noise):
        return None, []
    if (noise["active_channels"] != coils).any():
        text = "the noise readouts have another number of coils than the images: they were left out"
        return None, [Doubt("noise-scan-unusable", text)]
    total, count = np.zeros((coils, coils), np.complex128), 0
    for index, samples in lines.samples(noise):
        end = samples.shape[1] - int(noise["discard_post"][index])
        used = samples[:, int(noise["discard_pre"][index]) : end].astype(np.complex128)
        total += used @ used.conj().T
        count += used.shape[1]
    if count < 2 * coils:
        text = f"{count} samples of noise are too few for {coils} coils: they were left out"
        return None, [Doubt("noise-scan-unusable", text)]
    note = f"noise of {count} samples ({len(noise)} readouts)"
    scale = float((1 / lines.averages()).mean())
    dwells = [float(np.median(heads["sample_time_us"])) for heads in (noise, lines.heads)]
    if min(dwells) > 0 and dwells[0] != dwells[1]:
        scale *= dwells[0] / dwells[1]
        note += f", scaled from a dwell time of {dwells[0]:.4g} to {dwells[1]:.4g} us"
    oversampled = header.filtered or header.shown.field[0] < header.encoded.field[0]
    if header.noise_bandwidth != 1 and oversampled:
        scale /= header.noise_bandwidth
        note += f", scaled for a relative noise bandwidth of {header.noise_bandwidth:.4g}"
    with np.errstate(over="ignore"):
        covariance_CC = (total * (scale / count)).astype(np.complex64)
    if not np.isfinite(covariance_CC).all():
        return None, [Doubt("noise-scan-unusable", "the noise readouts have values too large: they were left out")]
    note += "; images are as bright as the root of the sum of squares of the whitened coils"
    return covariance_CC, [Fact("noise-scan", note)]
