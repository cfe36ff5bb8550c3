"""Writing a folder of DICOM files, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from crnn_cli.data.write_set import WriteSet, named_errors
from crnn_cli.io.atomic_write import require_replaceable


def write_folder(target: Path, fill: Callable[[Path], None], force: bool, files: WriteSet | None = None) -> None:
    """Let ``fill`` write files into a new folder beside the target, then give it the target's name.

    Parameters
    ----------
    fill : writes the files into the folder that it is given, and checks them. Its errors pass through.
    force : replace an earlier folder.
    files : set that the folder is to appear with; None for a set of its own, which is written at once.

    Raises
    ------
    OutputError
        If the folder exists and not ``force``, or cannot be written; nothing is left behind.
    """
    if files is not None:
        folder = files.add_folder(target)
        with named_errors(target):
            fill(folder)
        return
    with WriteSet(force) as own:
        write_folder(target, fill, force, own)
        own.commit()


def require_folder(target: Path, force: bool) -> None:
    """Refuse a target that cannot become a folder of DICOM files.

    Raises
    ------
    OutputExistsError
        If it exists, is not empty, and not ``force``.
    OutputError
        If it is a file, its parent folder does not exist, or it holds more than .dcm files, which ``force`` does not
        replace.
    """
    require_replaceable(target, force, "a DICOM series is a folder", ("*.dcm",))
