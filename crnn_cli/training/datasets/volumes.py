"""Readers of training data: NIfTI, or DICOM of entry series; labels on the axes of their image."""

from __future__ import annotations

from pathlib import Path

from crnn_cli.data.alignment import reorient_to
from crnn_cli.data.image import Image
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.io.dicom.read import list_series
from crnn_cli.io.formats import is_dicom
from crnn_cli.io.images import load_image


def read_only_series(path: Path) -> Image:
    """Read a NIfTI file, or the one DICOM series in a folder, zip or file.

    Raises
    ------
    UnsupportedDataError
        If there are several series; the message says how many.
    CrnnError
        See `crnn_cli.io.images.load_image`.
    """
    try:
        return load_image(path).image
    except UnsupportedDataError as error:
        several = _several(path)
        raise (UnsupportedDataError(several) if several else error) from None


def _several(path: Path) -> str:
    """Why a path is ambiguous; "" if something else is wrong with it."""
    series = list_series(path).series if is_dicom(path) else ()
    readable = [entry for entry in series if entry.grid]
    if len(readable) == 1 or len(series) < 2:
        return ""
    return f"{path} holds {len(series)} DICOM series; one is taken from a folder or zip: leave the one to learn from"


def on_axes_of(image: Image, labels: Image) -> Image:
    """Reorder and flip the axes of labels to those of the image.

    Nothing is resampled: labels on another grid are returned as they are.
    """
    reoriented = reorient_to(labels, image.affine, (*image.shape[:3], image.frames))
    return labels if reoriented is None else reoriented
