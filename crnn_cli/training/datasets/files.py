"""Descriptions of data sets: dataset.json of the Decathlon and of nnU-Net, and manifests in CSV.

dataset.json names the label values in one of two dialects, {"1": "anterior"} (Medical Segmentation Decathlon) or
{"anterior": 1} (nnU-Net v2); nnU-Net adds the channels and the ending of the files.

A manifest has a header of columns: image and label, paths relative to the CSV file; and optionally split (train, val or
test), subject, and structures: names, with semicolons between them, of the values 1, 2, ... of a file in which only
these are labelled. An image may be a folder.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crnn_cli.bundles.checks import check_keys
from crnn_cli.bundles.config import read_object
from crnn_cli.data.input_files import read_small
from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.nifti.image import SUFFIXES

DESCRIPTION = "dataset.json"
SPLITS = ("train", "val", "test")
_NEEDED, _OPTIONAL = ("image", "label"), ("split", "subject", "structures")


@dataclass(frozen=True)
class DatasetDescription:
    """Content of dataset.json.

    Attributes
    ----------
    names : of the label values but 0.
    endings : that image and label files may have.
    """

    names: dict[int, str]
    endings: tuple[str, ...]


@dataclass(frozen=True)
class ManifestRow:
    """A line of a manifest.

    Attributes
    ----------
    line : its number.
    cells : by column.
    problems : of the line by itself, as sentences.
    """

    line: int
    cells: dict[str, str]
    problems: tuple[str, ...]


def read_description(folder: Path) -> DatasetDescription:
    """Read the dataset.json of a folder; without one, no names are known and any NIfTI file will do.

    Raises
    ------
    UnreadableError
        If it is not JSON, or its labels are in neither dialect.
    UnsupportedDataError
        If it describes several channels, regions of several labels, an "ignore" label, or files that are not NIfTI.
    """
    file = folder / DESCRIPTION
    if not file.exists():
        return DatasetDescription({}, SUFFIXES)
    content = read_object(file)
    channels = content.get("channel_names", content.get("modality", {}))
    if isinstance(channels, dict | list) and len(channels) > 1:
        raise UnsupportedDataError(
            f"{file} lists {len(channels)} channels; single-channel images are trained on: take one of them"
        )
    ending = content.get("file_ending")
    if ending is not None and ending not in SUFFIXES:
        raise UnsupportedDataError(f"{file} is about files that end in {ending!r}; convert them to .nii.gz")
    return DatasetDescription(_names(content.get("labels", {}), file), SUFFIXES if ending is None else (ending,))


def _names(labels: Any, file: Path) -> dict[int, str]:
    """Names of the label values in either dialect, without the background."""
    if not isinstance(labels, dict):
        raise UnreadableError(f"{file}: labels is no JSON object")
    if any(isinstance(value, list) for value in labels.values()):
        raise UnsupportedDataError(
            f"{file} describes regions, each of several labels; one label is learned for each voxel: name single values"
        )
    if all(key.isdecimal() and isinstance(value, str) for key, value in labels.items()):
        named = [(int(key), value) for key, value in labels.items()]
    elif all(type(value) is int for value in labels.values()):
        named = [(value, key) for key, value in labels.items()]
    else:
        raise UnreadableError(f'{file}: labels must be written as {{"1": "name"}} or as {{"name": 1}}')
    if "ignore" in [name.strip().lower() for _, name in named]:
        raise UnsupportedDataError(
            f'{file} has a label "ignore", for voxels that nobody labelled; every voxel is learned from here: '
            "label these, or leave such images out"
        )
    found = {value: name.strip() for value, name in sorted(named) if value != 0}
    structures = sum(value != 0 for value, _ in named)
    if len(found) < structures or len(set(found.values())) < structures or not all(found.values()):
        raise UnreadableError(f"{file}: every label needs a value and a name of its own")
    if not all(1 <= value <= 255 for value in found):
        raise UnreadableError(f"{file}: labels have the values {list(found)}; they must be from 1 to 255")
    return found


def read_rows(file: Path) -> list[ManifestRow]:
    """Read the lines of a manifest that are not blank.

    Raises
    ------
    UnreadableError
        If it is no CSV text, or its header lacks a needed column, has an unknown one (the message names the nearest
        known one), or one twice.
    """
    try:
        text = read_small(file).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except (ValueError, csv.Error) as error:
        raise UnreadableError(f"{file} is not readable as CSV: {error}") from None
    if any("\0" in cell for _, cells in lines for cell in cells):
        raise UnreadableError(f"{file} is not readable as CSV: it holds zero bytes; save it as UTF-8 text")
    lines = [(number, cells) for number, cells in lines if any(cells)]
    header = lines[0][1] if lines else []
    check_keys(str(file), header, _NEEDED + _OPTIONAL, complete=False, noun="column")
    for column in _NEEDED:
        if column not in header:
            raise UnreadableError(f"{file} lacks the column {column!r}; its first line must be image,label")
    if len(set(header)) < len(header):
        raise UnreadableError(f"{file} has a column twice: {', '.join(header)}")
    return [_row(number, header, cells, file.parent) for number, cells in lines[1:]]


def _row(line: int, header: list[str], cells: list[str], folder: Path) -> ManifestRow:
    if len(cells) != len(header):
        return ManifestRow(line, {}, (f"it has {len(cells)} cells, the header {len(header)}",))
    row = dict(zip(header, cells, strict=True))
    problems = [f"{column} is empty" for column in header if not row[column] and column != "structures"]
    problems += [f"{row[c]} does not exist" for c in _NEEDED if row[c] and not _exists(folder / row[c])]
    if row["label"] and _is_folder(folder / row["label"]):
        problems.append(f"{row['label']} is a folder; labels are a NIfTI file")
    if row["image"] and row["image"] == row["label"]:
        problems.append(f"image and label are the same file, {row['image']}")
    if row.get("split") and row["split"] not in SPLITS:
        problems.append(f"split is {row['split']!r}; it must be train, val or test")
    named = structures_of(row)
    if not all(named) or len(set(named)) < len(named):
        problems.append(f"structures is {row['structures']!r}; it must be names that differ, with semicolons between")
    return ManifestRow(line, row, tuple(problems))


def structures_of(cells: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the structures that a line says are labelled; empty where all are.

    >>> structures_of({"structures": "left ventricle; myocardium"}), structures_of({})
    (('left ventricle', 'myocardium'), ())
    """
    listed = cells.get("structures", "")
    return tuple(name.strip() for name in listed.split(";")) if listed else ()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file can have, such as one that is too long
        return False


def _is_folder(path: Path) -> bool:
    return _exists(path) and path.is_dir()
