"""Stacks of parallel slices of any format: spacing, evenness, tilt, and the step from one slice to the next.

Positions are LPS in mm, as in DICOM and ISMRMRD.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crnn_cli.errors import Param, Words
from crnn_cli.notices import Doubt, Remark

Vector = NDArray[np.float64]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
"""From LPS (DICOM, ISMRMRD) to RAS+ (NIfTI), and back."""
SAME_PLACE = 0.01
"""Positions along the normal that differ by less than this, in mm, are one slice."""
UNEVEN = 0.01
"""Gaps between slices may differ by this fraction of their median, or by 0.05 mm, and still count as even."""
MULTIPLE = 0.1
"""How far gaps may lie off whole multiples of the smallest, as a share of it, and still tell of missing slices."""
TILT = 0.1
"""In-plane offset per slice, in mm, from which on a stack counts as tilted (a sheared volume)."""
ROUNDING = 0.05
"""In-plane offset in mm below which it counts as rounding of the positions, and the slices as exactly stacked."""
_EPSILON = 1e-6  # mm


class SliceStack:
    """Parallel slices in ascending order along their normal, checked for even spacing and tilt.

    Parameters
    ----------
    positions_Z3 : position of the same voxel of each slice, LPS in mm.
    normal : unit vector.
    slice_tolerance : distance in mm that slices may lie off evenly spaced positions and still be taken as even; None:
        only rounding is tolerated. A tolerance moves slices in the written image with no more than a note.

    Attributes
    ----------
    gaps : distances between successive slices along the normal, in mm; median : their median.
    uneven : indices of the gaps that differ from the median.
    unevenness : largest distance of a slice from its position in an even stack, in mm.
    offset : largest in-plane distance from the normal through the first slice, in mm.
    """

    def __init__(self, positions_Z3: Vector, normal: Vector, slice_tolerance: float | None = None) -> None:
        self.positions, self.normal, self.tolerance = positions_Z3, normal, slice_tolerance
        along = positions_Z3 @ normal
        self.gaps = np.diff(along)
        self.unevenness = float(np.abs(along - np.linspace(along[0], along[-1], len(along))).max())
        self.median = float(np.median(self.gaps)) if len(self.gaps) else 0.0
        self.uneven = np.flatnonzero(np.abs(self.gaps - self.median) > max(UNEVEN * self.median, 0.05))
        shift = positions_Z3 - positions_Z3[0]
        self.offset = float(np.linalg.norm(shift - np.outer(shift @ normal, normal), axis=1).max())

    def problems(self) -> list[str]:
        """Reasons, in words, why the slices do not form one volume; empty where they do.

        Slices at one position, gaps that are uneven beyond the tolerance, and a tilt (a sheared volume).
        """
        if not len(self.gaps):
            return []
        if self.gaps.min() < SAME_PLACE:
            after = int(self.gaps.argmin())
            return [f"slices {after + 1} and {after + 2} along the normal lie in the same place"]
        problems = []
        if len(self.uneven) and (self.tolerance is None or self.unevenness > self.tolerance + _EPSILON):
            problems.append(f"slices are not evenly spaced: {self._gaps()}{self._missing()}")
        if self.offset > TILT * len(self.gaps):
            angle = np.degrees(np.arctan2(self.offset, float(self.gaps.sum())))
            problems.append(f"slices do not lie above each other: they are offset by up to {self.offset:.1f} mm, a "
                            f"tilt of {angle:.1f} degrees (a tilted gantry)")  # fmt: skip
        return problems

    def remarks(self) -> list[Remark]:
        """List the deviations that were tolerated."""
        remarks: list[Remark] = []
        if len(self.uneven):
            remarks.append(Doubt(
                "uneven-slices",
                f"slices lie up to {self.unevenness:.2f} mm from even places, and are taken as even: {self._gaps()}",
            ))  # fmt: skip
        if self.offset > ROUNDING:
            text = f"slices lie up to {self.offset:.2f} mm beside their common normal"
            remarks.append(Doubt("slices-off-normal", text))
        return remarks

    def step(self, thickness: float) -> Vector:
        """Vector from one slice to the next, LPS in mm, such that the first and the last slice keep their positions.

        Parameters
        ----------
        thickness : step in mm where there is one slice only.
        """
        if not len(self.gaps):
            return self.normal * thickness
        if self.offset <= ROUNDING:
            return self.normal * float(self.gaps.mean())
        step: Vector = (self.positions[-1] - self.positions[0]) / len(self.gaps)
        return step

    def _gaps(self) -> str:
        at = ", ".join(f"{self.gaps[i]:.2f} mm after slice {i + 1}" for i in self.uneven[:4])
        more = f" and {len(self.uneven) - 4} more" if len(self.uneven) > 4 else ""
        return f"{self.median:.2f} mm, but {at}{more}"

    def _missing(self) -> str:
        return " (slices missing or doubled?)" if self._lacks_slices() else ""

    def _lacks_slices(self) -> bool:
        """Whether a slice seems to be missing or doubled."""
        half, steps = self.median / 2, self.gaps / self.gaps.min()
        several = np.rint(steps) > 1
        if several.any() and np.abs(steps - np.rint(steps)).max() <= MULTIPLE:
            return True  # all gaps are whole multiples of the smallest
        return bool(self.unevenness >= half or np.abs(self.gaps - self.median).max() >= half)

    def remedy(self) -> tuple[Words, ...]:
        """Remedy of uneven gaps: the smallest slice tolerance that makes the stack readable.

        Empty where no tolerance helps: a slice is missing, doubled or tilted.
        """
        if len(self.problems()) != 1 or not len(self.uneven) or self.gaps.min() < SAME_PLACE or self._lacks_slices():
            return ()
        if self.offset > TILT * len(self.gaps):
            return ()
        tolerance = math.ceil(100 * (self.unevenness - _EPSILON)) / 100
        return ("take them as even with ", Param("slice_tolerance", tolerance))
