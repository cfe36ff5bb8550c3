"""Self-contained HTML page: one file with its pictures, no scripts, well-formed as XML so that it can be checked.

Light or dark as the reader's system is; black on white in print.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

from crnn_cli.errors import OutputError, UsageError
from crnn_cli.io.atomic_write import Output

SUFFIXES = (".html", ".htm")
_STYLE = """
:root { color-scheme: light dark;
  --text: #1b1f24; --back: #ffffff; --faint: #6a737d; --line: #d8dee4; --mark: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e9ec; --back: #14171a; --faint: #9aa4ae; --line: #343a40; --mark: #ff8a80; } }
@media print {
  :root { --text: #000; --back: #fff; --faint: #444; --line: #999; --mark: #900; } section { break-inside: avoid; } }
body { margin: 2rem auto; padding: 0 1rem; max-width: 72rem; font: 1rem/1.45 system-ui, sans-serif;
  color: var(--text); background: var(--back); }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
th { font-weight: 600; width: 16rem; } td.why, figcaption, .plot text { color: var(--faint); font-size: .85rem; }
figure { margin: 1rem 0; } img { max-width: 100%; background: #000; }
.note { border-left: 3px solid var(--mark); padding-left: .8rem; }
.plot { width: 100%; max-width: 48rem; height: auto; } .plot text { fill: var(--faint); font-size: 11px; }
.plot .axis { stroke: var(--line); } .plot .value { stroke: var(--text); fill: none; stroke-width: 1.5; }
.plot .dot { fill: var(--text); } .plot .mark { fill: var(--mark); }
.plot .below { stroke: var(--faint); stroke-dasharray: 5 4; }
@media (max-width: 40rem) {
  body { margin: 1rem auto; } table, tbody, tr, th, td { display: block; width: auto; }
  tr { border-bottom: 1px solid var(--line); padding: .4rem 0; } th, td { border: 0; padding: 0; }
  td:empty { display: none; } figure { overflow-x: auto; } img { max-width: none; } .plot text { font-size: 15px; } }
"""
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 170, 56, 12, 14, 24


@dataclass(frozen=True)
class Table:
    """Table of a page.

    Attributes
    ----------
    heading : above the table.
    rows : (name, value) or (name, value, meaning).
    """

    heading: str
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """Picture of a page: a PNG file and its caption."""

    png: bytes
    caption: str


@dataclass(frozen=True)
class Plot:
    """Plot of a value over the frames.

    Attributes
    ----------
    values : of each frame; None where unknown, which leaves a gap.
    below : other values to compare with, drawn dashed.
    marked : outlier frames, drawn in the colour of notes.
    """

    caption: str
    values: Sequence[float | None]
    below: Sequence[float | None] = ()
    marked: Sequence[int] = ()


@dataclass(frozen=True)
class Notes:
    """Sentences that must not be overlooked, each in a paragraph with a coloured bar."""

    lines: Sequence[str]


Part = Table | Picture | Plot | Notes


def require_page_name(target: Path) -> None:
    """Raise UsageError unless the name ends in .html or .htm."""
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(f"cannot write {target}: a report is a page, give a name that ends in .html")


def page_output(target: Path, title: str, parts: Sequence[Part]) -> Output:
    """Prepare a page for writing; it is read back and parsed before it counts.

    Parameters
    ----------
    title : heading of the page.
    parts : in order.

    Raises
    ------
    OutputError
        When it is written, if the file differs or is not well-formed.
    """
    content = render_page(title, parts).encode("utf-8", "replace")

    def check(written: Path) -> None:
        """Raise OutputError unless the file has the content of the page, and is well-formed."""
        again = written.read_bytes()
        try:
            ElementTree.fromstring(again)
        except ElementTree.ParseError as error:
            raise OutputError(f"{target} was not written: the page is not well-formed, {error}") from None
        if again != content:
            raise OutputError(f"{target} was not written: read back, it differs")

    return Output(target, content, check)


def render_page(title: str, parts: Sequence[Part]) -> str:
    """Draw the page as HTML.

    Texts are shown as they are, never taken as markup: names in a DICOM header are not trusted.
    """
    body = "\n".join(_draw(part) for part in parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{_text(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _draw(part: Part) -> str:
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Picture):
        data = base64.b64encode(part.png).decode()
        text = _text(part.caption)
        image = f'<img alt="{text}" src="data:image/png;base64,{data}"/>'
        return f"<section><figure>{image}<figcaption>{text}</figcaption></figure></section>"
    if isinstance(part, Notes):
        return "\n".join(f'<p class="note">{_text(line)}</p>' for line in part.lines)
    return f"<section><figure>{_plot(part)}<figcaption>{_text(part.caption)}</figcaption></figure></section>"


def _table(part: Table) -> str:
    rows = []
    for name, value, *meaning in part.rows:
        wide = f' colspan="{1 + len(meaning)}"' if meaning and not any(meaning) else ""
        more = "" if wide else "".join(f'<td class="why">{_text(text)}</td>' for text in meaning)
        rows.append(f'<tr><th scope="row">{_text(name)}</th><td{wide}>{_text(value)}</td>{more}</tr>')
    lines = "\n".join(rows)
    return f"<section><h2>{_text(part.heading)}</h2>\n<table><tbody>\n{lines}\n</tbody></table></section>"


def _plot(part: Plot) -> str:
    """Draw a plot as SVG: from 0 upwards, a dot a frame, gaps where a value is unknown."""
    known = [value for value in (*part.values, *part.below) if value is not None]
    top = 1.1 * max([*known, 1e-12])
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    step = (right - _LEFT) / max(1, len(part.values) - 1)

    def position(frame: int, value: float) -> tuple[float, float]:
        """Position of a value on the paper."""
        return _LEFT + step * frame, bottom - (bottom - _TOP) * value / top

    elements = [f'<line class="axis" x1="{_LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}"/>']
    for value in (0.0, top / 2.2, top / 1.1):
        _, y = position(0, value)
        elements.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    last = len(part.values) - 1
    for frame in sorted({0, len(part.values) // 2, last} if part.values else set()):
        x, _ = position(frame, 0)
        anchor = "end" if frame == last > 0 else "middle"
        elements.append(f'<text x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">frame {frame + 1}</text>')
    for kind, values in (("below", part.below), ("value", part.values)):
        elements += _line(
            kind, [None if value is None else position(frame, value) for frame, value in enumerate(values)]
        )
    for frame, known_value in enumerate(part.values):
        if known_value is not None:
            x, y = position(frame, known_value)
            kind, radius = ("mark", 5) if frame in part.marked else ("dot", 2.5)
            elements.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>')
    drawing = "".join(elements)
    return (
        f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{_text(part.caption)}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}">{drawing}</svg>'
    )


def _line(kind: str, points: Sequence[tuple[float, float] | None]) -> list[str]:
    """Lines between neighbours that are both known."""
    return [
        f'<line class="{kind}" x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}"/>'
        for a, b in pairwise(points)
        if a is not None and b is not None
    ]


def _text(text: str) -> str:
    """Escape text for HTML; a character that cannot be shown becomes a question mark."""
    return html.escape("".join(sign if sign.isprintable() else "?" for sign in text))
