"""Plot of values over the frames as SVG, in the colours of the page; the viewer marks the frame it shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from crnn_cli.report.page.text import escaped

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 60, 12, 28, 28
_TICKS = 5
Values = Sequence[float | None]


@dataclass(frozen=True)
class Line:
    """Values of each frame as a line of their own.

    Attributes
    ----------
    name : stands above the plot, in the colour of the line.
    kind : class of the style: ``value``, ``left`` or ``right``.
    values : of each frame; None where unknown, which leaves a gap.
    """

    name: str
    kind: str
    values: Values


@dataclass(frozen=True)
class Plot:
    """Plot of values over the frames.

    Attributes
    ----------
    values : of each frame; None where unknown, which leaves a gap.
    below : other values to compare with, drawn dashed.
    marked : outlier frames, drawn in the colour of notes.
    lines : named lines, in place of ``values``.
    upright : frames, from 0, with a word at an upright line, such as ``ED``.
    scaled : whether the axis has numbers; without them it starts at 0 all the same.
    height : over a width of 640.
    """

    caption: str
    values: Values = ()
    below: Values = ()
    marked: Sequence[int] = ()
    lines: Sequence[Line] = ()
    upright: Sequence[tuple[int, str]] = ()
    scaled: bool = True
    height: int = 190


def ticks(most: float) -> tuple[float, float]:
    """Step and end of an axis from 0 to at least ``most``; for 0 an axis to 1.

    >>> ticks(143), ticks(0.7)
    ((50, 150), (0.2, 0.8))
    """
    if not most > 0:
        return 1, 1
    power = 10 ** math.floor(math.log10(most / _TICKS))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power * _TICKS >= most)
    return step, step * math.ceil(most / step)


def draw_plot(part: Plot) -> str:
    """Draw a plot: from 0 upwards, a dot a frame, gaps where a value is unknown.

    ``data-frames``, ``data-left`` and ``data-step`` tell the viewer where the frames lie.
    """
    lines = part.lines or (Line("", "value", part.values),)
    known = [v for values in (*(line.values for line in lines), part.below) for v in values if v is not None]
    paper = _Paper(part.height, max(len(line.values) for line in lines), *ticks(max(known, default=0.0)))
    elements = [*paper.axes(part.scaled), *(mark for at in part.upright for mark in paper.upright(*at))]
    elements += paper.curve("below", part.below)
    for number, line in enumerate(lines):
        elements += [*paper.curve(line.kind, line.values), *paper.dots(line, part.marked)]
        x = _LEFT + number * (_WIDTH - _LEFT) / len(lines)
        elements += [f'<text class="{line.kind}" x="{x:.0f}" y="18">{escaped(line.name)}</text>'] if line.name else []
    return (
        f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escaped(part.caption)}" '
        f'viewBox="0 0 {_WIDTH} {part.height}" data-frames="{paper.frames}" data-left="{_LEFT}" '
        f'data-step="{paper.step:.4f}" data-top="{_TOP}" data-bottom="{paper.floor}">{"".join(elements)}</svg>'
    )


@dataclass(frozen=True)
class _Paper:
    """Paper of a plot of so many frames, with ticks at ``interval`` up to ``top``."""

    height: int
    frames: int
    interval: float
    top: float

    @property
    def floor(self) -> int:
        """Where 0 is."""
        return self.height - _BOTTOM

    @property
    def step(self) -> float:
        """Distance of frames."""
        return (_WIDTH - _RIGHT - _LEFT) / max(1, self.frames - 1)

    def at(self, frame: int, value: float) -> tuple[float, float]:
        """Position of a value."""
        return _LEFT + self.step * frame, self.floor - (self.floor - _TOP) * value / self.top

    def axes(self, scaled: bool) -> list[str]:
        elements = []
        for number in range(round(self.top / self.interval) + 1):
            value = number * self.interval
            y = self.at(0, value)[1]
            elements.append(f'<line class="axis" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>')
            text = f'<text x="{_LEFT - 6}" y="{y + 5:.1f}" text-anchor="end">{value:.3g}</text>'
            elements += [text] if scaled else []
        last = self.frames - 1
        for frame in sorted({0, self.frames // 2, last} if self.frames else set()):
            anchor = "end" if frame == last > 0 else "middle"
            x = self.at(frame, 0)[0]
            elements.append(f'<text x="{x:.1f}" y="{self.height - 7}" text-anchor="{anchor}">frame {frame + 1}</text>')
        return elements

    def upright(self, frame: int, word: str) -> list[str]:
        x = self.at(frame, 0)[0]
        anchor, shift = ("end", -4) if frame > self.frames / 2 else ("start", 4)
        return [
            f'<line class="phase" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{self.floor}"/>',
            f'<text x="{x + shift:.1f}" y="{self.floor - 5}" text-anchor="{anchor}">{escaped(word)}</text>',
        ]

    def curve(self, kind: str, values: Values) -> list[str]:
        """Lines between neighbours that are both known."""
        points = [None if value is None else self.at(frame, value) for frame, value in enumerate(values)]
        return [
            f'<line class="{kind}" x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}"/>'
            for a, b in pairwise(points)
            if a is not None and b is not None
        ]

    def dots(self, line: Line, marked: Sequence[int]) -> list[str]:
        """A dot a value, larger where the frame is marked."""
        elements = []
        for frame, value in enumerate(line.values):
            if value is not None:
                x, y = self.at(frame, value)
                kind, radius = ("mark", 5) if frame in marked else ("dot", 2.5)
                kind += "" if line.kind == "value" else f" {line.kind}"
                elements.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>')
        return elements
