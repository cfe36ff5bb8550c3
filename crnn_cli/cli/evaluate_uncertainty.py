"""``crnn evaluate --uncertainty``: how often the reference lies within the uncertainty that was stated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.cli import console
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.notices import STREAM

if TYPE_CHECKING:
    from torch import Tensor

    from crnn_cli.data.image import Image


def read_map(place: Path, found: Image, axes: str | None) -> Image:
    """Return the map of the uncertainty of an image on its axes.

    axes : what the stored axes of the map are, as those of the image.

    Raises
    ------
    UnsupportedDataError
        If it is not of the image's shape and place, or has values that are complex or negative.
    """
    import numpy as np

    from crnn_cli.data.alignment import reorient_to
    from crnn_cli.io.formats import is_dicom
    from crnn_cli.io.images import load_image

    made = load_image(place, None if is_dicom(place) else axes).image
    name = "standard input" if place == STREAM else str(place)
    if made.is_complex:
        raise UnsupportedDataError(f"{name} is complex: an uncertainty is a standard deviation, a real number")
    if bool(np.less(made.array, 0).any()):
        raise UnsupportedDataError(f"{name} has negative values: an uncertainty is a standard deviation, 0 or more")
    shape = (*found.shape[:3], found.frames)
    laid = reorient_to(made, found.affine, shape)
    if laid is None:
        sizes = [" x ".join(map(str, size)) for size in ((*made.shape[:3], made.frames), shape)]
        where = ", and lies elsewhere" if sizes[0] == sizes[1] else ""
        raise UnsupportedDataError(
            f"{name} is {sizes[0]}, the image is {sizes[1]} (x, y, z, t){where}: give the map that crnn reconstruct "
            "--uncertainty wrote beside this image"
        )
    return laid


def covered(image: Tensor, reference: Tensor, deviation: Tensor, scale: float | None) -> dict[str, Any]:
    """Return how often the reference lies within the uncertainty of the image, (Z, T, Y, X) each.

    scale : what the image is multiplied by first, and its uncertainty with it; None for nothing.
    """
    from crnn_cli.mri.coverage import coverage

    factor = 1.0 if scale is None else scale
    return coverage(image * factor, reference, deviation * abs(factor)).summary()


def show(found: dict[str, Any], name: Path) -> None:
    """Print the table of what `covered` found."""
    from crnn_cli.mri.coverage import WIDTHS

    columns = ["frames", *(f"within {width:g} sd" for width in WIDTHS)]
    parts = [("all", found), *((f"{part['first']} to {part['last']}", part) for part in found["frames"])]
    parts.append(("if normal", found["normal"]))
    cells = [[said, *(f"{100 * one[f'within_{width:g}']:.1f} %" for width in WIDTHS)] for said, one in parts]
    title = f"reference within the uncertainty of {name}; body: {100 * found['body_share']:.1f} % of the pixels"
    console.table(title, columns, cells)
