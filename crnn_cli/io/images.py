"""Images from any file or folder that holds them, with the facts that a report states about the source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crnn_cli.data.input_files import require_file, standard_input
from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.formats import BART, DICOM, NIFTI, identify, is_kspace, read_as
from crnn_cli.io.loaded_image import LoadedImage
from crnn_cli.notices import STREAM

__all__ = ["LoadedImage", "load_image", "require_readable"]


def load_image(
    path: Path,
    axes: str | None = None,
    series: str | None = None,
    *,
    slice_tolerance: float | None = None,
    keep_type: bool = False,
    slice_number: int | None = None,
) -> LoadedImage:
    """Read an image: NIfTI file or stream; DICOM folder, DICOMDIR, zip archive or file; DICOM SEG.

    Parameters
    ----------
    axes : stored axes of a NIfTI file, as in `crnn_cli.io.nifti.image.decode_image`.
    series : number or UID of a DICOM series, where there are several; several numbers of series of one slice each.
    slice_tolerance : distance in mm that slices of a DICOM series may lie off an even spacing.
    keep_type : keep integers and doubles of files that are read in single precision otherwise.
    slice_number : number of a slice, from 1, that is taken alone where a DICOM series has holes elsewhere; without
        effect on any other image.

    Raises
    ------
    UsageError
        If ``axes`` is given for DICOM, or ``series`` or ``slice_tolerance`` for anything else.
    UnsupportedDataError
        If it is of a format of raw k-space.
    CrnnError
        See `crnn_cli.io.nifti.image.load_nifti` and `crnn_cli.io.dicom.read.load_dicom`.
    """
    row = identify(path, "image", "labels")
    if row is None and is_kspace(path):
        raise UnsupportedDataError(
            f"{path} is taken for raw k-space, by its format",
            remedy=("make images of it with crnn reconstruct, or store images as NIfTI",),
        )
    choices: dict[str, Any] = {"axes": axes, "series": series, "slice_tolerance": slice_tolerance}
    if keep_type and "keep_type" in (row or NIFTI).choices:
        choices["keep_type"] = True
    if row is DICOM:
        choices["slice_number"] = slice_number
    loaded: LoadedImage = read_as(row, path, choices)
    return loaded


def require_readable(path: Path, stream: str = "a NIfTI file") -> None:
    """Raise UnreadableError if a file is missing or not permitted, a folder empty, or standard input closed.

    Nothing is read of standard input. A BART pair may be named without its suffix.

    Parameters
    ----------
    stream : what standard input is to hold, for messages.
    """
    if path == STREAM:
        standard_input(stream)
        return
    if not path.exists() and BART.matches(path, b""):
        return
    require_file(path)
    try:
        if path.is_dir():
            if not any(path.iterdir()):
                raise UnreadableError(f"{path} is an empty folder")
            return
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise UnreadableError(f"{path} does not exist") from None
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}") from None
