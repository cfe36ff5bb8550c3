"""Calibration lines from a file of their own, for the coil sensitivities of a scan.

Legend: Z slice, C coil, T frame, Y phase encoding, X readout.

Such a file is any raw k-space of the same coils and field of view: a prescan, or another scan whose centre is fully
sampled. Its matrix may be another: k-space is centred, so that its samples have their places in the grid of the scan.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.acquisition import Complex
from crnn_cli.data.raw_scan import RawScan, RawSlice, remove_oversampling
from crnn_cli.errors import Param, UnsupportedDataError
from crnn_cli.io.formats import ISMRMRD, NUMPY, identify
from crnn_cli.io.kspace.ismrmrd.read import read_ismrmrd_calibration
from crnn_cli.io.kspace.npy import stored_numpy
from crnn_cli.io.kspace.read import read_raw

_SAME_FIELD = 0.02
"""Share by which fields of view may differ."""


def read_calibration(path: Path, axes: str | None = None) -> RawScan:
    """Read a file of calibration lines; of ISMRMRD also one that has no readouts for images.

    Parameters
    ----------
    axes : names of the axes of the scan, taken where an array of NumPy has as many; one of three axes that nothing
        names is coil, ky, kx.

    Raises
    ------
    CrnnError
        As `crnn_cli.io.kspace.read.read_raw`.
    """
    row = identify(path, "kspace")
    if row is ISMRMRD:
        return read_ismrmrd_calibration(path)
    if row is NUMPY:
        n = len(stored_numpy(path).shape)
        fitting = axes if axes is not None and axes.count(",") + 1 == n else None
        return read_raw(path, fitting or ("coil,ky,kx" if n == 3 else None))
    return read_raw(path)


def with_calibration(scan: RawScan, other: RawScan) -> RawScan:
    """Scan whose slices have the calibration lines of another; readout oversampling is removed from both.

    The lines are the time average of the other's samples, or the lines it measured for calibration alone. Slices are
    matched by position where both files state it, else by number; one slice stands for all.

    Raises
    ------
    UnsupportedDataError
        If coils, fields of view, or numbers of slices differ, or one is a 3-D scan and the other is not.
    """
    _require_fitting(scan, other)
    width = round(scan.shape_ZCTYX[4] * scan.readout_fraction)
    grid = (scan.shape_ZCTYX[3], width)
    numbers = _matched_slices(scan, other)

    def read(z: int) -> RawSlice:
        raw = remove_oversampling(scan.read(z), scan.readout_fraction)
        lines = remove_oversampling(other.read(numbers[z]), other.readout_fraction)
        return RawSlice(raw.kspace_CTYX, raw.mask_TYX, _on_grid(_calibration_of(lines), grid))

    fraction = (scan.fov_fraction_YX[0], 1.0 if scan.readout_X else scan.fov_fraction_YX[1])
    return replace(scan, shape_ZCTYX=(*scan.shape_ZCTYX[:4], width), read=read, fov_fraction_YX=fraction)


def _calibration_of(lines: RawSlice) -> Complex:
    """Lines measured for calibration alone, or the mean of all frames, each sample over those that measured it."""
    if lines.calibration_CYX is not None:
        return lines.calibration_CYX
    count_YX = np.maximum(lines.mask_TYX.sum(axis=0), 1).astype(np.float32)
    mean: Complex = lines.kspace_CTYX.sum(axis=1) / count_YX
    return mean.astype(np.complex64)


def _on_grid(kspace_CYX: Complex, grid: tuple[int, int]) -> Complex:
    """Centred k-space on a larger or smaller grid; zero where there is none."""
    placed = np.zeros((len(kspace_CYX), *grid), np.complex64)
    source, target = [], []
    for n, wanted in zip(kspace_CYX.shape[1:], grid, strict=True):
        before, after = min(n // 2, wanted // 2), min(n - n // 2, wanted - wanted // 2)
        source.append(slice(n // 2 - before, n // 2 + after))
        target.append(slice(wanted // 2 - before, wanted // 2 + after))
    placed[:, target[0], target[1]] = kspace_CYX[:, source[0], source[1]]
    return placed


def _require_fitting(scan: RawScan, other: RawScan) -> None:
    coils = [each.shape_ZCTYX[1] for each in (scan, other)]
    if coils[0] != coils[1]:
        raise UnsupportedDataError(
            f"the calibration file has {coils[1]} coils, the scan {coils[0]}: both must be measured with the same coils"
        )
    if scan.axes_ZYX != other.axes_ZYX:
        raise UnsupportedDataError(
            "the calibration file and the scan differ in their axes: one is a 3-D scan, or has another phase encoding"
        )
    fields = [_fields(each) for each in (scan, other)]
    if _placed(scan) and _placed(other) and np.abs(fields[1] / fields[0] - 1).max() > _SAME_FIELD:
        texts = [" x ".join(f"{length:.4g}" for length in field) for field in fields]
        raise UnsupportedDataError(
            f"the field of view of the calibration file is {texts[1]} mm (lines, samples), that of the scan {texts[0]} "
            "mm: they must be the same",
            remedy=("estimate sensitivities elsewhere and give them with ", Param("maps", "FILE")),
        )


def _fields(scan: RawScan) -> NDArray[np.float64]:
    """Encoded field of view along Y and X in mm, along X without oversampling of the readout."""
    sides = [scan.geometry.shape[axis] * scan.geometry.spacing[axis] for axis in scan.axes_ZYX[1:]]
    return np.array(sides) / scan.crop_fraction


def _placed(scan: RawScan) -> bool:
    """Whether the file states where its images lie."""
    return scan.geometry.codes != (0, 0)


def _matched_slices(scan: RawScan, other: RawScan) -> list[int]:
    """Number of the other's slice for each slice of the scan."""
    counts = [each.shape_ZCTYX[0] for each in (scan, other)]
    if counts[1] == 1:
        return [0] * counts[0]
    if counts[0] == counts[1]:
        return list(range(counts[0]))
    if not (_placed(scan) and _placed(other)) or scan.axes_ZYX[0] != 2:
        raise UnsupportedDataError(
            f"the calibration file has {counts[1]} slices, the scan {counts[0]}, and nothing says which belong together"
        )
    normal = scan.geometry.affine[:3, 2] / np.linalg.norm(scan.geometry.affine[:3, 2])
    places = [each.geometry.affine[:3] @ [[0], [0], [1], [0]] * np.arange(each.shape_ZCTYX[0])
              + each.geometry.affine[:3, 3:] for each in (scan, other)]  # fmt: skip
    along = [normal @ place for place in places]
    return [int(np.abs(along[1] - position).argmin()) for position in along[0]]
