"""Whether a path is a file that ends, and reading small files whole."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO

from crnn_cli.errors import UnreadableError

_SMALL = 2**26


def require_file(path: Path) -> None:
    """Refuse devices, sockets and named pipes, which may never end; what does not exist passes.

    A pipe without a name, such as of ``<(command)`` in a shell, or ``/dev/stdin``, passes: see `is_pipe`.

    Raises
    ------
    UnreadableError
        If the path is no regular file, folder or nameless pipe, cannot be looked at, or is a link to nothing.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if is_broken_link(path):
            raise UnreadableError(f"{path} is a link to {path.readlink()}, which does not exist") from None
        return  # opening it says so
    except (OSError, ValueError) as error:  # too long, not permitted, or with a zero byte
        raise UnreadableError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or is_pipe(path)):
        kind = "a named pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
        raise UnreadableError(f"{path} is {kind}, not a file", remedy=("name a file, or pipe a NIfTI file into -",))


def is_broken_link(path: Path) -> bool:
    """Whether a path is a link to nothing."""
    return path.is_symlink() and not path.exists()


def is_pipe(path: Path) -> bool:
    """Whether a path is a pipe without a name, which a shell's ``<(command)`` hands over; it can be read once."""
    try:
        nameless = stat.S_ISFIFO(path.stat().st_mode)
    except (OSError, ValueError):
        return False
    return nameless and (path.parts[:3] == ("/", "dev", "fd") or not Path(os.path.realpath(path)).exists())


def standard_input(what: str) -> BinaryIO:
    """Standard input as bytes.

    Parameters
    ----------
    what : is wanted, for messages, such as ``a NIfTI file``.

    Raises
    ------
    UnreadableError
        If it is closed or a terminal.
    """
    state = "closed" if sys.stdin is None else "a terminal" if sys.stdin.isatty() else ""
    if state:
        raise UnreadableError(f"standard input is {state}; pipe {what} in, or name a file instead of -")
    return sys.stdin.buffer


def read_small(path: Path, most: int = _SMALL) -> bytes:
    """Read a file whole that is small, such as settings or a description.

    Raises
    ------
    UnreadableError
        If it cannot be read, is no regular file, or has more than ``most`` bytes (64 MiB).
    """
    require_file(path)
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > most:
        raise UnreadableError(f"{path} has more than {most >> 20} MiB: it is not what it should be")
    return content
