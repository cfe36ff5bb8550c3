"""The program ``crnn``, which is ``python -m crnn_cli`` too: the command line is loaded where Ctrl-C is heard."""

from __future__ import annotations

import gc
import sys

from crnn_cli.errors import EXIT_INTERRUPTED


def main() -> None:
    """Load the command line and run it."""
    gc.set_threshold(10_000)  # not 700: what imports make stays, and would be looked through again and again
    try:
        from crnn_cli.cli.app import main as run  # noqa: PLC0415

        run()
    except KeyboardInterrupt:  # while it was loaded; a command says so itself
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
