"""Everything that can go wrong, in the user's words.

CrnnError                      1  failed
├── UsageError                 2  wrong usage: options that exclude each other, a missing argument
├── UnreadableError            3  input is missing, broken, or not what it claims to be
├── UnsupportedDataError       4  readable, but ambiguous or not supported: refused, never guessed
├── DeviceError                5  the device is absent, or memory ran out
├── QualityError               6  a quality threshold was not met
├── BatchError                 7  some inputs of a batch failed
└── OutputError                1  the output cannot be written
Interrupted by the user: 130 (KeyboardInterrupt, not part of the tree).

Each message says what was read, why it will not do, and what to do instead.
"""

EXIT_OK = 0
EXIT_INTERRUPTED = 130


class CrnnError(Exception):
    """Root of the tree; ``exit_code`` is what the command returns."""

    exit_code = 1


class UsageError(CrnnError):
    """The command line contradicts itself or lacks something."""

    exit_code = 2


class UnreadableError(CrnnError):
    """The input is missing, broken, or not what it claims to be."""

    exit_code = 3


class UnsupportedDataError(CrnnError):
    """The input was read, but what it means is ambiguous or not supported."""

    exit_code = 4


class DeviceError(CrnnError):
    """The device asked for is absent, or its memory ran out."""

    exit_code = 5


class QualityError(CrnnError):
    """A quality threshold asked for was not met."""

    exit_code = 6


class BatchError(CrnnError):
    """Some inputs of a batch failed; the others are done."""

    exit_code = 7


class OutputError(CrnnError):
    """The output cannot be written where it was asked for."""

    exit_code = 1
