"""Images from any file or folder that holds them, with the facts that a report states about the source."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from crnn_cli.data.image import Image
from crnn_cli.errors import UnreadableError
from crnn_cli.io.formats import identify, read_as
from crnn_cli.notices import STREAM

if TYPE_CHECKING:
    from crnn_cli.io.dicom.series import Series


@dataclass(frozen=True)
class LoadedImage:
    """An image and the facts about its source.

    Attributes
    ----------
    image : values and geometry.
    source : what a report states: ``file``, ``sha256`` (of all files of a DICOM series, in the order of its grid), and
        what was chosen.
    stored_axes : axes of a NIfTI file before any were added; 3 or 4 for other formats.
    series : the DICOM series, None for other formats.
    dtype : numpy dtype of the stored voxels; of DICOM, after the rescale.
    intent : NIfTI intent code, 1002 for label maps of any format, 0 if unknown.
    format : name of the format in `crnn_cli.io.formats`.
    """

    image: Image
    source: dict[str, str] = field(default_factory=dict)
    stored_axes: int = 3
    series: Series | None = None
    dtype: str = ""
    intent: int = 0
    format: str = "NIfTI"

    def doubts(self) -> list[str]:
        """Oddities of the geometry and of the DICOM series, as sentences for people."""
        return [*self.image.doubts(), *(self.series.notes if self.series else ())]


def load_image(
    path: Path, axes: str | None = None, series: str | None = None, *, slice_tolerance: float | None = None
) -> LoadedImage:
    """Read an image: NIfTI file or stream; DICOM folder, DICOMDIR, zip archive or file; DICOM SEG.

    Parameters
    ----------
    axes : stored axes of a NIfTI file, as in `crnn_cli.io.nifti.image.decode_image`.
    series : number or UID of a DICOM series, where there are several.
    slice_tolerance : distance in mm that slices of a DICOM series may lie off an even spacing.

    Raises
    ------
    UsageError
        If ``axes`` is given for DICOM, or ``series`` or ``slice_tolerance`` for anything else.
    CrnnError
        See `crnn_cli.io.nifti.image.load_nifti` and `crnn_cli.io.dicom.read.load_dicom`.
    """
    choices = {"axes": axes, "series": series, "slice_tolerance": slice_tolerance}
    loaded: LoadedImage = read_as(identify(path, "image", "labels"), path, choices)
    return loaded


def require_readable(path: Path) -> None:
    """Raise UnreadableError if a file is missing or not permitted, or a folder is empty; a stream is not looked at."""
    if path == STREAM:
        return
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
