"""Words for whoever listens: warnings, notes and progress, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from crnn_cli.errors import UsageError

Progress = Callable[[int, int], None]


STREAM = Path("-")


class Verbosity:
    """How much is said on standard error: 0 errors only, 1 usual, 2 details."""

    level = 1


def say(text: str, level: int = 1) -> None:
    """Print a line of plain text to standard error; brackets in it are just brackets."""
    if Verbosity.level >= level and sys.stderr is not None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


_ABOUT: ContextVar[str] = ContextVar("about", default="")


@contextmanager
def about(name: str) -> Iterator[None]:
    """Let warnings of this thread say what they are about, where several inputs are at work."""
    before = _ABOUT.set(f"{name}: ")
    try:
        yield
    finally:
        _ABOUT.reset(before)


def note(text: str) -> None:
    """Print a line to standard error, with what it is about where several inputs are at work."""
    say(f"{_ABOUT.get()}{text}")


def warn(text: str) -> None:
    """Print a warning to standard error."""
    say(f"warning: {_ABOUT.get()}{text}")


def protect_terminal() -> None:
    """Refuse to pour binary data over a terminal."""
    if sys.stdout is None:
        raise UsageError("standard output is closed: give -o FILE.nii.gz")
    if sys.stdout.isatty():
        raise UsageError("standard output is a terminal: pipe it on, or give -o FILE.nii.gz")
