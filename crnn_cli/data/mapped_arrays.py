"""Arrays and bytes that are too many for memory, in files without a name.

The files lie in the folder for temporary files (TMPDIR) and are gone with what they hold, or with the process, however
it ends. Pages of them that were looked at count as memory of the process until they are let go of: `drop_pages`.
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
"""Bytes of an array from which on it goes into a file: 64 MiB."""
_AT_ONCE = 2**26
Values = NDArray[Any]


def is_large(shape: tuple[int, ...], kind: DTypeLike) -> bool:
    """Return whether an array goes into a file."""
    return math.prod(shape) * np.dtype(kind).itemsize >= LARGE


def zeros(shape: tuple[int, ...], kind: DTypeLike, order: Literal["C", "F"] = "C") -> Values:
    """Return an array of zeros: in memory, or in a file where it is large.

    Raises
    ------
    OutputError
        If there is no folder for temporary files, or no room in it.
    """
    if not is_large(shape, kind):
        return np.zeros(shape, kind, order)
    size = math.prod(shape) * np.dtype(kind).itemsize
    try:
        with tempfile.TemporaryFile(prefix="crnn-") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)  # a full disk is told now, not by a signal later
            else:
                file.truncate(size)
            mapped = mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise _no_room(size, error) from error
    return np.ndarray(shape, kind, mapped, order=order)


def is_file_backed(array: Values) -> bool:
    """Return whether the values lie in a file."""
    return _mapping(array) is not None


def drop_pages(*arrays: Values) -> None:
    """Let go of the memory that values in files take; they stay in the files."""
    for array in arrays:
        mapped = _mapping(array)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def apply_by_planes(function: Callable[..., Values], kind: DTypeLike, *arrays: Values) -> Values:
    """Return function(arrays), which works element by element, of arrays (x, y, ...) of one shape.

    What is large is computed a few planes (x, y) at a time into a file, x innermost.
    """
    shape = arrays[0].shape
    if not is_large(shape, kind):
        return function(*arrays)
    made = zeros(shape, kind, "F")
    for planes in chunk_indices(shape, np.dtype(kind).itemsize):
        made[planes] = function(*(array[planes] for array in arrays))
        drop_pages(made, *arrays)
    return made


def chunk_indices(shape: tuple[int, ...], itemsize: int = 8) -> Iterator[tuple[Any, ...]]:
    """Yield indices that take an array (x, y, ..., z) apart along its last axis, in order, a few planes at a time."""
    frame = math.prod(shape[:-1]) * itemsize
    step = max(1, _AT_ONCE // max(1, frame))
    for first in range(0, shape[-1], step):
        yield ..., slice(first, min(first + step, shape[-1]))


class SpooledBytes:
    """Bytes that are written once and read as often as wanted; in a file where they are many."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=LARGE, prefix="crnn-")  # noqa: SIM115

    def write(self, content: bytes) -> None:
        """Add bytes at the end.

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
        """Yield the bytes in order, some at a time."""
        self._file.seek(0)
        while chunk := self._file.read(2**22):
            yield chunk


def _mapping(array: Values) -> mmap.mmap | None:
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
