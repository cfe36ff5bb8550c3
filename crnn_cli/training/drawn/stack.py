"""A stack of slices whose structures are numbered: what items for drawn slices are made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Stack:
    """Slices and numbered structures, legend: S slice, Y row, X column.

    Attributes
    ----------
    image_SYX : intensities, about 0 ... 1; pixels are square.
    labels_SYX : number of the structure, 0 for none.
    name : of the volume; empty for a random one.
    """

    image_SYX: NDArray[np.float32]
    labels_SYX: NDArray[np.uint16]
    name: str = ""

    def structures(self) -> list[int]:
        """Numbers that occur."""
        return [int(v) for v in np.unique(self.labels_SYX) if v]
