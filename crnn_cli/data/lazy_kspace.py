"""Lazy k-space of an image series: each slice is transformed on access, so that only one is in memory.

Legend: Z slice, C coil, T frame, Y phase encoding, X readout; 0 and 1 the first two array axes of an image. K-space is
centred and orthonormal, complex64.
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
    """Centred orthonormal k-space (Z, T, 0, 1), complex64, of images (x, y, z, t).

    >>> abs(series_to_kspace(np.ones((4, 6, 1, 1)))).squeeze().argmax()  # all energy at the centre (2, 3)
    np.int64(15)
    """
    images_ZT01 = np.asarray(array, dtype=np.complex64).transpose(2, 3, 0, 1)
    axes = (-2, -1)
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images_ZT01, axes), axes=axes, norm="ortho"), axes)
    return kspace.astype(np.complex64, copy=False)


def iterate_slices(image: Image) -> Iterator[Array]:
    """Yield the slices (x, y, t) of a series; pages of file-backed arrays are released after each."""
    for z in range(image.shape[2]):
        yield image.array[:, :, z]
        drop_pages(image.array)


class SeriesKspace:
    """Fully sampled k-space (Z, T, 0, 1) of a series (x, y, z, t), transformed a slice at a time.

    Behaves as a read-only sequence over slices, with ``shape`` and ``len``.
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        x, y, z, t = image.shape
        self.shape = (z, t, x, y)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, z: int) -> Complex:
        """K-space of slice z, (T, 0, 1)."""
        if not 0 <= z < len(self):
            raise IndexError(z)
        kspace_T01: Complex = series_to_kspace(self._image.array[:, :, z : z + 1])[0]
        drop_pages(self._image.array)
        return kspace_T01


class LazyKspace:
    """Undersampled single-coil k-space (Z, 1, T, Y, X) of a series, a slice at a time; zero where not measured.

    Parameters
    ----------
    full : k-space of all samples.
    mask_ZTYX : boolean; X may be 1.
    phase_axis : array axis of the images (0 or 1) that is Y.
    """

    def __init__(self, full: SeriesKspace, mask_ZTYX: Mask, phase_axis: int) -> None:
        self._full, self._mask_ZTYX, self._swapped = full, mask_ZTYX, phase_axis == 1
        z, t, first, second = full.shape
        self.shape = (z, 1, t, *((second, first) if self._swapped else (first, second)))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Complex:
        """K-space of slice z, (1, T, Y, X); any other index transforms all slices first."""
        if not isinstance(index, int):
            selected: Complex = np.asarray(self)[index]
            return selected
        kspace_TYX = self._full[index]
        if self._swapped:
            kspace_TYX = kspace_TYX.swapaxes(1, 2)
        return np.ascontiguousarray(kspace_TYX * self._mask_ZTYX[index])[None]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Complex:
        """K-space of all slices in memory."""
        del copy
        return np.stack([self[z] for z in range(len(self))]).astype(dtype or np.complex64, copy=False)
