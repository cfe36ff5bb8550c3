"""What a file of raw k-space is in our eyes: format, axes, coils, sampling, calibration, noise, geometry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crnn_cli.data.orientation import axis_codes
from crnn_cli.data.raw_scan import RawSlice
from crnn_cli.data.sampling_mask import Mask, acceleration, effective_acceleration, undersampled_axes
from crnn_cli.io.kspace.read import read_raw


@dataclass(frozen=True)
class RawDescription:
    """What `crnn info` says of raw k-space; spacing in mm, frame time in s. Sampling is that of the middle slice."""

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
    orientation: str
    frame_time_s: float | None
    acceleration: float
    acceleration_in_measured_region: float
    undersampled_axes: int
    lines_per_frame: list[int]
    calibration_lines: int
    separate_calibration: bool
    noise_scan: bool
    notes: list[str]
    next_step: str


def describe_raw(
    place: Path, axes: str | None = None, variable: str | None = None, uneven: float | None = None
) -> RawDescription:
    """Read the headers and the middle slice, and say what the scan is.

    Raises
    ------
    CrnnError
        See `crnn_cli.io.kspace.read.read_raw`.
    """
    scan = read_raw(place, axes, variable, uneven=uneven)
    slices, coils, frames, lines, samples = scan.shape_ZCTYX
    middle = scan.read(slices // 2)
    mask_ZTYX = middle.mask_TYX[None]
    several = coils > 1 or frames > 1
    method = "" if frames > 1 else " --method sense"
    options = (("axes", axes), ("variable", variable), ("uneven", uneven))
    asked = "".join(f" --{name} {value}" for name, value in options if value)
    step = (
        f"crnn reconstruct {place}{asked}{method}" if several else "one frame of one coil: there is nothing to fill in"
    )
    return RawDescription(
        file=str(place), format=scan.format, stored=scan.stored, slices=slices, coils=coils, frames=frames,
        grid=[lines, samples], field_shown=list(scan.fov_fraction_YX), image_shape=list(scan.geometry.shape),
        spacing_mm=[round(v, 4) for v in scan.geometry.spacing], orientation=axis_codes(scan.geometry.affine),
        frame_time_s=scan.geometry.frame_time, acceleration=round(acceleration(mask_ZTYX), 3),
        acceleration_in_measured_region=round(effective_acceleration(mask_ZTYX), 3),
        undersampled_axes=undersampled_axes(mask_ZTYX),
        lines_per_frame=sorted({int(n) for n in middle.mask_TYX.any(axis=2).sum(axis=1)}),
        calibration_lines=_calibration_lines(middle), separate_calibration=middle.calibration_CYX is not None,
        noise_scan=scan.noise_CC is not None, notes=list(scan.notes), next_step=step,
    )  # fmt: skip


def _calibration_lines(measured: RawSlice) -> int:
    """Return how many consecutive lines around the centre at least one frame measured, or calibration did."""
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
