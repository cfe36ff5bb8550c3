"""Tables as text: columns where they fit, else a block of lines for each row; no number and no name is ever cut."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

LONGEST_NAME = 40
"""Characters of the names that have their values beside them; the values of longer ones stand below."""

LEAST_PROSE = 24
"""Characters that a column of sentences gets at least; where there are fewer, rows become blocks."""

GAP = 2
"""Blanks between columns."""

_NUMBER = re.compile(r"[-+]?\d")


def render_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    prose: Collection[str] = (),
    width: int | None = None,
    color: bool = False,
) -> str:
    """Draw a table as text that fits into a width.

    Parameters
    ----------
    columns : headings. Where all are empty, the rows are names and their values, and no header is drawn.
    prose : the columns that hold sentences: left-aligned, broken between words. Each cell of the others stays on one
        line. Values beside names are always prose.
    width : of the terminal, in characters; None where lines may have any length, as in a file.
    color : whether bold type is understood.
    """
    from rich.console import Console

    room = width or _natural_width(title, columns, rows)
    text = io.StringIO()
    console = Console(file=text, width=room, force_terminal=color, highlight=False, soft_wrap=False)
    for part in _layout(title, columns, rows, prose, room):
        console.print(part)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def _layout(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], prose: Collection[str], width: int
) -> list[RenderableType]:
    from rich.text import Text

    heading: list[RenderableType] = [Text(title, style="bold", overflow="fold")] if title else []
    if not any(columns):
        return [*heading, _pairs([(row[0], row[1]) for row in rows], width)]
    widest = _widths(columns, rows)
    least = [min(wide, LEAST_PROSE) if name in prose else wide for name, wide in zip(columns, widest, strict=True)]
    if sum(least) + GAP * (len(columns) - 1) <= width:
        return [*heading, _grid(columns, rows, prose)]
    for index, row in enumerate(rows):
        heading += [Text("")] if index else []
        first = Text(f"{columns[0]} {row[0]}" if _NUMBER.match(row[0]) else row[0], style="bold", overflow="fold")
        heading += [first, _pairs(list(zip(columns, row, strict=True))[1:], width)]
    return heading


def _grid(columns: Sequence[str], rows: Sequence[Sequence[str]], prose: Collection[str]) -> RenderableType:
    """Columns under a header: numbers to the right, words to the left."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False, collapse_padding=True)
    for index, name in enumerate(columns):
        sentences = name in prose
        numbers = index > 0 and not sentences and any(_NUMBER.match(row[index]) for row in rows)
        grid.add_column(Text(name), justify="right" if numbers else "left", no_wrap=not sentences)
    for row in rows:
        grid.add_row(*(Text(cell, overflow="fold") for cell in row))
    return grid


def _pairs(pairs: Sequence[tuple[str, str]], width: int) -> RenderableType:
    """Names with their values beside them; below them where there is no room, or the name is a long one."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    named = [(name, value) for name, value in pairs if name or value]
    beside = [(name, value) for name, value in named if len(name) <= LONGEST_NAME]
    longest = max((len(name) for name, _ in beside), default=0)
    below = width - longest - 2 * GAP < min(LEAST_PROSE, max((len(value) for _, value in beside), default=0))
    parts: list[RenderableType] = []
    for name, value in named:
        if below or len(name) > LONGEST_NAME:
            parts += [_indented(name, GAP), _indented(value, 2 * GAP)]
            continue
        row = Table.grid()
        row.add_column(no_wrap=True, min_width=longest + 2 * GAP)
        row.add_column()
        row.add_row(Text(" " * GAP + name), Text(value, overflow="fold"))
        parts.append(row)
    return Group(*parts)


def _indented(text: str, blanks: int) -> RenderableType:
    from rich.padding import Padding
    from rich.text import Text

    return Padding(Text(text, overflow="fold"), (0, 0, 0, blanks))


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    from rich.cells import cell_len

    return [max(map(cell_len, cells)) for cells in zip(columns, *rows, strict=True)]


def _natural_width(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    from rich.cells import cell_len

    return max(cell_len(title), sum(_widths(columns, rows)) + 2 * GAP * len(columns))
