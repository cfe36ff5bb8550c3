"""Files of a folder, a zip archive or a DICOMDIR, opened one by one; members of an archive are unpacked in memory."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from crnn_cli.errors import UnreadableError
from crnn_cli.io.limits import zip_member

_MOST_UNPACKED = 16 * 2**30


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

    Hidden files are left out.

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
                if entry.is_file() and entry.name.upper() != "DICOMDIR" and not entry.name.startswith("."):
                    yield Source(str(entry.relative_to(path)), _opener(entry))
        elif zipfile.is_zipfile(path):
            yield from _members(path)
        else:
            path.open("rb").close()
            yield Source(path.name, _opener(path))
    except (OSError, zipfile.BadZipFile) as error:
        raise UnreadableError(f"{path} cannot be read: {error}") from None


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")


def _members(archive: Path) -> Iterator[Source]:
    opened = zipfile.ZipFile(
        archive
    )  # stays open: to read its directory for each of thousands of members takes minutes
    members = [info for info in opened.infolist() if not info.is_dir()]
    if sum(info.file_size for info in members) > _MOST_UNPACKED:
        raise UnreadableError(f"{archive} would unpack to more than {_MOST_UNPACKED >> 30} GiB")
    for info in members:
        if not Path(info.filename).name.upper().startswith(("DICOMDIR", ".")):
            yield Source(info.filename, partial(_member, opened, info.filename))


def _member(archive: zipfile.ZipFile, name: str) -> BinaryIO:
    try:
        return io.BytesIO(zip_member(archive, archive.getinfo(name)))
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:  # damaged, encrypted, packed otherwise
        raise OSError(f"{name} in {archive.filename} cannot be unpacked: {error}") from None
