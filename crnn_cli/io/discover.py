"""What inputs a folder of studies holds, told by content."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from crnn_cli.errors import UnreadableError
from crnn_cli.io.images import has_dicom_preamble, is_dicom
from crnn_cli.io.kspace.read import is_raw
from crnn_cli.io.nifti.image import SUFFIXES
from crnn_cli.io.phase import phase_sibling

JOURNAL = "crnn_batch"
"""How the names of the records begin that a batch keeps in the folder of its outputs."""


def find_inputs(place: Path, leave: Collection[Path] = (), raw: bool = True) -> list[Path]:
    """Return the inputs that a name stands for, sorted.

    A file is one, and so is a folder in which DICOM files lie directly. Any other folder stands for what lies directly
    in it: NIfTI by name, DICOM, zip and raw k-space by content, and folders with DICOM files somewhere in them. Hidden
    names, the phase beside a magnitude, outputs of a batch and files of other kinds are left out.

    leave : resolved folders that are not looked at. raw : whether raw k-space is an input.

    Raises
    ------
    UnreadableError
        If the folder cannot be read, or holds no input.
    """
    if not place.is_dir() or _is_study(place):
        return [place]
    try:
        entries = sorted(path for path in place.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UnreadableError(f"the folder {place} cannot be read: {error.strerror}") from None
    phases = {sibling for path in entries if (sibling := phase_sibling(path)) is not None}
    found = [path for path in entries if path not in phases and _is_input(path, leave, raw)]
    if not found:
        others = f"none of the {len(entries)} names in it is" if entries else "it is empty, no"
        known = "NIfTI, DICOM or raw k-space" if raw else "NIfTI or DICOM"
        raise UnreadableError(f"the folder {place} holds no input: {others} {known}")
    return found


def is_output(folder: Path) -> bool:
    """Return whether a batch wrote to a folder."""
    return folder.is_dir() and any(map(_is_journal, folder.iterdir()))


def _is_journal(path: Path) -> bool:
    return path.name.startswith(JOURNAL) and path.suffix == ".jsonl"


def _is_study(folder: Path) -> bool:
    """Return whether DICOM files lie directly in a folder."""
    try:
        return any(
            path.name.upper() == "DICOMDIR" or (path.is_file() and has_dicom_preamble(path))
            for path in folder.iterdir()
        )
    except OSError as error:
        raise UnreadableError(f"the folder {folder} cannot be read: {error.strerror}") from None


def _is_input(path: Path, leave: Collection[Path], raw: bool) -> bool:
    if path.is_dir():
        return path.resolve() not in leave and any(map(has_dicom_preamble, _files(path, leave)))
    if path.name.lower().endswith(SUFFIXES):
        return True
    if path.suffix == ".hdr" and path.with_suffix(".cfl").is_file():
        return False  # of a pair the .cfl stands for both
    try:
        return path.is_file() and (is_dicom(path) or (raw and is_raw(path)))
    except UnreadableError:
        return True  # reading it will say why


def _files(folder: Path, leave: Collection[Path]) -> Iterator[Path]:
    """Yield the files of a folder and its folders; not of those that a batch wrote to."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    if any(map(_is_journal, entries)):
        return
    for path in entries:
        if path.is_file():
            yield path
        elif path.is_dir() and not path.is_symlink() and path.resolve() not in leave:
            yield from _files(path, leave)
