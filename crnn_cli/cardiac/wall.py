"""Wall thickness in the segments of the American Heart Association, from short-axis labels.

    endocardium(theta), epicardium(theta)    radii at which a ray from the cavity's centre enters and leaves the wall
    thickness(theta) = epicardium - endocardium                                                  of each slice and frame
    thickening = 100 (end systole - end diastole) / end diastole           per cent, of rays that cross both

In end systole base and apex have often left their slices. A slice without a wall there says nothing of the thickening.
The slices that show a closed ring in end diastole are divided into three thirds, basal, mid and apical. The basal end
is the one with the larger cavity. Six segments of 60 degrees in the basal and the mid third, four of 90 degrees in the
apical one, begin at the anterior insertion of the right ventricle and go through the septum; the 17th segment, the apex
itself, is not in short-axis slices. Cerqueira et al., Circulation 105:539, 2002.

Legend: S slice, R ray.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, map_coordinates

from crnn_cli.cardiac.chambers import Chambers
from crnn_cli.data.geometry import ALONG_PATIENT_AXIS, SliceOrder, knows_orientation
from crnn_cli.data.image import Image

Angles = NDArray[np.float64]
Mask = NDArray[np.bool_]

RAYS = 120
"""Rays around the cavity: one every 3 degrees."""
CLOSED = 0.9
"""Share of the rays that must cross the wall for a ring that counts as closed."""
SEGMENTS = (
    "basal anterior", "basal anteroseptal", "basal inferoseptal", "basal inferior", "basal inferolateral",
    "basal anterolateral", "mid anterior", "mid anteroseptal", "mid inferoseptal", "mid inferior", "mid inferolateral",
    "mid anterolateral", "apical anterior", "apical septal", "apical inferior", "apical lateral",
)  # fmt: skip
"""Names of the segments 1 to 16."""
_STEP = 0.25  # mm along a ray
_ANTERIOR = np.array([0.0, 1.0, 0.5])  # the anterior insertion lies to anterior and superior of the inferior one; RAS


@dataclass(frozen=True)
class Wall:
    """Thickness of the 16 segments.

    Attributes
    ----------
    end_diastolic, end_systolic : in mm; NaN where a segment has no ray.
    thickening : per cent of the end-diastolic thickness, of the rays that cross the wall in both phases.
    slices : numbers of the slices, from 1 as stored, of the basal, mid and apical third.
    """

    end_diastolic: Angles
    end_systolic: Angles
    thickening: Angles
    slices: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class _Ring:
    """Wall of one slice in one frame: thickness in mm of each ray, NaN where there is none; angle of each ray."""

    thickness_R: Angles
    cavity: float

    @property
    def is_closed(self) -> bool:
        return bool(np.isfinite(self.thickness_R).mean() >= CLOSED)


def measure_wall(labels: Image, chambers: Chambers, order: SliceOrder, ed: int, es: int) -> Wall | str:
    """Thickness of the wall in end diastole and end systole; or the reason why it cannot be said.

    Parameters
    ----------
    labels : label map with left cavity, myocardium and right cavity.
    ed, es : frames, from 0.
    """
    reason = _missing(labels, chambers, order.axes[0])
    if reason:
        return reason
    frames = labels.array.reshape((*labels.shape[:3], labels.frames))
    slices = {frame: np.moveaxis(frames[..., frame], order.axes[0], 0) for frame in (ed, es)}
    plane = [axis for axis in range(3) if axis != order.axes[0]]
    spacing = (labels.spacing[plane[0]], labels.spacing[plane[1]])
    rings = {frame: [_ring(each, chambers, spacing) for each in stack] for frame, stack in slices.items()}
    closed = [z for z, ring in enumerate(rings[ed]) if ring.is_closed]
    if len(closed) < 3 or closed[-1] - closed[0] + 1 != len(closed):
        return f"{len(closed)} slices show a closed ring of myocardium in end diastole, and three in a row are needed"
    thirds = _thirds(closed, rings[ed])
    towards = labels.affine[:3, :3] / np.linalg.norm(labels.affine[:3, :3], axis=0)
    start, turn = _insertion(slices[ed], closed, chambers, spacing, towards[:, plane])
    if start is None:
        return "the right ventricle does not touch the septum in any slice: nothing says where the segments begin"
    angle_R = turn * (_angles() - start)

    def by_segment(thickness_SR: Angles) -> Angles:
        levels = enumerate(thirds)
        return np.concatenate([_by_segment(thickness_SR[members], angle_R, level) for level, members in levels])

    thick_ed, thick_es = (np.stack([ring.thickness_R for ring in rings[frame]]) for frame in (ed, es))
    both = np.isfinite(thick_ed) & np.isfinite(thick_es)
    paired_ed, paired_es = (by_segment(np.where(both, each, np.nan)) for each in (thick_ed, thick_es))
    numbered = tuple(tuple(z + 1 for z in members) for members in thirds)
    return Wall(
        by_segment(thick_ed), by_segment(thick_es), 100 * (paired_es - paired_ed) / paired_ed,
        (numbered[0], numbered[1], numbered[2]),
    )  # fmt: skip


def _missing(labels: Image, chambers: Chambers, slice_axis: int) -> str:
    if None in (chambers.left, chambers.myocardium, chambers.right):
        return "the segments need labels of both cavities and the myocardium"
    normal = labels.affine[:3, slice_axis] / np.linalg.norm(labels.affine[:3, slice_axis])
    if not knows_orientation(labels) or np.abs(normal).max() > ALONG_PATIENT_AXIS:
        return "the file does not say how the heart lies (short-axis slices are oblique): anterior is not known"
    if labels.spacing == (1.0, 1.0, 1.0):
        return "the voxel spacing is not known"
    return ""


def _angles() -> Angles:
    return np.linspace(0, 2 * np.pi, RAYS, endpoint=False, dtype=np.float64)


def _ring(labels_YX: NDArray[np.generic], chambers: Chambers, spacing: tuple[float, float]) -> _Ring:
    """Wall of a slice (first axis, second axis of the plane) along rays from the middle of the cavity."""
    cavity, wall = labels_YX == chambers.left, labels_YX == chambers.myocardium
    nothing = np.full(RAYS, np.nan)
    if not cavity.any() or not wall.any():
        return _Ring(nothing, float(cavity.sum()))
    centre = np.argwhere(cavity).mean(axis=0)
    inside = np.argwhere(cavity | wall)
    reach = np.abs((inside - centre) * spacing).max() * 1.5 + 2
    radius = np.arange(0, reach, _STEP)
    direction_R2 = np.stack([np.cos(_angles()), np.sin(_angles())], -1) / spacing
    points = centre[:, None, None] + direction_R2.T[:, :, None] * radius
    crossed = map_coordinates(wall.astype(np.float32), points, order=1, cval=0) >= 0.5
    thickness = crossed.sum(axis=1) * _STEP
    return _Ring(np.where(thickness > 0, thickness, np.nan), float(cavity.sum()))


def _thirds(closed: list[int], rings: list[_Ring]) -> list[list[int]]:
    """Slices of the basal, mid and apical third, base first."""
    parts = [part.tolist() for part in np.array_split(np.array(closed), 3)]
    ends = [np.mean([rings[z].cavity for z in part]) for part in (parts[0], parts[-1])]
    return parts if ends[0] >= ends[1] else [part[::-1] for part in parts[::-1]]


def _insertion(
    stack: NDArray[np.generic], closed: list[int], chambers: Chambers, spacing: tuple[float, float], towards: Angles
) -> tuple[float | None, int]:
    """Angle of the anterior insertion of the right ventricle, and the sense of rotation through the septum.

    Parameters
    ----------
    towards : patient directions (RAS) of the two axes of the plane, as columns (3, 2).
    """
    found = []
    for z in closed:
        wall, right = stack[z] == chambers.myocardium, stack[z] == chambers.right
        septum = np.argwhere(wall & binary_dilation(right))
        if len(septum) < 3:
            continue
        centre = np.argwhere(stack[z] == chambers.left).mean(axis=0)
        offset = (septum - centre) * spacing
        angle = np.arctan2(offset[:, 1], offset[:, 0])
        middle = np.angle(np.exp(1j * angle).mean())
        spread = np.angle(np.exp(1j * (angle - middle)))
        found.append((middle + spread.min(), middle + spread.max()))
    if not found:
        return None, 1
    low, high = (float(np.angle(np.exp(1j * np.array(ends)).mean())) for ends in zip(*found, strict=True))
    heights = [float(towards @ (np.cos(angle), np.sin(angle)) @ _ANTERIOR) for angle in (low, high)]
    return (low, 1) if heights[0] > heights[1] else (high, -1)


def _by_segment(thickness_SR: Angles, angle_R: Angles, level: int) -> Angles:
    """Mean thickness of the segments of a level; ``angle_R`` runs from the anterior insertion through the septum."""
    degrees = np.degrees(angle_R) % 360
    if level < 2:  # anteroseptal first, the anterior segment ends at the insertion
        number = (np.floor(degrees / 60).astype(int) + 1) % 6
        count = 6
    else:  # the septal quarter around the middle of the septum, 60 degrees from the insertion
        number = (np.floor(((degrees - 15) % 360) / 90).astype(int) + 1) % 4
        count = 4
    means = []
    for segment in range(count):
        values = thickness_SR[:, number == segment]
        means.append(float(np.nanmean(values)) if np.isfinite(values).any() else np.nan)
    return np.array(means)
