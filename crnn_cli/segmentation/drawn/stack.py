"""Stack of which some slices are drawn, and what becomes of it.

The stack is one in space, or one slice through the frames of a series; then "slice" means frame.

Legend: K structure (from 1), S slice, Y row, X column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.uint8]
"""Structures by their number: 0 background, 1, 2, ..."""
Known = NDArray[np.bool_]
"""Which slices are drawn."""


@dataclass(frozen=True)
class DrawnStack:
    """Slices in order, and the structures in those that are drawn.

    Attributes
    ----------
    image_SYX : magnitudes, in any unit.
    drawn_SYX : numbers of the structures; 0 in slices that are not drawn.
    known_S : which slices are drawn, at least one; a drawn slice may be empty.
    spacing : between slices, of rows, of columns, in mm.
    over_time : the slices are frames of one slice.
    """

    image_SYX: NDArray[np.float32]
    drawn_SYX: Numbers
    known_S: Known
    spacing: tuple[float, float, float]
    over_time: bool = False

    @property
    def structures(self) -> list[int]:
        """Numbers of the structures that are drawn in any slice."""
        return [int(number) for number in np.unique(self.drawn_SYX[self.known_S]) if number]


@dataclass(frozen=True)
class FillSettings:
    """How a stack is labelled.

    Attributes
    ----------
    structures : how many there are in all; some may not be drawn in a stack.
    threshold : probability that all structures together must reach in a voxel.
    keep_probabilities : return them as well, where the method has any.
    """

    structures: int
    threshold: float = 0.5
    keep_probabilities: bool = False


@dataclass(frozen=True)
class Certainty:
    """How sure a method is of its labels, slice by slice; drawn slices are certain.

    Attributes
    ----------
    inside_SK : sum of the probability of each structure over the voxels labelled with it.
    total_SK : the same over all voxels.
    size_SK : number of voxels labelled with it.
    doubtful_S : sum over all voxels of the probability that the label is wrong.
    interpolated_SK : structures that a network left to interpolated distances (`crnn_cli.segmentation.drawn.guard`).
    """

    inside_SK: NDArray[np.float64]
    total_SK: NDArray[np.float64]
    size_SK: NDArray[np.int64]
    doubtful_S: NDArray[np.float64]
    interpolated_SK: NDArray[np.bool_]

    def expected_dice(self, chosen_S: Known) -> list[float | None]:
        """Expected Dice of each structure in some slices together; None where it is neither labelled nor likely.

        2 * inside / (size + total), as in `crnn_cli.labels.predicted_dice`.
        """
        inside, total = (np.asarray(each)[chosen_S].sum(axis=0) for each in (self.inside_SK, self.total_SK))
        size = self.size_SK[chosen_S].sum(axis=0)
        return [
            None if size[k] + total[k] < 1 else float(2 * inside[k] / (size[k] + total[k])) for k in range(len(size))
        ]


@dataclass(frozen=True)
class FilledStack:
    """Labels of all slices of a stack.

    Attributes
    ----------
    labels_SYX : numbers of the structures; in drawn slices as they were drawn.
    certainty : None where the method does not know.
    probability_KSYX : of the background and of each structure, float32, where they were kept.
    """

    labels_SYX: Numbers
    certainty: Certainty | None = None
    probability_KSYX: NDArray[np.float32] | None = None
