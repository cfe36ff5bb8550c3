"""Bull's eye of the wall: basal segments outside, apical ones inside, anterior on top, the septum on the left."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from crnn_cli.cardiac.wall import SEGMENTS, Wall
from crnn_cli.report.page.text import escaped

Point = tuple[float, float]

DIRECTIONS = (("anterior", 0, -1), ("inferior", 0, 1), ("septal", -1, 0), ("lateral", 1, 0))
"""Words around the bull's eye, and where they stand: columns to the right, rows down."""
_FIRST_ANGLE = (60, 60, 45)  # degrees at which the anterior segment begins, counted from the right, against the clock
_CENTRE = 0.06  # radius of the hole in the middle
_RADIUS, _WIDTH, _HEIGHT = 150, 420, 350


@dataclass(frozen=True)
class Segment:
    """A segment as it is drawn, around (0, 0) within a radius of 1; columns run to the right, rows down.

    Attributes
    ----------
    ring : corners of its outline. middle : where its numbers stand.
    thickness : in end diastole, in mm, as text; a hyphen where it is not known. thickening : in %, perhaps empty.
    share : 0 of the thinnest segment to 1 of the thickest one.
    """

    name: str
    ring: list[Point]
    middle: Point
    thickness: str
    thickening: str
    share: float


def bulls_eye(wall: Wall) -> Iterator[Segment]:
    """Segments 1 to 16 of the American Heart Association."""
    low, high = np.nanmin(wall.end_diastolic), np.nanmax(wall.end_diastolic)
    for number, name in enumerate(SEGMENTS):
        level, first = (0, 0) if number < 6 else (1, 6) if number < 12 else (2, 12)
        count = 4 if level == 2 else 6
        outer, inner = (3 - level) / 3, (2 - level) / 3 + (_CENTRE if level == 2 else 0)
        begin = _FIRST_ANGLE[level] + (number - first) * 360 / count
        angles = np.radians(np.linspace(begin, begin + 360 / count, 24))
        ring = [(r * math.cos(a), -r * math.sin(a)) for r, way in ((outer, 1), (inner, -1)) for a in angles[::way]]
        middle, r = math.radians(begin + 180 / count), (outer + inner) / 2
        thickness, change = wall.end_diastolic[number], wall.thickening[number]
        known = bool(np.isfinite(thickness))
        yield Segment(
            name, ring, (r * math.cos(middle), -r * math.sin(middle)), f"{thickness:.0f}" if known else "-",
            f"{change:+.0f}" if np.isfinite(change) else "",
            float((thickness - low) / (high - low)) if known and high > low else 0.0,
        )  # fmt: skip


def draw_bulls_eye(wall: Wall, caption: str) -> str:
    """Draw the bull's eye as SVG in the colours of a page: the thicker, the stronger."""
    x, y = _WIDTH / 2, _HEIGHT / 2
    elements = []
    for each in bulls_eye(wall):
        corners = " ".join(f"{x + _RADIUS * dx:.1f},{y + _RADIUS * dy:.1f}" for dx, dy in each.ring)
        words = f"{each.name}: {each.thickness} mm, {each.thickening or '-'} %"
        middle = x + _RADIUS * each.middle[0], y + _RADIUS * each.middle[1]
        elements.append(
            f'<polygon points="{corners}" fill-opacity="{0.06 + 0.5 * each.share:.2f}"><title>{escaped(words)}</title>'
            f'</polygon><text x="{middle[0]:.1f}" y="{middle[1]:.1f}" text-anchor="middle">{escaped(each.thickness)}'
            f'</text><text class="small" x="{middle[0]:.1f}" y="{middle[1] + 14:.1f}" text-anchor="middle">'
            f"{escaped(each.thickening)}</text>"
        )
    for word, right, low in DIRECTIONS:
        anchor = {-1: "end", 0: "middle", 1: "start"}[right]
        at = x + right * (_RADIUS + 6), y + low * (_RADIUS + 10) + 4
        elements.append(f'<text class="small" x="{at[0]:.0f}" y="{at[1]:.0f}" text-anchor="{anchor}">{word}</text>')
    return (
        f'<svg class="bulls-eye" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escaped(caption)}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}">{"".join(elements)}</svg>'
    )
