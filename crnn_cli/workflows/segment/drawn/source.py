"""Drawn labels: read, checked, and brought onto the grid of the image.

Legend: X, Y, Z as stored, T frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crnn_cli import notices
from crnn_cli.errors import Param, UnsupportedDataError, UsageError
from crnn_cli.notices import STREAM

if TYPE_CHECKING:
    from crnn_cli.data.image import Image
    from crnn_cli.labels.names import Label
    from crnn_cli.labels.overlap import LabelMap

MOST_LABELS = 255
"""Structures that are told apart at once."""


@dataclass(frozen=True)
class DrawnLabels:
    """Drawn labels on the grid of the image.

    Attributes
    ----------
    values_XYZT : label values, uint16.
    frames : the frames of it that are drawn, from 0.
    name : how messages call the labels.
    known : labels whose names are known, by value.
    source : what a report says of the file.
    path : of the file; None for labels from memory.
    """

    values_XYZT: LabelMap
    frames: tuple[int, ...]
    name: str
    known: dict[int, Label] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None


def load_drawn(
    path: Path, image: Image, frames: frozenset[int] | None, spacing: tuple[float, ...] | None
) -> DrawnLabels:
    """Read drawn labels of a file; see `place_drawn`.

    Parameters
    ----------
    spacing : that was given in place of that of the image, for a file that has lost it too.

    Raises
    ------
    UnreadableError, UnsupportedDataError
        As `crnn_cli.io.images.load_image` and `place_drawn`.
    """
    from crnn_cli.io.images import load_image
    from crnn_cli.workflows.label_scale import SCALE_CODES, with_label_values
    from crnn_cli.workflows.labels import labels_beside
    from crnn_cli.workflows.segment.spacing import with_spacing

    loaded = with_label_values(load_image(path, keep_type=True), certain=True)
    notices.tell(*(each for each in loaded.notes if each.code in SCALE_CODES))
    name = "standard input" if path == STREAM else str(path)
    if loaded.stored_axes < 3:
        raise UnsupportedDataError(
            f"{name} is a 2-D picture {loaded.image.shape}; drawn labels lie on the grid of the image, x, y, z"
        )
    labels = with_spacing(loaded.image, spacing[:3] if spacing else None, name)
    placed = place_drawn(labels, image, frames, name)
    hashed = {f"drawn_{key}": value for key, value in loaded.source.items() if key in ("file", "sha256")}
    return replace(placed, known=placed.known or labels_beside(path), source=hashed, path=path)


def place_drawn(labels: Image, image: Image, frames: frozenset[int] | None, name: str) -> DrawnLabels:
    """Bring drawn labels onto the grid of the image; their axes may be stored in another order and direction.

    Parameters
    ----------
    labels : (x, y, z), or (x, y, z, t) with the frames of the image.
    frames : the frames that are drawn, from 1; None for those that hold labels.
    name : of the labels, in messages.

    Raises
    ------
    UnsupportedDataError
        If the labels are not whole numbers from 0 to 65535, more than 255 differ, there are none, or they lie on
        another grid or have other frames.
    UsageError
        If a frame is named that there is not.
    """
    from crnn_cli.labels.overlap import as_labels

    if labels.array.dtype.kind == "f":
        labels.require_finite(name)
    values = as_labels(labels.array, name)
    _require_few(values, name)
    place = _frame_of_volume(labels, image, frames, name)
    placed = _on_grid(replace(labels, array=values), image, name)
    whole_XYZT = np.zeros((*image.shape[:3], image.frames), np.uint16)
    if place is not None:
        whole_XYZT[..., place] = placed.reshape(image.shape[:3])
    else:
        whole_XYZT[...] = placed.reshape(whole_XYZT.shape)
    known = {label.value: label for label in getattr(labels, "labels", ())}
    return DrawnLabels(whole_XYZT, _drawn_frames(whole_XYZT, frames, name), name, known)


def _require_few(values: LabelMap, name: str) -> None:
    """Refuse a map without a label, or with more than can be told apart."""
    count = int(np.count_nonzero(np.bincount(values.ravel(), minlength=2)[1:]))
    if count == 0:
        raise UnsupportedDataError(
            f"{name} holds no label: no slice is drawn", remedy=("draw the structure in two or three slices first",)
        )
    if count > MOST_LABELS:
        raise UnsupportedDataError(
            f"{name} holds {count} different labels; up to {MOST_LABELS} are told apart",
            remedy=("merge some, or do a part of them at a time",),
        )


def _frame_of_volume(labels: Image, image: Image, frames: frozenset[int] | None, name: str) -> int | None:
    """Frame of the image, from 0, that one drawn volume belongs to; None for a series of labels."""
    most = max(frames) if frames else 1
    if most > image.frames:
        raise UsageError(Param("frames"), f": there is no frame {most}; the image has {image.frames}")
    if labels.frames == 1 and image.frames > 1:
        if frames is None or len(frames) != 1:
            raise UnsupportedDataError(
                f"{name} is one volume, and the image has {image.frames} frames",
                remedy=("say in which frame it was drawn with ", Param("frames", "1"), ", counted from 1"),
            )
        return most - 1
    if labels.frames != image.frames:
        drawn = f"{labels.frames} frames" if labels.frames > 1 else "one frame"
        there = f"{image.frames} frames" if image.frames > 1 else "one volume"
        raise UnsupportedDataError(
            f"{name} has {drawn}, and the image is {there}",
            remedy=("give the labels of this image",),
        )
    return None if image.frames > 1 else 0


def _on_grid(labels: Image, image: Image, name: str) -> LabelMap:
    """Label values with the axes of the image.

    Raises
    ------
    UnsupportedDataError
        If the labels lie on another grid.
    """
    from crnn_cli.data.alignment import padded_to, turned_to

    volume = image if labels.frames > 1 or image.frames == 1 else replace(image, array=image.array[..., 0])
    turned = turned_to(labels, volume)
    if turned is None:
        turned = padded_to(labels, volume.affine, (*volume.shape[:3], volume.frames))
    if turned is None:
        raise UnsupportedDataError(
            f"{name} does not lie on the grid of the image: {_grid(labels)} against {_grid(volume)}",
            remedy=("draw on the image itself, or resample the labels onto its grid, nearest neighbour",),
        )
    return turned.array.astype(np.uint16)


def _grid(image: Image) -> str:
    """Shape, voxel size and first corner of a grid in words."""
    shape, spacing, corner = image.shape[:3], image.spacing, image.affine[:3, 3]
    sizes = " x ".join(map(str, shape)), " x ".join(f"{v:.4g}" for v in spacing), ", ".join(f"{v:.4g}" for v in corner)
    return f"{sizes[0]} voxels of {sizes[1]} mm from ({sizes[2]})"


def _drawn_frames(values_XYZT: LabelMap, frames: frozenset[int] | None, name: str) -> tuple[int, ...]:
    """Frames that are drawn, from 0."""
    labelled = np.flatnonzero(values_XYZT.any(axis=(0, 1, 2)))
    if frames is None:
        return tuple(int(t) for t in labelled)
    if not any(t + 1 in frames for t in labelled):
        listed = ", ".join(map(str, sorted(frames)))
        raise UnsupportedDataError(
            f"{name} holds no label in the frame {listed}: nothing is drawn there",
            remedy=("name the frames that are drawn with ", Param("frames")),
        )
    return tuple(sorted(t - 1 for t in frames))
