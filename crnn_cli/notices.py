"""Messages of the package through the logger ``crnn``: warnings, notes and details. The package itself prints nothing.

The command line listens and writes to standard error. In a notebook, `logging` shows warnings and drops the rest, as
for any library; ``logging.getLogger("crnn").setLevel("INFO")`` with a handler shows notes as well.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

LOGGER = logging.getLogger("crnn")
"""Logger of the package."""

Progress = Callable[[int, int], None]
"""Callback of (done, total), called as work proceeds."""

STREAM = Path("-")
"""Path that stands for standard input or output."""


class Doubt(NamedTuple):
    """A doubt about data or a result.

    Attributes
    ----------
    code : stable name of its kind, as listed in docs/reference/doubts.md.
    text : what was found, as a sentence.
    """

    code: str
    text: str


_SUBJECT: ContextVar[str] = ContextVar("subject", default="")


def no_progress(done: int, total: int) -> None:
    """Progress callback that does nothing."""


@contextmanager
def about(name: str) -> Iterator[None]:
    """Prefix the messages of this context (thread or task) with the name of the input, for batches.

    >>> with about("scan.nii"):
    ...     note("read")  # logs "scan.nii: read"
    """
    before = _SUBJECT.set(f"{name}: ")
    try:
        yield
    finally:
        _SUBJECT.reset(before)


def warn(text: str) -> None:
    """Log a warning: a doubt about the data or the result that does not stop the work.

    What stops the work is an error of `crnn_cli.errors`.
    """
    LOGGER.warning("%s%s", _SUBJECT.get(), text)


def note(text: str) -> None:
    """Log a note at level INFO: a fact most users want to know, such as the outcome of an adaptation."""
    LOGGER.info("%s%s", _SUBJECT.get(), text)


def detail(text: str) -> None:
    """Log a detail at level DEBUG, shown by ``-v`` only."""
    LOGGER.debug("%s%s", _SUBJECT.get(), text)
