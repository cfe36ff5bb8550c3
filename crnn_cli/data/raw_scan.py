"""RawScan: multi-coil Cartesian k-space in a file, read slice by slice, with the geometry of its images.

Legend: Z slice, C coil, T frame, Y phase encoding, X readout. K-space is centred and orthonormal, complex64. Only numpy
is imported, so that a file can be described without loading torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.acquisition import Complex
from crnn_cli.data.image import Image
from crnn_cli.data.sampling_mask import Mask
from crnn_cli.notices import Remark


@dataclass(frozen=True)
class RawSlice:
    """Measured k-space of one slice.

    Attributes
    ----------
    kspace_CTYX : complex64, zero where not measured.
    mask_TYX : boolean; X is 1 where whole lines were measured.
    calibration_CYX : separate calibration lines (such as ACS) on the same grid, zero elsewhere; None without them.
    """

    kspace_CTYX: Complex
    mask_TYX: Mask
    calibration_CYX: Complex | None = None


@dataclass(frozen=True)
class RawScan:
    """A file of raw k-space; only headers are in memory until a slice is read.

    Attributes
    ----------
    format : name of the format: ISMRMRD, BART, fastMRI, CMRxRecon, OCMR, NumPy, MATLAB.
    stored : interpretation of the stored axes with their lengths, for people to check.
    shape_ZCTYX : shape of the encoded k-space grid.
    geometry : an `Image` of zeros (x, y, z, t) with affine, frame time and matrix of the images to be written.
    axes_ZYX : array axes of the images that are Z, Y and X: (2, 1, 0) where x is the readout and z the slice.
    read : reads slice z, counted from 0; raises as the reader of the format does.
    fov_fraction_YX : fraction of the encoded field of view that the images show: (1, 0.5) with twofold readout
        oversampling.
    noise_CC : noise covariance of the coils, of complex samples in the scale of the k-space; None where unknown.
    readout_X : whether X is a fully sampled readout, whose oversampling is removed before the reconstruction.
    remarks : peculiarities: missing lines, averages, assumptions.
    """

    format: str
    stored: str
    shape_ZCTYX: tuple[int, int, int, int, int]
    geometry: Image
    axes_ZYX: tuple[int, int, int]
    read: Callable[[int], RawSlice]
    fov_fraction_YX: tuple[float, float] = (1.0, 1.0)
    noise_CC: NDArray[np.complex64] | None = None
    readout_X: bool = True
    remarks: tuple[Remark, ...] = ()

    @property
    def readout_fraction(self) -> float:
        """Fraction of the field of view along X that is left when readout oversampling is removed; 1 for none."""
        return self.fov_fraction_YX[1] if self.readout_X else 1.0

    @property
    def crop_fraction(self) -> tuple[float, float]:
        """Fraction of the field of view (Y, X) that the images show of what was reconstructed."""
        return self.fov_fraction_YX[0], 1.0 if self.readout_X else self.fov_fraction_YX[1]


def remove_oversampling(measured: RawSlice, fraction: float) -> RawSlice:
    """Remove readout oversampling: keep the central ``fraction`` of the field of view along X.

    The readout is transformed to image space, cropped and transformed back, which keeps the noise white. Where a part
    of the readout was not measured (asymmetric echo), the mask loses one sample more on each side of its gaps, as the
    crop spreads samples over the edge. Returns the slice itself where nothing is to be removed.
    """
    samples = measured.kspace_CTYX.shape[-1]
    width = round(samples * fraction)
    if width >= samples:
        return measured
    mask = measured.mask_TYX
    if mask.shape[-1] > 1:
        centre = np.arange(width) - width // 2
        nearest = samples // 2 + np.rint(centre / fraction).astype(int)
        mask = mask & np.roll(mask, 1, -1) & np.roll(mask, -1, -1) | mask.all(-1, keepdims=True)
        mask = mask[..., np.clip(nearest, 0, samples - 1)]
    kspace = _crop_readout(measured.kspace_CTYX, width)
    kspace *= mask
    calibration = measured.calibration_CYX
    return RawSlice(kspace, mask, None if calibration is None else _crop_readout(calibration, width))


def _crop_readout(kspace: Complex, width: int) -> Complex:
    """K-space (C, ..., X) of the central ``width`` pixels along X, a coil at a time to save memory."""
    first = kspace.shape[-1] // 2 - width // 2
    cropped = np.empty((*kspace.shape[:-1], width), np.complex64)
    for coil, whole in enumerate(kspace):
        cropped[coil] = image_to_kspace_along(kspace_to_image_along(whole, -1)[..., first : first + width], -1)
    return cropped


def kspace_to_image_along(kspace: Complex, axis: int) -> Complex:
    """Centred orthonormal inverse Fourier transform along one axis, complex64.

    >>> kspace_to_image_along(np.array([0, 0, 2, 0], np.complex64), 0).real.tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    image = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(kspace, axis), axis=axis, norm="ortho"), axis)
    return image.astype(np.complex64, copy=False)


def image_to_kspace_along(image: Complex, axis: int) -> Complex:
    """Centred orthonormal Fourier transform along one axis, the inverse of `kspace_to_image_along`; complex64."""
    kspace = np.fft.fftshift(np.fft.fft(np.fft.ifftshift(image, axis), axis=axis, norm="ortho"), axis)
    return kspace.astype(np.complex64, copy=False)


def crop_and_resample(images_TYX: Complex, fraction: tuple[float, float], matrix: tuple[int, int]) -> Complex:
    """Crop images to the central ``fraction`` of the field of view (Y, X), then resample them to a matrix (Y, X).

    Resampling zero-pads k-space or cuts off its edge, as scanners do; brightness is kept.
    """
    for axis, (part, size) in enumerate(zip(fraction, matrix, strict=True), start=1):
        n = images_TYX.shape[axis]
        width = min(n, max(1, round(n * part)))
        first = n // 2 - width // 2
        images_TYX = images_TYX.take(range(first, first + width), axis)
        if width != size:
            images_TYX = _resample(images_TYX, size, axis)
    return np.ascontiguousarray(images_TYX)


def _resample(images: Complex, size: int, axis: int) -> Complex:
    """Images with ``size`` pixels along an axis, by zero-padding or cropping k-space."""
    n = images.shape[axis]
    kspace = image_to_kspace_along(images, axis)
    out = np.zeros((*images.shape[:axis], size, *images.shape[axis + 1 :]), np.complex64)
    common = min(n, size)
    source, target = (slice(m // 2 - common // 2, m // 2 - common // 2 + common) for m in (n, size))
    np.moveaxis(out, axis, 0)[target] = np.moveaxis(kspace, axis, 0)[source]
    return kspace_to_image_along(out, axis) * np.float32((size / n) ** 0.5)


def place_images(images_ZTYX: Complex, scan: RawScan) -> Image:
    """Wrap images (Z, T, Y, X) as an `Image` (x, y, z, t) with the geometry of the scan; a view.

    The images must have the matrix of ``scan.geometry`` already (`crop_and_resample`); it is not checked.
    """
    z, y, x = scan.axes_ZYX
    order = {z: 0, 3: 1, y: 2, x: 3}
    return replace(scan.geometry, array=images_ZTYX.transpose([order[axis] for axis in range(4)]))
