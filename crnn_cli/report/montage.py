"""Previews of image series: a PNG montage of frames and profiles over time, or a GIF movie.

Grey pictures are uint8 arrays (rows, columns). All panels share the grey scale of the first.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from crnn_cli.errors import UsageError
from crnn_cli.io.atomic_write import Output
from crnn_cli.report.lettering import Grey, captioned, titled_row

SUFFIXES = (".png", ".gif")
_FRAMES_SHOWN = 5
_TARGET_HEIGHT = 220
_USUAL_FRAME_TIME = 0.05
_FASTEST, _SLOWEST = 20, 5_000  # ms a frame of a movie


@dataclass(frozen=True)
class Panel:
    """One row of a montage, one column of a movie.

    Attributes
    ----------
    label : title above the pictures.
    frames_TYX : magnitudes, turned as they are displayed.
    gain : factor on the brightness, for error maps.
    """

    label: str
    frames_TYX: NDArray[np.float32]
    gain: float = 1.0


def require_preview_name(target: Path) -> None:
    """Raise UsageError unless the name ends in .png or .gif."""
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(f"cannot write {target}: a preview is a .png (montage) or a .gif (movie)")


def is_still(target: Path) -> bool:
    """Whether the name is that of a montage (.png), not of a movie."""
    return target.suffix.lower() == ".png"


def preview_output(
    panels: Sequence[Panel], spacing: tuple[float, float], frame_time: float | None, target: Path, caption: str = ""
) -> Output:
    """Draw a montage or a movie, by the suffix of the name.

    Parameters
    ----------
    panels : the same shape each; the first sets the grey scale (its 99.7th percentile is white).
    spacing : row and column spacing in mm, so that the field of view keeps its proportions.
    frame_time : s; the movie runs at 0.05 s a frame where it is None, and never faster than 0.02 s.
    target : a name that ends in .png or .gif.
    caption : on top of every picture: the slice, and whether it is a simulation. A movie adds the frame and its time.

    Raises
    ------
    UsageError
        If the name ends otherwise.
    """
    require_preview_name(target)
    greys, labels = _to_grey(panels)
    size = tile_size(panels[0].frames_TYX.shape[1:], spacing)
    if is_still(target):
        pictures = [captioned(_montage(greys, labels, size), caption)]
    else:
        movie = _movie(greys, labels, size)
        lines = [frame_line(frame, len(movie), frame_time) for frame in range(len(movie))]
        pictures = [captioned(captioned(each, line), caption) for each, line in zip(movie, lines, strict=True)]
    return Output(target, encoded([PIL.Image.fromarray(picture) for picture in pictures], target, frame_time))


def frame_line(frame: int, count: int, frame_time: float | None) -> str:
    """Words for a frame, counted from 1, and its time after the first; empty where there is one frame only.

    >>> frame_line(2, 16, 0.04), frame_line(2, 16, None), frame_line(0, 1, None)
    ('frame 3 of 16, 80 ms', 'frame 3 of 16', '')
    """
    if count == 1:
        return ""
    return f"frame {frame + 1} of {count}" + ("" if frame_time is None else f", {1000 * frame * frame_time:.0f} ms")


def still_picture(
    panels: Sequence[Panel], spacing: tuple[float, float], caption: str = "", *, beside: bool = False
) -> bytes:  # fmt: skip
    """Draw a PNG of panels as `preview_output` does.

    Parameters
    ----------
    beside : the first frames only, side by side; else a montage.
    """
    greys, labels = _to_grey(panels)
    size = tile_size(panels[0].frames_TYX.shape[1:], spacing)
    picture = _movie(greys, labels, size)[0] if beside else _montage(greys, labels, size)
    return encoded([PIL.Image.fromarray(captioned(picture, caption))], Path("still.png"), None)


def white_of(panel: Panel) -> float:
    """Value that is shown white: the 99.7th percentile, 1 where that is zero."""
    return float(np.percentile(panel.frames_TYX, 99.7)) or 1.0


def _to_grey(panels: Sequence[Panel]) -> tuple[list[Grey], list[str]]:
    """Panels in the grey scale of the first, and their labels."""
    white = white_of(panels[0])
    return [grey(panel.frames_TYX * panel.gain, white) for panel in panels], [panel.label for panel in panels]


def _montage(panels: Sequence[Grey], labels: Sequence[str], size: tuple[int, int]) -> Grey:
    """Montage: a row a panel, frames spread over the cycle, then the column that varies most, over time.

    A triangle above each frame points at that column.
    """
    frames = panels[0].shape[0]
    chosen = np.unique(np.linspace(0, frames - 1, min(_FRAMES_SHOWN, frames)).round().astype(int))
    column = liveliest_column(panels[0])
    rows = []
    for panel, label in zip(panels, labels, strict=True):
        tiles = [resized(panel[frame], size) for frame in chosen]
        titles = [f"{label}, frame {frame + 1}" for frame in chosen]
        pointers: list[int | None] = [None] * len(tiles)
        if frames > 1:
            tiles.append(profile(panel, column, size))
            titles.append("column over time")
            pointers = [int((column + 0.5) * size[1] / panel.shape[2])] * (len(tiles) - 1) + [None]
        rows.append(titled_row(tiles, titles, pointers))
    return np.vstack(rows)


def liveliest_column(frames_TYX: Grey) -> int:
    """The column of pixels that varies most over time."""
    return int(np.argmax(frames_TYX.astype(np.float32).std(axis=0).mean(axis=0)))


def profile(frames_TYX: Grey, column: int, size: tuple[int, int]) -> Grey:
    """A column of pixels over time: rows as in the frames, time to the right, two pixels a frame at least.

    Parameters
    ----------
    size : rows and columns of the tile of a frame.
    """
    return resized(frames_TYX[:, :, column].T, (size[0], max(size[1] // 2, 2 * len(frames_TYX))))


def _movie(panels: Sequence[Grey], labels: Sequence[str], size: tuple[int, int]) -> list[Grey]:
    """Frames of the movie: panels side by side, one frame of the scan a frame of the movie."""
    frames = range(panels[0].shape[0])
    return [titled_row([resized(panel[frame], size) for panel in panels], labels) for frame in frames]


def grey(values: NDArray[np.float32], white: float) -> Grey:
    """Map values from 0 to ``white`` to bytes; values beyond are clipped."""
    picture: Grey = (255 * np.clip(values / white, 0, 1)).round().astype(np.uint8)
    return picture


def tile_size(shape: Sequence[int], spacing: tuple[float, float], enlarged: float = 1) -> tuple[int, int]:
    """Rows and columns of a tile with square pixels.

    Parameters
    ----------
    shape : rows and columns of the slice.
    spacing : row and column spacing in mm.
    enlarged : factor on the usual size, whose longer side is 220 pixels.
    """
    height, width = shape[0] * spacing[0], shape[1] * spacing[1]
    factor = enlarged * _TARGET_HEIGHT / max(height, width)
    return max(16, round(height * factor)), max(16, round(width * factor))


def resized(tile: Grey, size: tuple[int, int], how: PIL.Image.Resampling = PIL.Image.Resampling.BICUBIC) -> Grey:
    """Resample a tile to another size (rows, columns) over the same area."""
    picture = PIL.Image.fromarray(np.ascontiguousarray(tile))
    resampled: Grey = np.array(picture.resize((size[1], size[0]), how), dtype=np.uint8)
    return resampled


def encoded(pictures: Sequence[PIL.Image.Image], target: Path, frame_time: float | None) -> bytes:
    """Encode pictures as a file, by the suffix of its name: PNG of the first, or GIF of all of them.

    Parameters
    ----------
    frame_time : s that each picture of a GIF is shown; 0.05 where it is None, at least 0.02, at most 5.
    """
    buffer = io.BytesIO()
    if is_still(target):
        pictures[0].save(buffer, "PNG")
    else:
        milliseconds = round(min(_SLOWEST, max(_FASTEST, 1000 * (frame_time or _USUAL_FRAME_TIME))))
        pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0)
    return buffer.getvalue()
