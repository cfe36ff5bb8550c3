"""NIfTI files and streams to images and back, through nibabel.

x, y, z, t; mm and s; frame time in pixdim[4]; qform and sform and their codes kept. Reading never guesses: what is not
a readable NIfTI-1 or NIfTI-2 file is refused with the reason.
"""

from __future__ import annotations

import gzip
import math
import sys
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from nibabel.imageglobals import LoggingOutputSuppressor

from crnn_cli.errors import OutputError, UnreadableError, UnsupportedDataError, UsageError
from crnn_cli.image import Affine, Array, Image
from crnn_cli.io.axes import ordered_affine, ordered_array
from crnn_cli.io.files import Output, write_together

STREAM = Path("-")
SUFFIXES = (".nii", ".nii.gz")
_GZIP_MAGIC = b"\x1f\x8b"
_TIME_UNITS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
_SPACE_UNITS = {"mm": 1.0, "meter": 1000.0, "micron": 1e-3, "unknown": 1.0}


@dataclass(frozen=True)
class Header:
    """What a NIfTI header says, before any voxel is read.

    shape : as stored. kind : numpy dtype of the stored voxels. frame_time : seconds or None. The rest as in `Image`.
    """

    shape: tuple[int, ...]
    kind: str
    frame_time: float | None
    affine: Affine
    codes: tuple[int, int]
    qform: Affine | None
    unnamed_step: float
    pixdim: tuple[float, float, float] | None


def require_readable(source: Path) -> None:
    """Raise UnreadableError if a file is missing, a folder, or not permitted; a stream is not looked at."""
    if source == STREAM:
        return
    try:
        with source.open("rb"):
            pass
    except FileNotFoundError:
        raise UnreadableError(f"{source} does not exist") from None
    except IsADirectoryError:
        raise UnreadableError(f"{source} is a folder; name a NIfTI file in it") from None
    except OSError as error:
        raise UnreadableError(f"{source} cannot be read: {error.strerror}") from None


def read_bytes(source: Path, stdin: BinaryIO | None = None) -> bytes:
    """Return the content of a file, or of standard input for ``-``.

    Raises
    ------
    UnreadableError
        If it is missing, a folder, not permitted, or empty.
    """
    if source == STREAM:
        stream = stdin or (sys.stdin.buffer if sys.stdin else None)
        if stream is None:
            raise UnreadableError("standard input is closed; pipe a NIfTI file in, or name a file instead of -")
        if stream.isatty():
            raise UnreadableError("standard input is a terminal; pipe a NIfTI file in, or name a file instead of -")
        content = stream.read()
    else:
        require_readable(source)
        content = source.read_bytes()
    if not content:
        raise UnreadableError(f"{_name(source)} is empty (0 bytes)")
    return content


def decode_header(content: bytes, source: Path) -> Header:
    """Return what the header of a NIfTI file says."""
    return _header(_parse(decompressed(content, source), source), source)


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
    raw = decompressed(content, source)
    nifti = _parse(raw, source)
    header = _header(nifti, source)
    needed = int(nifti.dataobj.offset) + math.prod(header.shape) * nifti.get_data_dtype().itemsize
    if needed > len(raw):
        raise UnreadableError(
            f"{_name(source)} is truncated: its header promises {needed} bytes, the file has {len(raw)}"
        )
    if nifti.get_data_dtype().fields is not None:
        raise UnsupportedDataError(f"{_name(source)} holds RGB colours, not measured values")
    try:
        array = np.asanyarray(nifti.dataobj)
    except (OSError, ValueError, EOFError) as error:
        raise UnreadableError(f"{_name(source)} is truncated or damaged: {_line(error)}") from None
    array = _floating(array, source)
    array = ordered_array(array, axes, _name(source))
    affine, qform, pixdim = header.affine, header.qform, header.pixdim
    if axes is not None:
        affine, qform, pixdim = ordered_affine(affine, axes), None, None
        header = replace(header, frame_time=header.frame_time if axes.replace(" ", "").endswith(",t") else None)
    timed = array.ndim == 4 and (axes is None or axes.count(",") == 3)
    frame_time, step = (header.frame_time, header.unnamed_step) if timed else (None, 0.0)
    return Image(array, affine, frame_time, header.codes, qform, step, pixdim)


def read_image(source: Path, axes: str | None = None) -> Image:
    """Read a NIfTI file, or ``-`` for standard input; see `decode_image`."""
    return decode_image(read_bytes(source), source, axes)


def encode_image(image: Image, target: Path, description: str, intent: str = "none") -> bytes:
    """Return the bytes of a NIfTI-1 file, gzip-compressed if the name ends in .gz; the same image gives the same bytes.

    Raises
    ------
    UsageError
        If the name ends in neither .nii nor .nii.gz.
    """
    require_nifti_name(target)
    nifti = nib.Nifti1Image(image.array, image.affine)
    _set_codes(nifti, image, image.codes)
    if not np.allclose(nifti.header.get_best_affine(), image.affine, atol=1e-4, rtol=1e-6):
        _set_codes(nifti, image, (1, 1))  # codes of 0 0 would lose the affine
    if image.pixdim is not None:
        nifti.header["pixdim"][1:4] = image.pixdim
    nifti.header.set_xyzt_units("mm", "sec" if image.frame_time or not image.unnamed_step else "unknown")
    if image.array.ndim == 4:
        nifti.header["pixdim"][4] = image.frame_time or image.unnamed_step
    nifti.header["descrip"] = description.encode()[:79]
    nifti.header.set_intent(intent)
    raw: bytes = nifti.to_bytes()
    return gzip.compress(raw, compresslevel=6, mtime=0) if target.name.endswith(".gz") else raw


def _set_codes(nifti: Any, image: Image, codes: tuple[int, int]) -> None:
    nifti.set_sform(image.affine, code=codes[1])
    nifti.set_qform(image.affine if image.qform is None else image.qform, code=codes[0], strip_shears=True)


def image_output(image: Image, target: Path, description: str, intent: str = "none") -> Output:
    """Return the NIfTI file of an image, to be re-read and compared with it before it is moved into place.

    Parameters
    ----------
    intent : a NIfTI intent, such as ``label``.
    """

    def check(temporary: Path) -> None:
        again = decode_image(temporary.read_bytes(), temporary)
        same = again.shape == image.shape and np.array_equal(again.array, image.array)
        if not same or not np.allclose(again.affine, image.affine, atol=1e-4, rtol=1e-6):
            raise OutputError(f"{target} was not written: what was read back differs from what was to be stored")

    return Output(target, encode_image(image, target, description, intent), check)


def write_image(image: Image, target: Path, description: str) -> None:
    """Write a NIfTI file, whole and checked or not at all."""
    write_together([image_output(image, target, description)])


def write_stream(image: Image, stream: BinaryIO, description: str, intent: str = "none") -> None:
    """Write an uncompressed NIfTI file to a binary stream."""
    stream.write(encode_image(image, Path("stream.nii"), description, intent))
    stream.flush()


def require_nifti_name(target: Path) -> None:
    """Raise UsageError unless the name ends in .nii or .nii.gz."""
    if not target.name.endswith(SUFFIXES):
        raise UsageError(f"cannot write {target}: the output name must end in .nii or .nii.gz")


def decompressed(content: bytes, source: Path) -> bytes:
    """Return the content of a file without gzip; what is not compressed is returned as it is."""
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
        with LoggingOutputSuppressor():
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
    if not all(n > 0 for n in shape):
        raise UnsupportedDataError(f"{_name(source)} has an empty axis: its shape is {shape}")
    qform = None
    if codes[0] > 0 and codes[1] > 0:
        try:
            rotated = np.array(header.get_qform(), dtype=np.float64)
        except ValueError as error:
            raise UnreadableError(f"{_name(source)} has a damaged NIfTI header: qform: {_line(error)}") from None
        rotated[:3] *= _SPACE_UNITS[space]
        qform = None if np.allclose(rotated, affine, atol=1e-3) else rotated
    step = zooms[3] if len(zooms) > 3 and not known and 0 < zooms[3] < math.inf else 0.0
    pixdim = _contradicting_voxel_size(affine, zooms, _SPACE_UNITS[space])
    return Header(shape, str(nifti.get_data_dtype()), frame_time, affine, codes, qform, step, pixdim)


def _contradicting_voxel_size(affine: Affine, zooms: list[float], unit: float) -> tuple[float, float, float] | None:
    """Return pixdim in mm where the affine's steps are exactly 1 and pixdim's are other sensible lengths."""
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if len(zooms) < 3 or not np.allclose(steps, 1, atol=1e-6):
        return None
    x, y, z = (zoom * unit for zoom in zooms[:3])
    differs = not np.allclose((x, y, z), 1, atol=1e-4)
    return (x, y, z) if differs and all(0.01 <= v <= 100 for v in (x, y, z)) else None


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


def _name(source: Path) -> str:
    return "standard input" if source == STREAM else str(source)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
