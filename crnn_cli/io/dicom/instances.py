"""DICOM instances by their UIDs, as objects refer to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset


@dataclass(frozen=True)
class Instance:
    """An image, or frames of one.

    Attributes
    ----------
    sop_class, uid : SOPClassUID and SOPInstanceUID.
    frames : numbers of its frames, from 1; empty for the whole of it.
    """

    sop_class: str
    uid: str
    frames: tuple[int, ...] = ()


def instance_of(item: Dataset) -> Instance:
    """Instance that an item of a sequence refers to.

    Raises
    ------
    AttributeError
        If it lacks the UIDs.
    """
    numbers = item.get("ReferencedFrameNumber")
    listed = [] if numbers is None else numbers if isinstance(numbers, Sequence) else [numbers]
    frames = tuple(int(number) for number in listed)
    return Instance(str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID), frames)


def joined(instances: Iterable[Instance]) -> tuple[Instance, ...]:
    """Each instance once, in the order of their first, with all the frames that were meant.

    >>> joined([Instance("1.2", "3", (1,)), Instance("1.2", "4"), Instance("1.2", "3", (2,))])[0].frames
    (1, 2)
    """
    found: dict[str, Instance] = {}
    for each in instances:
        before = found.get(each.uid)
        if before is None:
            found[each.uid] = each
        elif before.frames:  # without frames the whole of it is meant already
            frames = tuple(dict.fromkeys((*before.frames, *each.frames))) if each.frames else ()
            found[each.uid] = replace(before, frames=frames)
    return tuple(found.values())
