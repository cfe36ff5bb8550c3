"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crnn_cli.data.mapped_arrays import SpooledBytes
from crnn_cli.errors import OutputError, OutputExistsError, Param, UnreadableError, UsageError


def require_pipe(*, example: str = "FILE.nii.gz") -> None:
    """Refuse to pour binary data over a terminal, or into a standard output that is closed."""
    remedy = ("give ", Param("out", example))
    if sys.stdout is None:
        raise UsageError("standard output is closed", remedy=remedy)
    if sys.stdout.isatty():
        raise UsageError("standard output is a terminal", remedy=("pipe it on, or ", *remedy))


def require_writable(target: Path, force: bool) -> None:
    """Raise OutputError if ``target`` exists (and not ``force``), or its folder is missing or read-only."""
    folder = target.parent
    if not folder.is_dir():
        raise OutputError(f"cannot write {target}: the folder {folder} does not exist; create it first")
    if target.is_dir():
        raise OutputError(f"cannot write {target}: it is a folder; give a file name")
    if os.path.lexists(target) and not force:
        remedy = ("replace it with ", Param("force"), ", or give another name with ", Param("out"))
        raise OutputExistsError(f"{target} exists already", remedy=remedy)
    with _explained(target):
        handle, name = tempfile.mkstemp(prefix=".crnn-", dir=folder)
        os.close(handle)
        Path(name).unlink()


@dataclass(frozen=True)
class Output:
    """A file to be: where, what, and how it is looked at again before it counts."""

    target: Path
    content: bytes | SpooledBytes
    check: Callable[[Path], None] | None = None

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in order."""
        return iter([self.content]) if isinstance(self.content, bytes) else self.content.chunks()

    def sha256(self) -> str:
        """Return the sha256 of the content."""
        summed = hashlib.sha256()
        for chunk in self.chunks():
            summed.update(chunk)
        return summed.hexdigest()


def write_together(outputs: Sequence[Output], replace: bool = True) -> None:
    """Write every file to a temporary one beside it, let the checks re-read them, then move all into place.

    Whatever happens before the last step, Ctrl-C included, each target is what it was and nothing else is left.

    Parameters
    ----------
    replace : without it, a target that came into being meanwhile is kept.

    Raises
    ------
    OutputError
        If a folder cannot be written or the disk is full; whatever a check raises passes through.
    """
    temporaries: list[Path] = []
    try:
        for output in outputs:
            temporaries.append(_write_temporary(output))
            if output.check is not None:
                output.check(temporaries[-1])
        for output, temporary in zip(outputs, temporaries, strict=True):
            with _explained(output.target):
                if not replace and os.path.lexists(output.target):
                    raise OutputError(f"{output.target} was made by another program meanwhile; it was kept")
                temporary.replace(output.target)
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def _write_temporary(output: Output) -> Path:
    suffix = "".join(output.target.suffixes[-2:])
    with _explained(output.target):
        handle, name = tempfile.mkstemp(prefix=".crnn-", suffix=suffix, dir=output.target.parent)
    temporary = Path(name)
    try:
        with _explained(output.target), os.fdopen(handle, "wb") as stream:
            for chunk in output.chunks():
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


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


def digest(place: Path) -> str:
    """Return the sha256 of a file of any size.

    Raises
    ------
    UnreadableError
        If it cannot be read.
    """
    try:
        with place.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise UnreadableError(f"{place} cannot be read: {error.strerror}") from None


def digest_tree(place: Path) -> str:
    """Return the sha256 of a file, or of the names and contents of all files in a folder.

    Raises
    ------
    UnreadableError
        If a file cannot be read.
    """
    if not place.is_dir():
        return digest(place)
    lines = [f"{file.relative_to(place)} {digest(file)}\n" for file in sorted(place.rglob("*")) if file.is_file()]
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
