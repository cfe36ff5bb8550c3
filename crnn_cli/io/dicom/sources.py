"""Files of a folder, a zip archive or a DICOMDIR, opened one by one.

Members of an archive and files packed with gzip are unpacked in memory.
"""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from crnn_cli.errors import UnreadableError
from crnn_cli.io.limits import MOST_COMPRESSED_MEASURED, UNDOUBTED, read_at_most, zip_member
from crnn_cli.io.signature import GZIP, START_LENGTH, begins_as_dicom

_MOST_UNPACKED = 16 * 2**30
_OURS = ".crnn-"


@dataclass(frozen=True)
class Source:
    """A file, or a member of an archive.

    Attributes
    ----------
    name : path inside the folder or archive, for messages.
    open : opens it for reading.
    """

    name: str
    open: Callable[[], BinaryIO] = field(repr=False, compare=False)


def sources(path: Path) -> Iterator[Source]:
    """Yield the files of a folder and its subfolders, of a zip archive, or one file; a DICOMDIR stands for its folder.

    Hidden files are among them; folders that hold unfinished outputs of this program are not.

    Raises
    ------
    UnreadableError
        If the path is missing or cannot be read, or an archive would unpack to more than 16 GiB.
    """
    try:
        if path.is_file() and path.name.upper() == "DICOMDIR":
            path = path.parent
        if path.is_dir():
            for entry in sorted(path.rglob("*")):
                name = entry.relative_to(path)
                if entry.is_file() and entry.name.upper() != "DICOMDIR" and not _is_ours(name):
                    yield Source(str(name), _opener(entry))
        elif zipfile.is_zipfile(path):
            yield from _members(path)
        else:
            path.open("rb").close()
            yield Source(path.name, _opener(path))
    except (OSError, zipfile.BadZipFile) as error:
        raise UnreadableError(f"{path} cannot be read: {error}") from None


def _is_ours(name: Path) -> bool:
    return any(part.startswith(_OURS) for part in name.parts)


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: _unpacked(path.open("rb"), path.name)


def _unpacked(opened: BinaryIO, name: str) -> BinaryIO:
    """Unpack a DICOM file that is packed with gzip; other files are returned as they are.

    Raises
    ------
    OSError
        If it is cut or damaged.
    UnreadableError
        If it unpacks to more than measured values do.
    """
    packed = opened.read(len(GZIP)) == GZIP
    stored = opened.seek(0, io.SEEK_END) if packed else 0
    opened.seek(0)
    if not packed:
        return opened
    with opened, gzip.GzipFile(fileobj=opened) as unpacking:
        try:
            start = unpacking.read(START_LENGTH)
            if not begins_as_dicom(start):
                opened.seek(0)
                return io.BytesIO(opened.read(START_LENGTH))
            most = min(max(UNDOUBTED, MOST_COMPRESSED_MEASURED * stored), _MOST_UNPACKED)
            return io.BytesIO(start + read_at_most(unpacking, most, name))  # type: ignore[arg-type]
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise OSError(f"it cannot be unpacked: {error}") from None


def _members(archive: Path) -> Iterator[Source]:
    opened = zipfile.ZipFile(
        archive
    )  # stays open: to read its directory for each of thousands of members takes minutes
    members = [info for info in opened.infolist() if not info.is_dir()]
    if sum(info.file_size for info in members) > _MOST_UNPACKED:
        raise UnreadableError(f"{archive} would unpack to more than {_MOST_UNPACKED >> 30} GiB")
    for info in members:
        name = Path(info.filename)
        if not name.name.upper().startswith("DICOMDIR") and not _is_ours(name):
            yield Source(info.filename, partial(_member, opened, info.filename))


def _member(archive: zipfile.ZipFile, name: str) -> BinaryIO:
    try:
        return _unpacked(io.BytesIO(zip_member(archive, archive.getinfo(name))), name)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:  # damaged, encrypted, packed otherwise
        raise OSError(f"{name} in {archive.filename} cannot be unpacked: {error}") from None
