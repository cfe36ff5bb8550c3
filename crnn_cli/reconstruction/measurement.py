"""What was measured of a slice, ready for any method, and where slices come from.

Legend: Z slice, B batch of one, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from crnn_cli.data.acquisition import Acquisition, Complex
from crnn_cli.errors import UnsupportedDataError, UsageError
from crnn_cli.mri.consistency import SingleCoilConsistency
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.multicoil import MultiCoilConsistency


@dataclass(frozen=True)
class SliceMeasurement:
    """What was measured of a slice, ready for any method, on a device.

    kspace_BCTYX : complex64, zero where not measured. mask_BTYX : 0/1, X may be 1.
    maps_BCYX : coil sensitivities, sum_c |s_c|^2 = 1; None for one coil of uniform sensitivity.
    deviation : standard deviation of the complex noise of a sample; 0 where the samples are to be taken as they are.
    """

    kspace_BCTYX: Tensor
    mask_BTYX: Tensor
    maps_BCYX: Tensor | None = None
    deviation: float = 0.0

    def to(self, device: torch.device) -> SliceMeasurement:
        """Return the same on a device."""
        maps_BCYX = None if self.maps_BCYX is None else self.maps_BCYX.to(device)
        return SliceMeasurement(self.kspace_BCTYX.to(device), self.mask_BTYX.to(device), maps_BCYX, self.deviation)

    def encoding(self) -> Encoding:
        """Return the operator from images to these samples."""
        return Encoding(self.mask_BTYX, self.maps_BCYX)

    def consistency(self, noise: float | None = None) -> SingleCoilConsistency | MultiCoilConsistency:
        """Return what keeps images true to the samples.

        noise : its noise, the same in every iteration; None: the deviation is weighed against what a network expects.
        """
        fixed, deviation = (0.0, self.deviation) if noise is None else (noise, 0.0)
        if self.maps_BCYX is None:
            return SingleCoilConsistency(self.kspace_BCTYX[:, 0], self.mask_BTYX, fixed, deviation)
        return MultiCoilConsistency(self.kspace_BCTYX, self.mask_BTYX, self.maps_BCYX, fixed, deviation=deviation)


class SliceSource(Protocol):
    """Where the measured data come from: simulated or zero-filled images, a file of raw k-space."""

    @property
    def count(self) -> int:
        """Return the number of slices."""
        ...

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return the shape (C, T, Y, X) of the k-space of a slice, before coils are compressed."""
        ...

    def measured(self, z: int, device: torch.device) -> SliceMeasurement:
        """Return what was measured of slice z."""
        ...

    def finished(self, images_TYX: Complex) -> Complex:
        """Return images on the grid of the k-space as they are to be written: cut, resampled, or as they are."""
        ...


@dataclass(frozen=True)
class SingleCoilSource:
    """The slices of an `Acquisition`: one channel, images on the grid of the k-space."""

    acquisition: Acquisition

    @property
    def count(self) -> int:
        """Return the number of slices."""
        return len(self.acquisition.kspace_ZCTYX)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return the shape (C, T, Y, X) of the k-space of a slice."""
        c, t, y, x = self.acquisition.kspace_ZCTYX.shape[1:]
        return c, t, y, x

    def measured(self, z: int, device: torch.device) -> SliceMeasurement:
        """Return what was measured of slice z.

        Raises
        ------
        UnsupportedDataError
            If there are several coils: their sensitivities would be needed.
        """
        kspace_CTYX = self.acquisition.kspace_ZCTYX[z]
        if len(kspace_CTYX) != 1:
            raise UnsupportedDataError(f"this acquisition has {len(kspace_CTYX)} coils, and no sensitivities are known")
        mask_BTYX = torch.from_numpy(self.acquisition.mask_ZTYX[z])[None].to(device)
        return SliceMeasurement(torch.from_numpy(kspace_CTYX)[None].to(device), mask_BTYX)

    def finished(self, images_TYX: Complex) -> Complex:
        """Return the images as they are."""
        return images_TYX


@dataclass(frozen=True)
class SingleSliceSource:
    """One slice of others. z : counted from 0."""

    slices: SliceSource
    z: int

    def __post_init__(self) -> None:
        if not 0 <= self.z < self.slices.count:
            raise UsageError(f"there is no slice {self.z + 1}: the scan has {self.slices.count}, counted from 1")

    @property
    def count(self) -> int:
        """Return 1."""
        return 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return the shape (C, T, Y, X) of the k-space of the slice."""
        return self.slices.shape

    def measured(self, z: int, device: torch.device) -> SliceMeasurement:
        """Return what was measured of the slice."""
        del z
        return self.slices.measured(self.z, device)

    def finished(self, images_TYX: Complex) -> Complex:
        """Return images as they are to be written."""
        return self.slices.finished(images_TYX)
