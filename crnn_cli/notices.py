"""Warnings, notes and details for whoever listens to the logger ``crnn``; the package itself prints nothing.

The command line listens and writes to standard error. In a notebook, `logging` shows warnings and leaves out the rest,
as for any library.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

LOGGER = logging.getLogger("crnn")

Progress = Callable[[int, int], None]
"""Called with (done, total) while work goes on."""

STREAM = Path("-")
"""The path that stands for standard input or output."""

_SUBJECT: ContextVar[str] = ContextVar("subject", default="")


@contextmanager
def about(name: str) -> Iterator[None]:
    """Prefix the warnings and notes of this thread with the name of the input (batch mode)."""
    before = _SUBJECT.set(f"{name}: ")
    try:
        yield
    finally:
        _SUBJECT.reset(before)


def warn(text: str) -> None:
    """Log a warning: a doubt about the data or the result, which does not stop the work."""
    LOGGER.warning("%s%s", _SUBJECT.get(), text)


def note(text: str) -> None:
    """Log what people usually want to know, such as progress of an adaptation."""
    LOGGER.info("%s%s", _SUBJECT.get(), text)


def detail(text: str) -> None:
    """Log what only a curious person wants to know."""
    LOGGER.debug("%s%s", _SUBJECT.get(), text)
