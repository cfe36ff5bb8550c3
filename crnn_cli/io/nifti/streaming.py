"""Large NIfTI files, read and written a few frames at a time so that they need not fit into memory.

Images and bytes are the same as those of `crnn_cli.io.nifti.image`. Voxels are copied to a temporary file, scaled and
in the type that is used. They are not mapped where they lie: if another program cuts the file meanwhile, a map would
end the process by a signal.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy

from crnn_cli.data.image import Array, Image
from crnn_cli.data.mapped_arrays import SpooledBytes, chunk_indices, drop_pages, is_large, zeros
from crnn_cli.errors import UnreadableError
from crnn_cli.io.atomic_write import digest
from crnn_cli.io.limits import SPARE, read_at_most, require_possible
from crnn_cli.io.nifti.header import (
    NiftiHeader,
    header_of,
    image_from_stored,
    in_own_precision,
    is_scaled,
    parse_header,
    promised_bytes,
    to_single_precision,
)
from crnn_cli.notices import STREAM

_HEAD = 2**20
"""Bytes that a header with its extensions has at most; files with more are read whole."""
_SIZE = 348  # of a NIfTI-1 header


def read_large(
    source: Path, axes: str | None = None, keep_type: bool = False, mapped: bool = False
) -> tuple[Image, NiftiHeader, bytes, str] | None:
    """Read a large image without loading it.

    Parameters
    ----------
    axes, keep_type : as in `crnn_cli.io.nifti.image.decode_image`; scaled values are kept as float64.
    mapped : map voxels that need no conversion; for a file that no other program knows of.

    Returns
    -------
    The image, its header, the first kB of the file without gzip, and the sha256 of the file. None where the image is
    small, comes from a stream, or where anything is odd: `decode_image` then names it.

    Raises
    ------
    UnsupportedDataError
        As `crnn_cli.io.nifti.image.decode_image`.
    OutputError
        If there is no room for the voxels on the disk.
    """
    if source == STREAM or not source.is_file():  # what comes through a pipe is read once
        return None
    try:
        with source.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream: Any = gzip.GzipFile(fileobj=file) if packed else file
            head = stream.read(_HEAD)
            nifti = parse_header(head, source)
            header, proxy = header_of(nifti, source), nifti.dataobj
            dtype = _type_of_values(nifti, keep_type)
            if not is_large(header.shape, dtype) or proxy.dtype.fields is not None or not proxy.offset:
                return None
            require_possible(promised_bytes(head), source.stat().st_size, str(source))
            array = _mapped(source, proxy, dtype) if mapped and not packed else None
            array = _copied(stream, source, proxy, dtype) if array is None else array
    except (OSError, ValueError, EOFError, zlib.error, UnreadableError):
        return None
    return image_from_stored(array, header, axes, source), header, head[:1024], digest(source)


def _type_of_values(nifti: Any, keep_type: bool) -> np.dtype[Any]:
    stored: np.dtype[Any] = nifti.dataobj.dtype.newbyteorder("=")
    if not keep_type:
        return np.dtype(np.complex64 if stored.kind == "c" else np.float32)
    scaled = is_scaled(nifti) and stored.kind in "iu"
    return in_own_precision(np.zeros(0, np.float64 if scaled else stored), False).dtype


def _mapped(source: Path, proxy: Any, dtype: np.dtype[Any]) -> Array | None:
    """Map the voxels where they lie; None if they must be converted or scaled."""
    end = proxy.offset + math.prod(proxy.shape) * proxy.dtype.itemsize
    if end > source.stat().st_size:
        raise EOFError
    if proxy.dtype != dtype or (proxy.slope, proxy.inter) != (1.0, 0.0):
        return None
    return np.memmap(source, dtype, "r", proxy.offset, proxy.shape, "F")


def _copied(stream: BinaryIO, source: Path, proxy: Any, dtype: np.dtype[Any]) -> Array:
    """Copy the voxels of a stream to a temporary file, scaled and in the type that is used."""
    single = dtype in (np.float32, np.complex64)
    voxels = ArrayProxy(stream, (proxy.shape, proxy.dtype, proxy.offset, proxy.slope, proxy.inter), mmap=False)
    copied = zeros(proxy.shape, dtype, "F")
    for part in chunk_indices(proxy.shape):
        values = np.asanyarray(voxels[part])
        copied[part] = to_single_precision(values, source) if single else values
        drop_pages(copied)
    read_at_most(stream, SPARE, str(source))  # to the end, where gzip has its checksum
    return copied


def encode_large(voxel_file: bytes, array: Array, packed: bool) -> SpooledBytes:
    """Encode an array as NIfTI-1, a few frames at a time.

    Parameters
    ----------
    voxel_file : bytes of a NIfTI-1 file of one voxel that is alike in everything but its shape.
    packed : whether to compress with gzip.
    """
    spooled, packer = SpooledBytes(), zlib.compressobj(6, zlib.DEFLATED, 31)

    def put(content: bytes) -> None:
        spooled.write(packer.compress(content) if packed else content)

    header = nib.Nifti1Header(voxel_file[:_SIZE], check=False)
    header["dim"][1 : 1 + array.ndim] = array.shape
    put(header.binaryblock + voxel_file[_SIZE : int(header["vox_offset"])])
    for part in chunk_indices(array.shape, array.itemsize):
        put(array[part].tobytes("F"))
        drop_pages(array)
    spooled.write(packer.flush() if packed else b"")
    return spooled


def same_values(first: Array, second: Array) -> bool:
    """Whether two arrays have the same shape and values, compared a part at a time; NaN counts as equal to NaN."""
    if first.shape != second.shape:
        return False
    for part in chunk_indices(first.shape, first.itemsize):
        if not np.array_equal(first[part], second[part], equal_nan=True):
            return False
        drop_pages(first, second)
    return True
