"""Overlap of two label maps: Dice, Jaccard and volume difference of each label.

Where neither map has a label, Dice and Jaccard are undefined (None), not 1; where only one map has it they are 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.image import Array, Image
from crnn_cli.errors import UnsupportedDataError

LabelMap = NDArray[np.unsignedinteger[Any]]

LARGEST_LABEL = 65535
"""Largest label value, that of 16 bits."""
FEW_LABELS = 64
"""Largest number of distinct values, background included, up to which a file is taken for a label map by itself."""


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of one label in two maps, with the measures that follow; adding two pools their voxels.

    Attributes
    ----------
    common : voxels with the label in both maps.
    tested, reference : voxels with the label in the tested map (A) and in the reference (B).

    Examples
    --------
    >>> overlap = Overlap(common=6, tested=8, reference=10)
    >>> overlap.dice, overlap.jaccard, overlap.difference_percent
    (0.6666666666666666, 0.5, -20.0)
    """

    common: int
    tested: int
    reference: int

    def __add__(self, other: Overlap) -> Overlap:
        """Pool the voxels of two frames."""
        return Overlap(self.common + other.common, self.tested + other.tested, self.reference + other.reference)

    @property
    def dice(self) -> float | None:
        """Dice coefficient 2 |A and B| / (|A| + |B|); None where both are empty (Dice, Ecology 26, 1945)."""
        total = self.tested + self.reference
        return 2 * self.common / total if total else None

    @property
    def jaccard(self) -> float | None:
        """Jaccard index |A and B| / |A or B| = D / (2 - D) of the Dice coefficient D; None where both are empty."""
        union = self.tested + self.reference - self.common
        return self.common / union if union else None

    @property
    def difference_percent(self) -> float | None:
        """Volume difference 100 (|A| - |B|) / |B| to the reference B in per cent; None where B is empty."""
        return 100 * (self.tested - self.reference) / self.reference if self.reference else None


def as_labels(array: Array, name: str) -> LabelMap:
    """Convert the values of a label map to uint16.

    Parameters
    ----------
    name : how the message calls the map.

    Raises
    ------
    UnsupportedDataError
        If a value is complex, NaN, not whole, negative, or above 65535.
    """
    if np.iscomplexobj(array):
        raise UnsupportedDataError(f"{name} is no label map: its values are complex")
    values: NDArray[Any] = array
    wrong = ~((values >= 0) & (values <= LARGEST_LABEL) & (values == np.floor(values)))
    if wrong.any():
        first = tuple(int(v) for v in np.argwhere(wrong)[0])
        small = bool((np.abs(values) <= 1).all())
        advice = (
            "Threshold probabilities, or take the scale (scl_slope) off labels," if small else "Round or threshold it"
        )
        raise UnsupportedDataError(
            f"{name} is no label map: its value at {first} is {values[first]:g}, and labels are whole numbers from 0 "
            f"to {LARGEST_LABEL}. {advice} first"
        )
    return values.astype(np.uint16)


def holds_few_labels(array: Array) -> bool:
    """Whether an array looks like a label map: whole numbers from 0 to 65535, at most `FEW_LABELS` distinct ones.

    A magnitude image of few grey values passes as well.
    """
    try:
        labels = as_labels(array, "")
    except UnsupportedDataError:
        return False
    return int(np.count_nonzero(np.bincount(labels.ravel()))) <= FEW_LABELS


def label_values(*maps: LabelMap) -> list[int]:
    """Labels that occur in any of the maps, ascending, without the background 0.

    >>> label_values(np.array([0, 2, 2], np.uint8), np.array([0, 1, 5], np.uint8))
    [1, 2, 5]
    """
    values = {int(value) for map_ in maps for value in np.flatnonzero(np.bincount(map_.ravel()))}
    return sorted(values - {0})


def overlaps(tested: LabelMap, reference: LabelMap, values: Iterable[int]) -> dict[int, Overlap]:
    """Count the voxels of each label in two maps and in both.

    Parameters
    ----------
    tested, reference : label maps of one shape, any number of axes. Their geometry is not compared.
    values : labels to count; they may be absent.

    Raises
    ------
    UnsupportedDataError
        If the shapes differ.
    """
    if tested.shape != reference.shape:
        raise UnsupportedDataError(f"label maps of {tested.shape} and {reference.shape} voxels cannot be compared")
    groups = (tested[tested == reference], tested.ravel(), reference.ravel())
    common, first, second = (np.bincount(group, minlength=LARGEST_LABEL + 1) for group in groups)
    return {value: Overlap(int(common[value]), int(first[value]), int(second[value])) for value in values}


def matches(tested: LabelMap, reference: LabelMap) -> dict[tuple[int, int], float]:
    """Dice of each label of one map with each label of another that it meets, by (tested, reference) value.

    >>> matches(np.array([0, 1, 1, 2], np.uint8), np.array([0, 3, 3, 3], np.uint8))
    {(1, 3): 0.8, (2, 3): 0.5}

    Parameters
    ----------
    tested, reference : label maps of one shape, any number of axes.
    """
    both = (tested > 0) & (reference > 0)
    pairs, common = np.unique(np.stack([tested[both], reference[both]]), axis=1, return_counts=True)
    first, second = (np.bincount(each.ravel(), minlength=LARGEST_LABEL + 1) for each in (tested, reference))
    return {
        (int(a), int(b)): float(2 * count / (first[a] + second[b]))
        for a, b, count in zip(pairs[0], pairs[1], common, strict=True)
    }


def begins_as_it_ends(labels: NDArray[Any]) -> bool:
    """Whether labels at both ends of the first axis overlap with a Dice above 0.7, as the frames of a closed cycle do.

    Along an axis in space a structure begins and ends elsewhere.

    >>> begins_as_it_ends(np.ones((3, 4))), begins_as_it_ends(np.eye(4))
    (True, False)
    """
    first, last = labels[0], labels[-1]
    held = np.count_nonzero(first) + np.count_nonzero(last)
    return bool(held and 2 * np.count_nonzero((first == last) & (first > 0)) > 0.7 * held)


def voxel_millilitres(grid: Image) -> float:
    """Volume of one voxel in ml, the parallelepiped of its edges: also correct for a sheared grid.

    >>> round(voxel_millilitres(Image(np.zeros((2, 2, 2)), np.diag([2.0, 2.0, 10.0, 1.0]))), 6)
    0.04
    """
    axes = grid.affine[:3, :3]
    edges = axes / np.linalg.norm(axes, axis=0) * np.array(grid.spacing)
    return abs(float(np.linalg.det(edges))) / 1000
