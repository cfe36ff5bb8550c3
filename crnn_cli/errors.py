"""Errors of the package, their remedies, and the exit code of each kind.

CrnnError                      1  failed
├── UsageError                 2  wrong usage: parameters that exclude each other, a missing argument
├── UnreadableError            3  input is missing, broken, or not what it claims to be
├── UnsupportedDataError       4  readable, but ambiguous or not supported: refused, never guessed
├── DeviceError                5  the device is absent, or memory ran out
├── QualityError               6  a quality threshold was not met
├── BatchError                 7  some inputs of a batch failed
└── OutputError                1  the output cannot be written
    ├── OutputExistsError      1  the output exists, and replacing it was not asked for
    └── OutputNameError        1  the name of the output is too long for the file system
Interrupted by the user: 130 (KeyboardInterrupt, not part of the tree); by SIGHUP 129, by SIGTERM 143 (SystemExit).

A message says what was read and why it is refused; the remedy says what to do instead. Where either names a parameter,
it holds a `Param` instead of text: Python spells it ``undersample=8``, the command line ``--undersample 8``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

EXIT_HANGUP = 129
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
"""Ended by SIGHUP, SIGINT and SIGTERM: 128 + the number of the signal."""


@dataclass(frozen=True)
class Param:
    """A parameter in a message or a remedy, by its Python name, with a value where one is meant.

    >>> str(Param("undersample", 8)), str(Param("phase"))
    ('undersample=8', 'phase')
    """

    name: str
    value: str | float | None = None

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}={self.value!r}"


Spelling = Callable[[Param], str]
"""Function that spells a parameter for the reader: as Python, or as an option."""
Words = str | Param
"""Piece of a message: text, or a parameter."""


class CrnnError(Exception):
    """Base class of all errors of the package.

    Catch it to handle anything that the package refuses; errors outside this tree are defects.

    Parameters
    ----------
    parts : the message, in pieces of text and parameters.
    remedy : what to do instead, in the same form; empty where there is no advice.

    Attributes
    ----------
    exit_code : exit status of a command that ends by the error.

    >>> error = CrnnError("scan.nii is a magnitude series", remedy=("give its phase with ", Param("phase")))
    >>> str(error)
    'scan.nii is a magnitude series: give its phase with phase'
    >>> error.render(lambda param: f"--{param.name}")
    'scan.nii is a magnitude series: give its phase with --phase'
    """

    exit_code = 1

    def __init__(self, *parts: Words, remedy: Sequence[Words] = ()) -> None:
        super().__init__(*parts)
        self.parts = parts
        self.remedy = tuple(remedy)

    def render(self, spell: Spelling = str) -> str:
        """Message and remedy as one text, with parameters spelled by ``spell``."""
        message = spelled(self.parts, spell)
        return f"{message}: {spelled(self.remedy, spell)}" if self.remedy else message

    def __str__(self) -> str:
        return self.render()

    def with_params(self, names: dict[str, str]) -> CrnnError:
        """Copy of the error with parameters renamed, such as ``series`` to ``reference_series``.

        >>> str(UsageError(Param("series", 2), " is missing").with_params({"series": "reference_series"}))
        'reference_series=2 is missing'
        """

        def renamed(words: Sequence[Words]) -> list[Words]:
            return [Param(names.get(w.name, w.name), w.value) if isinstance(w, Param) else w for w in words]

        return type(self)(*renamed(self.parts), remedy=renamed(self.remedy))


def spelled(words: Sequence[Words], spell: Spelling = str) -> str:
    """Join text and parameters to one string, each parameter spelled by ``spell``.

    >>> spelled(["give ", Param("axes", "x,y,t")])
    "give axes='x,y,t'"
    """
    return "".join(spell(word) if isinstance(word, Param) else word for word in words)


class UsageError(CrnnError):
    """The parameters contradict each other, or one is missing or not understood.

    Raised before anything is read where possible.
    """

    exit_code = 2


class UnreadableError(CrnnError):
    """The input is missing, broken, or not what it claims to be.

    Such as a truncated file, or a bundle whose checksum does not match.
    """

    exit_code = 3


class UnsupportedDataError(CrnnError):
    """The input was read, but it is ambiguous or not supported; the package refuses to guess.

    Such as a magnitude series whose sampling nobody can know, a sheared grid, or two images on different grids.
    """

    exit_code = 4


class DeviceError(CrnnError):
    """The device asked for is absent, or its memory ran out.

    There is no silent fallback to another device.
    """

    exit_code = 5


class QualityError(CrnnError):
    """A quality threshold asked for was not met; the results are written nevertheless."""

    exit_code = 6


class BatchError(CrnnError):
    """Some inputs of a batch failed; the others are done, and their results are kept."""

    exit_code = 7


class OutputError(CrnnError):
    """The output cannot be written where it was asked for."""

    exit_code = 1


class OutputExistsError(OutputError):
    """The output exists already, and replacing it was not asked for."""


class OutputNameError(OutputError):
    """The name of the output is too long for the file system."""
