"""Words in pictures: lines above a picture, titles above its tiles, triangles that point at a column.

Pictures are grey, uint8 (rows, columns). Text is broken between words where it does not fit, and never cut.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
STRIP_HEIGHT = 14
"""Rows of one line of text."""
POINTER_HEIGHT = 5
"""Rows of a triangle that points at a column."""
GAP = 2
"""Columns between tiles."""
_BRIGHT, _SOFT = 255, 220


def text_width(text: str) -> float:
    """Width of a text as drawn, in pixels."""
    return PIL.ImageDraw.Draw(PIL.Image.new("L", (1, 1))).textlength(text)


def fitting(text: str, width: float) -> str:
    """Beginning of a text, as much as is drawn within ``width`` pixels."""
    text = text[: max(0, int(width)) + 1]  # a letter is wider than a pixel: names of any length take no time
    fits, most = 0, len(text)
    while fits < most:
        middle = (fits + most + 1) // 2
        fits, most = (middle, most) if text_width(text[:middle]) <= width else (fits, middle - 1)
    return text[:fits]


def wrapped(text: str, width: int) -> list[str]:
    """Break a text into lines of at most ``width`` pixels; a word that is too long is broken."""
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
            continue
        rest = word
        while rest:
            lines.append(fitting(rest, width) or rest[0])
            rest = rest[len(lines[-1]) :]
    return lines


def captioned(picture: Grey, caption: str) -> Grey:
    """Put a text on top of a picture, in as many lines as it takes; none where the text is empty."""
    lines = wrapped(caption, picture.shape[1] - 4)
    return np.vstack([*(_strip([(2, line)], picture.shape[1], _BRIGHT) for line in lines), picture])


def titled_row(tiles: Sequence[Grey], titles: Sequence[str], pointers: Sequence[int | None] = ()) -> Grey:
    """Set tiles of the same height side by side, each with its title above it and a gap behind it.

    Parameters
    ----------
    titles : broken into as many lines as the width of the tile asks for; a line at least.
    pointers : the column of each tile that a triangle above it points at; None for no triangle.
    """
    gap = np.zeros((tiles[0].shape[0], GAP), np.uint8)
    row = np.hstack([part for tile in tiles for part in (tile, gap)])
    starts = np.cumsum([0, *(tile.shape[1] + GAP for tile in tiles)])[:-1].tolist()
    broken = [wrapped(title, tile.shape[1] - 4) for title, tile in zip(titles, tiles, strict=True)]
    strips = []
    for number in range(max(1, *map(len, broken))):
        here = [(start + 2, lines[number]) for start, lines in zip(starts, broken, strict=True) if number < len(lines)]
        strips.append(_strip(here, row.shape[1], _SOFT))
    if any(column is not None for column in pointers):
        columns = [start + c for start, c in zip(starts, pointers, strict=True) if c is not None]
        strips.append(_pointing_at(columns, row.shape[1]))
    return np.vstack([*strips, row])


def _strip(texts: Sequence[tuple[int, str]], width: int, ink: int) -> Grey:
    """A line of texts, each with the column where it begins."""
    strip = PIL.Image.new("L", (width, STRIP_HEIGHT))
    draw = PIL.ImageDraw.Draw(strip)
    for left, text in texts:
        draw.text((left, 1), text, fill=ink)
    return np.asarray(strip)


def _pointing_at(columns: Sequence[int], width: int) -> Grey:
    """Triangles that point downwards at columns."""
    strip = np.zeros((POINTER_HEIGHT, width), np.uint8)
    for column in columns:
        for row in range(POINTER_HEIGHT):
            half = POINTER_HEIGHT - 1 - row
            strip[row, max(0, column - half) : column + half + 1] = _BRIGHT
    return strip
