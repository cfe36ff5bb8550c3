"""Dimension indices of enhanced images: what each of them counts, and its value in a frame.

DimensionIndexSequence of the file names an attribute for each dimension, such as InStackPositionNumber or
TemporalPositionIndex; DimensionIndexValues of a frame has one number for each (PS3.3, C.7.6.17).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom.datadict import keyword_for_tag

from crnn_cli.io.dicom.frames.attributes import Facts

TIMES = frozenset((
    "TemporalPositionIndex", "TemporalPositionTimeOffset", "NominalCardiacTriggerDelayTime",
    "ActualCardiacTriggerDelayTime", "NominalPercentageOfCardiacPhase", "NominalRespiratoryTriggerDelayTime",
    "ActualRespiratoryTriggerDelayTime", "FrameAcquisitionDateTime", "FrameReferenceDateTime", "FrameAcquisitionNumber",
))  # fmt: skip
"""Attributes that are times, or number them."""


def dimension_indices(where: Sequence[Facts]) -> dict[str, int]:
    """Value of each dimension index of a frame, by the keyword of its attribute.

    Dimensions that nothing names are ``dimension index 1`` and on; empty where the frame has no such numbers.

    Parameters
    ----------
    where : datasets of the frame, the deepest first; that of the file is the last.
    """
    stored = next((found for data in where if (found := data.get("DimensionIndexValues"))), None)
    if stored is None:
        return {}
    values = list(stored) if isinstance(stored, Sequence) else [stored]
    items = list(where[-1].get("DimensionIndexSequence") or [])
    known = [keyword_for_tag(item.get("DimensionIndexPointer") or 0) for item in items]
    named = known if len(known) == len(values) else [""] * len(values)
    keys = [
        keyword if keyword and named.count(keyword) == 1 else f"dimension index {n}"
        for n, keyword in enumerate(named, 1)
    ]
    return {key: int(value) for key, value in zip(keys, values, strict=True)}


def telling_dimension(groups: Iterable[Sequence[dict[str, int]]]) -> str:
    """The dimension whose index differs between all frames of each place, a time before others; "" if there is none.

    Parameters
    ----------
    groups : indices of the frames of each place.
    """
    places = list(groups)
    names = [
        name for name in places[0][0]
        if all(len({frame.get(name) for frame in place} - {None}) == len(place) for place in places)
    ]  # fmt: skip
    return next((name for name in names if name in TIMES), names[0] if names else "")


def varying(groups: Iterable[Sequence[dict[str, int]]]) -> list[str]:
    """The dimensions whose index is not the same in all frames of some place; parameters as of `telling_dimension`."""
    places = list(groups)
    return [name for name in places[0][0] if any(len({frame.get(name) for frame in place}) > 1 for place in places)]
