"""A file of raw k-space as slices for a method: whitened, compressed, with coil sensitivities.

Legend: Z slice, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crnn_cli.data.acquisition import Complex
from crnn_cli.data.raw_scan import RawScan, RawSlice, crop_and_resample, remove_oversampling
from crnn_cli.data.sampling_mask import Mask
from crnn_cli.errors import UnsupportedDataError, UsageError
from crnn_cli.mri.coils import calibration_block, compression_matrix, mix_coils, normalise_maps, whitening_matrix
from crnn_cli.mri.espirit import espirit
from crnn_cli.mri.noise import noise_deviation
from crnn_cli.reconstruction.measurement import SliceMeasurement


@dataclass(frozen=True)
class CoilChoice:
    """What is to be done with the coils.

    coils : virtual coils to compress to; None for as many as there are.
    maps : sensitivities (slice, coil, y, x) of the file's coils, one slice for all or one each; None to estimate them.
    """

    coils: int | None = None
    maps: Complex | None = None


class RawSliceSource:
    """The slices of a `RawScan`, read one at a time; see `crnn_cli.reconstruction.reconstruct.Slices`.

    What was found on the way is kept: the masks, the sensitivities, what was done to the coils.
    """

    def __init__(self, scan: RawScan, choice: CoilChoice) -> None:
        self.scan, self.choice = scan, choice
        self.masks: dict[int, Mask] = {}
        self.maps: dict[int, Complex] = {}
        self.facts: dict[int, dict[str, Any]] = {}
        coils = scan.shape_ZCTYX[1]
        if choice.coils is not None and choice.coils > coils:
            raise UsageError(f"--coils {choice.coils}: there are {coils}")
        self._require_fitting_maps()

    @property
    def count(self) -> int:
        """Return the number of slices."""
        return self.scan.shape_ZCTYX[0]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return the shape (C, T, Y, X) of the k-space of a slice in the file, before coils are compressed."""
        return self.scan.shape_ZCTYX[1:]

    def pattern(self) -> Mask:
        """Return the masks (Z, T, Y, X) of the slices read so far."""
        masks = [self.masks[z] for z in sorted(self.masks)]
        longest = max(mask.shape[-1] for mask in masks)
        return np.stack([np.broadcast_to(mask, (*mask.shape[:-1], longest)) for mask in masks])

    def measured(self, z: int, device: torch.device) -> SliceMeasurement:
        """Return what was measured of slice z, with sensitivities normalised to sum_c |s_c|^2 = 1.

        They are estimated when a slice is read for the first time.

        Raises
        ------
        CrnnError
            As the reader of the file; UnsupportedDataError if no sensitivities can be estimated.
        """
        taken = remove_oversampling(self.scan.read(z), self.scan.fov_fraction_YX[1])
        self.masks[z] = taken.mask_TYX
        kspace = torch.from_numpy(taken.kspace_CTYX).to(device)
        mask = torch.from_numpy(taken.mask_TYX).to(device)
        matrix, facts = self._matrix(kspace)
        if matrix is not None:
            kspace = mix_coils(kspace, matrix)
        self.facts.setdefault(z, facts)
        maps = None
        if z in self.maps:  # read before
            maps = torch.from_numpy(self.maps[z]).to(kspace)
        elif len(kspace) > 1:
            maps = self._maps(z, taken, kspace, mask, matrix)
            self.maps[z] = maps.cpu().numpy()
        deviation = noise_deviation(kspace[None], mask[None])
        self.facts[z]["noise_deviation"] = float(f"{deviation:.4g}")
        return SliceMeasurement(kspace[None], mask[None], None if maps is None else maps[None], deviation)

    def finished(self, images_TYX: Complex) -> Complex:
        """Return images in the field of view and matrix that the scan asks for."""
        axes, shape = self.scan.axes_ZYX, self.scan.geometry.shape
        done: Complex = crop_and_resample(
            images_TYX, (self.scan.fov_fraction_YX[0], 1.0), (shape[axes[1]], shape[axes[2]])
        )
        return done

    def _matrix(self, kspace_CTYX: Tensor) -> tuple[Tensor | None, dict[str, Any]]:
        """Return the matrix that whitens and compresses the coils, None for neither, and what it does."""
        matrix, coils = None, len(kspace_CTYX)
        facts: dict[str, Any] = {"coils": coils, "used": coils, "whitened": False}
        if self.scan.noise_CC is not None and coils > 1:
            matrix, alive = _white(self.scan.noise_CC)
            matrix = matrix.to(kspace_CTYX.device)
            facts |= {"whitened": True, "used": alive}
        if self.choice.coils is not None and self.choice.coils < facts["used"]:
            white = kspace_CTYX if matrix is None else mix_coils(kspace_CTYX, matrix)
            fewer, kept = compression_matrix(white, self.choice.coils)
            matrix = fewer if matrix is None else fewer @ matrix
            facts |= {"used": self.choice.coils, "energy_kept": round(kept, 6)}
        return matrix, facts

    def _maps(
        self, z: int, taken: RawSlice, kspace_CTYX: Tensor, mask_TYX: Tensor, matrix: Tensor | None
    ) -> Tensor:  # fmt: skip
        given = self.choice.maps
        if given is not None:
            maps_CYX = torch.from_numpy(given[z if len(given) > 1 else 0]).to(kspace_CTYX)
            if matrix is not None:
                maps_CYX = mix_coils(maps_CYX[:, None], matrix)[:, 0]
            self.facts[z]["maps"] = "given"
            return normalise_maps(maps_CYX)
        separate = None
        if taken.calibration_CYX is not None:
            separate = torch.from_numpy(taken.calibration_CYX).to(kspace_CTYX)
            if matrix is not None:
                separate = mix_coils(separate[:, None], matrix)[:, 0]
        block_CYX = calibration_block(kspace_CTYX, mask_TYX, separate)
        maps_CYX, _ = espirit(block_CYX, (kspace_CTYX.shape[-2], kspace_CTYX.shape[-1]))
        self.facts[z] |= {"maps": "ESPIRiT", "calibration": list(block_CYX.shape[1:])}
        return maps_CYX

    def _require_fitting_maps(self) -> None:
        given = self.choice.maps
        if given is None:
            return
        slices, coils, _, lines, samples = self.scan.shape_ZCTYX
        samples = round(samples * self.scan.fov_fraction_YX[1])
        wanted = (slices, coils, lines, samples)
        if given.ndim != 4 or given.shape[0] not in (1, slices) or given.shape[1:] != wanted[1:]:
            raise UnsupportedDataError(
                f"the maps are {given.shape}, the scan needs (slice, coil, y, x) = {wanted}, the readout without "
                "oversampling; one slice may stand for all"
            )
        if not np.isfinite(given).all() or not given.any():
            raise UnsupportedDataError("the maps have values that are not finite, or are zero everywhere")


def _white(noise_CC: Complex) -> tuple[Tensor, int]:
    """Return the matrix that whitens the coils that have noise, and their number; a coil without is not connected."""
    alive = noise_CC.diagonal().real > 0
    if not alive.any():
        raise UnsupportedDataError("the noise scan is zero in every coil: no coil was connected")
    kept_NC = torch.from_numpy(np.eye(len(alive), dtype=np.complex64)[alive])
    return whitening_matrix(torch.from_numpy(noise_CC[np.ix_(alive, alive)])) @ kept_NC, int(alive.sum())
