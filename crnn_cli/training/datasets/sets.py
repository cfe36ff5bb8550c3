"""Labelled volumes and cines on disk: finding them, splitting them, and reading a labelled volume.

Layouts of labelled volumes (.nii or .nii.gz; hidden files are ignored):

imagesTr/NAME.nii.gz, labelsTr/NAME.nii.gz    Medical Segmentation Decathlon; images of nnU-Net are NAME_0000.nii.gz
images/NAME.nii.gz, labels/NAME.nii.gz        the same; whose a volume is says its name, see `subject_of`
imagesTr/NAME/, labelsTr/NAME.nii.gz          the image a folder of DICOM files, one series; also in images/
SUBJECT/NAME.nii.gz, SUBJECT/NAME_gt.nii.gz   ACDC
NAME.nii.gz, NAME_gt.nii.gz                   the same by their names
MANIFEST.csv                                  see `crnn_cli.training.datasets.files`; the only layout that names the
                                              training split; an image may be a folder, zip or file of one DICOM series

Labels are NIfTI. Labels stored with other axes than the image are reoriented to it, never resampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.image import Array, Image
from crnn_cli.data.input_files import is_broken_link
from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.formats import is_dicom, is_dicom_file
from crnn_cli.io.nifti.image import SUFFIXES, read_image
from crnn_cli.training.datasets.files import DatasetDescription, ManifestRow, read_description, read_rows, structures_of
from crnn_cli.training.datasets.names import (
    GT,
    Match,
    image_places,
    match_folders,
    match_gt,
    nifti_files,
    stem,
    subject_of,
    visible,
)
from crnn_cli.training.datasets.volumes import on_axes_of, read_only_series

_TWO_FOLDERS = (("imagesTr", "labelsTr"), ("images", "labels"))
_FLAT, _OF_SUBJECTS = "NAME.nii.gz with NAME_gt.nii.gz", "SUBJECT/NAME.nii.gz with SUBJECT/NAME_gt.nii.gz"
_TOLD = 5  # problems in a message


@dataclass(frozen=True)
class Pair:
    """A labelled volume on disk.

    Attributes
    ----------
    name : of the image file without its ending, with its folder where two have the same name; unique in a set.
    subject : whose it is; subjects are never divided between training and test.
    image, labels : files; the image may be a folder.
    split : "train", "val" or "test" where a manifest says so, else "".
    structures : names of the values 1, 2, ... where a manifest says that only these are labelled; else empty.
    """

    name: str
    subject: str
    image: Path
    labels: Path
    split: str = ""
    structures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """A problem of a data set.

    Attributes
    ----------
    name : of the volume, or "line 3" of a manifest.
    text : a sentence.
    """

    name: str
    text: str


@dataclass(frozen=True)
class LabelledSet:
    """Labelled volumes, and what their file names alone tell.

    Attributes
    ----------
    pairs : at least one, in a fixed order.
    names : of label values, as far as known.
    layout : in a phrase.
    problems : labels without image, images without labels, broken lines of a manifest.
    notes : images beside labelled ones of the same subject, such as a whole cine; nothing is wrong with that.
    """

    pairs: tuple[Pair, ...]
    names: dict[int, str]
    layout: str
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()


def find_labelled(source: Path) -> LabelledSet:
    """Find the labelled volumes of a folder or of a CSV manifest; the layouts are at the top of this file.

    Raises
    ------
    UnreadableError
        If the source does not exist, no layout fits, no image has labels, or dataset.json or the manifest is broken.
    UnsupportedDataError
        If two layouts fit, images have several channels, or dataset.json describes what cannot be learned.
    """
    if source.is_dir():
        found = _in_folder(source)
    elif not source.exists():
        raise UnreadableError(f"{source} does not exist")
    elif source.suffix.lower() == ".csv":
        found = _of_manifest(source)
    else:
        raise UnreadableError(f"{source} is neither a folder nor a CSV manifest; name the folder of the labelled data")
    if not found.pairs:
        told = "; ".join(f"{p.name}: {p.text}" for p in found.problems[:_TOLD]) or "it lists none"
        more = f" (and {len(found.problems) - _TOLD} more)" if len(found.problems) > _TOLD else ""
        raise UnreadableError(f"{source} ({found.layout}) holds no image with labels: {told}{more}")
    return found


def find_cines(source: Path) -> list[Path]:
    """Find the cines in and below a folder: NIfTI files, and folders of one DICOM series.

    Hidden files and labels (_gt) are left out.

    Parameters
    ----------
    source : a folder, or one cine.

    Returns
    -------
    Paths, sorted.

    Raises
    ------
    UnreadableError
        If there are none, or the source does not exist.
    """
    if source.is_file() and (source.name.endswith(SUFFIXES) or is_dicom(source)):
        return [source]
    if not source.is_dir():
        what = "is neither NIfTI nor DICOM" if source.exists() else "does not exist"
        raise UnreadableError(f"{source} {what}; name a folder of cines, .nii or .nii.gz, or one of them")
    below = [f for f in source.rglob("*") if not any(p.startswith(".") for p in f.relative_to(source).parts)]
    files = {f for f in below if f.name.endswith(SUFFIXES) and not stem(f).endswith(GT)}
    files = {f for f in files if f.is_file() or is_broken_link(f)}  # that it is broken is told with what else is wrong
    folders = {f for f in [source, *below] if f.is_dir() and any(is_dicom_file(g) for g in f.iterdir() if g.is_file())}
    if not files | folders:
        raise UnreadableError(f"{source} holds no cines: no .nii or .nii.gz files in it or below it, and no DICOM")
    return sorted(files | folders)


def split_pairs(pairs: Sequence[Pair], fold: int, folds: int) -> tuple[list[Pair], list[Pair]]:
    """Split pairs into training and test by subject.

    Parameters
    ----------
    pairs : in any order.
    fold, folds : every ``folds``-th subject by name, from number ``fold``, is for the test.

    Returns
    -------
    (training, test) pairs.
    """
    subjects = sorted({pair.subject for pair in pairs})
    test = set(subjects[fold::folds])
    return [p for p in pairs if p.subject not in test], [p for p in pairs if p.subject in test]


def load_pair(pair: Pair) -> tuple[Image, NDArray[np.uint8]]:
    """Read an image and its labels.

    Returns
    -------
    The image, real values as float32, and label values on its grid and axes.

    Raises
    ------
    UnreadableError
        If a file is missing or broken.
    UnsupportedDataError
        If the two lie on different grids, the labels are not whole numbers from 0 to 255, or the image is complex, a
        series, or not finite.
    """
    image = read_only_series(pair.image)
    labels = on_axes_of(image, read_image(pair.labels))
    differences = grid_differences(image, labels)
    if differences:
        raise UnsupportedDataError(f"{pair.labels} lies on another grid than {pair.image}: {'; '.join(differences)}")
    values = label_values(labels.array)
    if values is None:
        raise UnsupportedDataError(f"{pair.labels} holds values that are no labels: whole numbers from 0 to 255")
    if image.array.ndim != 3:
        raise UnsupportedDataError(f"{pair.image} is a series {image.shape}; pairs are volumes, x, y, z")
    if image.is_complex:
        raise UnsupportedDataError(f"{pair.image} is complex; labels are learned from magnitude images")
    image.require_finite(str(pair.image))
    return replace(image, array=image.array.astype(np.float32, copy=False)), values


def label_values(array: Array) -> NDArray[np.uint8] | None:
    """Convert an array to label values, uint8.

    >>> label_values(np.array([0.0, 2.0])), label_values(np.array([0.5]))
    (array([0, 2], dtype=uint8), None)

    Returns
    -------
    None if the conversion would change a value.
    """
    if np.iscomplexobj(array):
        return None
    with np.errstate(invalid="ignore"):
        values = array.astype(np.uint8)
    return values if np.array_equal(values, array) else None


def grid_differences(image: Image, labels: Image) -> list[str]:
    """Compare the grids of an image and its labels, to 0.001 mm.

    Returns
    -------
    Differences in shape, voxel size, direction and position, as sentences; empty if there are none.
    """
    found = []
    if image.shape != labels.shape:
        found.append(f"the labels have {_times(labels.shape)} voxels, the image {_times(image.shape)}")
    ours, theirs = image.affine, labels.affine
    if not np.allclose(ours[:3, :3], theirs[:3, :3], atol=1e-3):
        their_voxels, our_voxels = (np.linalg.norm(affine[:3, :3], axis=0) for affine in (theirs, ours))
        if np.allclose(our_voxels, their_voxels, atol=1e-3):
            found.append("the axes of the labels point elsewhere than those of the image")
        else:
            found.append(f"the labels' voxels measure {_times(their_voxels)} mm, the image's {_times(our_voxels)} mm")
    if not np.allclose(ours[:3, 3], theirs[:3, 3], atol=1e-3):
        distance = np.linalg.norm(ours[:3, 3] - theirs[:3, 3])
        found.append(f"the labels' first voxel lies {distance:.4g} mm from the image's")
    return found


def _times(numbers: Sequence[float] | NDArray[np.float64]) -> str:
    return " x ".join(f"{number:.4g}" for number in numbers)


def _in_folder(folder: Path) -> LabelledSet:
    """Pairs of the one layout that fits a folder."""
    about = read_description(folder)
    two = [(images, labels) for images, labels in _TWO_FOLDERS
           if nifti_files(folder / labels, about.endings) and image_places(folder / images, about.endings)]  # fmt: skip
    subjects = [sub for sub in visible(folder) if sub.is_dir() and not two]
    fitting = [f"{images}/ with {labels}/" for images, labels in two]
    fitting += [_FLAT] * _has_gt(folder, about)
    fitting += [_OF_SUBJECTS] * any(_has_gt(sub, about) for sub in subjects)
    if len(fitting) > 1:
        raise UnsupportedDataError(f"{folder} can be read in two ways, {fitting[0]} or {fitting[1]}; keep one of them")
    if not fitting:
        raise UnreadableError(_nothing(folder))
    if two:
        images, labels = (folder / name for name in two[0])
        return _gathered(folder, about, fitting[0], [("", match_folders(images, labels, about.endings))])
    if fitting == [_FLAT]:
        return _gathered(folder, about, _FLAT, [("", match_gt(folder, about.endings))])
    return _gathered(folder, about, _OF_SUBJECTS, [(sub.name, match_gt(sub, about.endings)) for sub in subjects])


def _has_gt(folder: Path, about: DatasetDescription) -> bool:
    return any(stem(file).endswith(GT) for file in nifti_files(folder, about.endings))


def _nothing(folder: Path) -> str:
    if not visible(folder):
        return f"{folder} is empty"
    two = ", ".join(f"{images}/ with {labels}/" for images, labels in _TWO_FOLDERS)
    return (
        f"{folder} holds none of the layouts of labelled volumes: {two}, {_OF_SUBJECTS}, or {_FLAT} (.nii will do as "
        "well, in images/ also folders of DICOM); for any other, write a CSV manifest with the columns image,label"
    )


def _gathered(
    folder: Path, about: DatasetDescription, layout: str, matches: list[tuple[str, list[Match]]]
) -> LabelledSet:
    """Pairs and problems of the matches of each subject; "" where the names of the volumes say whose they are."""
    pairs: list[Pair] = []
    problems: list[Problem] = []
    notes: list[Problem] = []
    for subject, own in matches:
        labelled = any(match.image and match.labels for match in own)
        for match in own:
            if match.image and match.labels:
                pairs.append(
                    Pair(match.name, subject or subject_of(match.name) or match.name, match.image, match.labels)
                )
            if match.problem:
                beside = subject and labelled and match.image and not match.labels
                name = f"{subject}/{match.name}" if subject else match.name
                (notes if beside else problems).append(Problem(name, match.problem))
    phrase = layout if layout == _OF_SUBJECTS else f"{layout}, subjects by the names of the volumes"
    return LabelledSet(tuple(_told_apart(pairs, folder)), about.names, phrase, tuple(problems), tuple(notes))


def _told_apart(pairs: list[Pair], folder: Path) -> list[Pair]:
    """Pairs, named with their folders if two have the same name."""
    if len({pair.name for pair in pairs}) == len(pairs):
        return pairs
    return [replace(pair, name=_within(folder, _without_ending(pair.image))) for pair in pairs]


def _without_ending(image: Path) -> Path:
    """Path of an image without the ending of its name; the path itself where the name is nothing but the ending."""
    return image.with_name(stem(image)) if stem(image) else image


def _within(folder: Path, path: Path) -> str:
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _of_manifest(file: Path) -> LabelledSet:
    """Pairs of a manifest's good lines, and the problems of the others."""
    pairs, problems = [], []
    lines: dict[Path, int] = {}
    for row in read_rows(file):
        wrong = list(row.problems) + _seen_before(row, file.parent, lines)
        problems += [Problem(f"line {row.line}", text) for text in wrong]
        if not wrong:
            image, labels = file.parent / row.cells["image"], file.parent / row.cells["label"]
            subject, split = (row.cells.get(column, "") for column in ("subject", "split"))
            pairs.append(Pair(stem(image), subject, image, labels, split, structures_of(row.cells)))
    own = any(pair.split for pair in pairs)  # who divides them knows whose they are
    pairs = [
        replace(p, subject=p.subject or ("" if own else subject_of(stem(p.image))) or p.name)
        for p in _told_apart(pairs, file.parent)
    ]
    for subject in sorted({pair.subject for pair in pairs}):
        splits = sorted({pair.split for pair in pairs if pair.subject == subject})
        if len(splits) > 1:
            problems.append(Problem(subject, f"the subject is in {' and in '.join(splits)}; keep it in one of them"))
    return LabelledSet(tuple(pairs), {}, "CSV manifest", tuple(problems))


def _seen_before(row: ManifestRow, folder: Path, lines: dict[Path, int]) -> list[str]:
    """A sentence if an earlier line has the same image; ``lines`` is updated."""
    if not row.cells.get("image"):
        return []
    image = (folder / row.cells["image"]).resolve()
    first = lines.setdefault(_without_ending(image), row.line)
    return [f"{row.cells['image']} is in line {first} already"] if first != row.line else []
