"""Arrays and bytes that are too large for memory, in anonymous temporary files.

The files lie in the folder for temporary files (TMPDIR). They vanish with the array, or with the process however it
ends. Pages that were accessed count as memory of the process until `drop_pages` releases them.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from crnn_cli.errors import OutputError

LARGE = 2**26
"""Size in bytes from which on an array goes into a file: 64 MiB."""
_CHUNK_BYTES = 2**26
Values = NDArray[Any]


def is_large(shape: tuple[int, ...], dtype: DTypeLike) -> bool:
    """Whether an array of this shape and type goes into a file, not into memory."""
    return math.prod(shape) * np.dtype(dtype).itemsize >= LARGE


def zeros(shape: tuple[int, ...], dtype: DTypeLike, order: Literal["C", "F"] = "C") -> Values:
    """Allocate an array of zeros like `numpy.zeros`: in memory, or in a temporary file where it is large.

    The disk space is reserved at once, so that a full disk raises here instead of ending the process later.

    Raises
    ------
    OutputError
        If there is no folder for temporary files, or no room in it.
    """
    if not is_large(shape, dtype):
        return np.zeros(shape, dtype, order)
    size = math.prod(shape) * np.dtype(dtype).itemsize
    try:
        with tempfile.TemporaryFile(prefix="crnn-") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)  # a full disk raises now, instead of a signal later
            else:
                file.truncate(size)
            mapped = mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise _no_room(size, error) from error
    return np.ndarray(shape, dtype, mapped, order=order)


def is_file_backed(array: Values) -> bool:
    """Whether an array, or the array that it is a view of, lies in a file."""
    return _mapping(array) is not None


def drop_pages(*arrays: Values) -> None:
    """Release the memory of file-backed arrays; their values stay in the files.

    No effect on arrays in memory, and on systems without ``madvise``.
    """
    for array in arrays:
        mapped = _mapping(array)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def apply_by_planes(function: Callable[..., Values], dtype: DTypeLike, *arrays: Values) -> Values:
    """Apply an elementwise function to arrays (x, y, ...) of one shape, chunk by chunk where the result is large.

    Parameters
    ----------
    function : must work element by element; anything else gives results that depend on the chunks.
    dtype : type of the result.

    Returns
    -------
    The result; where it is large, in a file, in Fortran order.
    """
    shape = arrays[0].shape
    if not is_large(shape, dtype):
        return function(*arrays)
    output = zeros(shape, dtype, "F")
    for chunk in chunk_indices(shape, np.dtype(dtype).itemsize):
        output[chunk] = function(*(array[chunk] for array in arrays))
        drop_pages(output, *arrays)
    return output


def chunk_indices(shape: tuple[int, ...], itemsize: int = 8) -> Iterator[tuple[Any, ...]]:
    """Yield indices of consecutive chunks of an array along its last axis, each about 64 MiB.

    >>> list(chunk_indices((2, 3, 4)))
    [(Ellipsis, slice(0, 4, None))]
    """
    frame = math.prod(shape[:-1]) * itemsize
    step = max(1, _CHUNK_BYTES // max(1, frame))
    for first in range(0, shape[-1], step):
        yield ..., slice(first, min(first + step, shape[-1]))


class SpooledBytes:
    """Bytes that are written once and read any number of times; from `LARGE` on in a temporary file."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=LARGE, prefix="crnn-")  # noqa: SIM115

    def write(self, content: bytes) -> None:
        """Append bytes.

        Raises
        ------
        OutputError
            If there is no folder for temporary files, or no room in it.
        """
        try:
            self._file.write(content)
        except OSError as error:
            raise _no_room(len(content), error) from error

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes in order, at most 4 MiB at a time."""
        self._file.seek(0)
        while chunk := self._file.read(2**22):
            yield chunk


def _mapping(array: Values) -> mmap.mmap | None:
    """Memory map that an array is a view of, if any."""
    base: Any = array
    while isinstance(base, np.ndarray | memoryview):
        base = base.obj if isinstance(base, memoryview) else base.base
    return base if isinstance(base, mmap.mmap) else None


def _no_room(size: int, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    where = tempfile.tempdir or "the folder for temporary files"
    return OutputError(
        f"{size / 2**30:.2f} GiB of the images do not fit in memory, and cannot be put into {where}: {reason}. Name a "
        "folder that has room by the environment variable TMPDIR"
    )
