"""Why a series beside the only stack of a folder is no slice of it, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crnn_cli.io.dicom.frames.frame import Frame
from crnn_cli.io.dicom.grid.grouping import PARALLEL, SAME_ECHO
from crnn_cli.io.dicom.grid.positions import is_perpendicular, normal_of
from crnn_cli.io.dicom.series import Series

_PLAIN = 10.0
"""Angle in degrees from which on another direction is no surprise, and not stated."""


def why_not_in_stack(series: Series, frames: Sequence[Frame], stack: Series, replaced: dict[int, int]) -> str:
    """The first reason that holds, such as another direction.

    Parameters
    ----------
    frames : of the series.
    stack : readable.
    replaced : number of each series that another replaces, and of that one.
    """
    if series.number in replaced:
        return f"measured again later, as series {replaced[series.number]}"
    one, of_stack = frames[0], stack.grid[0][0]
    for told in (_other_scan(one, of_stack), _other_direction(one, of_stack), _other_matrix(one, of_stack)):
        if told:
            return told
    if not series.grid:
        return f"it cannot be read: {series.problems[0]}"
    if series.slices > 1:
        return f"{series.slices} slices in one series"
    if series.frames == 1:
        return "a single image"
    return _other_kind(one, of_stack) or _other_place(one, stack) or "no gated cine of the same kind"


def _other_scan(one: Frame, of_stack: Frame) -> str:
    names = ("patient", "study_uid", "frame_of_reference")
    words = {"study_uid": "study", "frame_of_reference": "frame of reference"}
    differs = (name for name in names if getattr(one.origin, name) != getattr(of_stack.origin, name))
    return next((f"another {words.get(name, name)}" for name in differs), "")


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


def _other_place(one: Frame, stack: Series) -> str:
    """Distance in the plane from the line through the slices."""
    first, last = (np.asarray(stack.grid[n][0].position) for n in (0, -1))
    along = (last - first) / np.linalg.norm(last - first)
    shift = np.asarray(one.position) - first
    beside = float(np.linalg.norm(shift - along * (shift @ along)))
    return f"it lies {beside:.1f} mm beside the stack" if beside > 0.05 else ""
