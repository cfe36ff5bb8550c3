"""RawScan: multi-coil Cartesian k-space in a file, read slice by slice, and where its images lie in space.

Legend: Z slice, C coil, T frame, Y phase encoding, X readout. K-space is centred and orthonormal, complex64.
This room knows numpy only, so that a file can be described without loading torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.acquisition import Complex
from crnn_cli.data.image import Image
from crnn_cli.data.sampling_mask import Mask


@dataclass(frozen=True)
class RawSlice:
    """What was measured of one slice.

    Attributes
    ----------
    kspace_CTYX : complex64, zero where not measured.
    mask_TYX : boolean; X is 1 where whole lines were measured.
    calibration_CYX : lines for calibration only, on the same grid with zeros elsewhere; None if there are none.
    """

    kspace_CTYX: Complex
    mask_TYX: Mask
    calibration_CYX: Complex | None = None


@dataclass(frozen=True)
class RawScan:
    """A file of raw k-space. Nothing but headers is in memory until a slice is read.

    Attributes
    ----------
    format : in the field's words: ISMRMRD, BART, fastMRI, CMRxRecon, OCMR, NumPy, MATLAB.
    stored : what the stored axes were taken to be, with their lengths, for people to check.
    shape_ZCTYX : of the k-space grid, as it was encoded.
    geometry : an image of zeros (x, y, z, t) that says where and when the images are, as in `Image`; its matrix is that
        of the images asked for.
    axes_ZYX : which array axes of the images Z, Y and X are: (2, 1, 0) where x is the readout of a slice z.
    fov_fraction_YX : share of the encoded field of view that the images show: (1, 0.5) with twofold oversampled readout.
    noise_CC : covariance of the coils' noise, of complex samples in the scale of the k-space; None where unknown.
    notes : what is odd, in words: missing lines, averages, what was assumed.
    read : returns slice z.
    """

    format: str
    stored: str
    shape_ZCTYX: tuple[int, int, int, int, int]
    geometry: Image
    axes_ZYX: tuple[int, int, int]
    read: Callable[[int], RawSlice]
    fov_fraction_YX: tuple[float, float] = (1.0, 1.0)
    noise_CC: NDArray[np.complex64] | None = None
    notes: tuple[str, ...] = ()


def remove_oversampling(measured: RawSlice, share: float) -> RawSlice:
    """Return a slice whose readout covers the middle ``share`` of its field of view: fewer samples, the same images.

    The samples are transformed along the readout, cut and transformed back, which keeps the noise white. Where a part
    of the readout was not measured (asymmetric echo), the mask of the shorter readout leaves out one sample more, for
    what the cut smears over the edge.
    """
    samples = measured.kspace_CTYX.shape[-1]
    kept = round(samples * share)
    if kept >= samples:
        return measured
    mask = measured.mask_TYX
    if mask.shape[-1] > 1:
        centre = np.arange(kept) - kept // 2
        places = samples // 2 + np.rint(centre / share).astype(int)
        mask = mask & np.roll(mask, 1, -1) & np.roll(mask, -1, -1) | mask.all(-1, keepdims=True)
        mask = mask[..., np.clip(places, 0, samples - 1)]
    kspace = _cut_field(measured.kspace_CTYX, kept)
    kspace *= mask
    calibration = measured.calibration_CYX
    return RawSlice(kspace, mask, None if calibration is None else _cut_field(calibration, kept))


def _cut_field(kspace: Complex, kept: int) -> Complex:
    """Return k-space of the middle ``kept`` pixels along the last axis."""
    first = kspace.shape[-1] // 2 - kept // 2
    cut = np.empty((*kspace.shape[:-1], kept), np.complex64)
    for coil, whole in enumerate(kspace):  # memory for one is enough
        cut[coil] = image_to_kspace_along(kspace_to_image_along(whole, -1)[..., first : first + kept], -1)
    return cut


def kspace_to_image_along(kspace: Complex, axis: int) -> Complex:
    """Return k-space brought to image space along one axis: the centred orthonormal inverse transform."""
    image = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(kspace, axis), axis=axis, norm="ortho"), axis)
    return image.astype(np.complex64, copy=False)


def image_to_kspace_along(image: Complex, axis: int) -> Complex:
    """Return images brought to k-space along one axis: the inverse of `kspace_to_image_along`."""
    kspace = np.fft.fftshift(np.fft.fft(np.fft.ifftshift(image, axis), axis=axis, norm="ortho"), axis)
    return kspace.astype(np.complex64, copy=False)


def crop_and_resample(images_TYX: Complex, share: tuple[float, float], matrix: tuple[int, int]) -> Complex:
    """Return images cut to the middle ``share`` of their field of view (Y, X) and brought to a matrix (Y, X).

    The matrix is reached by zeros around k-space, or by leaving out its edge, as scanners do; brightness is kept.
    """
    for axis, (part, wanted) in enumerate(zip(share, matrix, strict=True), start=1):
        n = images_TYX.shape[axis]
        kept = min(n, max(1, round(n * part)))
        first = n // 2 - kept // 2
        images_TYX = images_TYX.take(range(first, first + kept), axis)
        if kept != wanted:
            images_TYX = _resampled(images_TYX, wanted, axis)
    return np.ascontiguousarray(images_TYX)


def _resampled(images: Complex, wanted: int, axis: int) -> Complex:
    n = images.shape[axis]
    kspace = image_to_kspace_along(images, axis)
    out = np.zeros((*images.shape[:axis], wanted, *images.shape[axis + 1 :]), np.complex64)
    both = min(n, wanted)
    source, target = (slice(m // 2 - both // 2, m // 2 - both // 2 + both) for m in (n, wanted))
    np.moveaxis(out, axis, 0)[target] = np.moveaxis(kspace, axis, 0)[source]
    return kspace_to_image_along(out, axis) * np.float32((wanted / n) ** 0.5)


def place_images(images_ZTYX: Complex, scan: RawScan) -> Image:
    """Return images (Z, T, Y, X) of the scan's own matrix as an `Image` (x, y, z, t) with its geometry; not a copy."""
    z, y, x = scan.axes_ZYX
    order = {z: 0, 3: 1, y: 2, x: 3}
    return replace(scan.geometry, array=images_ZTYX.transpose([order[axis] for axis in range(4)]))
