"""Stored arrays with named axes as a `RawScan`: slices of k-space, sampling masks, geometry of the images.

Legend: A average, Z slice, C coil, T frame, Y phase encoding, X readout.

k-space is taken as centred and orthonormal; what clearly is not centred is refused. Images are (x, y, z): x along kx,
y along ky, z along slices or kz. A 3-D scan is fully sampled along its readout kx: after an inverse transform along
it, each position x is a slice of its own with the phase encodings ky and kz.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from crnn_cli.data.acquisition import OUTSIDE, Complex
from crnn_cli.data.image import Image
from crnn_cli.data.raw_scan import RawScan, RawSlice, kspace_to_image_along
from crnn_cli.data.sampling_mask import Mask
from crnn_cli.errors import Param, UnsupportedDataError
from crnn_cli.io.kspace.axis_order import doubt_exchanged
from crnn_cli.io.kspace.checks import has_gaps, measured, require_every_frame, require_kspace
from crnn_cli.io.kspace.choices import NOTHING_CHOSEN, RawChoices
from crnn_cli.io.kspace.convention import rolled_axes, with_kspace_axes, with_object_in_middle
from crnn_cli.io.kspace.stored_array import StoredArray, describe_axes
from crnn_cli.notices import Doubt, Fact, Remark

_INSPECTED = 2**28
"""Bytes of the slice that is checked when a file is opened; of a larger slice, every n-th frame is."""
_IMAGE_AXIS = {"kx": 0, "ky": 1, "slice": 2, "kz": 2}
NO_GEOMETRY = Doubt(
    "no-geometry", "the file says nothing of size and place: voxels of 1 mm and an identity affine are assumed"
)


@dataclass(frozen=True)
class Extent:
    """Size of the images, by the name of the axis; axes that are not named are as encoded, with voxels of 1 mm.

    Attributes
    ----------
    matrix : pixels.
    shown : share of the encoded field of view.
    spacing : mm.
    """

    matrix: dict[str, int] = field(default_factory=dict)
    shown: dict[str, float] = field(default_factory=dict)
    spacing: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Slices:
    """Shape of the grid (Z, C, T, Y, X), the names of Z, Y and X, and how to read one."""

    shape: tuple[int, int, int, int, int]
    axes: tuple[str, str, str]
    read: Callable[[int], RawSlice]


def scan_from_array(
    stored: StoredArray, names: tuple[str, ...], extent: Extent | None = None, mask_TYX: Mask | None = None,
    choice: RawChoices = NOTHING_CHOSEN,
) -> RawScan:  # fmt: skip
    """Make a scan of a stored array; one slice of it is read and checked.

    Parameters
    ----------
    names : one per stored axis, from `crnn_cli.io.kspace.stored_array.NAMES` or "-".
    extent : size of the images; None where the file does not state it.
    mask_TYX : sampling mask from the file, boolean, each axis 1 or as long as the array's; None to find it from zeros.
    choice : what the file leaves open.

    Raises
    ------
    UnsupportedDataError
        If the array is all zeros, the energy contradicts the names, it holds images, coils were sampled differently, a
        frame is empty, or a 3-D scan is in several slices or undersampled along its readout.
    """
    names = tuple(
        "-" if n == 1 and name in ("kz", "z", "average") else name
        for name, n in zip(names, stored.shape, strict=True)
    )  # fmt: skip
    if choice.kind == "image":
        names = tuple(name[1:] if name in ("kx", "ky", "kz") else name for name in names)
    stored, names = with_kspace_axes(stored, names)
    sizes = dict(zip(names, stored.shape, strict=True))
    if sizes.get("kz", 1) > 1:
        return _volume(stored, names, sizes, extent or Extent(), choice)
    inspected, remarks = _inspected(stored, names, sizes)
    axes = ("coil", "t", "ky", "kx")
    require_kspace(inspected, axes, stored.title, describe_axes(names, stored.shape), choice.kind == "kspace")
    stored = with_object_in_middle(stored, names, rolled_axes(inspected, axes))
    remarks += [*stored.remarks, *doubt_exchanged(inspected)]
    plane = ("ky", "kx")
    if _along_readout(measured(inspected)):
        plane = ("kx", "ky")
        text = "lines are missing along kx, none along ky: kx was taken as the phase encoding, ky as the readout"
        remarks.append(Doubt("readout-along-ky", text))
        mask_TYX = None if mask_TYX is None else mask_TYX.swapaxes(1, 2)

    def read(z: int) -> RawSlice:
        kspace = _slice(stored, names, z, plane)
        mask = measured(kspace)
        if mask_TYX is not None:
            mask = _agreeing(kspace, mask, mask_TYX, f"{stored.title}, slice {z + 1}")
        if kept is not None:
            kspace, mask = np.ascontiguousarray(kspace[:, kept]), mask[kept]
        require_every_frame(mask, f"{stored.title}, slice {z + 1}")
        kspace *= mask  # its own memory
        return RawSlice(kspace, mask)

    frames, kept = sizes.get("t", 1), None
    if choice.drop_empty:
        full = _full_frames(stored, names, sizes.get("slice", 1))
        frames, kept = int(full.sum()), None if full.all() else full
        remarks += _left_out(full, stored.title)
    shape = (sizes.get("slice", 1), sizes.get("coil", 1), frames, sizes[plane[0]], sizes[plane[1]])
    return _scan(stored, names, _Slices(shape, ("slice", *plane), read), extent or Extent(), remarks)


def _full_frames(stored: StoredArray, names: tuple[str, ...], slices: int) -> Mask:
    """Mask of the frames that every slice has samples of, of the slices that are not empty; all slices are read."""
    there = [_slice(stored, names, z, ("ky", "kx")).any(axis=(0, 2, 3)) for z in range(slices)]
    full: Mask = np.logical_and.reduce([frames for frames in there if frames.any()], axis=0)
    return full


def _left_out(full_T: Mask, title: str) -> list[Remark]:
    """Doubt about frames that were left out; UnsupportedDataError where none is left."""
    empty = np.flatnonzero(~full_T)
    text = f"{len(empty)} of {len(full_T)} frames have no sample in some slice"
    if len(empty) == len(full_T):
        raise UnsupportedDataError(f"{title}: {text}: no frame is left")
    numbers = ", ".join(str(t + 1) for t in empty[:12])
    return [Doubt("empty-frames", f"{text} and were left out: {numbers}")] if len(empty) else []


def _along_readout(mask_TYX: Mask) -> bool:
    """Whether lines are missing along X and none along Y."""
    return has_gaps(np.logical_or.reduce(mask_TYX, (0, 1))) and not has_gaps(np.logical_or.reduce(mask_TYX, (0, 2)))


def _inspected(stored: StoredArray, names: tuple[str, ...], sizes: dict[str, int]) -> tuple[Complex, list[Remark]]:
    """Slice nearest to the middle that is not empty, (C, T, Y, X), and remarks on it."""
    slices = sizes.get("slice", 1)
    size = 8 * math.prod(stored.shape) // slices
    step = min(sizes.get("t", 1), -(-size // _INSPECTED))
    for z in sorted(range(slices), key=lambda z: abs(z - slices // 2)):
        kspace = _slice(stored, names, z, ("ky", "kx"), step)
        if kspace.any():
            return kspace, _dead_coils(kspace, f"slice {z + 1}" if slices > 1 else "the scan")
    raise UnsupportedDataError(f"{stored.title} is zero everywhere: there is nothing to reconstruct")


def _dead_coils(kspace_CTYX: Complex, where: str) -> list[Remark]:
    dead = np.flatnonzero(~kspace_CTYX.any(axis=(1, 2, 3)))
    text = f"of {len(kspace_CTYX)} coils, number {', '.join(map(str, dead))} (from 0) holds only zeros in {where}"
    return [Doubt("dead-coil", text)] if len(dead) else []


def _slice(stored: StoredArray, names: tuple[str, ...], z: int, plane: tuple[str, ...], step: int = 1) -> Complex:
    """K-space of slice z, (C, T) and the axes of the plane, averaged; of the frames, every ``step``-th."""
    pick: dict[str, int | slice] = {"slice": z, "-": 0, "t": slice(None, None, step)}
    values = stored.part(tuple(pick.get(name, slice(None)) for name in names))
    present = [name for name in names if name not in ("slice", "-")]
    order = [name for name in ("average", "coil", "t", *plane) if name in present]
    values = values.transpose([present.index(name) for name in order])
    for axis, name in enumerate(("average", "coil", "t")):
        if name not in present:
            values = np.expand_dims(values, axis)
    return np.ascontiguousarray(_mean(values))


def _mean(kspace_ACTYX: Complex) -> Complex:
    """Mean over the averages, each sample over those that measured it."""
    if len(kspace_ACTYX) == 1:
        only: Complex = kspace_ACTYX[0]
        return only
    count = kspace_ACTYX.any(axis=1).sum(axis=0)
    mean: Complex = (kspace_ACTYX.sum(axis=0) / np.maximum(1, count)).astype(np.complex64)
    return mean


def _agreeing(kspace_CTYX: Complex, nonzero_TYX: Mask, given_TYX: Mask, title: str) -> Mask:
    """Intersection of the given mask with the samples that are not zero.

    Raises
    ------
    UnsupportedDataError
        If energy lies where the mask says that nothing was measured.
    """
    power = np.abs(kspace_CTYX).astype(np.float64) ** 2
    outside = float((power * ~given_TYX).sum()) / (float(power.sum()) or 1.0)
    if outside > OUTSIDE:
        raise UnsupportedDataError(
            f"{title}: the mask in the file disagrees with its k-space: {100 * outside:.3g} % of the energy lies where "
            "it says that nothing was measured"
        )
    mask: Mask = nonzero_TYX & given_TYX
    return mask


def _volume(
    stored: StoredArray, names: tuple[str, ...], sizes: dict[str, int], extent: Extent, choice: RawChoices
) -> RawScan:
    """Scan of a 3-D encoding, read whole: its slices are positions along the readout kx."""
    if sizes.get("slice", 1) > 1:
        raise UnsupportedDataError(
            f"{stored.title}: a 3-D scan (kz) of several slabs (slice {sizes['slice']}): store and reconstruct a slab "
            "at a time"
        )
    order = ("kx", "ky", "kz")
    kspace_CTXYZ = _slice(stored, names, 0, order)
    if not kspace_CTXYZ.any():
        raise UnsupportedDataError(f"{stored.title} is zero everywhere: there is nothing to reconstruct")
    axes = ("coil", "t", *order)
    require_kspace(kspace_CTXYZ, axes, stored.title, describe_axes(names, stored.shape), choice.kind == "kspace")
    rolled = with_object_in_middle(stored, names, rolled_axes(kspace_CTXYZ, axes))
    if rolled is not stored:
        stored, kspace_CTXYZ = rolled, _slice(rolled, names, 0, order)
    left_out: list[Remark] = []
    if choice.drop_empty:
        full = np.logical_or.reduce(kspace_CTXYZ, axis=(0, 2, 3, 4)) != 0
        left_out = _left_out(full, stored.title)
        kspace_CTXYZ = kspace_CTXYZ[:, full]
    mask_TYX = _volume_mask(kspace_CTXYZ, stored.title)
    images = kspace_to_image_along(kspace_CTXYZ, 2)

    def read(z: int) -> RawSlice:
        return RawSlice(np.ascontiguousarray(images[:, :, z]) * mask_TYX, mask_TYX)

    whole = "a 3-D scan: transformed along its fully sampled readout kx, its positions x are the slices; read whole"
    remarks = [
        *stored.remarks,
        *left_out,
        *_dead_coils(kspace_CTXYZ.reshape(*kspace_CTXYZ.shape[:2], -1, 1), "the scan"),
        Fact("three-dimensional", whole),
    ]
    coils, frames, x, y, z = kspace_CTXYZ.shape
    return _scan(stored, names, _Slices((x, coils, frames, y, z), order, read), extent, remarks)


def _volume_mask(kspace_CTXYZ: Complex, title: str) -> Mask:
    """Mask of the measured readouts, (T, ky, kz).

    Raises
    ------
    UnsupportedDataError
        If readouts have gaps that the others do not share, or a frame has none.
    """
    coils, frames, samples, lines, partitions = kspace_CTXYZ.shape
    readouts = kspace_CTXYZ.transpose(0, 1, 3, 4, 2).reshape(coils, frames, lines * partitions, samples)
    mask = measured(readouts)
    ever = np.logical_or.reduce(mask, (0, 1))
    if has_gaps(ever) or not (mask == (mask.any(axis=2, keepdims=True) & ever)).all():
        raise UnsupportedDataError(
            f"{title}: this 3-D scan is undersampled along kx too; kx must be the fully sampled readout",
            remedy=("name the axis of the readout kx in ", Param("axes")),
        )
    require_every_frame(mask, title)
    whole: Mask = mask.any(axis=2).reshape(frames, lines, partitions)
    return np.ascontiguousarray(whole[..., :1] if (whole == whole[..., :1]).all() else whole)


def _scan(
    stored: StoredArray, names: tuple[str, ...], slices: _Slices, extent: Extent, remarks: list[Remark]
) -> RawScan:
    """Scan with the geometry of its images."""
    matrix, spacing = [1, 1, 1], [1.0, 1.0, 1.0]
    image_axes = [_IMAGE_AXIS[name] for name in slices.axes]
    encoded = (slices.shape[0], *slices.shape[3:])
    for name, axis, n in zip(slices.axes, image_axes, encoded, strict=True):
        matrix[axis] = extent.matrix.get(name, n)
        spacing[axis] = extent.spacing.get(name, 1.0)
    zeros = np.broadcast_to(np.float32(0), (*matrix, slices.shape[2]))
    _, y, x = slices.axes
    return RawScan(
        format=stored.format,
        stored=f"{stored.name + ': ' if stored.name else ''}{describe_axes(names, stored.shape)}",
        shape_ZCTYX=slices.shape,
        geometry=Image(zeros, np.diag([*spacing, 1.0]), codes=(0, 0)),
        axes_ZYX=(image_axes[0], image_axes[1], image_axes[2]),
        read=slices.read,
        fov_fraction_YX=(extent.shown.get(y, 1.0), extent.shown.get(x, 1.0)),
        remarks=(
            *remarks,
            *([Fact("averaged", "averages were taken as their mean, sample by sample")] if "average" in names else []),
            *([] if extent.spacing else [NO_GEOMETRY]),
        ),
    )
