"""Whatever a user names, as an image: NIfTI files and streams, DICOM folders, archives and files, told by content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from crnn_cli.data.image import Image
from crnn_cli.errors import UnreadableError, UsageError
from crnn_cli.io.nifti import image as nifti
from crnn_cli.io.nifti.header import STREAM
from crnn_cli.io.nifti.intent import LABELS, intent_code
from crnn_cli.io.nifti.streaming import read_large

if TYPE_CHECKING:
    from crnn_cli.io.dicom.series import Series


@dataclass(frozen=True)
class LoadedImage:
    """An image and what it was read from.

    source : file, sha256 (of all files of a DICOM series, in its order) and what else a report should say.
    stored_axes : of a NIfTI file before any were added, or 3 or 4. series : of DICOM, None for NIfTI.
    kind : numpy dtype of the voxels as they are stored; of DICOM, after the rescale. intent : code of NIfTI, for others
    that of labels or 0.
    """

    image: Image
    source: dict[str, str] = field(default_factory=dict)
    stored_axes: int = 3
    series: Series | None = None
    kind: str = ""
    intent: int = 0

    def doubts(self) -> list[str]:
        """Return what looks wrong in the geometry, and what is odd about the DICOM series."""
        return [*self.image.doubts(), *(self.series.notes if self.series else ())]


def load_image(
    place: Path, axes: str | None = None, series: str | None = None, *, uneven: float | None = None
) -> LoadedImage:
    """Read an image.

    Parameters
    ----------
    axes : what the stored axes of a NIfTI file are, as in `nifti.decode_image`.
    series : number or UID of a DICOM series, where there are several.
    uneven : how far slices of a DICOM series may lie beside even places and be taken as even, in mm.

    Raises
    ------
    UsageError
        If ``axes`` is given for DICOM, or ``series`` or ``uneven`` for anything else.
    CrnnError
        See `nifti.decode_image` and `crnn_cli.io.dicom.read.read_dicom`.
    """
    if is_dicom(place):
        if axes is not None:
            raise UsageError(f"--axes is for files whose axes are in doubt; {place} is DICOM, which says what they are")
        if is_seg(place):
            if uneven is not None:
                raise UsageError(f"--uneven is for slices of a DICOM series; {place} is a DICOM SEG")
            return _read_seg(place, series)
        from crnn_cli.io.dicom.read import read_series

        image, digest, whole = read_series(place, series, uneven=uneven)
        source = {"file": str(place), "format": "DICOM", "sha256": digest}
        source |= ({"series": series} if series else {}) | (
            {} if uneven is None else {"slice_tolerance_mm": f"{uneven:g}"}
        )
        return LoadedImage(image, source, image.array.ndim, whole, str(image.array.dtype))
    if series is not None:
        raise UsageError(f"--series chooses a DICOM series; {place} is not DICOM")
    if uneven is not None:
        raise UsageError(f"--uneven is for slices of a DICOM series or an ISMRMRD file; {place} is neither")
    large = read_large(place, axes)
    if large is not None:
        image, header, head, summed = large
        source = {"file": str(place), "sha256": summed}
        return LoadedImage(image, source, len(header.shape), None, header.kind, intent_code(head))
    content = nifti.read_bytes(place)
    raw = nifti.decompressed(content, place)  # once for both
    image, header = nifti.decode_image(raw, place, axes), nifti.decode_header(raw, place)
    source = {"file": str(place), "sha256": hashlib.sha256(content).hexdigest()}
    return LoadedImage(image, source, len(header.shape), None, header.kind, intent_code(raw))


def is_seg(place: Path) -> bool:
    """Return whether a file is a DICOM Segmentation."""
    if place.is_dir() or not has_dicom_preamble(place):
        return False
    from pydicom import dcmread
    from pydicom.uid import SegmentationStorage

    from crnn_cli.io.dicom.headers import silence_pydicom

    try:
        with silence_pydicom():
            data = dcmread(place, stop_before_pixels=True, specific_tags=["SOPClassUID"])
            return bool(data.get("SOPClassUID") == SegmentationStorage)
    except Exception:  # a parser of hostile files: reading it as an image will say what is wrong
        return False


def _read_seg(place: Path, series: str | None) -> LoadedImage:
    from crnn_cli.io.dicom.seg import read_seg

    if series is not None:
        raise UsageError(f"--series chooses a series of a folder; {place} is one DICOM SEG")
    digest = hashlib.sha256(nifti.read_bytes(place)).hexdigest()
    image, source = read_seg(place), {"file": str(place), "format": "DICOM SEG", "sha256": digest}
    return LoadedImage(image, source, kind=str(image.array.dtype), intent=LABELS)


def is_dicom(place: Path) -> bool:
    """Return whether a place is a folder, a DICOMDIR, or holds DICOM or a zip; pydicom is not needed to tell."""
    if place == STREAM:
        return False
    if place.is_dir() or place.name.upper() == "DICOMDIR":
        return True
    return has_dicom_preamble(place) or _start(place)[:4] == b"PK\x03\x04"


def has_dicom_preamble(file: Path) -> bool:
    """Return whether a file starts as a DICOM file does."""
    return _start(file)[128:] == b"DICM"


def _start(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(132)
    except OSError:
        return b""


def require_readable(place: Path) -> None:
    """Raise UnreadableError if a file is missing or not permitted, or a folder is empty."""
    if place.is_dir():
        if not any(place.iterdir()):
            raise UnreadableError(f"{place} is an empty folder")
        return
    nifti.require_readable(place)


def stem(place: Path) -> Path:
    """Return a place without the suffix of its format, to name an output after it."""
    if place.is_dir():
        return place.resolve()
    name = place.name.removesuffix(".gz")
    for suffix in (".nii", ".dcm", ".zip", ".h5", ".hdf5", ".mrd", ".cfl", ".hdr", ".npy", ".mat"):
        name = name.removesuffix(suffix)
    return place.with_name(name)
