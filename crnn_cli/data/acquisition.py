"""Acquisition: single-coil dynamic Cartesian k-space with its sampling mask and geometry.

`from_zero_filled` recovers it from zero-filled complex images, `from_fully_sampled` simulates it from a series.

Legend: Z slice, C coil, T frame, Y phase encoding (the undersampled axis), X readout. K-space is centred and
orthonormal, complex64. Only numpy is imported, so that a file can be described without loading torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.image import Image
from crnn_cli.data.lazy_kspace import LazyKspace, SeriesKspace, iterate_slices, series_to_kspace
from crnn_cli.data.sampling_mask import (
    Mask,
    acceleration,
    crop_to_measured,
    drop_empty_slices,
    effective_acceleration,
    measured_fraction,
    undersampled_axes,
)
from crnn_cli.errors import Param, UnsupportedDataError

Complex = NDArray[np.complex64]

ZERO = 1e-6
"""R.m.s. of a line, relative to the strongest line, below which it counts as unmeasured: single-precision rounding of
the images leaves about 3e-8, the noise of a scanner is above 1e-4."""
OUTSIDE = 1e-3
"""Share of the energy that may lie outside a mask given by the user."""


@dataclass(frozen=True)
class Acquisition:
    """Undersampled k-space, measured or simulated.

    Attributes
    ----------
    kspace_ZCTYX : complex64, zero where not measured; in memory, or transformed slice by slice on access.
    mask_ZTYX : boolean; X is 1 where whole lines were measured.
    phase_axis : array axis of the image (0 or 1) that is Y.
    geometry : an `Image` of zeros with the affine, shape and frame time of the images.
    origin : provenance of the data in words; goes into every report.
    """

    kspace_ZCTYX: Complex | LazyKspace
    mask_ZTYX: Mask
    phase_axis: int
    geometry: Image
    origin: str

    @property
    def acceleration(self) -> float:
        """Nominal acceleration: grid samples per measured sample, over the slices that are not empty."""
        return acceleration(self.mask_ZTYX)

    @property
    def effective_acceleration(self) -> float:
        """Acceleration inside the measured region; see `sampling_mask.effective_acceleration`."""
        return effective_acceleration(self.mask_ZTYX)

    @property
    def undersampled_axes(self) -> int:
        """Number of undersampled axes: 2 if the pattern also varies along the readout, else 1."""
        return undersampled_axes(self.mask_ZTYX)

    def to_image(self, images_ZTYX: Complex) -> Image:
        """Wrap images (Z, T, Y, X) as an `Image` (x, y, z, t) with the geometry of the acquisition; a view.

        Y becomes array axis ``phase_axis`` again, so that the image lies where its source lies.
        """
        order = (3, 2, 0, 1) if self.phase_axis == 1 else (2, 3, 0, 1)
        return replace(self.geometry, array=images_ZTYX.transpose(order))


def from_zero_filled(image: Image, mask: Image | None = None) -> Acquisition:
    """Recover k-space and sampling mask from complex zero-filled images.

    Parameters
    ----------
    image : complex (x, y, z, t), the centred inverse FFT of k-space with zeros where nothing was measured.
    mask : 0/1 over k-space, broadcastable to the image; None to find it from the zeros of the k-space.

    Raises
    ------
    UnsupportedDataError
        If the image is not a complex dynamic series, is constant, or is fully sampled; if the mask contradicts the
        k-space.

    Notes
    -----
    Images that were filtered, resized or stored as integers after their zero-filled reconstruction have no exact zeros
    left; they look fully sampled and are refused. A magnitude series carries no trace of its sampling.
    """
    require_dynamic(image)
    if not image.is_complex:
        raise UnsupportedDataError(
            "this series has magnitude only, and nothing in it says which k-space samples were measured",
            remedy=("give its phase (", Param("phase", "FILE"), ") if it was undersampled, or simulate an undersampled "
                    "scan from it with ", Param("undersample", 8)),
        )  # fmt: skip
    kspace_ZT01 = SeriesKspace(image)
    if mask is None:
        require_encoded_by_slice(image)
        mask_ZT01 = find_mask(kspace_ZT01)
        if mask_ZT01 is None:
            raise UnsupportedDataError(
                "this complex series is fully sampled (its k-space has no zeros inside the measured region), so there "
                "is nothing to fill in",
                remedy=("to try the network on it, simulate a scan with ", Param("undersample", 8), "; if it was "
                        "undersampled but stored as integers or filtered, give the pattern with ", Param("mask")),
            )  # fmt: skip
        origin = "zero-filled images as given, pattern found from the zeros of their k-space"
    else:
        mask_ZT01 = _given_mask(mask, image)
        _require_agreement(kspace_ZT01, mask_ZT01)
        origin = "zero-filled images as given, pattern from the mask given"
    return _build(image, mask_ZT01, _undersampled_axis(mask_ZT01), origin)


def from_fully_sampled(image: Image, mask_ZTY: Mask, phase_axis: int, origin: str) -> Acquisition:
    """Simulate an undersampled acquisition: keep only the lines of ``mask_ZTY`` of a fully sampled series.

    Parameters
    ----------
    image : magnitude or complex (x, y, z, t); a magnitude is taken as an image of phase zero, which makes the
        simulation easier than a real scan.
    mask_ZTY : boolean, lines per slice and frame; Z may be 1.
    phase_axis : array axis of the image (0 or 1) that is Y.
    origin : provenance in words: that this is a simulation, and of which kind.

    Raises
    ------
    UnsupportedDataError
        If the series is undersampled already.
    """
    require_dynamic(image)
    lines = mask_ZTY[..., None] if phase_axis == 0 else mask_ZTY[:, :, None, :]
    if image.is_complex and find_mask(SeriesKspace(image)) is not None:
        raise UnsupportedDataError(
            "this complex series is undersampled already (its k-space has zeros inside the measured region), so it is "
            "no truth to simulate from",
            remedy=("reconstruct it without ", Param("undersample")),
        )
    x, y, z, t = image.shape
    return _build(image, np.broadcast_to(lines, (z, t, x, y)), phase_axis, origin)


def require_dynamic(image: Image) -> None:
    """Refuse an image that a dynamic reconstruction cannot use.

    Raises
    ------
    UnsupportedDataError
        If the image is 3-D, has one frame, is constant, has NaN or infinite voxels, or lies outside 1e-30 to 1e30.
    """
    if image.array.ndim == 3:
        raise UnsupportedDataError(
            f"this file is 3-D {image.shape} and has no time axis",
            remedy=("if its third axis is time, say so with ", Param("axes", "x,y,t")),
        )
    if image.frames < 2:
        raise UnsupportedDataError("this series has one frame; the network needs at least 2 to recur over")
    image.require_finite("this series")
    peak = max(float(np.abs(slice_).max()) for slice_ in iterate_slices(image))
    if peak and not 1e-30 < peak < 1e30:
        raise UnsupportedDataError(f"the brightest voxel is {peak:.3g}: rescale the series into 1e-30 to 1e30")
    first = image.array[0, 0, 0, 0]
    if not peak or all((slice_ == first).all() for slice_ in iterate_slices(image)):
        raise UnsupportedDataError("this series is constant: there is nothing to reconstruct")


def require_encoded_by_slice(image: Image) -> None:
    """Refuse a 3-D scan, whose slice axis is phase-encoded and undersampled too.

    The test is on the first frame that is not empty: samples are missing along kz although the slices have them, and
    not whole kz planes at a time (as in stacks that were interpolated or repeated).

    Raises
    ------
    UnsupportedDataError
        If fewer than 90 % of the samples that the slices have were measured along kz.
    """
    filled = np.logical_or.reduce([slice_.any(axis=(0, 1)) for slice_ in iterate_slices(image)])
    frame = int(np.argmax(filled))
    kspace_Z01 = series_to_kspace(image.array[..., frame : frame + 1])[:, 0]
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


def find_mask(kspace_ZT01: Complex | SeriesKspace) -> Mask | None:
    """Find the sampling mask from the zeros of k-space; None if no sample is missing in the measured region.

    The measured region lies between the outermost measured samples along either axis, over all frames and slices. Zeros
    outside it come from zero-filled interpolation, partial Fourier or an elliptical shutter, and do not make a series
    undersampled. Whole lines are preferred to single samples where they explain the zeros.

    Returns
    -------
    (Z, T, 0, 1) boolean, with 0 and 1 the first two array axes of the image.

    Raises
    ------
    UnsupportedDataError
        If a frame has no measured sample at all.
    """
    mask = _measured_samples(kspace_ZT01)
    filled_ZT: Mask = np.logical_or.reduce(mask, axis=(2, 3))
    empty = np.argwhere(filled_ZT.any(axis=1, keepdims=True) & ~filled_ZT)
    if len(empty):
        slice_, frame = (int(v) for v in empty[0])
        raise UnsupportedDataError(
            f"frame {frame + 1} of slice {slice_ + 1} has no measured sample at all: remove that frame"
        )
    return None if measured_fraction(drop_empty_slices(mask)) > 0.995 else mask


def _measured_samples(kspace_ZT01: Complex | SeriesKspace) -> Mask:
    """Non-zero samples: whole lines where lines explain the zeros, else sample by sample.

    One slice after the other; empty slices have none.
    """
    samples = np.zeros(kspace_ZT01.shape, np.bool_)
    lines_Z: dict[int, tuple[Mask, Mask]] = {}
    nonzero = claimed = 0
    for z in range(len(kspace_ZT01)):
        magnitude = np.abs(kspace_ZT01[z])
        if not magnitude.any():
            continue
        magnitude /= magnitude.max()
        lines = [np.sqrt((magnitude**2).mean(axis=axis)) for axis in (2, 1)]  # (T, N0), (T, N1)
        floors = [ZERO * line.max() for line in lines]
        lines_Z[z] = lines[0] > floors[0], lines[1] > floors[1]
        samples[z] = magnitude > max(floors)
        by_lines = _crossing(lines_Z[z])
        nonzero, claimed = nonzero + int(samples[z][by_lines].sum()), claimed + int(by_lines.sum())
    if claimed and nonzero / claimed >= 0.95:
        for z, both in lines_Z.items():
            samples[z] = _crossing(both)
    return samples


def _crossing(lines: tuple[Mask, Mask]) -> Mask:
    """Samples (T, 0, 1) at the crossings of lines (T, 0) and lines (T, 1)."""
    both: Mask = lines[0][..., :, None] & lines[1][..., None, :]
    return both


def _build(image: Image, mask_ZT01: Mask, phase_axis: int, origin: str) -> Acquisition:
    mask = mask_ZT01 if phase_axis == 0 else mask_ZT01.swapaxes(2, 3)
    if all((mask_TYX == mask_TYX[..., :1]).all() for mask_TYX in mask):
        mask = mask[..., :1]
    mask = mask.copy()
    geometry = replace(image, array=np.broadcast_to(np.float32(0), image.shape))
    return Acquisition(LazyKspace(SeriesKspace(image), mask, phase_axis), mask, phase_axis, geometry, origin)


def _given_mask(mask: Image, image: Image) -> Mask:
    """Check a mask given by the user and bring it to (Z, T, 0, 1)."""
    values = mask.array if mask.array.ndim == 4 else mask.array[..., None]
    if mask.is_complex or not np.isin(values, (0, 1)).all():
        raise UnsupportedDataError("the mask has values other than 0 and 1: it must say which samples were measured")
    if not values.any():
        raise UnsupportedDataError("the mask is zero everywhere: nothing was measured")
    x, y, z, t = image.shape
    fits = all(m in (1, n) for m, n in zip(values.shape, (x, y, z, t), strict=True))
    if not fits or values.shape[:2] == (1, 1):
        raise UnsupportedDataError(
            f"the mask is {mask.shape}, the series {image.shape}",
            remedy=("give it the axes x, y, z, t, each as long as that of the series or 1",),
        )
    whole: Mask = np.broadcast_to(values.astype(bool), image.shape).transpose(2, 3, 0, 1)
    empty = ~whole.any(axis=(2, 3))
    if empty.any():
        slice_, frame = (int(v) for v in np.argwhere(empty)[0])
        raise UnsupportedDataError(f"the mask measures nothing in frame {frame + 1} of slice {slice_ + 1}")
    if whole.all():
        raise UnsupportedDataError("the mask is one everywhere: everything was measured, nothing is to be filled in")
    return whole


def _require_agreement(kspace_ZT01: SeriesKspace, mask_ZT01: Mask) -> None:
    """Refuse a mask with energy outside it, or with empty lines inside it."""
    readout = 2 - _undersampled_axis(mask_ZT01)  # axis of (T, 0, 1)
    outside = energy = 0.0
    lines, claimed = [], []
    for z, mask_T01 in enumerate(mask_ZT01):
        power = np.abs(kspace_ZT01[z]) ** 2
        outside += float(power[~mask_T01].sum(dtype=np.float64))
        energy += float(power.sum(dtype=np.float64))
        lines.append(np.sqrt(power.mean(axis=readout)))
        claimed.append(mask_T01.any(axis=readout))
    if outside / energy > OUTSIDE:
        share = f"{100 * outside / energy:.3g} %"
        raise UnsupportedDataError(
            f"the mask disagrees with the k-space: {share} of the energy lies where the mask says "
            "that nothing was measured. Is the mask centred (low frequencies in the middle), for these axes and this "
            "scan?"
        )
    hollow = float((np.stack(lines)[np.stack(claimed)] <= ZERO * np.max(lines)).mean())
    if hollow > 0.05:
        raise UnsupportedDataError(
            f"the mask disagrees with the k-space: {100 * hollow:.0f} % of the lines that it calls measured are zero. "
            "Is it the mask of this scan, its frames in the same order?"
        )


def _undersampled_axis(mask_ZT01: Mask) -> int:
    """Array axis (0 or 1) along which, inside the measured region, the mask varies most."""
    region = crop_to_measured(mask_ZT01)
    return int(np.argmax([float(region.mean(axis=other).std()) for other in (3, 2)]))
