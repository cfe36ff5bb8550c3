"""Why a series beside a stack is no slice of it, in words; a stack is given by a frame of each of its slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crnn_cli.data.slice_stack import Vector
from crnn_cli.io.dicom.frames.frame import Frame
from crnn_cli.io.dicom.grid.grouping import PARALLEL, SAME_ECHO
from crnn_cli.io.dicom.grid.positions import is_perpendicular, normal_of
from crnn_cli.io.dicom.series import Series

_SAME_PLANE = 0.999
"""Cosine between the normals of slices that count as parallel."""
_NEAR = 0.15
"""How far a slice may lie off the next place of a stack, as a share of the gap."""
_CENTRED = 10.0
"""How far the centre of a slice may lie off the line through those of a stack, mm."""
_PLAIN = 10.0
"""Angle in degrees from which on another direction is no surprise, and not stated."""


def why_not_in_stack(
    series: Series, frames: Sequence[Frame], stack: Sequence[Frame], replaced: dict[int, int]
) -> str:  # fmt: skip
    """The first reason that holds, such as another direction.

    Parameters
    ----------
    frames : of the series.
    stack : a frame of each slice.
    replaced : number of each series that another replaces, and of that one.
    """
    if series.number in replaced:
        return f"measured again later, as series {replaced[series.number]}"
    one, of_stack = frames[0], stack[0]
    for told in (_other_scan(one, of_stack), _other_direction(one, of_stack), _other_matrix(one, of_stack)):
        if told:
            return told
    if not series.grid:
        return f"it cannot be read: {series.problems[0]}"
    if series.slices > 1:
        return f"{series.slices} slices in one series"
    if series.frames == 1:
        return "a single image"
    no_cine = "nothing says that its frames are the phases of a cardiac cycle"
    return _other_kind(one, of_stack) or _other_place(one, stack) or no_cine


def is_in_line(frames: Sequence[Frame], stack: Sequence[Frame]) -> bool:
    """Whether a cine of one place lies where a further slice of a stack would, so that it may have been meant as one.

    Parameters
    ----------
    frames : of a series.
    stack : a frame of each slice; at least two.
    """
    one, first = frames[0], stack[0]
    if len(frames) < 2 or len({frame.position for frame in frames}) > 1 or _is_elsewhere(one, first):
        return False
    assert first.orientation is not None
    normal, place = normal_of(first.orientation), _corner if one.orientation is None else _centre
    if one.position is None or (one.orientation is not None and abs(normal_of(one.orientation) @ normal) < _SAME_PLANE):
        return False
    along = np.array([(place(each) - place(first)) @ normal for each in stack])
    shift = place(one) - place(first)
    at, gap = float(shift @ normal), float(np.diff(along).min())
    beside = float(np.linalg.norm(shift - at * normal))
    steps = at / gap
    inside = steps >= -1 - _NEAR and at <= along[-1] + (1 + _NEAR) * gap
    taken = np.abs(along - at).min() < (1 - _NEAR) * gap
    return bool(inside and not taken and abs(steps - round(steps)) <= _NEAR and beside <= _CENTRED)


def _is_elsewhere(one: Frame, other: Frame) -> bool:
    """Whether patient, study or frame of reference contradict each other."""
    return one.origin._replace(series_uid="", series_number=None, sop_class="").contradicts(other.origin)


def _corner(frame: Frame) -> Vector:
    return np.asarray(frame.position, np.float64)


def _centre(frame: Frame) -> Vector:
    """Centre of an image, LPS, mm; its corner where directions or pixel size are not known."""
    corner = _corner(frame)
    if frame.orientation is None or frame.spacing is None:
        return corner
    row, column = np.array(frame.orientation).reshape(2, 3)
    rows, columns = frame.size
    return corner + row * frame.spacing[1] * (columns - 1) / 2 + column * frame.spacing[0] * (rows - 1) / 2


def _other_scan(one: Frame, of_stack: Frame) -> str:
    names = ("patient", "study_uid", "frame_of_reference")
    words = {"study_uid": "study", "frame_of_reference": "frame of reference"}
    differs = (name for name in names if getattr(one.origin, name) != getattr(of_stack.origin, name))
    return next((f"{'another' if getattr(one.origin, name) else 'no'} {words.get(name, name)}" for name in differs), "")


def _other_direction(one: Frame, of_stack: Frame) -> str:
    if one.orientation is None or not is_perpendicular(one.orientation) or of_stack.orientation is None:
        return "its direction is not known"
    if np.abs(np.subtract(one.orientation, of_stack.orientation)).max() < PARALLEL:
        return ""
    cosine = abs(float(normal_of(one.orientation) @ normal_of(of_stack.orientation)))
    angle = np.degrees(np.arccos(min(cosine, 1.0)))
    if angle >= _PLAIN:
        return "another direction"
    return f"another direction, {angle:.1f} degrees off" if angle >= 0.05 else "its rows run in another direction"


def _other_matrix(one: Frame, of_stack: Frame) -> str:
    if one.size != of_stack.size:
        return f"{one.size[1]} x {one.size[0]} pixels, not {of_stack.size[1]} x {of_stack.size[0]}"
    if one.spacing is None or of_stack.spacing is None:
        return "its pixel size is not known"
    if not np.allclose(one.spacing, of_stack.spacing, atol=1e-3, rtol=0):
        return f"pixels of {one.spacing[0]:.4g} mm, not {of_stack.spacing[0]:.4g}"
    return ""


def _other_kind(one: Frame, of_stack: Frame) -> str:
    if one.sequence != of_stack.sequence:
        return "another sequence"
    echoes = sorted(echo for echo in (one.echo, of_stack.echo) if echo is not None)
    if len(echoes) == 2 and echoes[1] > SAME_ECHO * echoes[0]:
        return f"an echo time of {one.echo:g} ms, not {of_stack.echo:g}"
    if one.thickness is not None and of_stack.thickness is not None and abs(one.thickness - of_stack.thickness) > 0.01:
        return f"{one.thickness:g} mm thick, not {of_stack.thickness:g}"
    return "another kind of image" if one.image_type != of_stack.image_type else ""


def _other_place(one: Frame, stack: Sequence[Frame]) -> str:
    """Distance in the plane from the line through the slices."""
    first, last = (np.asarray(stack[n].position) for n in (0, -1))
    along = (last - first) / np.linalg.norm(last - first)
    shift = np.asarray(one.position) - first
    beside = float(np.linalg.norm(shift - along * (shift @ along)))
    return f"it lies {beside:.1f} mm beside the stack" if beside > 0.05 else ""
