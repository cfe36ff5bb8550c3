"""From stored pixels to values: the rescale, a lookup table (Modality LUT), or a linear real-world mapping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from crnn_cli.data.image import Array
from crnn_cli.io.dicom.frames.attributes import Facts, facts_of, number

_MOST_ENTRIES = 65_536


@dataclass(frozen=True)
class LookupTable:
    """Modality LUT: values by stored value.

    Attributes
    ----------
    first : stored value of the first entry; smaller ones have its value, those beyond the last that of the last.
    entries : values, as little endian 16-bit numbers.
    """

    first: int
    entries: bytes

    def values(self, stored: Array) -> Array:
        """Look stored pixels up; the same shape, uint16."""
        table = np.frombuffer(self.entries, "<u2")
        found: Array = table[np.clip(stored.astype(np.int64) - self.first, 0, len(table) - 1)]
        return found


def lookup_table(data: Facts) -> LookupTable | None:
    """The Modality LUT of an image; None where there is none.

    Raises
    ------
    ValueError
        If it is not as long as it says.
    """
    items = list(data.get("ModalityLUTSequence") or [])
    if not items:
        return None
    count, first, bits = (int(v) for v in items[0].LUTDescriptor)
    if first > 0x7FFF and data.get("PixelRepresentation") == 1:
        first -= 0x10000
    entries = _entries(items[0], count or _MOST_ENTRIES, bits)
    return LookupTable(first, entries.astype("<u2").tobytes())


def _entries(item: Dataset, count: int, bits: int) -> Array:
    stored: Any = item.LUTData
    if isinstance(stored, bytes):
        entries = np.frombuffer(stored, "u1" if bits <= 8 and len(stored) < 2 * count else "<u2")
    else:
        entries = np.atleast_1d(np.asarray(stored, np.int64)) & 0xFFFF
    if len(entries) < count:
        raise ValueError(f"its lookup table (Modality LUT) has {len(entries)} of {count} entries")
    return entries[:count]


def rescale_of(where: Sequence[Facts]) -> tuple[float, float]:
    """Slope and intercept: the rescale, or else the only linear mapping to real-world values (Philips).

    A missing slope, and one of 0, which would leave no image, is 1.
    """
    slope, intercept = number(where, "RescaleSlope"), number(where, "RescaleIntercept")
    if slope is not None or intercept is not None:
        return slope or 1.0, intercept or 0.0
    mappings = [facts_of(mapping) for data in where for mapping in data.get("RealWorldValueMappingSequence") or []]
    if len(mappings) > 1:
        return 1.0, 0.0
    slope = number([*mappings, *where], "RealWorldValueSlope")
    return (slope, number([*mappings, *where], "RealWorldValueIntercept") or 0.0) if slope else (1.0, 0.0)
