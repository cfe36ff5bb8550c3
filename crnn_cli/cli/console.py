"""What people see: words, tables and bars on standard error; data and JSON on standard output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import typer

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


def require_stdout() -> None:
    """Raise UsageError where there is nowhere to print JSON to."""
    if sys.stdout is None:
        raise UsageError("standard output is closed: there is nowhere to print JSON to")


def print_json(value: dict[str, Any] | list[Any], indent: int | None = 2) -> None:
    """Print JSON to standard output; without ``indent`` on one line."""
    require_stdout()
    sys.stdout.write(json.dumps(value, indent=indent, allow_nan=False) + "\n")
    sys.stdout.flush()


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """Yield a function (done, total) that moves a bar; silent unless standard error is a terminal."""
    if Verbosity.level < 1 or sys.stderr is None or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def protect_terminal() -> None:
    """Refuse to pour binary data over a terminal."""
    if sys.stdout is None:
        raise UsageError("standard output is closed: give -o FILE.nii.gz")
    if sys.stdout.isatty():
        raise UsageError("standard output is a terminal: pipe it on, or give -o FILE.nii.gz")


def close_stdout() -> None:
    """Point standard output at nothing, so that the interpreter does not complain again when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stop(message: str, code: int) -> typer.Exit:
    """Print an error and return the exception that ends the command with ``code``."""
    if sys.stderr is not None:
        sys.stderr.write(f"error: {message}\n")
    return typer.Exit(code)
