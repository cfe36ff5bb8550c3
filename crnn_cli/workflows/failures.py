"""What is said of a failure, and with which exit code a command ends by it."""

from __future__ import annotations

from crnn_cli.errors import CrnnError, DeviceError, Spelling


def describe_error(error: BaseException, spell: Spelling = str) -> tuple[str, int] | None:
    """One line about an error, and the exit code; None of a defect of the program.

    Parameters
    ----------
    spell : how parameters are written; the command line writes options.
    """
    if isinstance(error, CrnnError):
        return error.render(spell), error.exit_code
    if isinstance(error, OSError):
        return f"reading or writing failed: {error}", CrnnError.exit_code
    if isinstance(error, MemoryError | RuntimeError | ImportError) and _out_of_memory(error):
        reason = str(error).partition("\n")[0][:200] or "an array did not fit"
        return f"not enough memory: {reason}", DeviceError.exit_code
    return None


def _out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or "out of memory" in text
        or "allocate memory" in text
        or "failed to map" in text
    )
