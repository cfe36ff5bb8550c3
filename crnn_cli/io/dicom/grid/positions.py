"""Positions of the slices of a DICOM series, their order along the normal, and the affine.

ImagePositionPatient and ImageOrientationPatient are LPS, mm; the affine is RAS+ mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from crnn_cli.data.image import Affine
from crnn_cli.data.slice_stack import LPS_TO_RAS, ROUNDING, SAME_PLACE, SliceStack, Vector
from crnn_cli.io.dicom.frames.frame import Frame, Problem
from crnn_cli.notices import Doubt, Remark

IN_PLANE = ROUNDING
"""Images of a slice may lie this far beside each other in its plane, in mm: more is another place."""
_PARALLEL = 1e-3


def is_perpendicular(orientation: tuple[float, ...]) -> bool:
    """Whether the two directions of ImageOrientationPatient are perpendicular unit vectors."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = abs(np.linalg.norm(row) - 1) + abs(np.linalg.norm(column) - 1)
    return bool(lengths < _PARALLEL * 2 and abs(row @ column) < _PARALLEL)


def normal_of(orientation: Sequence[float]) -> Vector:
    """Unit normal of ImageOrientationPatient."""
    return _unit(np.cross(orientation[:3], orientation[3:]))


def group_by_position(frames: list[Frame]) -> list[list[Frame]]:
    """Group frames by position, ascending along the normal of the first frame."""
    assert frames[0].orientation is not None
    normal = normal_of(frames[0].orientation)
    ordered = sorted(frames, key=lambda frame: float(np.array(frame.position) @ normal))
    groups: list[list[Frame]] = [[ordered[0]]]
    for previous, frame in pairwise(ordered):
        if float((np.array(frame.position) - np.array(previous.position)) @ normal) < SAME_PLACE:
            groups[-1].append(frame)
        else:
            groups.append([frame])
    return groups


def moved_in_plane(groups: list[list[Frame]]) -> Problem | None:
    """Problem of images of a slice that do not lie in the same place."""
    spans = [float(np.ptp(np.array([frame.position for frame in group]), axis=0).max()) for group in groups]
    if max(spans) <= IN_PLANE:
        return None
    told = f"the images of slice {int(np.argmax(spans)) + 1} lie up to {max(spans):.2f} mm beside each other"
    return Problem(f"{told}: the slice moves in its plane", ("align them first, or leave those of one place",))


def _unit(vector: Sequence[float] | Vector) -> Vector:
    return np.asarray(vector, np.float64) / np.linalg.norm(vector)


class SlicePositions:
    """Slices of a series as a stack, with their problems and their affine.

    Parameters
    ----------
    frames : of each position, as `group_by_position` gives them.
    slice_tolerance : in mm, as of `crnn_cli.data.slice_stack.SliceStack`.
    """

    def __init__(self, frames: list[list[Frame]], slice_tolerance: float | None = None) -> None:
        self.first = frames[0][0]
        assert self.first.orientation is not None
        positions = np.array([group[0].position for group in frames])
        self.stack = SliceStack(positions, normal_of(self.first.orientation), slice_tolerance)
        self.problems = self.stack.problems()

    def remarks(self) -> list[Remark]:
        """Tolerated deviations, and the assumption on the thickness of a single slice."""
        if not len(self.stack.gaps) and self._length() is None:
            return [Doubt("slice-thickness-unknown", "one slice of unknown thickness: 1 mm is written")]
        return self.stack.remarks()

    def affine(self) -> Affine:
        """Affine of (column, row, slice) to RAS+ mm; the first and the last slice keep their positions."""
        first = self.first
        assert first.orientation is not None
        assert first.spacing is not None
        between_rows, between_columns = first.spacing
        columns, rows = (_unit(v) for v in (first.orientation[:3], first.orientation[3:]))
        step, corner = self.stack.step(self._length() or 1.0), self.stack.positions[0]
        affine = np.eye(4)
        affine[:3] = LPS_TO_RAS @ np.column_stack([columns * between_columns, rows * between_rows, step, corner])
        return affine

    def _length(self) -> float | None:
        """SpacingBetweenSlices, else SliceThickness, as the step of a single slice; None if neither is a length."""
        lengths = (self.first.gap, self.first.thickness)
        return next((length for length in lengths if length is not None and length > 0), None)
