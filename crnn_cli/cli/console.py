"""What people see: words and bars on standard error; results as tables, data or JSON on standard output."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, TextIO

import typer

from crnn_cli.errors import UsageError
from crnn_cli.notices import LOGGER, Progress, one_line

_LINE_OF_A_LIST = re.compile(r"(\n(?=  )|\t)")
"""What is kept in an error: tabs, and lines that list what there is, which are indented."""
TEXT = re.compile(r"(\n|\t)")
"""What is kept of a text of many lines."""


class Verbosity:
    """How much is said on standard error: 0 errors only, 1 usual, 2 details."""

    level = 1


def set_verbosity(quiet: bool, verbose: bool) -> None:
    """Follow ``-q`` and ``-v``; where neither is given, the level stays."""
    if quiet or verbose:
        Verbosity.level = 0 if quiet else 2


class StderrHandler(logging.Handler):
    """Writes what the package logs to standard error, as far as the verbosity asks for it."""

    LEVELS: ClassVar = {logging.WARNING: 1, logging.INFO: 1, logging.DEBUG: 2}

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; a warning says that it is one."""
        mark = "warning: " if record.levelno >= logging.WARNING else ""
        say(mark + record.getMessage(), self.LEVELS.get(record.levelno, 1))


def listen() -> None:
    """Hand all that the package logs to standard error; once, however often it is called."""
    LOGGER.setLevel(logging.DEBUG)
    LOGGER.propagate = False
    if not any(isinstance(handler, StderrHandler) for handler in LOGGER.handlers):
        LOGGER.addHandler(StderrHandler())


def printable(text: str, stream: TextIO | None = None, kept: re.Pattern[str] = _LINE_OF_A_LIST) -> str:
    r"""Text in which names and header texts from files cannot command the terminal: the one place for it.

    Control characters, and marks that turn the direction of writing, are written as escapes.
    Bytes of file names that the locale could not decode are taken as UTF-8.

    >>> printable("a\x1b[31mred"), printable("\udcc3\udcbc")
    ('a\\x1b[31mred', 'ü')

    Parameters
    ----------
    stream : that it is for; what its encoding lacks is written as escapes too.
    kept : pattern, with one group, of what stays as it is.
    """
    if any("\udc80" <= letter <= "\udcff" for letter in text):
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    text = "".join(part if kept.fullmatch(part) else one_line(part) for part in kept.split(text))
    encoding = (stream and stream.encoding) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def say(text: str, level: int = 1) -> None:
    """Print a line of plain text to standard error; brackets in it are just brackets."""
    if Verbosity.level >= level and sys.stderr is not None:
        sys.stderr.write(printable(text, sys.stderr) + "\n")
        sys.stderr.flush()


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    prose: Collection[str] = (),
    result: bool = False,
) -> None:
    """Print a table: to standard output where it is the result of the command, else to standard error.

    Parameters
    ----------
    columns : headings; ``["", ""]`` for names and their values, without a header.
    prose : headings of the columns that hold sentences, see `crnn_cli.report.table.render_table`.
    result : whether the command was run for this table; then ``-q`` does not hide it.

    Raises
    ------
    UsageError
        If it is the result and standard output is closed.
    """
    if result:
        require_stdout()
    elif Verbosity.level < 1:
        return
    stream = sys.stdout if result else sys.stderr
    if stream is None:
        return
    from crnn_cli.report.table import render_table

    color = stream.isatty() and "NO_COLOR" not in os.environ
    cells = [[printable(cell, stream) for cell in row] for row in rows]
    text = render_table(printable(title, stream), columns, cells, prose, _width(stream), color)
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def lines(texts: Sequence[str]) -> None:
    """Print lines to standard output as they are, however wide the terminal is: they may be copied to a shell."""
    require_stdout()
    for text in texts:
        sys.stdout.write(printable(text, sys.stdout) + "\n")
    sys.stdout.flush()


def _width(stream: TextIO) -> int | None:
    """Characters in a line of a terminal, or what COLUMNS says; None of a file or pipe."""
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said) > 0:
        return int(said)
    return shutil.get_terminal_size().columns if stream.isatty() else None


def require_stdout() -> None:
    """Raise UsageError where there is nowhere to print a result to."""
    if sys.stdout is None:
        raise UsageError("standard output is closed: there is nowhere to print the result to")


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


def buffer_stdout() -> None:
    """Give standard output a buffer, where PYTHONUNBUFFERED took it away.

    Without one a write takes a part of the bytes, where the disk is full or the reader goes away, and says nothing.
    """
    if isinstance(getattr(sys.stdout, "buffer", None), io.RawIOBase):
        plain = sys.stdout
        sys.stdout = open(plain.fileno(), "w", encoding=plain.encoding, errors=plain.errors, closefd=False)  # noqa: SIM115


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class _Words(io.FileIO):
    """Standard error; words for which there is no room are lost."""

    def write(self, content: Any, /) -> int:
        """Write what there is room for."""
        try:
            return super().write(content) or 0
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            return len(memoryview(content).cast("B"))


def spare_stderr() -> None:
    """Let nothing fail because standard error cannot be written, as on a full disk: results and exit code count."""
    plain = sys.stderr
    file = getattr(plain, "buffer", None)
    if type(plain) is io.TextIOWrapper and type(getattr(file, "raw", file)) is io.FileIO:
        words = io.BufferedWriter(_Words(plain.fileno(), "wb", closefd=False))
        sys.stderr = io.TextIOWrapper(words, encoding=plain.encoding, errors=plain.errors, line_buffering=True)


def close_stdout() -> None:
    """Point standard output at nothing, so that the interpreter does not complain again when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stop(message: str, code: int) -> typer.Exit:
    """Print an error and return the exception that ends the command with ``code``."""
    if sys.stderr is not None:
        sys.stderr.write(f"error: {printable(message, sys.stderr)}\n")
    return typer.Exit(code)
