"""NIfTI files and streams to images and back, through nibabel.

x, y, z, t; mm and s; frame time in pixdim[4]; qform and sform codes kept. A magnitude and a phase file make a complex
image. Reading never guesses: what is not a readable NIfTI-1 or NIfTI-2 file is refused with the reason.
"""

from __future__ import annotations

import gzip
import math
import re
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np

from crnn_cli.errors import OutputError, UnreadableError, UnsupportedDataError
from crnn_cli.image import Array, Image
from crnn_cli.io.files import Output, write_together

STREAM = Path("-")
SUFFIXES = (".nii", ".nii.gz")
_GZIP_MAGIC = b"\x1f\x8b"
_TIME_UNITS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
_SPACE_UNITS = {"mm": 1.0, "meter": 1000.0, "micron": 1e-3, "unknown": 1.0}


@dataclass(frozen=True)
class Header:
    """What a NIfTI header says, before any voxel is read.

    shape : as stored. kind : numpy dtype of the stored voxels. frame_time : seconds or None.
    """

    shape: tuple[int, ...]
    kind: str
    spacing: tuple[float, ...]
    frame_time: float | None
    affine: Array
    codes: tuple[int, int]
    description: str


def read_bytes(source: Path, stdin: BinaryIO | None = None) -> bytes:
    """Return the content of a file, or of standard input for ``-``.

    Raises
    ------
    UnreadableError
        If it is missing, a folder, not permitted, or empty.
    """
    if source == STREAM:
        stream = stdin or sys.stdin.buffer
        if stream.isatty():
            raise UnreadableError("standard input is a terminal; pipe a NIfTI file in, or name a file instead of -")
        content = stream.read()
    else:
        try:
            content = source.read_bytes()
        except FileNotFoundError:
            raise UnreadableError(f"{source} does not exist") from None
        except IsADirectoryError:
            raise UnreadableError(f"{source} is a folder; name a NIfTI file in it") from None
        except OSError as error:
            raise UnreadableError(f"{source} cannot be read: {error.strerror}") from None
    if not content:
        raise UnreadableError(f"{_name(source)} is empty (0 bytes)")
    return content


def decode_header(content: bytes, source: Path) -> Header:
    """Return what the header of a NIfTI file says."""
    return _header(_parse(_decompress(content, source), source), source)


def decode_image(content: bytes, source: Path, axes: str | None = None) -> Image:
    """Return the image in the bytes of a NIfTI file.

    Parameters
    ----------
    content : the whole file, gzip-compressed or not; by content, not by suffix.
    source : its name, for messages.
    axes : what the stored axes are, such as ``x,y,t``; None for the standard x,y,z(,t).

    Raises
    ------
    UnreadableError
        If it is not NIfTI, or truncated.
    UnsupportedDataError
        If the voxels are RGB, there are more than four axes, or ``axes`` does not fit.
    """
    raw = _decompress(content, source)
    nifti = _parse(raw, source)
    header = _header(nifti, source)
    if nifti.get_data_dtype().fields is not None:
        raise UnsupportedDataError(f"{_name(source)} holds RGB colours, not measured values")
    try:
        array = np.asanyarray(nifti.dataobj)
    except (OSError, ValueError, EOFError) as error:
        raise UnreadableError(f"{_name(source)} is truncated or damaged: {_line(error)}") from None
    array = _floating(array, source)
    array = _ordered(array, axes, source)
    return Image(array, np.asarray(header.affine, dtype=np.float64), header.frame_time, header.codes)


def read_image(source: Path, axes: str | None = None) -> Image:
    """Read a NIfTI file, or ``-`` for standard input; see `decode_image`."""
    return decode_image(read_bytes(source), source, axes)


def phase_sibling(source: Path) -> Path | None:
    """Return the BIDS phase file (``part-phase``) beside a magnitude file (``part-mag``), if it is there."""
    if "part-mag" not in source.name:
        return None
    sibling = source.with_name(source.name.replace("part-mag", "part-phase"))
    return sibling if sibling.exists() else None


def join_phase(magnitude: Image, phase: Image, name: str) -> Image:
    """Return the complex image of a magnitude and a phase image.

    Phase in radians is taken as it is. Scanner units are recognised by their range: one full turn over
    -4096 ... 4094 or 0 ... 4095 (Siemens), as BIDS writers leave them.

    Raises
    ------
    UnsupportedDataError
        If the shapes differ or the range of the phase is none of these.
    """
    if magnitude.shape != phase.shape:
        raise UnsupportedDataError(f"{name} is {phase.shape}, the magnitude {magnitude.shape}: not one acquisition")
    phase.require_finite(name)
    values = phase.array.real.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if low >= -2 * math.pi - 1e-3 and high <= 2 * math.pi + 1e-3:
        angle = values
    elif -4096 <= low < 0 and high <= 4096:
        angle = values * (math.pi / 4096)
    elif low >= 0 and 2048 <= high <= 4096:
        angle = values * (2 * math.pi / 4096) - math.pi
    else:
        raise UnsupportedDataError(
            f"{name} ranges from {low:g} to {high:g}: neither radians nor scanner units "
            "(-4096..4094, 0..4095); rescale it to radians"
        )
    joined = (magnitude.array * np.exp(1j * angle)).astype(np.complex64)
    return Image(joined, magnitude.affine, magnitude.frame_time, magnitude.codes)


def encode_image(image: Image, target: Path, description: str) -> bytes:
    """Return the bytes of a NIfTI-1 file, gzip-compressed if the name ends in .gz; the same image gives the same bytes.

    Raises
    ------
    OutputError
        If the name ends in neither .nii nor .nii.gz.
    """
    require_nifti_name(target)
    nifti = nib.Nifti1Image(image.array, image.affine)
    _set_codes(nifti, image, image.codes)
    if not np.allclose(nifti.header.get_best_affine(), image.affine, atol=1e-4, rtol=1e-6):
        _set_codes(nifti, image, (1, 1))  # codes of 0 0 would lose the affine
    nifti.header.set_xyzt_units("mm", "sec")
    if image.array.ndim == 4:
        nifti.header["pixdim"][4] = image.frame_time or 0
    nifti.header["descrip"] = description.encode()[:79]
    raw: bytes = nifti.to_bytes()
    return gzip.compress(raw, compresslevel=6, mtime=0) if target.name.endswith(".gz") else raw


def _set_codes(nifti: Any, image: Image, codes: tuple[int, int]) -> None:
    nifti.set_qform(image.affine, code=codes[0], strip_shears=True)
    nifti.set_sform(image.affine, code=codes[1])


def image_output(image: Image, target: Path, description: str) -> Output:
    """Return the NIfTI file of an image, to be re-read and compared with it before it is moved into place."""

    def check(temporary: Path) -> None:
        again = decode_image(temporary.read_bytes(), temporary)
        same = again.shape == image.shape and np.array_equal(again.array, image.array)
        if not same or not np.allclose(again.affine, image.affine, atol=1e-4, rtol=1e-6):
            raise OutputError(f"{target} was not written: what was read back differs from what was to be stored")

    return Output(target, encode_image(image, target, description), check)


def write_image(image: Image, target: Path, description: str) -> None:
    """Write a NIfTI file, whole and checked or not at all."""
    write_together([image_output(image, target, description)])


def write_stream(image: Image, stream: BinaryIO, description: str) -> None:
    """Write an uncompressed NIfTI file to a binary stream."""
    stream.write(encode_image(image, Path("stream.nii"), description))
    stream.flush()


def require_nifti_name(target: Path) -> None:
    """Raise OutputError unless the name ends in .nii or .nii.gz."""
    if not target.name.endswith(SUFFIXES):
        raise OutputError(f"cannot write {target}: the output name must end in .nii or .nii.gz")


def _decompress(content: bytes, source: Path) -> bytes:
    if content[:2] != _GZIP_MAGIC:
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise UnreadableError(f"{_name(source)} is a truncated or damaged gzip file: {_line(error)}") from None


def _parse(raw: bytes, source: Path) -> Any:
    kinds = {348: nib.Nifti1Image, 540: nib.Nifti2Image}
    size = int.from_bytes(raw[:4], "little")
    kind = kinds.get(size) or kinds.get(int.from_bytes(raw[:4], "big"))
    magic = raw[344:348] if kind is nib.Nifti1Image else raw[4:8]
    if kind is None or magic[:1] != b"n":
        raise UnreadableError(f"{_name(source)} is not a NIfTI file: it starts with {raw[:12]!r}")
    if magic[:2] == b"ni":
        raise UnreadableError(f"{_name(source)} is one half of a .hdr/.img pair; convert it to .nii first")
    try:
        return kind.from_bytes(raw)
    except Exception as error:
        raise UnreadableError(f"{_name(source)} has a damaged NIfTI header: {_line(error)}") from None


def _header(nifti: Any, source: Path) -> Header:
    header = nifti.header
    shape = tuple(int(n) for n in nifti.shape)
    try:
        space, time = header.get_xyzt_units()
    except KeyError:
        units = int(header["xyzt_units"])
        raise UnreadableError(f"{_name(source)} has a damaged NIfTI header: no units have the code {units}") from None
    zooms = [float(z) for z in header.get_zooms()]
    known = len(zooms) > 3 and time in _TIME_UNITS and 0 < zooms[3] < math.inf
    frame_time = zooms[3] * _TIME_UNITS[time] if known else None
    affine = np.array(nifti.affine, dtype=np.float64)
    affine[:3] *= _SPACE_UNITS[space]
    codes = (int(header["qform_code"]), int(header["sform_code"]))
    description = re.sub(r"[^\x20-\x7e]", "", bytes(header["descrip"]).split(b"\0")[0].decode("latin-1"))
    spacing = tuple(float(v) for v in np.linalg.norm(affine[:3, :3], axis=0))
    if not all(n > 0 for n in shape):
        raise UnsupportedDataError(f"{_name(source)} has an empty axis: its shape is {shape}")
    return Header(shape, str(nifti.get_data_dtype()), spacing, frame_time, affine, codes, description)


def _floating(array: Array, source: Path) -> Array:
    """Return float32 or complex64, refusing values that do not fit into it."""
    wanted = np.complex64 if np.iscomplexobj(array) else np.float32
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(wanted)
    if (np.isinf(converted) & np.isfinite(array)).any():
        raise UnsupportedDataError(
            f"{_name(source)} has values up to {np.abs(array).max():.3g} after its own scaling (scl_slope), "
            "beyond single precision: the header's slope is wrong, or the data must be rescaled"
        )
    return converted


def _ordered(array: Array, axes: str | None, source: Path) -> Array:
    """Return the array as (x, y, z) or (x, y, z, t)."""
    if axes is None:
        while array.ndim > 4 and array.shape[-1] == 1:
            array = array[..., 0]
        if array.ndim == 5 and array.shape[3] == 1:
            raise UnsupportedDataError(f"{_name(source)} holds vectors (5-D, {array.shape}), not a scan over time")
        if array.ndim > 4:
            raise UnsupportedDataError(f"{_name(source)} has {array.ndim} axes {array.shape}; at most x,y,z,t are read")
        return array.reshape(array.shape + (1,) * (3 - array.ndim)) if array.ndim < 3 else array
    names = [name.strip() for name in axes.split(",")]
    if sorted(names) not in (["t", "x", "y"], ["t", "x", "y", "z"], ["x", "y", "z"]):
        raise UnsupportedDataError(f"--axes {axes} is not understood; write for instance x,y,t or x,y,z,t")
    while array.ndim > len(names) and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != len(names):
        raise UnsupportedDataError(f"--axes {axes} names {len(names)} axes, {_name(source)} has {array.shape}")
    wanted = [name for name in "xyzt" if name in names]
    ordered = array.transpose([names.index(name) for name in wanted])
    return ordered if "z" in names else ordered[:, :, None]


def _name(source: Path) -> str:
    return "standard input" if source == STREAM else str(source)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
