"""Writing files so that they are there whole or not at all, and sha256 of files.

How a set of files is moved into place is in `crnn_cli.data.write_set`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from crnn_cli.data.input_files import require_file
from crnn_cli.data.mapped_arrays import SpooledBytes
from crnn_cli.data.write_set import WriteSet, named_errors, recover
from crnn_cli.errors import OutputError, OutputExistsError, OutputNameError, Param, UnreadableError, UsageError


def require_pipe(*, example: str = "FILE.nii.gz") -> None:
    """Refuse to write binary data to a terminal, or to a standard output that is closed.

    Parameters
    ----------
    example : name of a file, for the message.

    Raises
    ------
    UsageError
        If standard output is a terminal, or closed.
    """
    remedy = ("give ", Param("out", example))
    if sys.stdout is None:
        raise UsageError("standard output is closed", remedy=remedy)
    if sys.stdout.isatty():
        raise UsageError("standard output is a terminal", remedy=("pipe it on, or ", *remedy))


def require_writable(target: Path, force: bool) -> None:
    """Refuse a target that cannot be written.

    Raises
    ------
    OutputExistsError
        If it exists and not ``force``.
    OutputNameError
        If its name is too long.
    OutputError
        If it is a folder, or its folder is missing or read-only.
    """
    require_short(target)
    folder = target.parent
    if not folder.is_dir():
        raise OutputError(f"cannot write {target}: the folder {folder} does not exist; create it first")
    if target.is_dir():
        raise OutputError(f"cannot write {target}: it is a folder; give a file name")
    if os.path.lexists(target) and not force:
        recover(folder)  # of a run that was killed while its outputs were moved
    if os.path.lexists(target) and not force:
        remedy = ("replace it with ", Param("force"), ", or give another name with ", Param("out"))
        raise OutputExistsError(f"{target} exists already", remedy=remedy)
    with named_errors(target):
        handle, name = tempfile.mkstemp(prefix=".crnn-", dir=folder)
        os.close(handle)
        Path(name).unlink()


def require_short(target: Path) -> None:
    """Raise OutputNameError for a name that the file system cannot hold."""
    try:
        os.lstat(target)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            text = f"cannot write {target}: the name is too long ({len(os.fsencode(target.name))} bytes)"
            raise OutputNameError(text, remedy=("give a shorter one",)) from None


def require_replaceable(target: Path, force: bool, why: str, names: Sequence[str]) -> None:
    """Refuse a target that cannot become a folder; with ``force`` one that was written so before is replaced.

    Parameters
    ----------
    why : in the message where the target is a file, such as ``a DICOM series is a folder``.
    names : patterns of the names that such a folder holds.

    Raises
    ------
    OutputExistsError
        If it exists, is not empty, and not ``force``.
    OutputNameError
        If its name is too long.
    OutputError
        If it is a file, its parent folder does not exist, or it holds other files, which ``force`` does not replace.
    """
    require_short(target)
    if not target.parent.is_dir():
        raise OutputError(f"cannot write {target}: the folder {target.parent} does not exist; create it first")
    if target.exists() and not force:
        recover(target.parent)  # of a run that was killed while its outputs were moved
    if not target.exists():
        return
    if not target.is_dir():
        raise OutputError(f"cannot write {target}: it is a file, and {why}")
    held = " and ".join(name.removeprefix("*") for name in names)
    if not all(any(fnmatchcase(file.name, name) for name in names) for file in target.iterdir()):
        raise OutputError(f"{target} exists and holds more than {held} files; give another name")
    if not force and any(target.iterdir()):
        remedy = ("replace it with ", Param("force"), ", or give another name with ", Param("out"))
        raise OutputExistsError(f"{target} exists already", remedy=remedy)


@dataclass(frozen=True)
class Output:
    """A file to be written.

    Attributes
    ----------
    target : its path.
    content : its bytes.
    check : reads the temporary file and raises if it is not as it should be; None for no check.
    """

    target: Path
    content: bytes | SpooledBytes
    check: Callable[[Path], None] | None = None

    def chunks(self) -> Iterator[bytes]:
        """Iterate over the content in order."""
        return iter([self.content]) if isinstance(self.content, bytes) else self.content.chunks()

    def sha256(self) -> str:
        """SHA-256 of the content."""
        summed = hashlib.sha256()
        for chunk in self.chunks():
            summed.update(chunk)
        return summed.hexdigest()

    def files(self) -> tuple[Output, ...]:
        """All files of an output: itself."""
        return (self,)


@dataclass(frozen=True)
class FolderOutput:
    """A folder of files to be written; an earlier one is replaced as a whole.

    Attributes
    ----------
    target : its path.
    members : its files; their targets lie in it.
    """

    target: Path
    members: tuple[Output, ...]

    def files(self) -> tuple[Output, ...]:
        """All files in it."""
        return self.members


def write_together(outputs: Sequence[Output | FolderOutput], replace: bool = True) -> None:
    """Write every file to a temporary one beside it, let the checks read them, then move all into place.

    Whatever happens, Ctrl-C included, each target stays as it was and no other file is left. If the process is killed
    while files are moved, the next one that writes there undoes it; see `crnn_cli.data.write_set`.

    Parameters
    ----------
    replace : without it, a target that another program made meanwhile is kept.

    Raises
    ------
    OutputError
        If a folder cannot be written or the disk is full. Errors of a check pass through.
    """
    with WriteSet(replace) as files:
        add_outputs(files, outputs)
        files.commit()


def add_outputs(files: WriteSet, outputs: Sequence[Output | FolderOutput]) -> None:
    """Write the files of a set beside their targets, and let the checks read them; errors as of `write_together`."""
    for output in outputs:
        if isinstance(output, FolderOutput):
            _add_folder(files, output)
            continue
        temporary = files.add_file(output.target, output.chunks())
        if output.check is not None:
            output.check(temporary)


def _add_folder(files: WriteSet, output: FolderOutput) -> None:
    folder = files.add_folder(output.target)
    for member in output.members:
        temporary = folder / member.target.name
        with named_errors(member.target), temporary.open("xb") as stream:
            stream.writelines(member.chunks())
        if member.check is not None:
            member.check(temporary)


def digest(path: Path) -> str:
    """SHA-256 of a file, read in blocks.

    Raises
    ------
    UnreadableError
        If it cannot be read.
    """
    require_file(path)
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}") from None


def digest_tree(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files in a folder.

    Raises
    ------
    UnreadableError
        If a file cannot be read.
    """
    if not path.is_dir():
        return digest(path)
    lines = [f"{file.relative_to(path)} {digest(file)}\n" for file in sorted(path.rglob("*")) if file.is_file()]
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
