"""How a command ended, and the tables that it printed."""

from __future__ import annotations

from dataclasses import dataclass


def table_rows(text):
    """Return the cells of a printed table, by the first of each row."""
    cells = [[cell.strip() for cell in line.strip(" │").split("│")] for line in text.splitlines() if "│" in line]
    return {first: rest for first, *rest in cells if first}


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: bytes
    err: str
