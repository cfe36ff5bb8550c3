"""What a NIfTI file says its values are meant to be."""

from __future__ import annotations

import zlib
from typing import Literal

LABELS = 1002
"""The intent code of a label map (NIFTI_INTENT_LABEL)."""


def intent_code(content: bytes) -> int:
    """Return the intent code in the bytes of a file, gzip-compressed or not, that was read as NIfTI-1 or -2 before."""
    head = zlib.decompressobj(31).decompress(content, 540) if content[:2] == b"\x1f\x8b" else content[:540]
    order: Literal["little", "big"] = "little" if int.from_bytes(head[:4], "little") in (348, 540) else "big"
    first = int.from_bytes(head[:4], order) == 348
    return int.from_bytes(head[68:70] if first else head[504:508], order, signed=True)
