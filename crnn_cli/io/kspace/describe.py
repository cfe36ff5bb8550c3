"""Descriptions of raw k-space: format, axes, coils, sampling, calibration, noise scan, geometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crnn_cli.data.geometry import knows_orientation
from crnn_cli.data.orientation import axis_codes
from crnn_cli.data.raw_scan import RawScan, RawSlice
from crnn_cli.data.sampling_mask import Mask, acceleration, effective_acceleration, undersampled_axes
from crnn_cli.io.describe import NextStep
from crnn_cli.notices import Doubt, Fact


@dataclass(frozen=True)
class RawDescription:
    """Description of raw k-space, as `crnn info` prints it; sampling and calibration are those of the middle slice.

    Attributes
    ----------
    file, format : path and name of the format.
    stored : names and lengths of the stored axes, as they were taken.
    grid : lines and samples of the encoded k-space.
    field_shown : share of the encoded field of view that the images show, along lines and samples.
    image_shape, spacing_mm, orientation : of the images, x, y, z (and t).
    frame_time_s : seconds from frame to frame, None if unknown.
    acceleration, effective_acceleration, n_undersampled_axes, lines_per_frame : as in
        `crnn_cli.io.describe.SamplingDescription`.
    calibration_lines : consecutive lines around the centre that some frame, or the calibration scan, has measured.
    separate_calibration : whether lines were measured for calibration alone.
    noise_scan : whether the file holds noise readouts that could be used.
    doubts, facts : oddities and assumptions.
    next_step : what can be done with it; see `crnn_cli.workflows.proposals`.
    """

    file: str
    format: str
    stored: str
    slices: int
    coils: int
    frames: int
    grid: list[int]
    field_shown: list[float]
    image_shape: list[int]
    spacing_mm: list[float]
    orientation: str | None
    frame_time_s: float | None
    acceleration: float
    effective_acceleration: float
    n_undersampled_axes: int
    lines_per_frame: list[int]
    calibration_lines: int
    separate_calibration: bool
    noise_scan: bool
    doubts: list[Doubt]
    facts: list[Fact]
    next_step: NextStep = ()


def describe_raw(scan: RawScan, name: str) -> RawDescription:
    """Describe raw k-space from its headers and its middle slice.

    Parameters
    ----------
    name : of its file.
    """
    slices, coils, frames, lines, samples = scan.shape_ZCTYX
    middle = scan.read(slices // 2)
    mask_ZTYX = middle.mask_TYX[None]
    orientation = axis_codes(scan.geometry.affine) if knows_orientation(scan.geometry) else None
    return RawDescription(
        file=name, format=scan.format, stored=scan.stored, slices=slices, coils=coils, frames=frames,
        grid=[lines, samples], field_shown=list(scan.fov_fraction_YX), image_shape=list(scan.geometry.shape),
        spacing_mm=[round(v, 4) for v in scan.geometry.spacing], orientation=orientation,
        frame_time_s=scan.geometry.frame_time, acceleration=round(acceleration(mask_ZTYX), 3),
        effective_acceleration=round(effective_acceleration(mask_ZTYX), 3),
        n_undersampled_axes=undersampled_axes(mask_ZTYX),
        lines_per_frame=sorted({int(n) for n in middle.mask_TYX.any(axis=2).sum(axis=1)}),
        calibration_lines=_calibration_lines(middle), separate_calibration=middle.calibration_CYX is not None,
        noise_scan=scan.noise_CC is not None,
        doubts=[each for each in scan.remarks if isinstance(each, Doubt)],
        facts=[each for each in scan.remarks if isinstance(each, Fact)],
    )  # fmt: skip


def _calibration_lines(measured: RawSlice) -> int:
    """Number of consecutive lines around the centre that at least one frame, or the calibration scan, measured."""
    mask_TYX = measured.mask_TYX[:, :, measured.mask_TYX.shape[2] // 2]
    seen: Mask = np.logical_or.reduce(mask_TYX, axis=0)
    if measured.calibration_CYX is not None:
        seen = np.logical_or.reduce(measured.calibration_CYX != 0, axis=(0, 2))
    centre = len(seen) // 2
    if not seen[centre]:
        return 0
    gaps = np.flatnonzero(~seen)
    before, after = gaps[gaps < centre], gaps[gaps > centre]
    return int((after[0] if len(after) else len(seen)) - (before[-1] + 1 if len(before) else 0))
