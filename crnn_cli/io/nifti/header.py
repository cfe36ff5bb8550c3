"""The header of a NIfTI file: shape, affine, units, codes; see `crnn_cli.io.nifti.image` for the whole.

NIfTI-1 has 348 bytes of header, NIfTI-2 540. Used are dim, pixdim, xyzt_units (lengths to mm, times to s), qform and
sform with their codes, and intent_code. Affines map voxel indices to RAS+ mm, as NIfTI defines them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from crnn_cli.data.image import Affine, Array, Image
from crnn_cli.errors import Param, UnreadableError, UnsupportedDataError
from crnn_cli.io.axes import ordered_affine, ordered_array, space_of_axes
from crnn_cli.io.nifti.label_names import names_in, origin_in
from crnn_cli.io.nifti.position import place_of, silence_nibabel, with_unit_quaternion
from crnn_cli.io.signature import looks_like
from crnn_cli.labels.label_origin import LabelOrigin
from crnn_cli.labels.names import Label
from crnn_cli.notices import STREAM, Remark

_TIME_UNITS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
_SIZES_OF_NIFTI_2 = ((540).to_bytes(4, "little"), (540).to_bytes(4, "big"))
_SPACE_UNITS = {"mm": 1.0, "meter": 1000.0, "micron": 1e-3, "unknown": 1.0}


@dataclass(frozen=True)
class NiftiHeader:
    """Facts of a NIfTI header, before any voxel is read.

    Attributes
    ----------
    shape : as stored.
    dtype : numpy dtype of the stored voxels.
    frame_time : pixdim[4] in s; None if it has no unit of time, or is 0.
    affine : voxel indices to RAS+ mm, from the sform where its code is set, else from the qform or pixdim.
    codes : qform_code and sform_code.
    qform : where both codes are set and the qform differs from the affine; else None.
    unnamed_step : pixdim[4] without a unit of time, 0 if there is none.
    pixdim : voxel size in mm that contradicts an affine with steps of exactly 1; None where it does not.
    remarks : what is doubtful about the position.
    unknown_spacing : axes whose spacing it does not give.
    scale : slope and intercept that the stored values are multiplied by and shifted.
    labels, origin : names of labels that the file holds, and who made them; see `crnn_cli.io.nifti.label_names`.
    """

    shape: tuple[int, ...]
    dtype: str
    frame_time: float | None
    affine: Affine
    codes: tuple[int, int]
    qform: Affine | None
    unitless_frame_step: float
    pixdim: tuple[float, float, float] | None
    remarks: tuple[Remark, ...] = ()
    labels: tuple[Label, ...] = ()
    origin: LabelOrigin | None = None
    scale: tuple[float, float] = (1.0, 0.0)
    unknown_spacing: tuple[int, ...] = ()


def _other_format(raw: bytes, source: Path) -> UnreadableError:
    """Error of bytes that are no NIfTI; of standard input, whose format no reader has looked at, with its name."""
    if source != STREAM:
        return UnreadableError(f"{name_of(source)} is not a NIfTI file: it starts with {raw[:12]!r}")
    remedy: tuple[str | Param, ...] = ("name the file instead of -, which is for NIfTI",)
    if raw.startswith(b"\x03\0") and b"ismrmrdHeader" in raw[:4096]:
        remedy = ("give it to crnn reconstruct - with ", Param("stream"))
    return UnreadableError(f"{name_of(source)} is not a NIfTI file: it {looks_like(raw[:12])}", remedy=remedy)


def image_from_stored(array: Array, header: NiftiHeader, axes: str | None, source: Path) -> Image:
    """Give a stored array the geometry of its header, its axes in the order x, y, z, t.

    Parameters
    ----------
    axes : names of the stored axes; None for x,y,z(,t).
    source : name of the file, for messages.

    Raises
    ------
    UsageError, UnsupportedDataError
        If ``axes`` make no sense, or the array has other axes.
    """
    array = ordered_array(array, axes, name_of(source))
    affine, qform, pixdim, unknown = header.affine, header.qform, header.pixdim, header.unknown_spacing
    if axes is not None:
        affine, qform, pixdim = ordered_affine(affine, axes), None, None
        unknown = tuple(sorted(space_of_axes(axes)[axis] for axis in unknown))
        header = replace(header, frame_time=header.frame_time if axes.replace(" ", "").endswith(",t") else None)
    timed = array.ndim == 4 and (axes is None or axes.count(",") == 3)
    frame_time, step = (header.frame_time, header.unitless_frame_step) if timed else (None, 0.0)
    return Image(
        array,
        affine,
        frame_time,
        header.codes,
        qform=qform,
        unitless_frame_step=step,
        pixdim=pixdim,
        unknown_spacing=unknown,
    )


def parse_header(raw: bytes, source: Path) -> Any:
    """Parse the bytes of a file, not compressed, to a nibabel image whose voxels are not read yet.

    Raises
    ------
    UnreadableError
        If it is neither NIfTI-1 nor NIfTI-2, half of a .hdr/.img pair, or has a damaged header.
    """
    classes = {348: nib.Nifti1Image, 540: nib.Nifti2Image}
    size = int.from_bytes(raw[:4], "little")
    image_class = classes.get(size) or classes.get(int.from_bytes(raw[:4], "big"))
    magic = raw[344:348] if image_class is nib.Nifti1Image else raw[4:8]
    if image_class is None or magic[:1] != b"n":
        raise _other_format(raw, source)
    if magic[:2] == b"ni":
        raise UnreadableError(f"{name_of(source)} is one half of a .hdr/.img pair; convert it to .nii first")
    try:
        with silence_nibabel():
            return with_unit_quaternion(image_class, raw)
    except Exception as error:
        raise UnreadableError(f"{name_of(source)} has a damaged NIfTI header: {line_of(error)}") from None


def promised_bytes(raw: bytes) -> int:
    """Bytes that a file has, not compressed, by its header; 0 where the header cannot be parsed.

    Parameters
    ----------
    raw : the file, or its beginning.
    """
    kind: Any = nib.Nifti2Header if raw[:4] in _SIZES_OF_NIFTI_2 else nib.Nifti1Header
    try:
        with silence_nibabel():
            header = kind(raw[: kind.sizeof_hdr], check=False)
            shape = [int(n) for n in header.get_data_shape()]
            voxel = int(header.get_data_dtype().itemsize)
            return max(0, int(header["vox_offset"]) + math.prod(shape) * voxel)
    except Exception:  # damaged in any way: `parse_header` says how
        return 0


def header_of(nifti: Any, source: Path) -> NiftiHeader:
    """Extract the facts of a nibabel image's header, lengths in mm and times in s.

    Raises
    ------
    UnreadableError
        If the units have an unknown code.
    UnsupportedDataError
        If an axis is empty.
    """
    header = nifti.header
    shape = tuple(int(n) for n in nifti.shape)
    try:
        space, time = header.get_xyzt_units()
    except KeyError:
        units = int(header["xyzt_units"])
        raise UnreadableError(f"{name_of(source)} has a damaged NIfTI header: no units have the code {units}") from None
    if not all(n > 0 for n in shape):
        raise UnsupportedDataError(f"{name_of(source)} has an empty axis: its shape is {shape}")
    zooms = [float(z) for z in header.get_zooms()]
    known = len(zooms) > 3 and time in _TIME_UNITS and 0 < zooms[3] < math.inf
    frame_time = zooms[3] * _TIME_UNITS[time] if known else None
    placed = place_of(nifti, _SPACE_UNITS[space])
    step = zooms[3] if len(zooms) > 3 and not known and 0 < zooms[3] < math.inf else 0.0
    pixdim = _contradicting_voxel_size(placed.affine, zooms, _SPACE_UNITS[space])
    dtype = str(nifti.get_data_dtype())
    return NiftiHeader(
        shape, dtype, frame_time, placed.affine, placed.codes, placed.qform, step, pixdim, placed.remarks,
        names_in(header.extensions), origin_in(header.extensions), scale_of(nifti), placed.unknown_spacing,
    )  # fmt: skip


def _contradicting_voxel_size(affine: Affine, zooms: list[float], unit: float) -> tuple[float, float, float] | None:
    """Pixdim in mm where the affine's steps are exactly 1 and pixdim's are other sensible lengths."""
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if len(zooms) < 3 or not np.allclose(steps, 1, atol=1e-6):
        return None
    x, y, z = (zoom * unit for zoom in zooms[:3])
    differs = not np.allclose((x, y, z), 1, atol=1e-4)
    return (x, y, z) if differs and all(0.01 <= v <= 100 for v in (x, y, z)) else None


def to_single_precision(array: Array, source: Path) -> Array:
    """Convert to float32 or complex64.

    Raises
    ------
    UnsupportedDataError
        If a finite value becomes infinite.
    """
    wanted = np.complex64 if np.iscomplexobj(array) else np.float32
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(wanted)
    if (np.isinf(converted) & np.isfinite(array)).any():
        raise UnsupportedDataError(
            f"{name_of(source)} has values up to {np.abs(array).max():.3g} after its own scaling (scl_slope), "
            "beyond single precision: the header's slope is wrong, or the data must be rescaled"
        )
    return converted


def in_own_precision(array: Array, scaled: bool) -> Array:
    """Convert to a type that NIfTI has and that holds every value exactly, in the byte order of this machine.

    Parameters
    ----------
    array : as nibabel reads it: of the stored type, or float64 where it was ``scaled`` by scl_slope.

    Returns
    -------
    Of the stored type; scaled values as float32 where that holds them, else as float64.
    """
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind in "fc" and array.dtype.itemsize > (8 if array.dtype.kind == "f" else 16):
        array = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)  # long double
    if scaled and array.dtype == np.float64:
        with np.errstate(over="ignore"):
            single = array.astype(np.float32)
        return single if np.array_equal(single, array, equal_nan=True) else array
    return array


def is_scaled(nifti: Any) -> bool:
    """Whether stored values are multiplied or shifted to give the measured ones."""
    return scale_of(nifti) != (1.0, 0.0)


def scale_of(nifti: Any) -> tuple[float, float]:
    """Slope and intercept by which stored values become the measured ones."""
    return float(nifti.dataobj.slope), float(nifti.dataobj.inter)


def name_of(source: Path) -> str:
    """Name of a file in messages."""
    return "standard input" if source == STREAM else str(source)


def line_of(error: Exception) -> str:
    """Message of an error on one line."""
    return " ".join(str(error).split())
