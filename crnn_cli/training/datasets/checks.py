"""Check of training data before training: every file is read once, and all problems are reported together."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from crnn_cli.data.image import Array, Image
from crnn_cli.errors import CrnnError, UnsupportedDataError
from crnn_cli.io.nifti.image import read_image
from crnn_cli.training.datasets.names import stem
from crnn_cli.training.datasets.sets import LabelledSet, Pair, grid_differences, label_values
from crnn_cli.training.datasets.volumes import on_axes_of, read_only_series

MIN_FRAMES, MIN_SIDE = 4, 32
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CheckedVolume:
    """Result of the check of a file, or of an image and its labels.

    Attributes
    ----------
    name : of the volume.
    shape, spacing : of the image, spacing in mm along x, y, z; empty where it cannot be read.
    values : of the labels, ascending; empty where there are none.
    problems : sentences; with any of them the volume cannot be trained on.
    notes : sentences about what is unusual but can be trained on.
    grid : position of the image in space, with an array that has a shape and no values.
    """

    name: str
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    values: tuple[int, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    grid: Image | None = field(default=None, compare=False)


def check_labelled(
    found: LabelledSet, classes: int | None = None, progress: Progress = lambda done, total: None
) -> list[CheckedVolume]:
    """Check every pair of image and labels of a set.

    Whatever a file holds, nothing is raised. One pair is in memory at a time.

    Parameters
    ----------
    found : the set.
    classes : of the network to be trained, with the background; None if not known.
    progress : called with (pairs done, pairs in all).

    Returns
    -------
    One result for each pair, in their order.
    """
    checked = []
    for pair in found.pairs:
        checked.append(_check_pair(pair, classes, found.names))
        progress(len(checked), len(found.pairs))
    return checked


def check_cines(files: Sequence[Path], progress: Progress = lambda done, total: None) -> list[CheckedVolume]:
    """Check that files are cines.

    A cine has four axes x, y, z, t, at least 4 frames of 32 x 32 pixels, is finite and moves. A magnitude series that
    was undersampled is not recognised: it would teach the network artefacts. Whatever a file holds, nothing is raised.
    One file is in memory at a time.

    Parameters
    ----------
    files : NIfTI files, or folders of one DICOM series.
    progress : called with (files done, files in all).

    Returns
    -------
    One result for each file, in their order, named by the path below their common folder.
    """
    base = Path(os.path.commonpath([file.parent for file in files])) if files else Path()
    checked = []
    for file in files:
        name = file.relative_to(base).with_name(stem(file) or file.name).as_posix()
        problems: list[str] = []
        image = _read(read_only_series, file, problems)
        if image is not None:
            problems += _cine_problems(image, file)
        checked.append(_checked(name, image, (), problems, []))
        progress(len(checked), len(files))
    return checked


def _check_pair(pair: Pair, classes: int | None, names: Mapping[int, str]) -> CheckedVolume:
    problems: list[str] = []
    notes: list[str] = []
    values: tuple[int, ...] = ()
    image, labels = _read(read_only_series, pair.image, problems), _read(read_image, pair.labels, problems)
    if image is not None:
        problems += _volume_problems(image, pair.image)
    if image is not None and labels is not None:
        labels = on_axes_of(image, labels)
        problems += grid_differences(image, labels)
    whole = None if labels is None else label_values(labels.array)
    if labels is not None and whole is None:
        problems.append(f"the labels hold {_describe_bad_labels(labels.array)}; labels are whole numbers from 0 to 255")
    if whole is not None:
        values = tuple(int(value) for value in np.unique(whole))
        problems += _value_problems(values, classes, names)
        if pair.structures and values[-1] > len(pair.structures):
            problems.append(f"the labels hold {values[-1]}, and the manifest names {len(pair.structures)} structure(s)")
        if values == (0,):
            notes.append("the labels are all background")
    return _checked(pair.name, image, values, problems, notes)


def _checked(
    name: str, image: Image | None, values: tuple[int, ...], problems: list[str], notes: list[str]
) -> CheckedVolume:
    if image is None:
        return CheckedVolume(name, values=values, problems=tuple(problems), notes=tuple(notes))
    grid = replace(image, array=np.broadcast_to(np.float32(0), image.shape))
    return CheckedVolume(name, image.shape, image.spacing, values, tuple(problems), tuple(notes), grid)


def _read(reader: Callable[[Path], Image], file: Path, problems: list[str]) -> Image | None:
    """The image, or None and one more problem."""
    try:
        return reader(file)
    except CrnnError as error:
        problems.append(str(error))
    except OSError as error:
        problems.append(f"{file} cannot be read: {error.strerror}")
    except MemoryError:
        problems.append(f"{file} does not fit into memory")
    return None


def _volume_problems(image: Image, file: Path) -> list[str]:
    """Reasons why an image cannot be learned from as a volume."""
    found = []
    if image.array.ndim != 3:
        found.append(f"the image is a series of {image.frames} frames; labels are learned from volumes, x, y, z")
    if image.is_complex:
        found.append("the image is complex; labels are learned from magnitude images")
    found += _not_finite(image, file)
    if (image.array == image.array[(0,) * image.array.ndim]).all():
        found.append(f"the image is the same everywhere: {image.array.flat[0]:g}")
    return found


def _cine_problems(image: Image, file: Path) -> list[str]:
    """Reasons why an image cannot be learned from as a cine."""
    found = []
    if image.array.ndim != 4:
        found.append(f"it has three axes, {' x '.join(map(str, image.shape))}; a cine has four, x, y, z, t")
    elif image.frames < MIN_FRAMES:
        found.append(f"it has {image.frames} frames; at least {MIN_FRAMES} are needed")
    if min(image.shape[:2]) < MIN_SIDE:
        sides = f"{image.shape[0]} x {image.shape[1]}"
        found.append(f"its slices have {sides} pixels; at least {MIN_SIDE} x {MIN_SIDE} are needed")
    found += _not_finite(image, file)
    if image.frames > 1 and (image.array == image.array[..., :1]).all():
        found.append("all frames are the same; nothing moves")
    return found


def _not_finite(image: Image, file: Path) -> list[str]:
    try:
        image.require_finite(file.name)
    except UnsupportedDataError as error:
        return [str(error)]
    return []


def _describe_bad_labels(array: Array) -> str:
    """The first value that is no label, in words."""
    if np.iscomplexobj(array):
        return "complex numbers"
    flat = array.ravel()
    bad = ~np.isin(flat, np.arange(256))
    return f"{flat[np.argmax(bad)]:g}, {int(bad.sum())} such voxels in all"


def _value_problems(values: tuple[int, ...], classes: int | None, names: Mapping[int, str]) -> list[str]:
    """Label values that are not among those that can be learned, as sentences."""
    found = []
    above = [value for value in values if classes is not None and value >= classes]
    if above and classes is not None:
        learned = f"with {classes} classes, the background among them, labels go from 0 to {classes - 1}"
        found.append(f"the labels hold {_listed(above)}; {learned}")
    unknown = [value for value in values if names and value and value not in names]
    if unknown:
        found.append(f"the labels hold {_listed(unknown)}, which dataset.json does not name")
    return found


def _listed(values: Sequence[int]) -> str:
    return ", ".join(str(value) for value in values)
