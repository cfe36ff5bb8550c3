"""K-space of images, made slice by slice when it is asked for, so that only one is in memory.

Legend: Z slice, C coil, T frame, Y phase encoding, X readout, 0 and 1 the first axes of an image. K-space is centred
and orthonormal, complex64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.image import Array, Image
from crnn_cli.data.mapped_arrays import drop_pages
from crnn_cli.data.sampling_mask import Mask

Complex = NDArray[np.complex64]


def series_to_kspace(array: Array) -> Complex:
    """Return the k-space (Z, T, 0, 1) of images (x, y, z, t)."""
    images_ZT01 = np.asarray(array, dtype=np.complex64).transpose(2, 3, 0, 1)
    axes = (-2, -1)
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images_ZT01, axes), axes=axes, norm="ortho"), axes)
    return kspace.astype(np.complex64, copy=False)


def iterate_slices(image: Image) -> Iterator[Array]:
    """Yield the slices (x, y, t) of a series; the memory of those before is let go of."""
    for z in range(image.shape[2]):
        yield image.array[:, :, z]
        drop_pages(image.array)


class SeriesKspace:
    """K-space (Z, T, 0, 1) of a series, a slice at a time."""

    def __init__(self, image: Image) -> None:
        self._image = image
        x, y, z, t = image.shape
        self.shape = (z, t, x, y)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, z: int) -> Complex:
        """Return slice z, (T, 0, 1)."""
        if not 0 <= z < len(self):
            raise IndexError(z)
        (made_T01,) = series_to_kspace(self._image.array[:, :, z : z + 1])
        drop_pages(self._image.array)
        kspace_T01: Complex = made_T01
        return kspace_T01


class LazyKspace:
    """What was measured of a series by one coil, (Z, 1, T, Y, X), a slice at a time; zero where not measured.

    Parameters
    ----------
    mask_ZTYX : boolean; X may be 1. phase_axis : which array axis of the images (0 or 1) is Y.
    """

    def __init__(self, planes: SeriesKspace, mask_ZTYX: Mask, phase_axis: int) -> None:
        self._planes, self._mask_ZTYX, self._swapped = planes, mask_ZTYX, phase_axis == 1
        z, t, first, second = planes.shape
        self.shape = (z, 1, t, *((second, first) if self._swapped else (first, second)))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Complex:
        """Return slice z, (1, T, Y, X); any other index makes all slices first."""
        if not isinstance(index, int):
            part: Complex = np.asarray(self)[index]
            return part
        kspace_TYX = self._planes[index]
        if self._swapped:
            kspace_TYX = kspace_TYX.swapaxes(1, 2)
        return np.ascontiguousarray(kspace_TYX * self._mask_ZTYX[index])[None]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Complex:
        """Return all slices."""
        del copy
        return np.stack([self[z] for z in range(len(self))]).astype(dtype or np.complex64, copy=False)
