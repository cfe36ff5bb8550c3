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
import PIL.ImageDraw
from numpy.typing import NDArray

from crnn_cli.errors import UsageError
from crnn_cli.io.atomic_write import Output

SUFFIXES = (".png", ".gif")
_FRAMES_SHOWN = 5
_TARGET_HEIGHT = 220
STRIP_HEIGHT = 14
_USUAL_FRAME_TIME = 0.05
_FASTEST, _SLOWEST = 20, 5_000  # ms a frame of a movie
Grey = NDArray[np.uint8]


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
    caption : a line on top of every picture: the slice, and whether it is a simulation.

    Raises
    ------
    UsageError
        If the name ends otherwise.
    """
    require_preview_name(target)
    draw = _montages if is_still(target) else _movie
    pictures = draw(*_to_grey(panels), tile_size(panels[0].frames_TYX.shape[1:], spacing))
    content = encoded([PIL.Image.fromarray(captioned(picture, caption)) for picture in pictures], target, frame_time)
    return Output(target, content)


def still_picture(
    panels: Sequence[Panel], spacing: tuple[float, float], caption: str = "", *, beside: bool = False
) -> bytes:  # fmt: skip
    """Draw a PNG of panels as `preview_output` does.

    Parameters
    ----------
    beside : the first frames only, side by side; else a montage.
    """
    draw = _movie if beside else _montages
    picture = draw(*_to_grey(panels), tile_size(panels[0].frames_TYX.shape[1:], spacing))[0]
    return encoded([PIL.Image.fromarray(captioned(picture, caption))], Path("still.png"), None)


def white_of(panel: Panel) -> float:
    """Value that is shown white: the 99.7th percentile, 1 where that is zero."""
    return float(np.percentile(panel.frames_TYX, 99.7)) or 1.0


def _to_grey(panels: Sequence[Panel]) -> tuple[list[Grey], list[str]]:
    """Panels in the grey scale of the first, and their labels."""
    white = white_of(panels[0])
    return [grey(panel.frames_TYX * panel.gain, white) for panel in panels], [panel.label for panel in panels]


def _montages(panels: Sequence[Grey], labels: Sequence[str], size: tuple[int, int]) -> list[Grey]:
    return [_montage(panels, labels, size)]


def _montage(panels: Sequence[Grey], labels: Sequence[str], size: tuple[int, int]) -> Grey:
    """Montage: a row a panel, frames spread over the cycle, then the column that varies most, over time."""
    frames = panels[0].shape[0]
    chosen = np.unique(np.linspace(0, frames - 1, min(_FRAMES_SHOWN, frames)).round().astype(int))
    column = int(np.argmax(panels[0].astype(np.float32).std(axis=0).mean(axis=0)))
    rows = []
    for panel, label in zip(panels, labels, strict=True):
        tiles = [resized(panel[frame], size) for frame in chosen]
        titles = [f"{label}, frame {frame}" for frame in chosen]
        if frames > 1:
            profile = panel[:, :, column].T
            tiles.append(resized(profile, (size[0], max(size[1] // 2, 2 * frames))))
            titles.append("profile over time")
        rows.append(titled_row(tiles, titles))
    return np.vstack(rows)


def _movie(panels: Sequence[Grey], labels: Sequence[str], size: tuple[int, int]) -> list[Grey]:
    """Frames of the movie: panels side by side, one frame of the scan a frame of the movie."""
    frames = range(panels[0].shape[0])
    return [titled_row([resized(panel[frame], size) for panel in panels], labels) for frame in frames]


def captioned(picture: Grey, caption: str) -> Grey:
    """Put a line of text on top of a picture, cut where it does not fit; an empty text adds nothing."""
    if not caption:
        return picture
    strip = PIL.Image.new("L", (picture.shape[1], STRIP_HEIGHT))
    draw = PIL.ImageDraw.Draw(strip)
    draw.text((2, 1), fitting(caption, picture.shape[1] - 4), fill=255)
    return np.vstack([np.asarray(strip), picture])


def titled_row(tiles: Sequence[Grey], titles: Sequence[str]) -> Grey:
    """Set tiles of the same height side by side, each with its title above it and a gap behind it.

    Titles are cut to the width of their tile.
    """
    gap = np.zeros((tiles[0].shape[0], 2), np.uint8)
    row = np.hstack([part for tile in tiles for part in (tile, gap)])
    strip = PIL.Image.new("L", (row.shape[1], STRIP_HEIGHT))
    draw = PIL.ImageDraw.Draw(strip)
    left = 0
    for tile, title in zip(tiles, titles, strict=True):
        draw.text((left + 2, 1), fitting(title, tile.shape[1] - 4), fill=220)
        left += tile.shape[1] + gap.shape[1]
    return np.vstack([np.asarray(strip), row])


def text_width(text: str) -> float:
    """Width of a text as drawn, in pixels."""
    return PIL.ImageDraw.Draw(PIL.Image.new("L", (1, 1))).textlength(text)


def fitting(title: str, width: float) -> str:
    """Beginning of a title, as much as is drawn within ``width`` pixels."""
    while title and text_width(title) > width:
        title = title[:-1]
    return title


def grey(values: NDArray[np.float32], white: float) -> Grey:
    """Map values from 0 to ``white`` to bytes; values beyond are clipped."""
    picture: Grey = (255 * np.clip(values / white, 0, 1)).round().astype(np.uint8)
    return picture


def tile_size(shape: Sequence[int], spacing: tuple[float, float], enlarged: int = 1) -> tuple[int, int]:
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
