"""Parallel slices of any format: how far apart they lie, how even, how tilted, and the step from one to the next.

Positions are LPS, in mm, as DICOM and ISMRMRD have them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crnn_cli.errors import Param, Words

Vector = NDArray[np.float64]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
"""From the patient axes of DICOM and ISMRMRD to ours, and back."""
SAME_PLACE = 0.01
"""Positions along the normal that differ by less, in mm, are one slice."""
UNEVEN = 0.01
"""Gaps between slices may differ by this share of their median, or by 0.05 mm."""
TILT = 0.1
"""Slices may lie this far, in mm for each, beside the normal through the first."""
ROUNDING = 0.05
"""Less than this, in mm, beside the normal is a rounded position, and the slices are taken to lie on it."""
_NOTHING = 1e-6  # mm


class SliceStack:
    """Slices in ascending order along their normal, and what is wrong with where they lie.

    positions_Z3 : of the same point of each. normal : a unit vector. slice_tolerance : distance in mm that slices may
    lie off the even spacing between the first and the last; None for rounding alone.
    """

    def __init__(self, positions_Z3: Vector, normal: Vector, slice_tolerance: float | None = None) -> None:
        self.positions, self.normal, self.tolerated = positions_Z3, normal, slice_tolerance
        along = positions_Z3 @ normal
        self.gaps = np.diff(along)
        self.aside = float(np.abs(along - np.linspace(along[0], along[-1], len(along))).max())
        self.median = float(np.median(self.gaps)) if len(self.gaps) else 0.0
        self.odd = np.flatnonzero(np.abs(self.gaps - self.median) > max(UNEVEN * self.median, 0.05))
        away = positions_Z3 - positions_Z3[0]
        self.beside = float(np.linalg.norm(away - np.outer(away @ normal, normal), axis=1).max())

    def problems(self) -> list[str]:
        """Return slices in one place, uneven gaps that are not tolerated, and a tilt, named."""
        if not len(self.gaps):
            return []
        if self.gaps.min() < SAME_PLACE:
            after = int(self.gaps.argmin())
            return [f"slices {after + 1} and {after + 2} along the normal lie in the same place"]
        problems = []
        if len(self.odd) and not (self.tolerated is not None and self.aside <= self.tolerated + _NOTHING):
            problems.append(f"slices are not evenly spaced: {self._gaps()}{self._missing()}")
        if self.beside > TILT * len(self.gaps):
            angle = np.degrees(np.arctan2(self.beside, float(self.gaps.sum())))
            problems.append(f"slices do not lie above each other: they are offset by up to {self.beside:.1f} mm, a "
                            f"tilt of {angle:.1f} degrees (a tilted gantry)")  # fmt: skip
        return problems

    def notes(self) -> list[str]:
        """Return what was tolerated."""
        notes = []
        if len(self.odd):
            notes.append(
                f"slices lie up to {self.aside:.2f} mm from even places, and are taken as even: {self._gaps()}"
            )
        if self.beside > ROUNDING:
            notes.append(f"slices lie up to {self.beside:.2f} mm beside their common normal")
        return notes

    def step(self, thickness: float) -> Vector:
        """Return the vector from a slice to the next: so that the first and the last lie where they are.

        thickness : in mm, the step of a single slice.
        """
        if not len(self.gaps):
            return self.normal * thickness
        if self.beside <= ROUNDING:
            return self.normal * float(self.gaps.mean())
        step: Vector = (self.positions[-1] - self.positions[0]) / len(self.gaps)
        return step

    def _gaps(self) -> str:
        at = ", ".join(f"{self.gaps[i]:.2f} mm after slice {i + 1}" for i in self.odd[:4])
        more = f" and {len(self.odd) - 4} more" if len(self.odd) > 4 else ""
        return f"{self.median:.2f} mm, but {at}{more}"

    def _missing(self) -> str:
        return " (slices missing or doubled?)" if self._lacks_slices() else ""

    def _lacks_slices(self) -> bool:
        """Whether a slice seems to be missing or doubled."""
        half = self.median / 2
        return bool(self.aside >= half or np.abs(self.gaps - self.median).max() >= half)

    def remedy(self) -> tuple[Words, ...]:
        """Name the least slice tolerance that makes the stack readable; empty where none does."""
        if len(self.problems()) != 1 or not len(self.odd) or self.gaps.min() < SAME_PLACE or self._lacks_slices():
            return ()
        if self.beside > TILT * len(self.gaps):
            return ()
        tolerance = math.ceil(100 * (self.aside - _NOTHING)) / 100
        return ("take them as even with ", Param("slice_tolerance", tolerance))
