"""Failures as one line of text and an exit code."""

from __future__ import annotations

from crnn_cli.errors import CrnnError, DeviceError, Spelling

_MEMORY_WORDS = ("out of memory", "allocate memory", "failed to map")
"""Words of torch, the C library and the loader about memory, which raise a plain RuntimeError or ImportError."""


def describe_error(error: BaseException, spell: Spelling = str) -> tuple[str, int] | None:
    """Describe an error in one line, with the exit code of its kind.

    Parameters
    ----------
    spell : how parameters are written; the command line writes options.

    Returns
    -------
    Text and exit code; None for a defect of the program, whose traceback should be seen.
    """
    if isinstance(error, CrnnError):
        return error.render(spell), error.exit_code
    if isinstance(error, OSError):
        return f"reading or writing failed: {error}", CrnnError.exit_code
    if _is_out_of_memory(error):
        reason = str(error).partition("\n")[0][:200] or "an array did not fit"
        return f"not enough memory: {reason}", DeviceError.exit_code
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out. Other libraries have no class for it, so their words count."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError | ImportError) and any(words in text for words in _MEMORY_WORDS)
