"""Discovery of the inputs in a folder of studies: which files and folders a batch works on."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from crnn_cli import notices
from crnn_cli.data.input_files import is_broken_link
from crnn_cli.data.saved_runs import FACTS
from crnn_cli.errors import UnreadableError
from crnn_cli.io.formats import BART, FORMATS, NIFTI, is_dicom_file, is_image, is_kspace, stem
from crnn_cli.io.nifti.intent import LABELS, intent_code
from crnn_cli.io.phase import phase_sibling

JOURNAL = "crnn_batch"
"""Beginning of the names of the journals that a batch keeps in its output folder."""

OUTDATED = f"{JOURNAL}_outdated"
"""Beginning of the names of folders in which a batch keeps earlier outputs of inputs that fail now."""

LABEL_ENDINGS = ("_gt", "_seg", "_dseg", "_label", "_labels", "_mask")
"""Ends of the names of label maps and masks: of ACDC, BIDS, and of the outputs here."""
_MASK = "_mask"
_HEAD = 4096  # bytes that hold a NIfTI header, compressed or not
_MOST_NAMES = 5


def find_inputs(path: Path, leave: Collection[Path] = (), raw: bool = True, labels: bool = False) -> list[Path]:
    """Find the inputs that a path stands for, sorted.

    A file is one input, and so is a folder in which DICOM files lie directly. Any other folder stands for what is in
    it: NIfTI, empty files and links to nothing by name; DICOM, zip archives and raw k-space by content; a folder with
    DICOM files at any depth is one input, of other folders (subjects) every file at any depth. Hidden names, the phase
    beside a magnitude, outputs of a batch, saved runs and files of other formats are left out; label maps and masks
    too, with a note. Where label maps are inputs, masks are left out, and images whose label maps lie beside them.

    Parameters
    ----------
    leave : resolved folders to skip.
    raw, labels : whether raw k-space is an input, and whether label maps are.

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
    candidates = [found for entry in entries for found in _candidates(entry, leave)]
    phases = {sibling for found in candidates if (sibling := phase_sibling(found)) is not None}
    images = [found for found in candidates if found not in phases and _is_input(found, raw)]
    inputs = _with_labels(images) if labels else [found for found in images if not is_label_file(found)]
    left_out = [found for found in images if found not in inputs]
    _tell_left_out([found for found in left_out if is_label_file(found)], path)
    _tell_replaced([found for found in left_out if not is_label_file(found)], path)
    if not inputs:
        others = f"none of the {len(entries)} names in it is" if entries else "it is empty, no"
        others = "it holds label maps alone, no" if images else others
        known = "NIfTI, DICOM or raw k-space" if raw else "NIfTI or DICOM"
        raise UnreadableError(f"the folder {path} holds no input: {others} {known}")
    return inputs


def is_label_file(path: Path) -> bool:
    """Whether a file is a label map or a mask, by the end of its name or by the intent that its NIfTI header states.

    A folder is one if its name ends so, and it holds DICOM SEG alone.
    """
    name = stem(path).name.lower()
    if path.is_dir():
        return name.endswith(LABEL_ENDINGS) and _holds_segs(path)
    if not path.name.lower().endswith(NIFTI.suffixes):
        return False
    if name.endswith(LABEL_ENDINGS):
        return True
    try:
        with path.open("rb") as stream:
            return intent_code(stream.read(_HEAD)) == LABELS
    except (OSError, zlib.error):
        return False  # reading it will say why


def _holds_segs(folder: Path) -> bool:
    from crnn_cli.io.dicom.seg_series import is_seg

    return is_seg(folder)


def _with_labels(images: Sequence[Path]) -> list[Path]:
    """Label maps, and images without one beside them: ``cine_labels.nii.gz`` stands for ``cine.nii.gz``."""
    masks = [found for found in images if is_label_file(found) and stem(found).name.lower().endswith(_MASK)]
    stems = {found.parent / stem(found).name for found in images if found not in masks and is_label_file(found)}
    labelled = {each.with_name(each.name[: -len(end)]) for each in stems for end in LABEL_ENDINGS
                if each.name.lower().endswith(end) and len(each.name) > len(end)}  # fmt: skip
    return [
        found for found in images
        if found not in masks and (is_label_file(found) or found.parent / stem(found).name not in labelled)
    ]  # fmt: skip


def name_of(path: Path, given: Path) -> str:
    """Name of an input in names of outputs: that of its file, after those of its folders below the one given.

    The folders are left out where the file carries the name of the first of them, as in BIDS.

    >>> name_of(Path("study/anna/cine.nii.gz"), Path("study"))
    'anna_cine'
    >>> name_of(Path("study/sub-1/anat/sub-1_cine.nii"), Path("study"))
    'sub-1_cine'
    """
    name = stem(path).name
    folders = path.relative_to(given).parts[:-1] if path != given and path.is_relative_to(given) else ()
    return name if not folders or name.startswith(folders[0]) else "_".join((*folders, name))


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


def _candidates(path: Path, leave: Collection[Path]) -> list[Path]:
    """What an entry of a folder may stand for: a file, a folder with DICOM in it, or the files in another folder."""
    if not path.is_dir():
        return [path]
    if path.resolve() in leave or path.name.startswith(OUTDATED):
        return []
    files = [file for file in _files(path, leave) if not _is_hidden(file, path)]
    return [path] if any(map(is_dicom_file, files)) else files


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _tell_left_out(labels: Sequence[Path], folder: Path) -> None:
    """Tell which label maps were left out."""
    if not labels:
        return
    names = ", ".join(file.name for file in labels[:_MOST_NAMES]) + (" ..." if len(labels) > _MOST_NAMES else "")
    what = "1 label map or mask is" if len(labels) == 1 else f"{len(labels)} label maps or masks are"
    notices.note("labels-left-out", f"{what} left out of {folder}: {names}")


def _tell_replaced(images: Sequence[Path], folder: Path) -> None:
    """Tell which images were left out for their label maps."""
    if not images:
        return
    names = ", ".join(file.name for file in images[:_MOST_NAMES]) + (" ..." if len(images) > _MOST_NAMES else "")
    what = "1 image is" if len(images) == 1 else f"{len(images)} images are"
    notices.note("labels-stand-for-images", f"{what} left out of {folder}, as label maps lie beside: {names}")


def _is_input(path: Path, raw: bool) -> bool:
    if path.is_dir():
        return True
    if path.name.lower().endswith(NIFTI.suffixes):
        return True
    if path.suffix == BART.suffixes[1] and path.with_suffix(BART.suffixes[0]).is_file():
        return False  # of a pair the .cfl stands for both
    try:
        return _is_lost(path, raw) or (path.is_file() and (is_image(path) or (raw and is_kspace(path))))
    except (UnreadableError, OSError):
        return True  # reading it will say why


def _is_lost(path: Path, raw: bool) -> bool:
    """Whether a name promises an input that is not there: an empty file, or a link to nothing."""
    rows = [row for row in FORMATS if raw or row.kind != "kspace"]
    promising = [suffix for row in rows for suffix in row.suffixes if suffix != BART.suffixes[1]]
    if not path.name.lower().endswith(tuple(promising)):
        return False
    return not path.stat().st_size if path.is_file() else is_broken_link(path)


def _files(folder: Path, leave: Collection[Path]) -> Iterator[Path]:
    """Yield the files of a folder and its subfolders, but for those that a batch wrote to, and those of runs."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    if any(map(_is_journal, entries)) or (folder / FACTS).is_file():
        return
    for path in entries:
        if path.is_file() or is_broken_link(path):
            yield path
        elif (
            path.is_dir()
            and not path.is_symlink()
            and not path.name.startswith(OUTDATED)
            and path.resolve() not in leave
        ):
            yield from _files(path, leave)
