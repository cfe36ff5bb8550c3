"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from crnn_cli.errors import OutputError


def require_writable(target: Path, force: bool) -> None:
    """Raise OutputError if ``target`` exists (and not ``force``), or its folder is missing or read-only."""
    folder = target.parent
    if not folder.is_dir():
        raise OutputError(f"cannot write {target}: the folder {folder} does not exist; create it first")
    if target.is_dir():
        raise OutputError(f"cannot write {target}: it is a folder; give a file name")
    if target.exists() and not force:
        raise OutputError(f"{target} exists already; use --force to replace it, or -o for another name")
    with _explained(target):
        handle, name = tempfile.mkstemp(prefix=".crnn-", dir=folder)
        os.close(handle)
        Path(name).unlink()


def write_atomically(target: Path, content: bytes, check: Callable[[Path], None] | None = None) -> None:
    """Write to a temporary file beside ``target``, let ``check`` re-read it, then move it into place.

    Whatever happens, Ctrl-C included, ``target`` is the old file or the whole new one, and nothing else is left.

    Raises
    ------
    OutputError
        If the folder cannot be written or the disk is full; whatever ``check`` raises passes through.
    """
    with _explained(target):
        handle, name = tempfile.mkstemp(prefix=".crnn-", suffix="".join(target.suffixes[-2:]), dir=target.parent)
    temporary = Path(name)
    try:
        with _explained(target), os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if check is not None:
            check(temporary)
        with _explained(target):
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the disk quota is used up",
            errno.EROFS: "the file system is read-only",
            errno.EACCES: f"no permission to write in {target.parent}",
            errno.EPERM: f"no permission to write in {target.parent}",
            errno.EFBIG: "the file would be larger than the limit set for this process",
            errno.ENOENT: f"the folder {target.parent} does not exist",
        }.get(error.errno or 0, error.strerror or str(error))
        raise OutputError(f"cannot write {target}: {reason}; nothing was left behind") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
