"""Messages of the package through the logger ``crnn``: doubts, facts and details. The package itself prints nothing.

A `Doubt` or a `Fact` has a code that stays the same from version to version, so that programs can look for it; the
table of codes is docs/reference/doubts.md. Within `recording` both are kept as well, for the report of the result.

The command line listens and writes to standard error. In a notebook, `logging` shows warnings and drops the rest, as
for any library; ``logging.getLogger("crnn").setLevel("INFO")`` with a handler shows notes as well.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from crnn_cli.errors import Param, UnsupportedDataError

LOGGER = logging.getLogger("crnn")
"""Logger of the package."""

Progress = Callable[[int, int], None]
"""Callback of (done, total), called as work proceeds."""

STREAM = Path("-")
"""Path that stands for standard input or output."""

_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters, C0 and C1; a terminal may take them as commands
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"  # those that end a line or turn the direction of writing
)

_SUBJECT: ContextVar[str] = ContextVar("subject", default="")
_RECORD: ContextVar[Record | None] = ContextVar("record", default=None)


def one_line(text: str) -> str:
    r"""Text of one line in which names and header texts from files cannot command a terminal, or break a row.

    >>> one_line("a\x1b[31mred"), one_line("two\nlines")
    ('a\\x1b[31mred', 'two\\nlines')
    """
    return _UNSEEN.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


@dataclass(frozen=True)
class Remark:
    """Something to know about the data or the result that does not stop the work; a `Doubt` or a `Fact`.

    Parameters
    ----------
    code : stable name, lower case with hyphens, such as ``no-frame-time``.
    text : a sentence for people.
    """

    code: str
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Doubt(Remark):
    """A reason to look twice: something may be wrong with the data, or with what was made of them.

    What is certainly wrong is an error of `crnn_cli.errors`.
    """


@dataclass(frozen=True)
class Fact(Remark):
    """What was assumed or done in a clear case, such as lines that were averaged."""


@dataclass
class Record:
    """Remarks about one input, in the order in which they came up, each once.

    Parameters
    ----------
    strict : raise the first doubt as an UnsupportedDataError.
    silent : keep the remarks, and log none.
    """

    strict: bool = False
    remarks: list[Remark] = field(default_factory=list)
    silent: bool = False

    def as_json(self) -> dict[str, list[dict[str, str]]]:
        """``doubts`` and ``facts`` for a report, each with ``code`` and ``text``.

        >>> Record(remarks=[Doubt("no-frame-time", "the header gives no frame time")]).as_json()["doubts"]
        [{'code': 'no-frame-time', 'text': 'the header gives no frame time'}]
        """
        return {
            name: [{"code": each.code, "text": each.text} for each in self.remarks if isinstance(each, kind)]
            for name, kind in (("doubts", Doubt), ("facts", Fact))
        }


def no_progress(done: int, total: int) -> None:
    """Progress callback that does nothing."""


@contextmanager
def about(name: str) -> Iterator[None]:
    """Prefix the messages of this context (thread or task) with the name of the input, for batches.

    >>> with about("scan.nii"):
    ...     say("read")  # logs "scan.nii: read"
    """
    before = _SUBJECT.set(f"{name}: ")
    try:
        yield
    finally:
        _SUBJECT.reset(before)


@contextmanager
def recording(record: Record | None = None, *, strict: bool = False) -> Iterator[Record]:
    """Keep the remarks of this context (thread or task).

    Parameters
    ----------
    record : one to go on with, such as that of an earlier step; None for a new one.
    strict : see `Record`; for a new one.
    """
    kept = Record(strict) if record is None else record
    before = _RECORD.set(kept)
    try:
        yield kept
    finally:
        _RECORD.reset(before)


def recorded() -> dict[str, list[dict[str, str]]]:
    """``doubts`` and ``facts`` so far, for the report of this context; {} where nothing is recorded."""
    record = _RECORD.get()
    return {} if record is None else record.as_json()


def is_strict() -> bool:
    """Whether the record of this context is strict, see `Record`."""
    record = _RECORD.get()
    return record is not None and record.strict


def tell(*remarks: Remark) -> None:
    """Log remarks, doubts as warnings and facts at level INFO, and record them.

    Raises
    ------
    UnsupportedDataError
        For a doubt, where the record is strict.
    """
    record = _RECORD.get()
    for each in remarks:
        doubtful = isinstance(each, Doubt)
        if record is not None and doubtful and record.strict:
            raise UnsupportedDataError(
                f"{each.text} ({each.code})",
                remedy=(
                    "doubts end the work here, as ",
                    Param("strict"),
                    " was given",
                ),
            )
        if record is not None:
            if each in record.remarks:
                continue
            record.remarks.append(each)
            if record.silent:
                continue
        LOGGER.log(logging.WARNING if doubtful else logging.INFO, "%s%s", _SUBJECT.get(), each.text)


def warn(code: str, text: str) -> None:
    """Tell a `Doubt`."""
    tell(Doubt(code, text))


def note(code: str, text: str) -> None:
    """Tell a `Fact`: one that most users want to know."""
    tell(Fact(code, text))


def say(text: str) -> None:
    """Log a line at level INFO, such as the state of an adaptation; it is not recorded."""
    LOGGER.info("%s%s", _SUBJECT.get(), text)


def detail(text: str) -> None:
    """Log a detail at level DEBUG, shown by ``-v`` only."""
    LOGGER.debug("%s%s", _SUBJECT.get(), text)
