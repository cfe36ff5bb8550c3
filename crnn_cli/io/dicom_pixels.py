"""The stored pixels of a DICOM file: plain ones straight from where they lie, all others through pydicom's decoders."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from crnn_cli.image import Array

DESCRIPTION = (
    "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored",
    "PixelRepresentation",
)  # fmt: skip
"""Keywords of the elements that say how pixels are stored."""
_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_EXPLICIT = _PIXEL_DATA + b"OW\x00\x00"


@dataclass(frozen=True)
class Layout:
    """How a file says that its pixels are stored.

    syntax : UID of the transfer syntax. at : byte at which the element of the pixels begins, where it is not deflated.
    described : what the elements of `DESCRIPTION` say, in their order; None for those that are absent.
    """

    syntax: str = ""
    at: int = 0
    described: tuple[Any, ...] = (None,) * len(DESCRIPTION)

    @classmethod
    def of(cls, facts: dict[str, Any], syntax: str, at: int) -> Self:
        """Return the layout that elements by keyword describe."""
        return cls(syntax, at, tuple(facts.get(keyword) for keyword in DESCRIPTION))


def decoded(content: bytes, layout: Layout) -> Array:
    """Return the stored pixels of a file, (rows, columns) or (frames, rows, columns).

    What pydicom raises where they are damaged or cannot be decoded is not caught.
    """
    plain = _plain(content, layout)
    return pixel_array(io.BytesIO(content)) if plain is None else plain


def _plain(content: bytes, layout: Layout) -> Array | None:
    """Return uncompressed little endian 16-bit pixels, a view of the content; None if that is not what is there.

    The element must have exactly the length that the header promises: all that is odd is left to pydicom.
    """
    samples, colours, rows, columns, frames, allocated, kept, signed = layout.described
    if samples != 1 or colours not in ("MONOCHROME1", "MONOCHROME2") or allocated != 16 or signed not in (0, 1):
        return None
    shape = (rows, columns) if frames in (None, 1) else (frames, rows, columns)
    if not all(isinstance(n, int) and n > 0 for n in (*shape, kept)) or kept > 16:
        return None
    head = content[layout.at : layout.at + 12]
    if layout.syntax == ExplicitVRLittleEndian and head[:8] == _EXPLICIT:
        start, length = layout.at + 12, head[8:12]
    elif layout.syntax == ImplicitVRLittleEndian and head[:4] == _PIXEL_DATA:
        start, length = layout.at + 8, head[4:8]
    else:
        return None
    count = math.prod(shape)
    if int.from_bytes(length, "little") != 2 * count or start + 2 * count > len(content):
        return None
    stored: Array = np.frombuffer(content, "<i2" if signed else "<u2", count, start).reshape(shape)
    return stored if kept == 16 else (stored << (16 - kept)) >> (16 - kept)
