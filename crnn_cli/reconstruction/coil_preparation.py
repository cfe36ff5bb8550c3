"""Receive coils made ready for a reconstruction: noise whitening, compression, sensitivities.

Legend: M set of maps, C coil, T frame, Y phase encoding, X readout, N coil before it was mixed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crnn_cli.data.acquisition import Complex
from crnn_cli.data.raw_scan import RawSlice
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.mri.coils import calibration_block, compression_matrix, mix_coils, normalise_maps, whitening_matrix
from crnn_cli.mri.map_sets import estimate_map_sets, normalise_sets
from crnn_cli.mri.noise import noise_deviation
from crnn_cli.reconstruction.measurement import SliceMeasurement

_LARGEST = 1e15  # of a sample: sums of squares stay finite in single precision


@dataclass(frozen=True)
class CoilPreparation:
    """What makes the samples of a slice ready; it holds for all of its frames.

    Attributes
    ----------
    matrix_CN : whitens and compresses the coils; None for neither.
    maps_MCYX : sensitivities of the mixed coils, sum_c |s_c|^2 = 1; None of one coil.
    deviation : standard deviation of the complex noise of a sample.
    facts : about them, for the report.
    """

    matrix_CN: Tensor | None
    maps_MCYX: Tensor | None
    deviation: float
    facts: dict[str, Any]

    def measure(self, raw: RawSlice, device: torch.device) -> SliceMeasurement:
        """Prepare frames of the slice.

        Parameters
        ----------
        raw : without oversampling of the readout.
        """
        kspace, mask = torch.from_numpy(raw.kspace_CTYX).to(device), torch.from_numpy(raw.mask_TYX).to(device)
        if self.matrix_CN is not None:
            kspace = mix_coils(kspace, self.matrix_CN)
        maps, sets = self.maps_MCYX, 1 if self.maps_MCYX is None else len(self.maps_MCYX)
        return SliceMeasurement(kspace[None], mask[None], maps, self.deviation, self.facts, map_sets=sets)


@dataclass(frozen=True)
class CoilRequest:
    """How the coils of a slice are to be prepared.

    Attributes
    ----------
    noise_NN : covariance of the noise of the coils; None where it is not known.
    coils : virtual coils to compress to; None for all.
    maps : sensitivities (N, Y, X) or (M, N, Y, X) that are given; None to estimate them.
    map_sets : sets of sensitivities to estimate; None to find out.
    exact : the samples count as exact, as those of images do; their noise is not estimated.
    """

    noise_NN: Complex | None = None
    coils: int | None = None
    maps: Complex | None = None
    map_sets: int | None = None
    exact: bool = False


def prepare_coils(
    raw: RawSlice, request: CoilRequest, device: torch.device, known_MCYX: Tensor | None = None
) -> CoilPreparation:
    """Whiten and compress the coils of a slice, estimate its noise, and find the sensitivities.

    Parameters
    ----------
    raw : frames of the slice, without oversampling of the readout.
    request : what is given and wanted.
    known_MCYX : sensitivities that were found before, of the mixed coils.

    Raises
    ------
    UnsupportedDataError
        If no sensitivities can be estimated, or no coil was connected.
    """
    kspace = torch.from_numpy(raw.kspace_CTYX).to(device)
    mask = torch.from_numpy(raw.mask_TYX).to(device)
    matrix, facts = _coil_matrix(kspace, request)
    if matrix is not None:
        kspace = mix_coils(kspace, matrix)
    maps, deviation = known_MCYX, 0.0 if request.exact else noise_deviation(kspace[None], mask[None])
    if maps is None and len(kspace) > 1:
        maps, how = _sensitivities(raw, (kspace, mask, deviation), matrix, request)
        facts |= how
    facts["noise_deviation"] = float(f"{deviation:.4g}")
    return CoilPreparation(matrix, maps, deviation, facts)


def renew_maps(raw: RawSlice, prepared: CoilPreparation, request: CoilRequest, device: torch.device) -> CoilPreparation:
    """Estimate the sensitivities again from other frames; whitening, compression and noise stay as they are.

    Sensitivities that were given stay as well.
    """
    if prepared.maps_MCYX is None or request.maps is not None:
        return prepared
    measured = prepared.measure(raw, device)
    mixed = measured.kspace_BCTYX[0], measured.mask_BTYX[0], prepared.deviation
    sets = replace(request, map_sets=len(prepared.maps_MCYX))
    maps_MCYX, facts = _sensitivities(raw, mixed, prepared.matrix_CN, sets)
    return replace(prepared, maps_MCYX=maps_MCYX, facts=prepared.facts | facts)


def require_usable(raw: RawSlice, place: str) -> None:
    """Refuse samples whose squares overflow single precision, coil by coil to save memory.

    Parameters
    ----------
    place : of the samples, for the message: ``slice 3``.

    Raises
    ------
    UnsupportedDataError
        If a sample is not finite or above 1e15.
    """
    for kind, samples in (("sample", raw.kspace_CTYX), ("calibration sample", raw.calibration_CYX)):
        for coil, values in enumerate([] if samples is None else samples):
            peak = float(np.abs(values).max())
            if not peak <= _LARGEST:
                raise UnsupportedDataError(
                    f"the largest {kind} of {place} in coil {coil} (counted from 0) is {peak:.3g}, and samples "
                    f"must be below {_LARGEST:g}",
                    remedy=("take the spoiled readout out, or rescale the k-space",),
                )


def _coil_matrix(kspace_CTYX: Tensor, request: CoilRequest) -> tuple[Tensor | None, dict[str, Any]]:
    """Matrix that whitens and compresses the coils (None for neither), and facts about it."""
    matrix, coils = None, len(kspace_CTYX)
    facts: dict[str, Any] = {"coils": coils, "used": coils, "whitened": False}
    if request.noise_NN is not None and coils > 1:
        matrix, connected = _whitening(request.noise_NN)
        matrix = matrix.to(kspace_CTYX.device)
        facts |= {"whitened": True, "used": connected}
    if request.coils is not None and request.coils < facts["used"]:
        white = kspace_CTYX if matrix is None else mix_coils(kspace_CTYX, matrix)
        compression, energy = compression_matrix(white, request.coils)
        matrix = compression if matrix is None else compression @ matrix
        facts |= {"used": request.coils, "energy_kept": round(energy, 6)}
    return matrix, facts


def _sensitivities(
    raw: RawSlice, mixed: tuple[Tensor, Tensor, float], matrix: Tensor | None, request: CoilRequest
) -> tuple[Tensor, dict[str, Any]]:
    """Sensitivities (M, C, Y, X) of the mixed coils, given or by ESPIRiT, and facts about their origin.

    ``mixed`` are k-space and mask of the mixed coils, and the standard deviation of the noise.
    """
    kspace_CTYX, mask_TYX, deviation = mixed
    given = request.maps
    if given is not None:
        maps_MCYX = torch.from_numpy(given if given.ndim == 4 else given[None]).to(kspace_CTYX)
        if matrix is not None:
            maps_MCYX = mix_coils(maps_MCYX.swapaxes(0, 1), matrix).swapaxes(0, 1)
        if len(maps_MCYX) == 1:
            return normalise_maps(maps_MCYX[0])[None], {"maps": "given", "map_sets": 1}
        return normalise_sets(maps_MCYX), {"maps": "given", "map_sets": len(maps_MCYX)}
    separate = None
    if raw.calibration_CYX is not None:
        separate = torch.from_numpy(raw.calibration_CYX).to(kspace_CTYX)
        if matrix is not None:
            separate = mix_coils(separate[:, None], matrix)[:, 0]
    block_CYX = calibration_block(kspace_CTYX, mask_TYX, separate)
    frames = 1 if separate is not None else float(mask_TYX.float().mean(-1).sum(0).max())
    maps_MCYX, energy = estimate_map_sets(
        block_CYX, (kspace_CTYX.shape[-2], kspace_CTYX.shape[-1]), request.map_sets, deviation / frames**0.5
    )
    facts: dict[str, Any] = {"maps": "ESPIRiT", "calibration": list(block_CYX.shape[1:])}
    return maps_MCYX, facts | {"map_sets": len(maps_MCYX), "folded_energy": float(f"{energy:.3g}")}


def _whitening(noise_CC: Complex) -> tuple[Tensor, int]:
    """Whitening matrix over the coils that have noise, and their number; a coil without noise is not connected."""
    connected = noise_CC.diagonal().real > 0
    if not connected.any():
        raise UnsupportedDataError("the noise scan is zero in every coil: no coil was connected")
    selection_NC = torch.from_numpy(np.eye(len(connected), dtype=np.complex64)[connected])
    covariance = torch.from_numpy(noise_CC[np.ix_(connected, connected)])
    return whitening_matrix(covariance) @ selection_NC, int(connected.sum())
