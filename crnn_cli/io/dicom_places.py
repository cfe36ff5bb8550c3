"""Where the slices of a DICOM series lie: how far apart, how even, how tilted, and the affine that follows.

Positions are LPS here, mm; the affine is RAS+.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from crnn_cli.image import Affine
from crnn_cli.io.dicom_headers import Frame

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
"""From the patient axes of DICOM to ours, and back."""
SAME_PLACE = 0.01
"""Positions along the normal that differ by less, in mm, are one slice."""
UNEVEN = 0.01
"""Gaps between slices may differ by this share of their median, or by 0.05 mm."""
TILT = 0.1
"""Slices may lie this far, in mm for each, beside the normal through the first."""
ROUNDING = 0.05
"""Less than this, in mm, beside the normal is a rounded position, and the slices are taken to lie on it."""
_NOTHING = 1e-6  # mm
_PARALLEL = 1e-3

Vector = NDArray[np.float64]


def is_perpendicular(orientation: tuple[float, ...]) -> bool:
    """Return whether the directions of rows and columns are perpendicular unit vectors."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = abs(np.linalg.norm(row) - 1) + abs(np.linalg.norm(column) - 1)
    return bool(lengths < _PARALLEL * 2 and abs(row @ column) < _PARALLEL)


def by_place(frames: list[Frame]) -> list[list[Frame]]:
    """Return the frames of each position, positions ascending along the normal of the first frame."""
    normal = _normal(frames[0])
    ordered = sorted(frames, key=lambda frame: float(np.array(frame.position) @ normal))
    places: list[list[Frame]] = [[ordered[0]]]
    for before, frame in pairwise(ordered):
        if float((np.array(frame.position) - np.array(before.position)) @ normal) < SAME_PLACE:
            places[-1].append(frame)
        else:
            places.append([frame])
    return places


def _normal(frame: Frame) -> Vector:
    assert frame.orientation is not None
    return _unit(np.cross(frame.orientation[:3], frame.orientation[3:]))


def _unit(vector: Sequence[float] | Vector) -> Vector:
    return np.asarray(vector, np.float64) / np.linalg.norm(vector)


class Places:
    """The positions of the slices of a series, and what is wrong with them.

    uneven : how far slices may lie beside the even places between the first and the last and be taken to lie in them,
    in mm; None where they may not.
    """

    def __init__(self, frames: list[list[Frame]], uneven: float | None = None) -> None:
        self.first, self.normal, self.tolerated = frames[0][0], _normal(frames[0][0]), uneven
        self.positions = np.array([place[0].position for place in frames])
        along = self.positions @ self.normal
        self.gaps = np.diff(along)
        self.aside = float(np.abs(along - np.linspace(along[0], along[-1], len(along))).max())
        self.median = float(np.median(self.gaps)) if len(self.gaps) else 0.0
        self.odd = np.flatnonzero(np.abs(self.gaps - self.median) > max(UNEVEN * self.median, 0.05))

    def problems(self) -> list[str]:
        """Return uneven gaps that are not tolerated and a tilted gantry, named."""
        if not len(self.gaps):
            return []
        problems = []
        if len(self.odd) and not (self.tolerated is not None and self.aside <= self.tolerated + _NOTHING):
            problems.append(f"slices are not evenly spaced: {self._gaps()}{self._advice()}")
        worst = self.beside()
        if worst > TILT * len(self.gaps):
            angle = np.degrees(np.arctan2(worst, float(self.gaps.sum())))
            problems.append(f"slices do not lie above each other: they are offset by up to {worst:.1f} mm, a tilt of "
                            f"{angle:.1f} degrees (a tilted gantry)")  # fmt: skip
        return problems

    def beside(self) -> float:
        """Return how far the slices lie beside the normal through the first, at most, in mm."""
        along = self.positions - self.positions[0]
        return float(np.linalg.norm(along - np.outer(along @ self.normal, self.normal), axis=1).max())

    def notes(self) -> list[str]:
        """Return what was tolerated, and what had to be taken for the step of one slice."""
        if len(self.odd):
            return [f"slices lie up to {self.aside:.2f} mm from even places, and are taken as even: {self._gaps()}"]
        if not len(self.gaps) and self._length() is None:
            return ["one slice of unknown thickness: 1 mm is written"]
        return []

    def affine(self) -> Affine:
        """Return voxel (column, row, slice) to RAS+ mm; the first and the last slice lie where the header has them."""
        first = self.first
        assert first.orientation is not None
        assert first.spacing is not None
        if not len(self.gaps):
            step = self.normal * (self._length() or 1.0)
        elif self.beside() <= ROUNDING:
            step = self.normal * float(self.gaps.mean())
        else:
            step = (self.positions[-1] - self.positions[0]) / len(self.gaps)
        between_rows, between_columns = first.spacing
        columns, rows = (_unit(v) for v in (first.orientation[:3], first.orientation[3:]))
        affine = np.eye(4)
        affine[:3] = LPS_TO_RAS @ np.column_stack(
            [columns * between_columns, rows * between_rows, step, self.positions[0]]
        )
        return affine

    def _length(self) -> float | None:
        """Return the thickness to take for the step of a single slice, if the header has one."""
        length = self.first.gap or self.first.thickness
        return length if length and length > 0 else None

    def _gaps(self) -> str:
        at = ", ".join(f"{self.gaps[i]:.2f} mm after slice {i + 1}" for i in self.odd[:4])
        more = f" and {len(self.odd) - 4} more" if len(self.odd) > 4 else ""
        return f"{self.median:.2f} mm, but {at}{more}"

    def _advice(self) -> str:
        """Return what would make uneven slices readable, unless one seems to be missing or doubled."""
        half = self.median / 2
        if self.aside >= half or np.abs(self.gaps - self.median).max() >= half:
            return " (slices missing or doubled?)"
        return f" (--uneven {math.ceil(100 * (self.aside - _NOTHING)) / 100:g} takes them as even)"
