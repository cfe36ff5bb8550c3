"""Ctrl-C that ends one stage of the work, and only at the second time all of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any

Interruptible = Callable[[], AbstractContextManager[Callable[[], bool]]]
"""Opens a stage of the work; within it a function says whether the stage shall end."""


@contextmanager
def first_interrupt() -> Iterator[Callable[[], bool]]:
    """Take the first SIGINT as a request to end the stage; a second one raises KeyboardInterrupt as usual.

    Outside the main thread, where signals cannot be handled, the request never comes.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before: Any = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def no_interrupt() -> Iterator[Callable[[], bool]]:
    """Leave signals alone: the stage ends by itself."""
    yield lambda: False
