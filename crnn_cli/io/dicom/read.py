"""DICOM folders, DICOMDIRs, zip archives and files to images, through pydicom.

A DICOM series is many files of one slice and time each (classic), or few files of many frames (enhanced multi-frame).
A series is read if its frames fill a grid of slices and times; others are refused with the reason. Values are stored
values times RescaleSlope plus RescaleIntercept of each frame (HU for CT), or looked up in its Modality LUT. Padding is
left as it is. Positions are LPS in the headers, RAS+ in the affine, mm; times are ms in the headers, s in the image.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path

import numpy as np

from crnn_cli.data.image import Array, Image
from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.dicom.choice import choose_series
from crnn_cli.io.dicom.frames.frame import Frame
from crnn_cli.io.dicom.grid.left_out import named, tally
from crnn_cli.io.dicom.headers import read_headers, silence_pydicom
from crnn_cli.io.dicom.listing import Listing, listing
from crnn_cli.io.dicom.pixels import decode_pixels
from crnn_cli.io.dicom.series import Series
from crnn_cli.io.dicom.sources import sources
from crnn_cli.io.loaded_image import LoadedImage

_MOST_BYTES = 64 * 2**30


def list_series(path: Path, *, slice_tolerance: float | None = None) -> Listing:
    """List the DICOM series in a folder, DICOMDIR, zip archive or file, from the headers alone.

    Parameters
    ----------
    slice_tolerance : distance in mm that slices may lie off an even spacing; None for rounding alone.

    Raises
    ------
    UnreadableError
        If the path cannot be read, or holds no DICOM image at all.
    """
    contents = listing((read_headers(source) for source in sources(path)), slice_tolerance=slice_tolerance)
    if not contents.series:
        what = "the folder " if path.is_dir() else ""
        damaged = [each for each in contents.left_out if each.source.name in contents.damaged]
        others = [each for each in contents.left_out if each not in damaged]
        beside = f" ({tally(others, contents.objects)})" if contents.others else ""
        why = f"; {named(damaged)}" if damaged else ""
        remedy = ("name the file of the segmentation alone",) if "Segmentation" in contents.objects else ()
        raise UnreadableError(f"{what}{path} holds no DICOM images that are read{beside}{why}", remedy=remedy)
    return contents


def load_dicom(
    path: Path,
    series: str | int | None = None,
    slice_tolerance: float | None = None,
    slice_number: int | None = None,
) -> LoadedImage:
    """Read a series with the facts about its source.

    Parameters
    ----------
    path : folder, DICOMDIR, zip archive or file.
    series : number in the listing or SeriesInstanceUID, or numbers of series of one slice each, such as ``3-8,10``;
        None for the only stack of such series, or else the only readable series.
    slice_tolerance : distance in mm that slices may lie off an even spacing; None for rounding alone.
    slice_number : of a slice, from 1, that is read alone where the grid of slices and times has holes elsewhere; of
        any other series, all slices are read.

    Raises
    ------
    UnreadableError, UnsupportedDataError
        See `read_series`.
    """
    choice = None if series is None else str(series)
    image, digest, chosen = read_series(path, choice, slice_tolerance=slice_tolerance, slice_number=slice_number)
    source = {"file": str(path), "format": "DICOM", "sha256": digest}
    source |= {"series": choice} if choice else {}
    source |= {} if slice_tolerance is None else {"slice_tolerance_mm": f"{slice_tolerance:g}"}
    return LoadedImage(image, source, image.array.ndim, chosen, str(image.array.dtype), format="DICOM")


def read_dicom(path: Path, series: str | None = None) -> tuple[Image, str]:
    """Read the image of a series and the sha256 of its files; see `read_series`."""
    image, digest, _ = read_series(path, series)
    return image, digest


def read_series(
    path: Path, series: str | None = None, *, slice_tolerance: float | None = None, slice_number: int | None = None
) -> tuple[Image, str, Series]:
    """Read the image of a series, the sha256 of its files in the order of the grid, and the series.

    Axes are x (column), y (row), z (along the normal) and, where there are several times, t. Values are int16, uint16
    or int32 where the rescale is a shift by whole numbers, else float32.

    Parameters
    ----------
    series : as in `load_dicom`.
    slice_tolerance : as in `list_series`.
    slice_number : as in `load_dicom`.

    Raises
    ------
    UnreadableError
        If a file is damaged: the rest of a series is never read as if it were whole.
    UnsupportedDataError
        See `choose_series`; or if the pixels are compressed in a way that no installed decoder reads, or if images
        that only their numbers tell apart are the same.
    """
    contents = list_series(path, slice_tolerance=slice_tolerance)
    chosen = choose_series(contents, series, path, slice_number, slice_tolerance)
    array, digest = _pixels(chosen)
    _require_different(array, chosen)
    assert chosen.affine is not None
    values = array if chosen.frames > 1 else array[..., 0]
    return Image(values, chosen.affine, chosen.frame_time, codes=(1, 1)), digest, chosen


def _require_different(array: Array, series: Series) -> None:
    """Refuse times (x, y, z, t) that have the same pixels, where nothing but numbers says that they are times."""
    if series.ordered_by not in ("instance number", "dimension index"):
        return
    seen: dict[bytes, int] = {}
    for t in range(series.frames):
        digest = hashlib.sha256(array[..., t].T.tobytes()).digest()
        if digest in seen:
            raise UnsupportedDataError(
                f"times {seen[digest] + 1} and {t + 1} of series {series.number} have the same pixels: images are "
                "there twice, and nothing in the headers says that they are times",
                remedy=("remove one of each",),
            )
        seen[digest] = t


def _pixels(series: Series) -> tuple[Array, str]:
    """Values (x, y, z, t), and the sha256 of the files that they came from.

    A frame lies together in memory, which is fast to fill; a file of many frames is read once, wherever they belong.
    """
    rows, columns = series.size
    needed = rows * columns * series.slices * series.frames * 2
    if needed > _MOST_BYTES:
        raise UnsupportedDataError(f"series {series.number} has {needed / 2**30:.0f} GiB of pixels: too many to read")
    filled = _Values((series.frames, series.slices, rows, columns), series)
    digests: dict[str, bytes] = {}
    for name, members in _by_file(series).items():
        pixels, digests[name] = _decoded(members[0][2])
        for t, z, frame in members:
            stored = pixels[frame.index] if pixels.ndim == 3 else pixels
            stored = stored if frame.tile is None else frame.tile.cut(stored)
            if stored.shape != (rows, columns):
                raise UnreadableError(f"{frame.source.name} has pixels of shape {stored.shape}, not {rows} x {columns}")
            filled.put(t, z, frame, stored)
    whole = hashlib.sha256()
    for row in series.grid:
        for frame in row:
            whole.update(digests[frame.source.name])
    return filled.array.transpose(3, 2, 1, 0), whole.hexdigest()


class _Values:
    """Array (t, z, y, x) that takes rescaled frames: integers where all rescales are shifts by whole numbers."""

    def __init__(self, shape: tuple[int, int, int, int], series: Series) -> None:
        rescales = {frame.rescale for row in series.grid for frame in row if frame.table is None}
        self.exact = all(slope == 1 and intercept % 1 == 0 for slope, intercept in rescales)
        self.array: Array = np.empty(shape, np.int16 if self.exact else np.float32)
        self.low = self.high = 0

    def put(self, t: int, z: int, frame: Frame, stored: Array) -> None:
        """Take the stored pixels of a frame."""
        slope, intercept = (1.0, 0.0) if frame.table is not None else frame.rescale
        if frame.table is not None:
            stored = frame.table.values(stored)
        if not self.exact:
            self.array[t, z] = stored.astype(np.float64) * slope + intercept
            return
        self.low = min(self.low, int(stored.min()) + int(intercept))
        self.high = max(self.high, int(stored.max()) + int(intercept))
        self.array = _wide_enough(self.array, self.low, self.high)
        self.array[t, z] = stored if intercept == 0 else stored.astype(np.int64) + int(intercept)


def _by_file(series: Series) -> dict[str, list[tuple[int, int, Frame]]]:
    """Time, slice and frame of the grid by the name of the file, in the order of the grid."""
    files: dict[str, list[tuple[int, int, Frame]]] = defaultdict(list)
    for z, row in enumerate(series.grid):
        for t, frame in enumerate(row):
            files[frame.source.name].append((t, z, frame))
    return files


def _decoded(frame: Frame) -> tuple[Array, bytes]:
    name = frame.source.name
    try:
        with frame.source.open() as opened:
            content = opened.read()
        with silence_pydicom():
            pixels = decode_pixels(content, frame.layout, name)
    except (MemoryError, UnsupportedDataError):
        raise
    except Exception as error:  # a decoder of hostile files: whatever it raises, the file is what is wrong
        text = " ".join(str(error).split()) or "they end too early"
        raise UnreadableError(f"the pixels of {name} are damaged, or beyond the decoder: {text}") from None
    if pixels.dtype.kind == "f":
        raise UnsupportedDataError(f"{name} has floating-point pixels, which are not read")
    return pixels, hashlib.sha256(content).digest()


def _wide_enough(array: Array, low: int, high: int) -> Array:
    """Convert to the first of int16, uint16, int32, float64 that holds values from low to high exactly."""
    for dtype in (np.int16, np.uint16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            if array.dtype == np.int16 and dtype is np.uint16:
                return array.view(dtype)  # nothing in it is negative: the same bytes
            return array.astype(dtype, copy=False)
    return array.astype(np.float64, copy=False)
