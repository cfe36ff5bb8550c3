"""How a command ended, and the tables that it printed."""

from __future__ import annotations

import re
from dataclasses import dataclass


def table_rows(text):
    """Cells of the tables in a text, by the first of each row; empty cells are left out."""
    cells = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    return {first: rest for first, *rest in cells if rest}


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: bytes
    err: str
