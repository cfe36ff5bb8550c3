"""Slices of raw multi-coil k-space: noise whitening, coil compression, coil sensitivities.

Legend: Z slice, M set of maps, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crnn_cli.data.acquisition import Complex
from crnn_cli.data.raw_scan import RawScan, RawSlice, crop_and_resample, remove_oversampling
from crnn_cli.errors import Param, UnsupportedDataError, UsageError
from crnn_cli.mri.coils import calibration_block, compression_matrix, mix_coils, normalise_maps, whitening_matrix
from crnn_cli.mri.map_sets import MOST_SETS, estimate_map_sets, normalise_sets
from crnn_cli.mri.noise import noise_deviation
from crnn_cli.reconstruction.measurement import SliceMeasurement

_LARGEST = 1e15  # of a sample: sums of squares stay finite in single precision


@dataclass(frozen=True)
class CoilChoice:
    """Treatment of the receive coils.

    Attributes
    ----------
    coils : virtual coils to compress to; None for as many as there are.
    maps : sensitivities (slice, coil, y, x) of the file's coils, one slice for all or one each; None to estimate them.
        Several sets of them are (slice, set, coil, y, x).
    map_sets : sets of sensitivities to estimate, 1 or 2. None: two in slices whose object is larger than the field of
        view; see `crnn_cli.mri.map_sets`.
    """

    coils: int | None = None
    maps: Complex | None = None
    map_sets: int | None = None


class RawSliceSource:
    """The slices of a `RawScan`, read one at a time, with whitened and compressed coils.

    Coil sensitivities are estimated by ESPIRiT when a slice is read for the first time, and kept for further reads.

    Parameters
    ----------
    scan : the file, of which nothing but headers was read.
    choice : number of virtual coils, and sensitivities where they are given.

    Raises
    ------
    UsageError
        If more coils are asked for than there are, or a number of sets of sensitivities that are given.
    UnsupportedDataError
        If the sensitivities given do not fit the scan, or are zero or not finite.
    """

    def __init__(self, scan: RawScan, choice: CoilChoice) -> None:
        self.scan, self.choice = scan, choice
        self._maps: dict[int, tuple[Complex, dict[str, Any]]] = {}
        coils = scan.shape_ZCTYX[1]
        if choice.coils is not None and choice.coils > coils:
            raise UsageError(Param("coils", choice.coils), f": there are {coils}")
        if choice.map_sets is not None and choice.maps is not None:
            raise UsageError(
                Param("map_sets"), " is for sensitivities that are estimated, and ", Param("maps"), " gives them"
            )
        if choice.map_sets not in (None, *range(1, MOST_SETS + 1)):
            raise UsageError(Param("map_sets", choice.map_sets), " is not possible", remedy=("give 1 or 2",))
        self._require_fitting_maps()

    @property
    def count(self) -> int:
        """Number of slices."""
        return self.scan.shape_ZCTYX[0]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape (C, T, Y, X) of the k-space of a slice in the file, before coils are compressed."""
        return self.scan.shape_ZCTYX[1:]

    @property
    def map_sets(self) -> int:
        """Sets of sensitivities, as far as they are known before slices are read."""
        if self.choice.maps is not None and self.choice.maps.ndim == 5:
            return int(self.choice.maps.shape[1])
        return self.choice.map_sets or 1

    @property
    def estimated_maps(self) -> list[Complex]:
        """Sensitivities (M, C, Y, X) of the slices read so far, in order; none where there is one coil.

        They are those of the coils after whitening and compression.
        """
        return [self._maps[z][0] for z in sorted(self._maps)]

    def measure(self, z: int, device: torch.device) -> SliceMeasurement:
        """Read slice z, whiten and compress its coils, and find their sensitivities, sum_c |s_c|^2 = 1.

        Raises
        ------
        CrnnError
            As the reader of the file; UnsupportedDataError if no sensitivities can be estimated, or a sample is not
            finite or above 1e15.
        """
        raw = remove_oversampling(self.scan.read(z), self.scan.readout_fraction)
        _require_usable(raw, z)
        kspace = torch.from_numpy(raw.kspace_CTYX).to(device)
        mask = torch.from_numpy(raw.mask_TYX).to(device)
        matrix, facts = self._coil_matrix(kspace)
        if matrix is not None:
            kspace = mix_coils(kspace, matrix)
        maps, deviation = None, noise_deviation(kspace[None], mask[None])
        if z in self._maps:  # read before
            maps = torch.from_numpy(self._maps[z][0]).to(kspace)
        elif len(kspace) > 1:
            maps, how = self._sensitivities(z, raw, (kspace, mask, deviation), matrix)
            self._maps[z] = maps.cpu().numpy(), how
        if z in self._maps:
            facts |= self._maps[z][1]
        facts["noise_deviation"] = float(f"{deviation:.4g}")
        sets = 1 if maps is None else len(maps)
        return SliceMeasurement(kspace[None], mask[None], maps, deviation, facts, map_sets=sets)

    def to_output_grid(self, images_TYX: Complex) -> Complex:
        """Crop and resample images to the field of view and matrix that the scan asks for.

        Readout oversampling is gone already (`measure`); along Y the central share of the field of view is kept.
        """
        axes, shape = self.scan.axes_ZYX, self.scan.geometry.shape
        matrix = shape[axes[1]], shape[axes[2]]
        images: Complex = crop_and_resample(images_TYX, self.scan.crop_fraction, matrix)
        return images

    def _coil_matrix(self, kspace_CTYX: Tensor) -> tuple[Tensor | None, dict[str, Any]]:
        """Matrix that whitens and compresses the coils (None for neither), and facts about it."""
        matrix, coils = None, len(kspace_CTYX)
        facts: dict[str, Any] = {"coils": coils, "used": coils, "whitened": False}
        if self.scan.noise_CC is not None and coils > 1:
            matrix, connected = _whitening(self.scan.noise_CC)
            matrix = matrix.to(kspace_CTYX.device)
            facts |= {"whitened": True, "used": connected}
        if self.choice.coils is not None and self.choice.coils < facts["used"]:
            white = kspace_CTYX if matrix is None else mix_coils(kspace_CTYX, matrix)
            compression, energy = compression_matrix(white, self.choice.coils)
            matrix = compression if matrix is None else compression @ matrix
            facts |= {"used": self.choice.coils, "energy_kept": round(energy, 6)}
        return matrix, facts

    def _sensitivities(
        self, z: int, raw: RawSlice, mixed: tuple[Tensor, Tensor, float], matrix: Tensor | None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Sensitivities (M, C, Y, X) of the mixed coils, given or by ESPIRiT, and facts about their origin.

        ``mixed`` are k-space and mask of the mixed coils, and the standard deviation of the noise.
        """
        kspace_CTYX, mask_TYX, deviation = mixed
        given = self.choice.maps
        if given is not None:
            given_CYX = given[z if len(given) > 1 else 0]
            maps_MCYX = torch.from_numpy(given_CYX if given_CYX.ndim == 4 else given_CYX[None]).to(kspace_CTYX)
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
            block_CYX, (kspace_CTYX.shape[-2], kspace_CTYX.shape[-1]), self.choice.map_sets, deviation / frames**0.5
        )
        facts: dict[str, Any] = {"maps": "ESPIRiT", "calibration": list(block_CYX.shape[1:])}
        return maps_MCYX, facts | {"map_sets": len(maps_MCYX), "folded_energy": float(f"{energy:.3g}")}

    def _require_fitting_maps(self) -> None:
        given = self.choice.maps
        if given is None:
            return
        slices, coils, _, lines, samples = self.scan.shape_ZCTYX
        samples = round(samples * self.scan.readout_fraction)
        wanted = (slices, coils, lines, samples)
        shape = given.shape[:1] + given.shape[2:] if given.ndim == 5 else given.shape
        if len(shape) != 4 or shape[0] not in (1, slices) or shape[1:] != wanted[1:]:
            raise UnsupportedDataError(
                f"the maps are {given.shape}, the scan needs (slice, coil, y, x) = {wanted}, the readout without "
                "oversampling; one slice may stand for all, and several sets of maps lie between slice and coil"
            )
        if not np.isfinite(given).all() or not given.any():
            raise UnsupportedDataError("the maps have values that are not finite, or are zero everywhere")


def _require_usable(raw: RawSlice, z: int) -> None:
    """Refuse samples whose squares overflow single precision, coil by coil to save memory."""
    for kind, samples in (("sample", raw.kspace_CTYX), ("calibration sample", raw.calibration_CYX)):
        for coil, values in enumerate([] if samples is None else samples):
            peak = float(np.abs(values).max())
            if not peak <= _LARGEST:
                raise UnsupportedDataError(
                    f"the largest {kind} of slice {z + 1} in coil {coil} (counted from 0) is {peak:.3g}, and samples "
                    f"must be below {_LARGEST:g}",
                    remedy=("take the spoiled readout out, or rescale the k-space",),
                )


def _whitening(noise_CC: Complex) -> tuple[Tensor, int]:
    """Whitening matrix over the coils that have noise, and their number; a coil without noise is not connected."""
    connected = noise_CC.diagonal().real > 0
    if not connected.any():
        raise UnsupportedDataError("the noise scan is zero in every coil: no coil was connected")
    selection_NC = torch.from_numpy(np.eye(len(connected), dtype=np.complex64)[connected])
    covariance = torch.from_numpy(noise_CC[np.ix_(connected, connected)])
    return whitening_matrix(covariance) @ selection_NC, int(connected.sum())
