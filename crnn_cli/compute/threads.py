"""Threads that computations on the CPU use.

Sums are divided among threads, so the rounding of a result depends on their number: the same input gives the same bytes
with the same number of threads on the same CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def thread_count() -> int:
    """Number of threads that PyTorch uses on the CPU, for reports."""
    return torch.get_num_threads()


@contextmanager
def limited_threads(count: int | None) -> Iterator[None]:
    """Let PyTorch use ``count`` threads on the CPU for a while; None changes nothing.

    >>> with limited_threads(1):
    ...     thread_count()
    1
    """
    if count is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
