"""Pairs of image file and label file, by their names alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.formats import is_dicom_file
from crnn_cli.io.nifti.image import SUFFIXES

GT = "_gt"
_PART = r"(?:(?:frame|phase|time|timepoint|tp|slice|visit|ses|session)[_-]?\d+|ed|es)"
_PARTS = re.compile(rf"^(?:(.+?)[_. -])??{_PART}(?:[_. -]{_PART})*(?:[_. -][a-z]+)*(?:_0000)?$", re.IGNORECASE)
_BIDS = re.compile(r"(sub-[0-9A-Za-z]+)(?=_|$)")
_FIRST, _SECOND = "_0000", "_0001"  # channels of nnU-Net


@dataclass(frozen=True)
class Match:
    """An image and its labels, either of them None where it is missing.

    Attributes
    ----------
    name : of the volume.
    problem : of the names, a sentence; "" for none.
    """

    name: str
    image: Path | None
    labels: Path | None
    problem: str = ""


def subject_of(name: str) -> str:
    """Subject that a volume is of, by its name: BIDS, or without frame, phase, slice or visit at its end.

    >>> subject_of("patient021_frame13"), subject_of("sub-07_ses-2_cine"), subject_of("A0S9V9_sa_ED")
    ('patient021', 'sub-07', 'A0S9V9_sa')
    >>> subject_of("hippocampus_001"), subject_of("frame01")
    ('hippocampus_001', '')

    Returns
    -------
    The name itself where nothing in it says that there are more of the subject; "" where it names a part alone.
    """
    bids, parts = _BIDS.match(name), _PARTS.match(name)
    if bids:
        return bids[1]
    return name if parts is None else parts[1] or ""


def visible(folder: Path) -> list[Path]:
    """Entries of a folder whose names do not start with a dot, sorted; none if there is no such folder.

    Raises
    ------
    UnreadableError
        If it may not be read.
    """
    try:
        return sorted(f for f in folder.iterdir() if not f.name.startswith(".")) if folder.is_dir() else []
    except OSError as error:
        raise UnreadableError(f"{folder} cannot be read: {error.strerror}") from None


def nifti_files(folder: Path, endings: Sequence[str] = SUFFIXES) -> list[Path]:
    """Visible NIfTI files of a folder whose names have one of the endings, sorted."""
    return [f for f in visible(folder) if ending_of(f) in endings and f.is_file()]


def image_places(folder: Path, endings: Sequence[str] = SUFFIXES) -> list[Path]:
    """Images of a folder, sorted: NIfTI files, and folders with DICOM files in or below them."""
    return sorted(nifti_files(folder, endings) + [f for f in visible(folder) if f.is_dir() and _holds_dicom(f)])


def _holds_dicom(folder: Path) -> bool:
    return any(file.is_file() and is_dicom_file(file) for file in folder.rglob("*"))


def ending_of(file: Path) -> str:
    """Ending of a NIfTI file; "" for another file.

    >>> ending_of(Path("scan.nii.gz")), ending_of(Path("scan.txt"))
    ('.nii.gz', '')
    """
    return next((ending for ending in (".nii.gz", ".nii") if file.name.endswith(ending)), "")


def stem(file: Path) -> str:
    """Name of a NIfTI file without its ending.

    >>> stem(Path("data/scan.nii.gz"))
    'scan'
    """
    return file.name.removesuffix(ending_of(file))


def match_folders(images: Path, labels: Path, endings: Sequence[str]) -> list[Match]:
    """Match NAME or NAME_0000 in one folder with NAME in the other.

    An image may be a folder of DICOM files.

    Parameters
    ----------
    images, labels : the folders.
    endings : that files may have.

    Returns
    -------
    Matches of all labels first, then images without labels, then names that occur twice.

    Raises
    ------
    UnsupportedDataError
        If a labelled image has a second channel, NAME_0001.
    """
    image_of, doubled_images = _by_stem(image_places(images, endings))
    labels_of, doubled_labels = _by_stem(nifti_files(labels, endings))
    matches, used = [], set()
    for name, file in labels_of.items():
        first, second = (name + channel for channel in (_FIRST, _SECOND))
        own = first if name not in image_of and first not in labels_of else name
        if own == first in image_of and second in image_of and second not in labels_of:
            raise UnsupportedDataError(
                f"{images} holds several channels of {name}, {first} and {second}; single-channel images are trained "
                "on: take one of them"
            )
        problem = "" if own in image_of else f"{labels.name}/{file.name} has no image in {images.name}/"
        matches.append(Match(name, image_of.get(own), file, problem))
        used.add(own)
    alone = [(name, file) for name, file in image_of.items() if name not in used]
    matches += [Match(n, f, None, f"{images.name}/{f.name} has no labels in {labels.name}/") for n, f in alone]
    return matches + doubled_images + doubled_labels


def match_gt(folder: Path, endings: Sequence[str]) -> list[Match]:
    """Match NAME with NAME_gt in a folder.

    Parameters
    ----------
    folder : of images and labels.
    endings : that files may have.

    Returns
    -------
    Matches of all labels first, then images without labels, then names that occur twice.
    """
    file_of, doubled = _by_stem(nifti_files(folder, endings))
    labelled = [name for name in file_of if name.endswith(GT)]
    matches = []
    for name, labels in ((name.removesuffix(GT), file_of[name]) for name in labelled):
        problem = "" if name in file_of else f"{labels.name} has no image {name}{ending_of(labels)} beside it"
        matches.append(Match(name, file_of.get(name), labels, problem))
    alone = [(name, file) for name, file in file_of.items() if not name.endswith(GT) and name + GT not in file_of]
    matches += [Match(n, f, None, f"{f.name} has no labels {n}{GT}{ending_of(f)} beside it") for n, f in alone]
    return matches + doubled


def _by_stem(files: Sequence[Path]) -> tuple[dict[str, Path], list[Match]]:
    """Files by their names without ending (.nii.gz before .nii), and the names that occur twice."""
    found: dict[str, Path] = {}
    doubled = []
    for file in files:
        name = stem(file)
        if name in found:
            text = f"{file.parent.name}/ holds both {found[name].name} and {file.name}; keep one of them"
            doubled.append(Match(name, None, None, text))
        found[name] = file
    return found, doubled
