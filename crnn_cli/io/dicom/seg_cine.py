"""One DICOM SEG for all frames of a cine, joined from those of its frames.

Frames of the object are told apart in time by TemporalPositionIndex, which becomes its last dimension. Few readers take
such an object: most expect each plane once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import Tag

_TIME, _CONTENT = Tag("TemporalPositionIndex"), Tag("FrameContentSequence")


def joined_in_time(objects: Sequence[Dataset]) -> Dataset:
    """Join the objects of the frames, in their order; the first is changed and returned.

    Parameters
    ----------
    objects : SEG of one kind, with the same segments and size, uncompressed.
    """
    whole = objects[0]
    pixels = b"".join(_packed([_frame_bytes(each) for each in objects], whole.BitsAllocated))
    groups = []
    for t, each in enumerate(objects, start=1):
        for group in each.PerFrameFunctionalGroupsSequence:
            content = group.FrameContentSequence[0]
            content.TemporalPositionIndex = t
            content.DimensionIndexValues = [*_values(content.DimensionIndexValues), t]
            groups.append(group)
    whole.PerFrameFunctionalGroupsSequence = groups
    whole.NumberOfFrames = len(groups)
    whole.PixelData = pixels + b"\0" * (len(pixels) % 2)
    whole.DimensionIndexSequence.append(_time_dimension(whole.DimensionIndexSequence[0].DimensionOrganizationUID))
    if "DimensionOrganizationType" in whole:
        whole.DimensionOrganizationType = "3D_TEMPORAL"
    _join_references(whole, objects)
    return whole


def _values(stored: Any) -> list[int]:
    return [int(v) for v in (stored if isinstance(stored, Sequence) else [stored])]


def _time_dimension(organization: str) -> Dataset:
    dimension = Dataset()
    dimension.DimensionOrganizationUID = organization
    dimension.DimensionIndexPointer, dimension.FunctionalGroupPointer = _TIME, _CONTENT
    dimension.DimensionDescriptionLabel = "Temporal Position Index"
    return dimension


def _frame_bytes(data: Dataset) -> Any:
    """Pixels of one object: single bits, or whole bytes."""
    stored = np.frombuffer(data.PixelData, np.uint8)
    count = int(data.NumberOfFrames) * int(data.Rows) * int(data.Columns)
    if data.BitsAllocated == 1:
        return np.unpackbits(stored, bitorder="little")[:count]
    return stored[: count * int(data.BitsAllocated) // 8]


def _packed(parts: list[Any], bits: int) -> list[bytes]:
    if bits == 1:
        return [np.packbits(np.concatenate(parts), bitorder="little").tobytes()]
    return [part.tobytes() for part in parts]


def _join_references(whole: Dataset, objects: Sequence[Dataset]) -> None:
    """Refer to the source images of all frames, each once."""
    for series in whole.get("ReferencedSeriesSequence") or []:
        items = [
            item
            for each in objects
            for other in each.ReferencedSeriesSequence
            if other.SeriesInstanceUID == series.SeriesInstanceUID
            for item in other.ReferencedInstanceSequence
        ]
        series.ReferencedInstanceSequence = list({item.ReferencedSOPInstanceUID: item for item in items}.values())
    if "SourceImageSequence" in whole:
        items = [item for each in objects for item in each.get("SourceImageSequence") or []]
        unique = {(item.ReferencedSOPInstanceUID, str(item.get("ReferencedFrameNumber"))): item for item in items}
        whole.SourceImageSequence = list(unique.values())
