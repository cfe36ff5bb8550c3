"""Slices of raw multi-coil k-space: noise whitening, coil compression, coil sensitivities.

Legend: Z slice, M set of maps, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from crnn_cli.data.acquisition import Complex
from crnn_cli.data.raw_scan import RawScan, RawSlice, crop_and_resample, remove_oversampling
from crnn_cli.errors import Param, UnsupportedDataError, UsageError
from crnn_cli.mri.map_sets import MOST_SETS
from crnn_cli.reconstruction.coil_preparation import CoilRequest, prepare_coils, require_usable
from crnn_cli.reconstruction.measurement import SliceMeasurement

_OF_MAPS = ("maps", "calibration", "map_sets", "folded_energy")
"""Facts about sensitivities, which are found once."""


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

    Attributes
    ----------
    calibration_frames : frames at the start that noise, compression and sensitivities are estimated from, as for a
        causal network; None for all.
    """

    calibration_frames: int | None = None

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
        raw = self.read(z)
        require_usable(raw, f"slice {z + 1}")
        known = self._maps.get(z)
        maps_MCYX = None if known is None else torch.from_numpy(known[0]).to(device)
        prepared = prepare_coils(
            self._calibrating(raw), replace(self.coil_request, maps=self.given_maps(z)), device, maps_MCYX
        )
        if known is not None:  # read before
            prepared = replace(prepared, facts=prepared.facts | known[1])
        elif prepared.maps_MCYX is not None:
            how = {name: prepared.facts[name] for name in _OF_MAPS if name in prepared.facts}
            self._maps[z] = prepared.maps_MCYX.cpu().numpy(), how
        return prepared.measure(raw, device)

    def _calibrating(self, raw: RawSlice) -> RawSlice:
        """The frames that coils are prepared from."""
        frames = self.calibration_frames
        if frames is None:
            return raw
        return RawSlice(raw.kspace_CTYX[:, :frames], raw.mask_TYX[:frames], raw.calibration_CYX)

    @property
    def coil_request(self) -> CoilRequest:
        """How the coils are to be prepared, but for sensitivities that are given."""
        return CoilRequest(self.scan.noise_CC, self.choice.coils, None, self.choice.map_sets)

    def given_maps(self, z: int) -> Complex | None:
        """Sensitivities (C, Y, X) or (M, C, Y, X) that were given for a slice; None without."""
        given = self.choice.maps
        return None if given is None else given[z if len(given) > 1 else 0]

    def read(self, z: int) -> RawSlice:
        """Read the samples of a slice as measured, without oversampling of the readout.

        Raises
        ------
        CrnnError
            As the reader of the file.
        """
        return remove_oversampling(self.scan.read(z), self.scan.readout_fraction)

    def to_output_grid(self, images_TYX: Complex) -> Complex:
        """Crop and resample images to the field of view and matrix that the scan asks for.

        Readout oversampling is gone already (`measure`); along Y the central share of the field of view is kept.
        """
        axes, shape = self.scan.axes_ZYX, self.scan.geometry.shape
        matrix = shape[axes[1]], shape[axes[2]]
        images: Complex = crop_and_resample(images_TYX, self.scan.crop_fraction, matrix)
        return images

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
