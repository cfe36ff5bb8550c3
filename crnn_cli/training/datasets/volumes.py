"""Files of training data to images: NIfTI, or DICOM of one series; labels on the axes of the image they belong to."""

from __future__ import annotations

from pathlib import Path

from crnn_cli.data.alignment import reorient_to
from crnn_cli.data.image import Image
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.io.dicom.read import list_series
from crnn_cli.io.formats import is_dicom
from crnn_cli.io.images import load_image


def read_only_series(place: Path) -> Image:
    """Return the image of a NIfTI file, or of the one DICOM series in a folder, zip or file.

    Raises
    ------
    UnsupportedDataError
        If several series could be meant; the message says how many there are.
    CrnnError
        See `crnn_cli.io.images.load_image`.
    """
    try:
        return load_image(place).image
    except UnsupportedDataError as error:
        several = _several(place)
        raise (UnsupportedDataError(several) if several else error) from None


def _several(place: Path) -> str:
    """Return why a place is ambiguous, or nothing if that is not what is wrong with it."""
    series = list_series(place).series if is_dicom(place) else ()
    readable = [one for one in series if one.grid]
    if len(readable) == 1 or len(series) < 2:
        return ""
    return f"{place} holds {len(series)} DICOM series; one is taken from a folder or zip: leave the one to learn from"


def on_axes_of(image: Image, labels: Image) -> Image:
    """Return labels with their axes ordered and directed as those of the image, if they lie on the same grid.

    Nothing is resampled: labels that lie elsewhere are returned as they are.
    """
    laid = reorient_to(labels, image.affine, (*image.shape[:3], image.frames))
    return labels if laid is None else laid
