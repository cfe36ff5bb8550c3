"""Phase images from a file or folder: of several DICOM series, the one that its headers call phase."""

from __future__ import annotations

from pathlib import Path

from crnn_cli.errors import Param, UnsupportedDataError
from crnn_cli.io.formats import is_dicom
from crnn_cli.io.images import LoadedImage, load_image


def load_phase(
    path: Path, axes: str | None = None, *, slice_tolerance: float | None = None, slice_number: int | None = None
) -> LoadedImage:
    """Read a phase image; of a DICOM folder with several series, the one that its headers call phase.

    Parameters
    ----------
    axes, slice_tolerance, slice_number : as for the magnitude, see `crnn_cli.io.images.load_image`.

    Raises
    ------
    UnsupportedDataError
        If a folder has several series, and none or several of them are of phase.
    CrnnError
        See `crnn_cli.io.images.load_image`.
    """
    if not is_dicom(path):
        return load_image(path, axes)
    series = _series_of_phase(path, slice_tolerance)
    return load_image(path, axes, series, slice_tolerance=slice_tolerance, slice_number=slice_number)


def _series_of_phase(path: Path, slice_tolerance: float | None) -> str | None:
    """Number of the only series of phase; None where there is one series."""
    from crnn_cli.io.dicom.read import list_series

    listed = list_series(path, slice_tolerance=slice_tolerance).series
    if len(listed) < 2:
        return None
    phases = [each for each in listed if each.is_phase]
    if len(phases) != 1:
        raise UnsupportedDataError(
            f"{path} holds {len(listed)} series, and the headers of {len(phases)} of them say phase",
            remedy=("put the phase images of this scan into a folder of their own, and give that as ", Param("phase")),
        )
    return str(phases[0].number)
