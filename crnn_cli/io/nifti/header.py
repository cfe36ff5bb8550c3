"""What a NIfTI file says of its voxels, and the image that is made of them; see `crnn_cli.io.nifti.image`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.imageglobals import LoggingOutputSuppressor

from crnn_cli.data.image import Affine, Array, Image
from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.axes import ordered_affine, ordered_array

STREAM = Path("-")
_TIME_UNITS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
_SPACE_UNITS = {"mm": 1.0, "meter": 1000.0, "micron": 1e-3, "unknown": 1.0}


@dataclass(frozen=True)
class NiftiHeader:
    """What a NIfTI header says, before any voxel is read.

    shape : as stored. kind : numpy dtype of the stored voxels. frame_time : seconds or None. The rest as in `Image`.
    """

    shape: tuple[int, ...]
    kind: str
    frame_time: float | None
    affine: Affine
    codes: tuple[int, int]
    qform: Affine | None
    unitless_frame_step: float
    pixdim: tuple[float, float, float] | None


def placed(array: Array, header: NiftiHeader, axes: str | None, source: Path) -> Image:
    """Return the image of an array as it is stored; see `decode_image`."""
    array = ordered_array(array, axes, name_of(source))
    affine, qform, pixdim = header.affine, header.qform, header.pixdim
    if axes is not None:
        affine, qform, pixdim = ordered_affine(affine, axes), None, None
        header = replace(header, frame_time=header.frame_time if axes.replace(" ", "").endswith(",t") else None)
    timed = array.ndim == 4 and (axes is None or axes.count(",") == 3)
    frame_time, step = (header.frame_time, header.unitless_frame_step) if timed else (None, 0.0)
    return Image(array, affine, frame_time, header.codes, qform=qform, unitless_frame_step=step, pixdim=pixdim)


def parse_header(raw: bytes, source: Path) -> Any:
    """Return the NIfTI image in bytes, its voxels not read yet.

    Raises
    ------
    UnreadableError
        If it is none.
    """
    kinds = {348: nib.Nifti1Image, 540: nib.Nifti2Image}
    size = int.from_bytes(raw[:4], "little")
    kind = kinds.get(size) or kinds.get(int.from_bytes(raw[:4], "big"))
    magic = raw[344:348] if kind is nib.Nifti1Image else raw[4:8]
    if kind is None or magic[:1] != b"n":
        raise UnreadableError(f"{name_of(source)} is not a NIfTI file: it starts with {raw[:12]!r}")
    if magic[:2] == b"ni":
        raise UnreadableError(f"{name_of(source)} is one half of a .hdr/.img pair; convert it to .nii first")
    try:
        with LoggingOutputSuppressor():
            return kind.from_bytes(raw)
    except Exception as error:
        raise UnreadableError(f"{name_of(source)} has a damaged NIfTI header: {line_of(error)}") from None


def header_of(nifti: Any, source: Path) -> NiftiHeader:
    """Return what the header of a NIfTI image says."""
    header = nifti.header
    shape = tuple(int(n) for n in nifti.shape)
    try:
        space, time = header.get_xyzt_units()
    except KeyError:
        units = int(header["xyzt_units"])
        raise UnreadableError(f"{name_of(source)} has a damaged NIfTI header: no units have the code {units}") from None
    zooms = [float(z) for z in header.get_zooms()]
    known = len(zooms) > 3 and time in _TIME_UNITS and 0 < zooms[3] < math.inf
    frame_time = zooms[3] * _TIME_UNITS[time] if known else None
    affine = np.array(nifti.affine, dtype=np.float64)
    affine[:3] *= _SPACE_UNITS[space]
    codes = (int(header["qform_code"]), int(header["sform_code"]))
    if not all(n > 0 for n in shape):
        raise UnsupportedDataError(f"{name_of(source)} has an empty axis: its shape is {shape}")
    qform = None
    if codes[0] > 0 and codes[1] > 0:
        try:
            rotated = np.array(header.get_qform(), dtype=np.float64)
        except ValueError as error:
            raise UnreadableError(f"{name_of(source)} has a damaged NIfTI header: qform: {line_of(error)}") from None
        rotated[:3] *= _SPACE_UNITS[space]
        qform = None if np.allclose(rotated, affine, atol=1e-3) else rotated
    step = zooms[3] if len(zooms) > 3 and not known and 0 < zooms[3] < math.inf else 0.0
    pixdim = _contradicting_voxel_size(affine, zooms, _SPACE_UNITS[space])
    return NiftiHeader(shape, str(nifti.get_data_dtype()), frame_time, affine, codes, qform, step, pixdim)


def _contradicting_voxel_size(affine: Affine, zooms: list[float], unit: float) -> tuple[float, float, float] | None:
    """Return pixdim in mm where the affine's steps are exactly 1 and pixdim's are other sensible lengths."""
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if len(zooms) < 3 or not np.allclose(steps, 1, atol=1e-6):
        return None
    x, y, z = (zoom * unit for zoom in zooms[:3])
    differs = not np.allclose((x, y, z), 1, atol=1e-4)
    return (x, y, z) if differs and all(0.01 <= v <= 100 for v in (x, y, z)) else None


def floating(array: Array, source: Path) -> Array:
    """Return float32 or complex64, refusing values that do not fit into it."""
    wanted = np.complex64 if np.iscomplexobj(array) else np.float32
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(wanted)
    if (np.isinf(converted) & np.isfinite(array)).any():
        raise UnsupportedDataError(
            f"{name_of(source)} has values up to {np.abs(array).max():.3g} after its own scaling (scl_slope), "
            "beyond single precision: the header's slope is wrong, or the data must be rescaled"
        )
    return converted


def name_of(source: Path) -> str:
    """Return what a file is called in messages."""
    return "standard input" if source == STREAM else str(source)


def line_of(error: Exception) -> str:
    """Return what an error says in one line."""
    return " ".join(str(error).split())
