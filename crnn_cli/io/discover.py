"""Discovery of the inputs in a folder of studies: which files and folders a batch works on."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from crnn_cli.errors import UnreadableError
from crnn_cli.io.formats import BART, NIFTI, is_dicom_file, is_image, is_kspace
from crnn_cli.io.phase import phase_sibling

JOURNAL = "crnn_batch"
"""Beginning of the names of the journals that a batch keeps in its output folder."""


def find_inputs(path: Path, leave: Collection[Path] = (), raw: bool = True) -> list[Path]:
    """Find the inputs that a path stands for, sorted.

    A file is one input, and so is a folder in which DICOM files lie directly. Any other folder stands for the entries
    directly in it: NIfTI by name; DICOM, zip archives and raw k-space by content; folders with DICOM files at any
    depth. Hidden names, the phase beside a magnitude, outputs of a batch and files of other formats are left out.

    Parameters
    ----------
    leave : resolved folders to skip.
    raw : whether raw k-space is an input.

    Raises
    ------
    UnreadableError
        If the folder cannot be read, or holds no input.
    """
    if not path.is_dir() or _is_study(path):
        return [path]
    try:
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise UnreadableError(f"the folder {path} cannot be read: {error.strerror}") from None
    phases = {sibling for entry in entries if (sibling := phase_sibling(entry)) is not None}
    inputs = [entry for entry in entries if entry not in phases and _is_input(entry, leave, raw)]
    if not inputs:
        others = f"none of the {len(entries)} names in it is" if entries else "it is empty, no"
        known = "NIfTI, DICOM or raw k-space" if raw else "NIfTI or DICOM"
        raise UnreadableError(f"the folder {path} holds no input: {others} {known}")
    return inputs


def is_output(folder: Path) -> bool:
    """Whether a batch wrote its outputs to a folder."""
    return folder.is_dir() and any(map(_is_journal, folder.iterdir()))


def _is_journal(path: Path) -> bool:
    return path.name.startswith(JOURNAL) and path.suffix == ".jsonl"


def _is_study(folder: Path) -> bool:
    """Whether DICOM files lie directly in a folder."""
    try:
        return any(
            path.name.upper() == "DICOMDIR" or (path.is_file() and is_dicom_file(path)) for path in folder.iterdir()
        )
    except OSError as error:
        raise UnreadableError(f"the folder {folder} cannot be read: {error.strerror}") from None


def _is_input(path: Path, leave: Collection[Path], raw: bool) -> bool:
    if path.is_dir():
        return path.resolve() not in leave and any(map(is_dicom_file, _files(path, leave)))
    if path.name.lower().endswith(NIFTI.suffixes):
        return True
    if path.suffix == BART.suffixes[1] and path.with_suffix(BART.suffixes[0]).is_file():
        return False  # of a pair the .cfl stands for both
    try:
        return path.is_file() and (is_image(path) or (raw and is_kspace(path)))
    except UnreadableError:
        return True  # reading it will say why


def _files(folder: Path, leave: Collection[Path]) -> Iterator[Path]:
    """Yield the files of a folder and its subfolders, but for those that a batch wrote to."""
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
