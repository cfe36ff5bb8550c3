"""Opening HDF5 files: whole, closed by whoever wrote them, and complete in themselves.

HDF5 can refer to other files: external links, data sets whose values lie elsewhere (external storage), and virtual data
sets. A file from elsewhere could so make the program read any file of the machine, or wait for ever on a named pipe;
and its checksum would not cover what was read. Such files are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from crnn_cli.errors import UnreadableError, UnsupportedDataError

_BROKEN = "the file is damaged or was cut off; copy or convert it again"


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; errors of h5py become UnreadableError.

    Raises
    ------
    UnreadableError
        If the file is missing, locked by a program that writes it, no HDF5, or damaged.
    UnsupportedDataError
        If it refers to other files.
    """
    if not path.is_file():
        raise UnreadableError(f"{path} is no file: give the path of an HDF5 file (.h5)")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        if "already open" in str(error):
            raise UnreadableError(
                f"{path} is marked as open for writing: a program writes it, or it was never closed, or copied before",
                remedy=("wait until that program has closed it; if none does, take the mark away with h5clear -s",),
            ) from None
        if "unable to lock" in str(error):
            raise UnreadableError(
                f"{path} is open for writing in another program, which has locked it",
                remedy=("wait until that program has closed it, or copy what is there",),
            ) from None
        raise UnreadableError(f"{path} is damaged, cut off or no HDF5: {error}. Copy it again") from None
    with file:
        try:
            _require_complete(file, path)
            yield file
        except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
            raise UnreadableError(f"{path} cannot be read ({error}): {_BROKEN}") from error


def dataset(parent: h5py.Group, name: str, path: Path) -> h5py.Dataset:
    """Data set of a group that has values.

    Raises
    ------
    UnreadableError
        If there is none of that name, it is a group, or it is empty.
    """
    node: Any = parent.get(name)
    if not isinstance(node, h5py.Dataset):
        what = "is missing" if node is None else "is a group, not a data set"
        raise UnreadableError(f"{path}: {name} {what}; {_BROKEN}")
    if node.shape is None or node.size == 0:
        raise UnreadableError(f"{path}: {name} is empty; {_BROKEN}")
    return node


def require_sound(dtype: np.dtype[Any], title: str) -> None:
    """Refuse compounds whose fields overlap or end beyond the record, which HDF5 would write over other memory.

    Raises
    ------
    UnreadableError
        Such a type comes from a damaged file.
    """
    end = 0
    for kind, offset in sorted(((field[0], field[1]) for field in (dtype.fields or {}).values()), key=lambda f: f[1]):
        if offset < end or offset + kind.itemsize > dtype.itemsize:
            raise UnreadableError(f"{title} has fields that overlap ({dtype}); {_BROKEN}")
        end = offset + kind.itemsize
        require_sound(kind, title)


def stored_lengths(table: h5py.Dataset, member: str) -> np.ndarray[Any, np.dtype[np.uint32]] | None:
    """Number of values that each row of a table states for a member of varying length, before any of them is read.

    HDF5 believes such a number and reserves the memory. In the file it is the first four bytes of the member.

    Returns
    -------
    (N,) of the rows of a one-dimensional table; None where its rows are compressed, or not stored in chunks.
    """
    plist, stored = table.id.get_create_plist(), table.id.get_type()
    if table.chunks is None or plist.get_nfilters() or member not in (table.dtype.names or ()):
        return None
    at = stored.get_member_offset(stored.get_member_index(member.encode()))
    lengths = np.zeros(len(table), np.uint32)
    for number in range(table.id.get_num_chunks()):
        first = table.id.get_chunk_info(number).chunk_offset[0]
        _, raw = table.id.read_direct_chunk((first,))
        rows = np.frombuffer(raw, np.uint8)[: len(raw) // stored.get_size() * stored.get_size()]
        found = np.ascontiguousarray(rows.reshape(-1, stored.get_size())[:, at : at + 4]).view("<u4")[:, 0]
        last = min(first + len(found), len(lengths))
        lengths[first:last] = found[: last - first]
    return lengths


def text_of(stored: h5py.Dataset, path: Path) -> bytes:
    """Text that a data set holds, as bytes; of several strings the first.

    Raises
    ------
    UnreadableError
        If it holds no text.
    """
    value = stored[()] if stored.shape == () else stored[(0,) * len(stored.shape)]
    if not isinstance(value, str | bytes):
        raise UnreadableError(f"{path}: {stored.name} holds no text ({stored.dtype}); {_BROKEN}")
    return value.encode() if isinstance(value, str) else bytes(value)


def _require_complete(file: h5py.File, path: Path) -> None:
    """Refuse files with links to others, or data sets that lie in others; nothing is followed to find out."""
    elsewhere: list[str] = []

    def look_at_link(name: bytes, info: Any) -> None:
        if info.type not in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT):
            elsewhere.append(f"{name.decode('utf-8', 'replace')} is a link")

    def look_at_object(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and (node.external or node.is_virtual):
            elsewhere.append(f"the values of {name} lie elsewhere")

    file.id.links.visit(look_at_link, info=True)
    if not elsewhere:
        file.visititems(look_at_object)
    if elsewhere:
        raise UnsupportedDataError(
            f"{path} refers to other files, which is not followed, for safety: {elsewhere[0]}",
            remedy=("make one file of all its parts, for instance with h5repack, or ask for such a file",),
        )
