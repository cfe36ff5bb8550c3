"""The intent code of a NIfTI file: what its values are meant to be, such as labels."""

from __future__ import annotations

import zlib
from typing import Literal

LABELS = 1002
"""Intent code of a label map (NIFTI_INTENT_LABEL)."""


def intent_code(content: bytes) -> int:
    """Read the intent code from the first bytes of a NIfTI-1 or NIfTI-2 file, gzip-compressed or not.

    The file must have been read before: nothing is checked here.
    """
    head = zlib.decompressobj(31).decompress(content, 540) if content[:2] == b"\x1f\x8b" else content[:540]
    order: Literal["little", "big"] = "little" if int.from_bytes(head[:4], "little") in (348, 540) else "big"
    first = int.from_bytes(head[:4], order) == 348
    return int.from_bytes(head[68:70] if first else head[504:508], order, signed=True)
