"""Memory of the host: what is free, what this process holds, and what it may hold."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_LIMIT: ContextVar[int | None] = ContextVar("memory limit", default=None)


def bytes_in_words(size: int | float) -> str:
    """Size of memory in GiB, below half a GiB in MiB.

    >>> bytes_in_words(3 << 29), bytes_in_words(38_000_000)
    ('1.5 GiB', '36 MiB')
    """
    return f"{size / 2**30:.1f} GiB" if size >= 2**29 else f"{size / 2**20:.0f} MiB"


@contextmanager
def memory_limit(limit: int | None) -> Iterator[None]:
    """Bound the memory of this process within a context (thread or task), as `host_free_bytes` tells it.

    Parameters
    ----------
    limit : total bytes that this process may hold, those that it holds already included; None for no bound.
    """
    token = _LIMIT.set(limit)
    try:
        yield
    finally:
        _LIMIT.reset(token)


def host_free_bytes(limit: int | None = None) -> int | None:
    """Free memory of the host in bytes; None where it is unknown (outside Linux, without a limit).

    It is the least of what Linux calls available, the limit of the control group (which includes memory in use),
    ``limit``, and that of `memory_limit`.

    Parameters
    ----------
    limit : total bytes that this process may hold, those that it holds already included.
    """
    free = [max(0, most - resident_bytes()) for most in (limit, _LIMIT.get()) if most is not None]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return min(free, default=None)
    kib = {name: rest for name, _, rest in (line.partition(":") for line in lines)}.get("MemAvailable", "")
    free += [int(kib.split()[0]) * 1024] if kib else []
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(file).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            free.append(int(text))
    return min(free, default=None)


def resident_bytes() -> int:
    """Resident memory of this process in bytes; 0 where it is unknown (outside Linux)."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
