"""What people see: words, tables and bars on standard error; data and JSON on standard output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from crnn_cli.errors import UsageError
from crnn_cli.notices import Progress, Verbosity


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


def close_stdout() -> None:
    """Point standard output at nothing, so that the interpreter does not complain again when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stop(message: str, code: int) -> typer.Exit:
    """Print an error and return the exception that ends the command with ``code``."""
    if sys.stderr is not None:
        sys.stderr.write(f"error: {message}\n")
    return typer.Exit(code)
