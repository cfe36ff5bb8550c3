"""How a command ended, and the tables that it printed."""

from __future__ import annotations

import re
from dataclasses import dataclass


def table_rows(text):
    """The cells of a printed table, by the first of each row."""
    text = text.decode() if isinstance(text, bytes) else text
    cells = [re.split(r" {2,}", line.strip()) for line in text.splitlines() if line.strip()]
    return {first: rest for first, *rest in cells if rest}


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: bytes
    err: str
