"""NIfTI files whose voxels are too many for memory, read and written a few frames at a time.

The same images and the same bytes as `crnn_cli.io.nifti.image` makes.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy

from crnn_cli.data.image import Array, Image
from crnn_cli.data.mapped_arrays import SpooledBytes, chunk_indices, drop_pages, is_large, zeros
from crnn_cli.errors import UnreadableError
from crnn_cli.io.atomic_write import digest
from crnn_cli.io.nifti.header import STREAM, NiftiHeader, floating, header_of, parse_header, placed

_HEAD = 2**20
"""Bytes that a header with its extensions has at most; files with more are read whole."""
_SIZE = 348  # of a NIfTI-1 header


def read_large(source: Path, axes: str | None = None) -> tuple[Image, NiftiHeader, bytes, str] | None:
    """Return a large image, what its header says, the beginning of the file without gzip, and its sha256.

    Voxels that are stored as they are used stay in the file and are mapped; others go into a file of their own. None
    where the image is small, comes from a stream, or where anything is odd: `nifti.decode_image` then says what.

    Raises
    ------
    UnsupportedDataError
        As `nifti.decode_image`.
    OutputError
        If there is no room for the voxels on the disk.
    """
    if source == STREAM:
        return None
    try:
        with source.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream: Any = gzip.GzipFile(fileobj=file) if packed else file
            head = stream.read(_HEAD)
            nifti = parse_header(head, source)
            header, proxy = header_of(nifti, source), nifti.dataobj
            kind = np.complex64 if proxy.dtype.kind == "c" else np.float32
            if not is_large(header.shape, kind) or proxy.dtype.fields is not None or not proxy.offset:
                return None
            array = None if packed else _mapped(source, proxy, kind)
            array = _copied(stream, source, proxy, kind) if array is None else array
    except (OSError, ValueError, EOFError, zlib.error, UnreadableError):
        return None
    return placed(array, header, axes, source), header, head[:1024], digest(source)


def _mapped(source: Path, proxy: Any, kind: type[np.generic]) -> Array | None:
    """Return the voxels where they lie, None if they must be changed to be used."""
    end = proxy.offset + math.prod(proxy.shape) * proxy.dtype.itemsize
    if end > source.stat().st_size:
        raise EOFError
    if proxy.dtype != np.dtype(kind) or (proxy.slope, proxy.inter) != (1.0, 0.0):
        return None
    return np.memmap(source, kind, "r", proxy.offset, proxy.shape, "F")


def _copied(stream: IO[bytes], source: Path, proxy: Any, kind: type[np.generic]) -> Array:
    """Return the voxels of a stream, scaled."""
    voxels = ArrayProxy(stream, (proxy.shape, proxy.dtype, proxy.offset, proxy.slope, proxy.inter), mmap=False)
    made = zeros(proxy.shape, kind, "F")
    for part in chunk_indices(proxy.shape):
        made[part] = floating(np.asanyarray(voxels[part]), source)
        drop_pages(made)
    while stream.read(_HEAD):  # to the end, where gzip has its checksum
        pass
    return made


def encode_large(one: bytes, array: Array, packed: bool) -> SpooledBytes:
    """Return the bytes of a NIfTI-1 file.

    Parameters
    ----------
    one : a file of one voxel, alike in everything but its shape. packed : compressed with gzip.
    """
    kept, packer = SpooledBytes(), zlib.compressobj(6, zlib.DEFLATED, 31)

    def put(content: bytes) -> None:
        kept.write(packer.compress(content) if packed else content)

    header = nib.Nifti1Header(one[:_SIZE], check=False)
    header["dim"][1 : 1 + array.ndim] = array.shape
    put(header.binaryblock + one[_SIZE : int(header["vox_offset"])])
    for part in chunk_indices(array.shape, array.itemsize):
        put(array[part].tobytes("F"))
        drop_pages(array)
    kept.write(packer.flush() if packed else b"")
    return kept


def same_values(first: Array, second: Array) -> bool:
    """Return whether two arrays are the same."""
    if first.shape != second.shape:
        return False
    for part in chunk_indices(first.shape, first.itemsize):
        if not np.array_equal(first[part], second[part]):
            return False
        drop_pages(first, second)
    return True
