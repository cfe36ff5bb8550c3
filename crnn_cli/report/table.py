"""Tables that people read on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from crnn_cli.notices import Verbosity


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table to standard error."""
    if Verbosity.level < 1 or sys.stderr is None:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=Text(title), title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        drawn.add_column(Text(column), justify="left" if index == 0 else "right")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    Console(stderr=True, highlight=False).print(drawn)
