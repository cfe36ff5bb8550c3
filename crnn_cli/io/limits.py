"""The one place that bounds what a compressed or claimed size may become, before anything of that size is allocated.

A file of some kB can claim arrays of gigabytes, or unpack to them. Each reader asks here first:

* `require_possible`: could a file of this size hold so much at all? deflate packs at most 1032 : 1. For labels and
  other values that may be all the same, read in parts.
* `require_measured`: could *measured* values of that size be packed so well? For k-space, and for images in zip
  archives and in deflated DICOM. Above 256 MiB, more than 200 : 1 is no measurement.
* `require_memory`: is there memory for it? Asked before an array or a file is read whole.
* `read_at_most`, `gunzip`, `zip_member`, `require_inflated`: read or unpack up to a bound, and no further.

Whether a path is a file at all, and not a device or a pipe without end, asks `crnn_cli.data.input_files`.

What cannot be true is an UnreadableError (exit code 3); what may be true but does not fit is a DeviceError (5).
"""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from crnn_cli.data.host_memory import host_free_bytes
from crnn_cli.errors import DeviceError, Param, UnreadableError

MOST_COMPRESSED = 1100
"""Highest compression ratio that is believed; a file whose header claims more is damaged."""
MOST_COMPRESSED_MEASURED = 200
"""Highest compression ratio that is believed of measured values, from `UNDOUBTED` on."""
UNDOUBTED = 2**28
"""Bytes up to which any ratio that deflate can reach is believed of measured values: 256 MiB."""
SPARE = 2**24
"""Bytes that a file may hold beyond what its header promises: 16 MiB."""
HEAD = 2**20
"""Bytes at the start of a file that hold its header."""
_BLOCK = 2**22


def require_possible(claimed: int, stored: int, title: str) -> None:
    """Refuse a claim that no compression could keep.

    Parameters
    ----------
    claimed : bytes that a header promises.
    stored : bytes of the file, or of the part of it, that is to hold them.
    title : what claims it, for the message.

    Raises
    ------
    UnreadableError
        If more than `MOST_COMPRESSED` bytes would have to come out of each stored one.
    """
    if claimed > MOST_COMPRESSED * stored:
        raise UnreadableError(
            f"{title} claims {_size(claimed)}, and the {_size(stored)} that are stored cannot hold as much",
            remedy=("it is damaged: copy or export it again",),
        )


def require_measured(claimed: int, stored: int, title: str) -> None:
    """Refuse a claim that no compression of measured values could keep; parameters as of `require_possible`.

    Raises
    ------
    UnreadableError
        If more than `MOST_COMPRESSED` bytes would have to come out of each stored one, or, above `UNDOUBTED` in all,
        more than `MOST_COMPRESSED_MEASURED`.
    """
    require_possible(claimed, stored, title)
    if claimed > max(UNDOUBTED, MOST_COMPRESSED_MEASURED * stored):
        raise UnreadableError(
            f"{title} claims {_size(claimed)} in {_size(stored)}: {claimed / max(1, stored):.0f} to 1, as measured "
            "values are never compressed",
            remedy=("it is damaged, or made to fill the memory",),
        )


def require_memory(claimed: int, title: str) -> None:
    """Refuse to read what does not fit into memory; within `crnn_cli.data.host_memory.memory_limit`, if there is one.

    Raises
    ------
    DeviceError
        If less than ``claimed`` bytes are free.
    """
    free = host_free_bytes()
    if free is not None and claimed > free:
        raise DeviceError(
            f"{title} takes {_size(claimed)} of memory, and {_size(free)} are free",
            remedy=("end other programs, or raise ", Param("memory"), " where it is set"),
        )


def read_at_most(stream: BinaryIO, most: int, title: str) -> bytes:
    """Read a stream to its end, which must come within ``most`` bytes; memory grows with what arrives, not before.

    Raises
    ------
    UnreadableError
        If there is more.
    """
    parts, size = [], 0
    while part := stream.read(min(_BLOCK, most + 1 - size)):
        size += len(part)
        if size > most:
            raise UnreadableError(
                f"{title} goes on after the {_size(most)} that its header allows",
                remedy=("it is damaged: copy or export it again",),
            )
        parts.append(part)
    return b"".join(parts)


def gunzip(content: bytes, promised: Callable[[bytes], int], title: str) -> bytes:
    """Unpack gzip, as far as the header inside promises; `SPARE` bytes and half of the file may follow that.

    Parameters
    ----------
    content : the compressed file.
    promised : gives the size of the whole file in bytes from its first `HEAD`.

    Raises
    ------
    UnreadableError
        If the header promises more than can be in the file, or much more comes than it promises.
    DeviceError
        If the promise does not fit into memory.
    OSError, EOFError, zlib.error
        If the compressed data are damaged.
    """
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
        size = promised(stream.read(HEAD))
        require_possible(size, len(content), title)
        require_memory(size, title)
        stream.seek(0)
        return read_at_most(stream, most_bytes(size), title)  # type: ignore[arg-type]


def most_bytes(promised: int) -> int:
    """Bytes that a file may have whose header promises some: so many again, and `SPARE`.

    >>> most_bytes(2**20) == 2**21 + SPARE
    True
    """
    return 2 * promised + SPARE


def zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Unpack a member of a zip archive.

    Raises
    ------
    UnreadableError
        If its size is no measurement's, or what comes is more than the archive's directory says.
    DeviceError
        If it does not fit into memory.
    zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, OSError, EOFError
        If it is damaged, encrypted, or packed in an unknown way.
    """
    title = f"{info.filename} in {archive.filename}"
    require_measured(info.file_size, info.compress_size, title)
    require_memory(info.file_size, title)
    with archive.open(info) as stream:
        return read_at_most(stream, info.file_size, title)  # type: ignore[arg-type]


def require_inflated(stream: BinaryIO, stored: int, title: str, wbits: int = -zlib.MAX_WBITS) -> None:
    """Refuse deflated data that unpack to more than measured values do, or than there is memory for.

    The data are unpacked a block at a time and dropped; they stay in memory at no time.

    Parameters
    ----------
    stream : at the first deflated byte.
    stored : bytes of the deflated data.
    wbits : as of `zlib.decompressobj`; the default is that of deflated DICOM.

    Raises
    ------
    UnreadableError
        If they unpack to more than `require_measured` allows.
    DeviceError
        If they would not fit into memory.
    zlib.error
        If they are damaged.
    """
    size = 0
    for part in _inflated(stream, wbits):
        size += len(part)
        require_measured(size, stored, title)
    require_memory(size, title)


def _inflated(stream: BinaryIO, wbits: int) -> Iterator[bytes]:
    inflater = zlib.decompressobj(wbits)
    while packed := stream.read(_BLOCK // 16):
        while packed:
            yield inflater.decompress(packed, _BLOCK)
            packed = inflater.unconsumed_tail


def _size(count: int) -> str:
    """Bytes as text.

    >>> _size(512), _size(3 * 2**20), _size(2**33)
    ('512 bytes', '3.0 MiB', '8.00 GiB')
    """
    if count < 2**20:
        return f"{count} bytes"
    return f"{count / 2**20:.1f} MiB" if count < 2**30 else f"{count / 2**30:.2f} GiB"
