"""How a command ended, and the tables that it printed."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass


def table_rows(text):
    """The cells of a printed table, by the first of each row."""
    text = text.decode() if isinstance(text, bytes) else text
    cells = [re.split(r" {2,}", line.strip()) for line in text.splitlines() if line.strip()]
    return {first: rest for first, *rest in cells if rest}


def heeds_interruption():
    """Heed SIGINT in a process that starts: tests in the background ignore it, and what they start would too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: bytes
    err: str
