"""NIfTI files and streams to images and back, through nibabel.

x, y, z, t; mm and s; frame time in pixdim[4]; qform and sform and their codes kept. Reading never guesses: what is not
a readable NIfTI-1 or NIfTI-2 file is refused with the reason.
"""

from __future__ import annotations

import gzip
import math
import sys
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np

from crnn_cli.data.image import Array, Image
from crnn_cli.data.mapped_arrays import is_large
from crnn_cli.errors import OutputError, UnreadableError, UnsupportedDataError, UsageError
from crnn_cli.io.atomic_write import Output, write_together
from crnn_cli.io.nifti.header import STREAM, NiftiHeader, floating, header_of, line_of, name_of, parse_header, placed
from crnn_cli.io.nifti.streaming import encode_large, read_large, same_values

SUFFIXES = (".nii", ".nii.gz")
_GZIP_MAGIC = b"\x1f\x8b"


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
        raise UnreadableError(f"{name_of(source)} is empty (0 bytes)")
    return content


def decode_header(content: bytes, source: Path) -> NiftiHeader:
    """Return what the header of a NIfTI file says."""
    return header_of(parse_header(decompressed(content, source), source), source)


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
    nifti = parse_header(raw, source)
    header = header_of(nifti, source)
    needed = int(nifti.dataobj.offset) + math.prod(header.shape) * nifti.get_data_dtype().itemsize
    if needed > len(raw):
        raise UnreadableError(
            f"{name_of(source)} is truncated: its header promises {needed} bytes, the file has {len(raw)}"
        )
    if nifti.get_data_dtype().fields is not None:
        raise UnsupportedDataError(f"{name_of(source)} holds RGB colours, not measured values")
    try:
        array = np.asanyarray(nifti.dataobj)
    except (OSError, ValueError, EOFError) as error:
        raise UnreadableError(f"{name_of(source)} is truncated or damaged: {line_of(error)}") from None
    return placed(floating(array, source), header, axes, source)


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
    raw: bytes = as_nifti(image, image.array, description, intent).to_bytes()
    return gzip.compress(raw, compresslevel=6, mtime=0) if target.name.endswith(".gz") else raw


def as_nifti(image: Image, array: Array, description: str, intent: str) -> Any:
    """Return an array as NIfTI-1 with the geometry of an image."""
    nifti = nib.Nifti1Image(array, image.affine)
    _set_codes(nifti, image, image.codes)
    if not np.allclose(nifti.header.get_best_affine(), image.affine, atol=1e-4, rtol=1e-6):
        _set_codes(nifti, image, (1, 1))  # codes of 0 0 would lose the affine
    if image.pixdim is not None:
        nifti.header["pixdim"][1:4] = image.pixdim
    nifti.header.set_xyzt_units("mm", "sec" if image.frame_time or not image.unitless_frame_step else "unknown")
    if image.array.ndim == 4:
        nifti.header["pixdim"][4] = image.frame_time or image.unitless_frame_step
    nifti.header["descrip"] = description.encode()[:79]
    nifti.header.set_intent(intent)
    return nifti


def _set_codes(nifti: Any, image: Image, codes: tuple[int, int]) -> None:
    nifti.set_sform(image.affine, code=codes[1])
    nifti.set_qform(image.affine if image.qform is None else image.qform, code=codes[0], strip_shears=True)


def image_output(image: Image, target: Path, description: str, intent: str = "none") -> Output:
    """Return the NIfTI file of an image, to be re-read and compared with it before it is moved into place.

    Parameters
    ----------
    intent : a NIfTI intent, such as ``label``.
    """
    large = is_large(image.shape, image.array.dtype)

    def check(temporary: Path) -> None:
        found = read_large(temporary) if large else None
        again = found[0] if found else decode_image(temporary.read_bytes(), temporary)
        same = same_values(again.array, image.array)
        if not same or not np.allclose(again.affine, image.affine, atol=1e-4, rtol=1e-6):
            raise OutputError(f"{target} was not written: what was read back differs from what was to be stored")

    if not large:
        return Output(target, encode_image(image, target, description, intent), check)
    require_nifti_name(target)
    one = np.zeros((1,) * image.array.ndim, image.array.dtype)
    head: bytes = as_nifti(image, one, description, intent).to_bytes()
    return Output(target, encode_large(head, image.array, target.name.endswith(".gz")), check)


def write_image(image: Image, target: Path, description: str) -> None:
    """Write a NIfTI file, whole and checked or not at all."""
    write_together([image_output(image, target, description)])


def write_stream(image: Image, stream: BinaryIO, description: str, intent: str = "none") -> None:
    """Write an uncompressed NIfTI file to a binary stream."""
    for chunk in image_output(image, Path("stream.nii"), description, intent).chunks():
        stream.write(chunk)
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
        raise UnreadableError(f"{name_of(source)} is a truncated or damaged gzip file: {line_of(error)}") from None
