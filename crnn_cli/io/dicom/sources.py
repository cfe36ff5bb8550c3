"""The files of a folder, a zip archive or a DICOMDIR, to be opened one by one."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from crnn_cli.errors import UnreadableError

_MOST_UNPACKED = 16 * 2**30


@dataclass(frozen=True)
class Source:
    """A DICOM file: its name for messages, and how to open it (a member of a zip is a file too)."""

    name: str
    open: Callable[[], BinaryIO] = field(repr=False, compare=False)


def sources(place: Path) -> Iterator[Source]:
    """Yield the files of a folder (with its folders), a zip archive, or one file; a DICOMDIR stands for its folder.

    Raises
    ------
    UnreadableError
        If the place is missing or cannot be read.
    """
    try:
        if place.is_file() and place.name.upper() == "DICOMDIR":
            place = place.parent
        if place.is_dir():
            for path in sorted(place.rglob("*")):
                if path.is_file() and path.name.upper() != "DICOMDIR" and not path.name.startswith("."):
                    yield Source(str(path.relative_to(place)), _opener(path))
        elif zipfile.is_zipfile(place):
            yield from _members(place)
        else:
            place.open("rb").close()
            yield Source(place.name, _opener(place))
    except (OSError, zipfile.BadZipFile) as error:
        raise UnreadableError(f"{place} cannot be read: {error}") from None


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")


def _members(archive: Path) -> Iterator[Source]:
    opened = zipfile.ZipFile(archive)  # kept: to read its directory for each of thousands of members takes minutes
    members = [info for info in opened.infolist() if not info.is_dir()]
    if sum(info.file_size for info in members) > _MOST_UNPACKED:
        raise UnreadableError(f"{archive} would unpack to more than {_MOST_UNPACKED >> 30} GiB")
    for info in members:
        if not Path(info.filename).name.upper().startswith(("DICOMDIR", ".")):
            yield Source(info.filename, partial(_member, opened, info.filename))


def _member(archive: zipfile.ZipFile, name: str) -> BinaryIO:
    try:
        return io.BytesIO(archive.read(name))
    except (zipfile.BadZipFile, RuntimeError) as error:  # damaged, encrypted, or packed in an unknown way
        raise OSError(f"{name} in {archive.filename} cannot be unpacked: {error}") from None
