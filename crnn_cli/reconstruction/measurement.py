"""Measured slices, ready for any method, and the sources that hand them out.

Legend: Z slice, B batch of one, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from crnn_cli.data.acquisition import Acquisition, Complex
from crnn_cli.errors import UnsupportedDataError, UsageError
from crnn_cli.mri.consistency import SingleCoilConsistency
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.map_sets import visible_components
from crnn_cli.mri.multicoil import MultiCoilConsistency


@dataclass(frozen=True)
class SliceMeasurement:
    """K-space samples of one slice on a device, with mask, coil sensitivities and noise level.

    Attributes
    ----------
    kspace_BCTYX : complex64, centred and orthonormal, zero where not measured.
    mask_BTYX : 0/1 or boolean; X is 1 where whole lines were measured.
    maps_BCYX : coil sensitivities with sum_c |s_c|^2 = 1; None for one coil of uniform sensitivity. Several sets lie
        along B, orthogonal, those after the first with a norm of at most 1; images then have as many components.
    deviation : standard deviation of the complex noise of a sample; 0 where the samples count as exact.
    facts : how the samples were prepared (coils, compression, calibration), for the report.
    unseen_BTYX : samples that a network tuned to this scan was never tuned on; None where nothing was tuned.
    map_sets : number of sets of sensitivities.
    """

    kspace_BCTYX: Tensor
    mask_BTYX: Tensor
    maps_BCYX: Tensor | None = None
    deviation: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    unseen_BTYX: Tensor | None = None
    map_sets: int = 1

    def to(self, device: torch.device) -> SliceMeasurement:
        """Copy to a device; tensors that are there already are shared."""
        maps_BCYX = None if self.maps_BCYX is None else self.maps_BCYX.to(device)
        return replace(
            self, kspace_BCTYX=self.kspace_BCTYX.to(device), mask_BTYX=self.mask_BTYX.to(device), maps_BCYX=maps_BCYX
        )

    def visible(self, image_BTYX: Tensor) -> Tensor:
        """What the coils see of images: the images themselves, or of several sets of sensitivities the components.

        See `crnn_cli.mri.map_sets.visible_components`.
        """
        if self.map_sets == 1 or self.maps_BCYX is None:
            return image_BTYX
        return visible_components(image_BTYX, self.maps_BCYX)

    def encoding(self) -> Encoding:
        """Build the encoding operator A from images to these samples."""
        return Encoding(self.mask_BTYX, self.maps_BCYX, self.map_sets)

    def consistency(self, noise_ratio: float | None = None) -> SingleCoilConsistency | MultiCoilConsistency:
        """Build the data consistency operator of a network.

        Parameters
        ----------
        noise_ratio : noise variance of the samples relative to the network's error, the same in every iteration; 0 is
            hard data consistency. None weighs ``deviation`` against the error that the network expects, where it was
            trained to.
        """
        fixed, deviation = (0.0, self.deviation) if noise_ratio is None else (noise_ratio, 0.0)
        if self.maps_BCYX is None:
            return SingleCoilConsistency(self.kspace_BCTYX[:, 0], self.mask_BTYX, fixed, deviation)
        return MultiCoilConsistency(
            self.kspace_BCTYX, self.mask_BTYX, self.maps_BCYX, fixed, deviation=deviation, map_sets=self.map_sets
        )


class SliceSource(Protocol):
    """Source of measured slices: simulated or zero-filled images, or a file of raw k-space.

    Slices may be read more than once, in any order; each read gives the same measurement.
    """

    @property
    def count(self) -> int:
        """Number of slices."""
        ...

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape (C, T, Y, X) of the k-space of a slice, before coils are compressed."""
        ...

    def measure(self, z: int, device: torch.device) -> SliceMeasurement:
        """Read slice z and prepare it.

        Parameters
        ----------
        z : number of the slice, from 0.
        device : where the tensors lie.
        """
        ...

    def to_output_grid(self, images_TYX: Complex) -> Complex:
        """Crop or resample images from the grid of the k-space to the matrix that is written.

        Parameters
        ----------
        images_TYX : complex, on the grid of the k-space of `measure`.
        """
        ...


def on_output_grid(to_output_grid: Callable[[Complex], Complex], image_BTYX: Tensor) -> Complex:
    """Bring images to the grid that is written, (T, Y, X) complex.

    The components of several sets of sensitivities become one image: its magnitude is the root of the sum of their
    squares, so the image is as bright as the root of the sum of squares of the coil images; its phase is that of the
    first.

    Parameters
    ----------
    to_output_grid : as of `SliceSource`.
    image_BTYX : images of one slice; B is 1, or the components as `SliceMeasurement.visible` returns them.
    """
    components = [to_output_grid(image_TYX) for image_TYX in image_BTYX.cpu().numpy()]
    if len(components) == 1:
        return components[0]
    magnitude_TYX = np.sqrt(sum(np.abs(each) ** 2 for each in components))
    combined: Complex = (magnitude_TYX * np.exp(1j * np.angle(components[0]))).astype(np.complex64)
    return combined


@dataclass(frozen=True)
class SingleCoilSource:
    """The slices of an `Acquisition`: one channel, images on the grid of the k-space.

    Attributes
    ----------
    acquisition : k-space of one coil, its mask, and where its images lie.
    """

    acquisition: Acquisition

    @property
    def count(self) -> int:
        """Number of slices."""
        return len(self.acquisition.kspace_ZCTYX)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape (C, T, Y, X) of the k-space of a slice."""
        c, t, y, x = self.acquisition.kspace_ZCTYX.shape[1:]
        return c, t, y, x

    def measure(self, z: int, device: torch.device) -> SliceMeasurement:
        """Take slice z from the acquisition.

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

    def to_output_grid(self, images_TYX: Complex) -> Complex:
        """Hand the images on unchanged: their grid is that of the k-space."""
        return images_TYX


@dataclass(frozen=True)
class SingleSliceSource:
    """One slice of another source, as if the scan held no other.

    Attributes
    ----------
    slices : the source.
    z : the slice, counted from 0.
    """

    slices: SliceSource
    z: int

    def __post_init__(self) -> None:
        if not 0 <= self.z < self.slices.count:
            raise UsageError(f"there is no slice {self.z + 1}: the scan has {self.slices.count}, counted from 1")

    @property
    def count(self) -> int:
        """Number of slices: 1."""
        return 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape (C, T, Y, X) of the k-space of the slice."""
        return self.slices.shape

    def measure(self, z: int, device: torch.device) -> SliceMeasurement:
        """Read the slice; z is 0."""
        del z
        return self.slices.measure(self.z, device)

    def to_output_grid(self, images_TYX: Complex) -> Complex:
        """Crop or resample as the source does."""
        return self.slices.to_output_grid(images_TYX)


@dataclass(frozen=True)
class ValidationSource:
    """A source whose measurements name the samples that a network tuned to the scan has never seen.

    Attributes
    ----------
    slices : the source.
    unseen : mask (B, T, Y, X) of these samples by slice number; None or absent where a slice was not tuned on.
    """

    slices: SliceSource
    unseen: Mapping[int, Tensor | None]

    @property
    def count(self) -> int:
        """Number of slices."""
        return self.slices.count

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape (C, T, Y, X) of the k-space of a slice."""
        return self.slices.shape

    def measure(self, z: int, device: torch.device) -> SliceMeasurement:
        """Read slice z, and add the mask of the samples never tuned on."""
        unseen_BTYX = self.unseen.get(z)
        measurement = self.slices.measure(z, device)
        return measurement if unseen_BTYX is None else replace(measurement, unseen_BTYX=unseen_BTYX.to(device))

    def to_output_grid(self, images_TYX: Complex) -> Complex:
        """Crop or resample as the source does."""
        return self.slices.to_output_grid(images_TYX)
