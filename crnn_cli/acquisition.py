"""Acquisition: dynamic Cartesian k-space, what of it was measured, and where it lies in space.

Legend: Z slice, C coil, T frame, Y phase encoding (the undersampled axis), X readout. K-space is centred and
orthonormal, complex64. This room knows numpy only, so that a file can be described without loading torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crnn_cli.errors import UnsupportedDataError
from crnn_cli.image import Image
from crnn_cli.pattern import Mask, acceleration, acceleration_inside, measured_box, share_measured, undersampled_axes

Complex = NDArray[np.complex64]

ZERO = 1e-6
"""A line is unmeasured where its r.m.s. is below this share of the strongest line's: single-precision rounding of
the images leaves about 3e-8, the noise of a scanner is above 1e-4."""
OUTSIDE = 1e-3
"""Share of the energy that may lie outside a mask given by hand."""


@dataclass(frozen=True)
class Acquisition:
    """What a scanner measured, or what a simulation says it would have.

    Attributes
    ----------
    kspace_ZCTYX : complex64, zero where not measured.
    mask_ZTYX : boolean; X is 1 where whole lines were measured.
    phase_axis : which array axis of the image (0 or 1) is Y.
    geometry : an image of zeros that says where and when the images are, as in `Image`.
    origin : in words, where the data come from; goes into every report.
    """

    kspace_ZCTYX: Complex
    mask_ZTYX: Mask
    phase_axis: int
    geometry: Image
    origin: str

    @property
    def acceleration(self) -> float:
        """Samples of the grid over samples measured, in slices that are not empty."""
        return acceleration(self.mask_ZTYX)

    @property
    def acceleration_inside(self) -> float:
        """The same inside the measured region: without what no frame measured at the edge.

        Zero-filled interpolation and partial Fourier are left out; so are outermost lines that chance left out.
        """
        return acceleration_inside(self.mask_ZTYX)

    @property
    def undersampled_axes(self) -> int:
        """2 if, inside the measured region, the pattern also changes along the readout, else 1."""
        return undersampled_axes(self.mask_ZTYX)

    def to_image(self, images_ZTYX: Complex) -> Image:
        """Return images (Z, T, Y, X) as an `Image` (x, y, z, t) with the geometry of the acquisition."""
        order = (3, 2, 0, 1) if self.phase_axis == 1 else (2, 3, 0, 1)
        return replace(self.geometry, array=np.ascontiguousarray(images_ZTYX.transpose(order)))


def from_zero_filled(image: Image, mask: Image | None = None) -> Acquisition:
    """Return the acquisition behind complex zero-filled images.

    Parameters
    ----------
    image : complex (x, y, z, t), the centred inverse FFT of k-space with zeros where nothing was measured.
    mask : 0/1 over k-space, its axes broadcastable to the image's; None to find it from the zeros.

    Raises
    ------
    UnsupportedDataError
        If the image is no complex dynamic series, is constant, or is fully sampled; if the mask does not fit.
    """
    require_dynamic(image)
    if not image.is_complex:
        raise UnsupportedDataError(
            "this series has magnitude only: nothing in it says which k-space samples were measured. Give its phase "
            "(--phase FILE) if it was undersampled, or simulate an undersampled scan from it with --undersample 8"
        )
    kspace_ZT01 = _to_kspace(image)
    if mask is None:
        require_encoded_by_slice(image)
        mask_ZT01 = find_mask(kspace_ZT01)
        if mask_ZT01 is None:
            raise UnsupportedDataError(
                "this complex series is fully sampled: its k-space has no zeros inside the measured region, so there "
                "is nothing to fill in. To try the network on it, simulate a scan with --undersample 8; if it was "
                "undersampled but stored as integers or filtered, give the pattern with --mask"
            )
        origin = "zero-filled images as given, pattern found from the zeros of their k-space"
    else:
        mask_ZT01 = _given_mask(mask, image)
        _require_agreement(kspace_ZT01, mask_ZT01)
        origin = "zero-filled images as given, pattern from the mask given"
    return _acquisition(image, kspace_ZT01, mask_ZT01, _undersampled_axis(mask_ZT01), origin)


def from_fully_sampled(image: Image, mask_ZTY: Mask, phase_axis: int, origin: str) -> Acquisition:
    """Return the acquisition that measures only the lines of ``mask_ZTY`` of a fully sampled series.

    Parameters
    ----------
    image : magnitude or complex (x, y, z, t); a magnitude counts as an image of phase zero.
    mask_ZTY : boolean lines per slice and frame; Z may be 1.
    phase_axis : array axis (0 or 1) that Y is.
    origin : says that this is a simulation, and how.

    Raises
    ------
    UnsupportedDataError
        If the series is undersampled already.
    """
    require_dynamic(image)
    lines = mask_ZTY[..., None] if phase_axis == 0 else mask_ZTY[:, :, None, :]
    kspace_ZT01 = _to_kspace(image)
    if image.is_complex and find_mask(kspace_ZT01) is not None:
        raise UnsupportedDataError(
            "this complex series is undersampled already: its k-space has zeros inside the measured region, so it is "
            "no truth to simulate from. Reconstruct it without --undersample"
        )
    return _acquisition(image, kspace_ZT01, np.broadcast_to(lines, kspace_ZT01.shape), phase_axis, origin)


def require_dynamic(image: Image) -> None:
    """Raise UnsupportedDataError unless the image is a finite series of at least two frames with something in it."""
    if image.array.ndim == 3:
        raise UnsupportedDataError(
            f"this file is 3-D {image.shape}: it has no time axis. If its third axis is time, say so with --axes x,y,t"
        )
    if image.frames < 2:
        raise UnsupportedDataError("this series has one frame; the network needs at least 2 to recur over")
    image.require_finite("this series")
    array = image.array
    peak = float(np.abs(array).max())
    if peak and not 1e-30 < peak < 1e30:
        raise UnsupportedDataError(f"the brightest voxel is {peak:.3g}: rescale the series into 1e-30 to 1e30")
    if not peak or (array == array.flat[0]).all():
        raise UnsupportedDataError("this series is constant: there is nothing to reconstruct")


def require_encoded_by_slice(image: Image) -> None:
    """Raise UnsupportedDataError if the slice axis is phase-encoded and undersampled too (a 3-D scan).

    Looks at the first frame that is not empty: samples are missing along kz there that no slice alone lacks, and not
    whole planes at a time (as in stacks that were interpolated or repeated).
    """
    frame = int(np.argmax(image.array.any(axis=(0, 1, 2))))
    kspace_Z01 = _to_kspace(Image(image.array[..., frame : frame + 1], image.affine))[:, 0]
    kspace_Z01 = kspace_Z01 / np.abs(kspace_Z01).max()
    volume = np.abs(np.fft.fft(kspace_Z01, axis=0, norm="ortho"))
    floor = ZERO * np.sqrt((volume**2).mean(axis=2)).max()
    planes = (volume > floor)[:, np.abs(kspace_Z01).max(axis=0) > floor]
    share = float(planes[planes.any(axis=1)].mean())
    if share < 0.9:
        raise UnsupportedDataError(
            f"this is a 3-D scan undersampled along the slice axis too: only {100 * share:.0f} % of the samples that "
            "the slices show were measured along kz. Slices cannot be reconstructed on their own; this version does "
            "not read such scans"
        )


def find_mask(kspace_ZT01: Complex) -> Mask | None:
    """Find which samples were measured from the zeros of k-space; None if none is missing in the measured region.

    The region is what lies between measured samples along either axis, over all frames and slices: zeros outside it are
    zero-filled interpolation, partial Fourier or an elliptical shutter, and do not make a series undersampled.

    Raises
    ------
    UnsupportedDataError
        If a frame has no measured sample at all.
    """
    filled = np.flatnonzero(kspace_ZT01.any(axis=(1, 2, 3)))
    found = _measured_samples(kspace_ZT01[filled])
    empty = np.argwhere(~found.any(axis=(2, 3)))
    if len(empty):
        slice_, frame = int(filled[empty[0][0]]), int(empty[0][1])
        raise UnsupportedDataError(f"frame {frame} of slice {slice_} has no measured sample at all: remove that frame")
    if share_measured(found) > 0.995:
        return None
    mask = np.zeros(kspace_ZT01.shape, np.bool_)
    mask[filled] = found
    return mask


def _measured_samples(kspace_ZT01: Complex) -> Mask:
    """Return which samples are not zero: by whole lines where lines explain the zeros, else one by one."""
    magnitude = np.abs(kspace_ZT01)
    magnitude /= magnitude.max(axis=(1, 2, 3), keepdims=True)
    lines = [np.sqrt((magnitude**2).mean(axis=axis)) for axis in (3, 2)]  # (Z, T, N0), (Z, T, N1)
    floors = [ZERO * line.max(axis=(1, 2), keepdims=True) for line in lines]
    measured = [line > floor for line, floor in zip(lines, floors, strict=True)]
    by_lines: Mask = measured[0][..., :, None] & measured[1][..., None, :]
    samples: Mask = magnitude > np.maximum(*floors)[..., None]
    return by_lines if float(samples[by_lines].mean()) >= 0.95 else samples


def _acquisition(image: Image, kspace_ZT01: Complex, mask_ZT01: Mask, phase_axis: int, origin: str) -> Acquisition:
    kspace, mask = kspace_ZT01 * mask_ZT01, mask_ZT01
    if phase_axis == 1:
        kspace, mask = kspace.swapaxes(2, 3), mask.swapaxes(2, 3)
    if (mask == mask[..., :1]).all():
        mask = mask[..., :1]
    geometry = replace(image, array=np.broadcast_to(np.float32(0), image.shape))
    return Acquisition(np.ascontiguousarray(kspace)[:, None], mask.copy(), phase_axis, geometry, origin)


def _given_mask(mask: Image, image: Image) -> Mask:
    """Return a mask file's values as (Z, T, 0, 1), checked."""
    values = mask.array if mask.array.ndim == 4 else mask.array[..., None]
    if mask.is_complex or not np.isin(values, (0, 1)).all():
        raise UnsupportedDataError("the mask has values other than 0 and 1: it must say which samples were measured")
    if not values.any():
        raise UnsupportedDataError("the mask is zero everywhere: nothing was measured")
    x, y, z, t = image.shape
    fits = all(m in (1, n) for m, n in zip(values.shape, (x, y, z, t), strict=True))
    if not fits or values.shape[:2] == (1, 1):
        raise UnsupportedDataError(f"the mask is {mask.shape}, the series {image.shape}: each axis must agree or be 1")
    whole: Mask = np.broadcast_to(values.astype(bool), image.shape).transpose(2, 3, 0, 1)
    empty = ~whole.any(axis=(2, 3))
    if empty.any():
        slice_, frame = (int(v) for v in np.argwhere(empty)[0])
        raise UnsupportedDataError(f"the mask measures nothing in frame {frame} of slice {slice_}")
    if whole.all():
        raise UnsupportedDataError("the mask is one everywhere: everything was measured, nothing is to be filled in")
    return whole


def _require_agreement(kspace_ZT01: Complex, mask_ZT01: Mask) -> None:
    power = np.abs(kspace_ZT01) ** 2
    outside = float(power[~mask_ZT01].sum() / power.sum())
    if outside > OUTSIDE:
        raise UnsupportedDataError(
            f"the mask disagrees with the k-space: {100 * outside:.2g} % of the energy lies where the mask says that "
            "nothing was measured. Is the mask centred (low frequencies in the middle), for these axes and this scan?"
        )
    lines = np.sqrt(power.mean(axis=2 + 1 - _undersampled_axis(mask_ZT01)))
    claimed = mask_ZT01.any(axis=2 + 1 - _undersampled_axis(mask_ZT01))
    hollow = float((lines[claimed] <= ZERO * lines.max()).mean())
    if hollow > 0.05:
        raise UnsupportedDataError(
            f"the mask disagrees with the k-space: {100 * hollow:.0f} % of the lines that it calls measured are zero. "
            "Is it the mask of this scan, its frames in the same order?"
        )


def _undersampled_axis(mask_ZT01: Mask) -> int:
    """Return the array axis along which, inside the measured region, the mask changes most."""
    cut = measured_box(mask_ZT01)
    return int(np.argmax([float(cut.mean(axis=other).std()) for other in (3, 2)]))


def _to_kspace(image: Image) -> Complex:
    """Return the centred orthonormal k-space (Z, T, 0, 1) of an image (x, y, z, t)."""
    images_ZT01 = np.asarray(image.array, dtype=np.complex64).transpose(2, 3, 0, 1)
    axes = (-2, -1)
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images_ZT01, axes), axes=axes, norm="ortho"), axes)
    return kspace.astype(np.complex64, copy=False)
