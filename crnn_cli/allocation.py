"""How memory is got from the system. A page that is new costs more time than computing what fills it.

Called before PyTorch makes its first tensor. Time of CRNN-MRI of the published size, 5 iterations, two cores of a
virtual machine, in seconds, and the most memory of the process in GiB:

    what                            128 x 128 x 16, fp32, bf16    256 x 256 x 12, fp32, bf16    memory
    as it comes                     1.71  0.87                    6.09  2.64                    3.6
    large pages alone               2.07  0.89                    5.98  2.95                    2.4
    freed memory kept, large pages  1.73  0.88                    5.09  2.54                    2.9
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt
_ALL = 2**31 - 1
_LARGEST = 2**25  # that glibc takes
LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""PyTorch's; it asks for large pages (transparent, Linux) for tensors of 2 MiB and more."""


def keep_freed_memory() -> None:
    """Let the process keep what is freed, up to 32 MiB a piece, and ask for large pages for what is larger.

    Without glibc nothing happens. What the environment says of large pages stays.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return
    mallopt(_TRIM_THRESHOLD, _ALL)
    mallopt(_MMAP_THRESHOLD, _LARGEST)
    os.environ.setdefault(LARGE_PAGES, "1")
