"""Canvas: lines, dots, areas and text of a plot as a PNG picture."""

from __future__ import annotations

import io

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

_SCALE = 2  # drawn larger and reduced, for smooth lines
INK, FAINT, PAPER = (30, 30, 30), (205, 205, 205), (255, 255, 255)
Point = tuple[float, float]
Colour = tuple[int, int, int]


class Canvas:
    """Drawing in points of the finished picture.

    Parameters
    ----------
    size : width and height.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._picture = PIL.Image.new("RGB", (size[0] * _SCALE, size[1] * _SCALE), PAPER)
        self._draw = PIL.ImageDraw.Draw(self._picture)
        self._fonts: dict[int, PIL.ImageFont.ImageFont | PIL.ImageFont.FreeTypeFont] = {}

    def text(self, at: Point, text: str, size: int = 12, anchor: str = "la", ink: Colour = INK) -> None:
        """Write a line of text; anchors are those of PIL."""
        if size not in self._fonts:
            self._fonts[size] = PIL.ImageFont.load_default(size * _SCALE)
        self._draw.text((at[0] * _SCALE, at[1] * _SCALE), text, ink, self._fonts[size], anchor=anchor)

    def line(self, points: list[Point], ink: Colour, width: float = 1) -> None:
        """Draw a line through points."""
        self._draw.line(
            [(x * _SCALE, y * _SCALE) for x, y in points], ink, max(1, round(width * _SCALE)), joint="curve"
        )

    def dot(self, at: Point, radius: float, ink: Colour) -> None:
        """Draw a filled circle."""
        x, y = at
        self._draw.ellipse([v * _SCALE for v in (x - radius, y - radius, x + radius, y + radius)], ink)

    def area(self, points: list[Point], fill: Colour) -> None:
        """Fill a polygon, with an edge of paper."""
        scaled = [(x * _SCALE, y * _SCALE) for x, y in points]
        self._draw.polygon(scaled, fill)
        self._draw.line([*scaled, scaled[0]], PAPER, 2 * _SCALE)

    def png(self) -> bytes:
        """The picture as a PNG file."""
        content = io.BytesIO()
        self._picture.resize(self._size, PIL.Image.Resampling.LANCZOS).save(content, format="PNG", optimize=True)
        return content.getvalue()
