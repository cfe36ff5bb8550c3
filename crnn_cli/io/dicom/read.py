"""DICOM folders, archives and files to images, through pydicom.

What is read has a full grid of slices and times; everything else is refused with the reason. Values are the stored ones
times rescale slope plus intercept (HU for CT), each frame by its own; padding is left as it is.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path

import numpy as np

from crnn_cli.data.image import Array, Image
from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.dicom.headers import Frame, frames_of, silence_pydicom
from crnn_cli.io.dicom.pixels import decode_pixels
from crnn_cli.io.dicom.series import Listing, Series, listing
from crnn_cli.io.dicom.sources import sources

_MOST_BYTES = 64 * 2**30


def list_series(place: Path, *, uneven: float | None = None) -> Listing:
    """Return what DICOM series a folder, DICOMDIR, zip or file holds.

    uneven : how far slices may lie beside even places and be taken as even, in mm.

    Raises
    ------
    UnreadableError
        If the place cannot be read, or holds no DICOM image at all.
    """
    found = listing((frames_of(source) for source in sources(place)), uneven=uneven)
    if not found.series:
        damaged = next(iter(found.damaged.items()), None)
        why = f"; {damaged[0]} is damaged: {damaged[1]}" if damaged else ""
        what = "the folder " if place.is_dir() else ""
        raise UnreadableError(f"{what}{place} holds no DICOM images ({found.others} other files){why}")
    return found


def choose_series(found: Listing, choice: str | None, place: Path) -> Series:
    """Return the series of a number or UID, or the only readable one.

    Raises
    ------
    UnsupportedDataError
        If there are several and none was chosen (the message lists them), the choice fits none, or it has problems.
    """
    if choice is None:
        readable = [series for series in found.series if series.grid]
        if len(readable) > 1 or (not readable and len(found.series) > 1):
            raise UnsupportedDataError(
                f"{place} holds {len(found.series)} series: choose one with --series\n" + table(found)
            )
        chosen = readable[0] if readable else found.series[0]
    else:
        fitting = [s for s in found.series if choice in (str(s.number), s.uid)]
        if len(fitting) != 1:
            raise UnsupportedDataError(
                f"--series {choice} fits {len(fitting)} of the series in {place}\n" + table(found)
            )
        chosen = fitting[0]
    if chosen.problems:
        raise UnsupportedDataError(f"series {chosen.number} of {place} cannot be read: {'; '.join(chosen.problems)}")
    return chosen


def table(found: Listing) -> str:
    """Return the series as lines of text, for messages."""
    return "\n".join(
        f"  {s.number}  {s.description or '-'}  {s.part}  {s.kind}, {s.slices} x {s.frames} of "
        f"{s.size[1]} x {s.size[0]}" + (f": {s.problems[0]}" if s.problems else "")
        for s in found.series
    )


def read_dicom(place: Path, choice: str | None = None) -> tuple[Image, str]:
    """Return the image of a series and a sha256 of its files; see `read_series`."""
    image, digest, _ = read_series(place, choice)
    return image, digest


def read_series(
    place: Path, choice: str | None = None, *, uneven: float | None = None
) -> tuple[Image, str, Series]:  # fmt: skip
    """Return the image of a series, a sha256 of its files, and the series; ``uneven`` as in `list_series`.

    Axes are x (column), y (row), z (along the normal) and, where there are several times, t.

    Raises
    ------
    UnreadableError
        If a file is damaged: what is left of a series is never read as if it were whole.
    UnsupportedDataError
        See `choose_series`; or if the pixels are compressed in a way that no installed decoder reads.
    """
    found = list_series(place, uneven=uneven)
    series = choose_series(found, choice, place)
    if found.damaged:
        name, why = next(iter(found.damaged.items()))
        raise UnreadableError(f"{place}: {len(found.damaged)} damaged file(s), {name}: {why}; remove or replace them")
    array, digest = _pixels(series)
    assert series.affine is not None
    shape = array if series.frames > 1 else array[..., 0]
    return Image(shape, series.affine, series.frame_time, codes=(1, 1)), digest, series


def _pixels(series: Series) -> tuple[Array, str]:
    """Return (x, y, z, t) values, and the sha256 of the files they came from."""
    rows, columns = series.size
    needed = rows * columns * series.slices * series.frames * 2
    if needed > _MOST_BYTES:
        raise UnsupportedDataError(f"series {series.number} has {needed / 2**30:.0f} GiB of pixels: too many to read")
    exact = all(slope == 1 and intercept % 1 == 0 for slope, intercept in _rescales(series))
    shape = (series.frames, series.slices, rows, columns)  # a frame lies together: fast to fill
    array: Array = np.empty(shape, np.int16 if exact else np.float32)
    low = high = 0
    digests: dict[str, bytes] = {}
    for name, places in _by_file(series).items():  # a file of many frames is read once, wherever they belong
        pixels, digests[name] = _decoded(places[0][2])
        for t, z, frame in places:
            stored = pixels[frame.index] if pixels.ndim == 3 else pixels
            if stored.shape != (rows, columns):
                raise UnreadableError(f"{frame.source.name} has pixels of shape {stored.shape}, not {rows} x {columns}")
            slope, intercept = frame.rescale
            if exact:
                low = min(low, int(stored.min()) + int(intercept))
                high = max(high, int(stored.max()) + int(intercept))
                array = _wide_enough(array, low, high)
                array[t, z] = stored if intercept == 0 else stored.astype(np.int64) + int(intercept)
            else:
                array[t, z] = stored.astype(np.float64) * slope + intercept
    whole = hashlib.sha256()
    for row in series.grid:
        for frame in row:
            whole.update(digests[frame.source.name])
    return array.transpose(3, 2, 1, 0), whole.hexdigest()


def _by_file(series: Series) -> dict[str, list[tuple[int, int, Frame]]]:
    """Return (time, slice, frame) of the grid by the name of the file, in the order of the grid."""
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


def _rescales(series: Series) -> set[tuple[float, float]]:
    return {frame.rescale for row in series.grid for frame in row}


def _wide_enough(array: Array, low: int, high: int) -> Array:
    """Return the array in the first of a few types that holds values from low to high exactly."""
    for kind in (np.int16, np.uint16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            if array.dtype == np.int16 and kind is np.uint16:
                return array.view(kind)  # nothing in it is negative: the same bytes
            return array.astype(kind, copy=False)
    return array.astype(np.float64, copy=False)
