"""How far two label maps agree voxel by voxel: Dice, Jaccard, volumes.

Where neither map has a label, Dice and Jaccard are undefined, not 1; where only one has it they are 0.
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
FEW_LABELS = 64
"""How many distinct values, background included, a file may have to be taken for a label map without being told."""


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of one label; adding two pools their voxels.

    Attributes
    ----------
    common : voxels that have the label in both maps. tested, reference : voxels that have it in one of them.
    """

    common: int
    tested: int
    reference: int

    def __add__(self, other: Overlap) -> Overlap:
        """Pool the voxels of two frames."""
        return Overlap(self.common + other.common, self.tested + other.tested, self.reference + other.reference)

    @property
    def dice(self) -> float | None:
        """2 |A and B| / (|A| + |B|); None where both are empty (Dice, Ecology 1945)."""
        total = self.tested + self.reference
        return 2 * self.common / total if total else None

    @property
    def jaccard(self) -> float | None:
        """|A and B| / |A or B|, which is D / (2 - D) of the Dice D; None where both are empty (Jaccard, 1912)."""
        union = self.tested + self.reference - self.common
        return self.common / union if union else None

    @property
    def difference_percent(self) -> float | None:
        """100 (|A| - |B|) / |B|, B the reference; positive where A is larger. None where the reference is empty."""
        return 100 * (self.tested - self.reference) / self.reference if self.reference else None


def as_labels(array: Array, name: str) -> LabelMap:
    """Return the values of a label map as integers, shape unchanged.

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
        raise UnsupportedDataError(
            f"{name} is no label map: its value at {first} is {values[first]:g}, and labels are whole numbers from 0 "
            f"to {LARGEST_LABEL}. Round or threshold it first"
        )
    return values.astype(np.uint16)


def holds_few_labels(array: Array) -> bool:
    """Tell whether an array holds nothing but whole numbers from 0 to 65535, at most 64 distinct ones."""
    try:
        labels = as_labels(array, "")
    except UnsupportedDataError:
        return False
    return int(np.count_nonzero(np.bincount(labels.ravel()))) <= FEW_LABELS


def label_values(*maps: LabelMap) -> list[int]:
    """Return the labels that occur in any of the maps, in order, without the background 0."""
    found = {int(value) for one in maps for value in np.flatnonzero(np.bincount(one.ravel()))}
    return sorted(found - {0})


def overlaps(tested: LabelMap, reference: LabelMap, values: Iterable[int]) -> dict[int, Overlap]:
    """Count the voxels of each label.

    Parameters
    ----------
    tested, reference : label maps of one shape, any number of axes.
    values : the labels to count; they may be absent.

    Raises
    ------
    UnsupportedDataError
        If the shapes differ.
    """
    if tested.shape != reference.shape:
        raise UnsupportedDataError(f"label maps of {tested.shape} and {reference.shape} voxels cannot be compared")
    sets = (tested[tested == reference], tested.ravel(), reference.ravel())
    common, first, second = (np.bincount(one, minlength=LARGEST_LABEL + 1) for one in sets)
    return {value: Overlap(int(common[value]), int(first[value]), int(second[value])) for value in values}


def voxel_millilitres(grid: Image) -> float:
    """Return the volume of one voxel in ml: that of the parallelepiped that it is, so that a shear is no matter."""
    axes = grid.affine[:3, :3]
    edges = axes / np.linalg.norm(axes, axis=0) * np.array(grid.spacing)
    return abs(float(np.linalg.det(edges))) / 1000
