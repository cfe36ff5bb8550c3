"""Positions of the slices of an ISMRMRD scan, and the affine of its images.

The field ``position`` of a readout is the centre of its slice, LPS, mm. Pixel floor(N / 2) of an image lies there,
which is the centre of the centred transform. Image axes are x along read_dir, y along phase_dir, z along slice_dir; the
affine is RAS+ mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crnn_cli.data.image import Affine, Image
from crnn_cli.data.slice_stack import LPS_TO_RAS, ROUNDING, SliceStack, Vector
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.io.kspace.ismrmrd.choice import DIRECTIONS, PARALLEL
from crnn_cli.io.kspace.ismrmrd.file import ReadoutHeaders, readout_name
from crnn_cli.io.kspace.ismrmrd.header import IsmrmrdHeader
from crnn_cli.io.kspace.ismrmrd.readouts import Whole
from crnn_cli.notices import Doubt, Remark

_SCANNER, _UNKNOWN = (1, 1), (0, 0)


@dataclass(frozen=True)
class OrderedSlices:
    """Slices in the order of z, and the affine of their images.

    Attributes
    ----------
    order : counter ``slice`` of each slice.
    affine : voxel (x, y, z) of the images to RAS+ mm.
    codes : qform and sform code of the images; (0, 0) where the file states no directions.
    remarks : assumptions and tolerated deviations.
    """

    order: tuple[int, ...]
    affine: Affine
    codes: tuple[int, int]
    remarks: tuple[Remark, ...]

    def places(self, slices: Whole) -> Whole:
        """Place in the stack, from 0, of each counter ``slice``."""
        places = np.zeros(max(self.order) + 1, np.int64)
        places[list(self.order)] = range(len(self.order))
        return np.asarray(places[slices])

    def geometry(self, matrix: tuple[int, int, int], frames: int, frame_time: float | None) -> Image:
        """Image of zeros (x, y, z, t) that takes no memory, for `RawScan.geometry`."""
        zeros = np.broadcast_to(np.zeros((), np.complex64), (*matrix, frames))
        return Image(zeros, self.affine, frame_time, self.codes)


def slice_positions(
    heads: ReadoutHeaders, header: IsmrmrdHeader, slice_tolerance: float | None = None
) -> OrderedSlices:
    """Order the slices of a scan along their normal; the planes of a 3-D scan are slices of one slab.

    Parameters
    ----------
    slice_tolerance : in mm, as of `crnn_cli.data.slice_stack.SliceStack`.

    Raises
    ------
    UnsupportedDataError
        If directions differ or are not perpendicular, a slice moves, or slices are unevenly spaced or tilted.
    """
    counters, firsts = np.unique(heads["slice"], return_index=True)
    directions = np.stack([heads[name] for name in DIRECTIONS], -1)
    undirected = not directions.any() or not np.isfinite(directions).all()
    axes = np.eye(3) if undirected else _axes(heads, directions)
    positions = heads["position"][firsts]
    remarks: list[Remark] = []
    if undirected:
        text = "the file says no directions: where the images lie in the patient is unknown"
        remarks.append(Doubt("position-unknown", text))
        positions = np.array([[0, 0, z * header.encoded.field[2]] for z in range(len(counters))], float)
    else:
        _require_still(heads, positions, counters)
    order = np.argsort(positions @ axes[:, 2], kind="stable")
    if header.encoded.matrix[2] > 1:
        step = axes[:, 2] * header.encoded.field[2] / header.encoded.matrix[2]
        first = positions[0] - step * (recon_planes(header) // 2)
    else:
        stack = SliceStack(positions[order], axes[:, 2], slice_tolerance)
        if problems := stack.problems():
            raise UnsupportedDataError("; ".join(problems), remedy=stack.remedy())
        first, step = stack.positions[0], stack.step(header.shown.field[2])
        remarks += stack.remarks()
    spacing = [header.shown.field[axis] / header.shown.matrix[axis] for axis in range(2)]
    columns = [axes[:, 0] * spacing[0], axes[:, 1] * spacing[1], step]
    corner = first - sum(column * (n // 2) for column, n in zip(columns[:2], header.shown.matrix[:2], strict=True))
    affine = np.eye(4)
    affine[:3] = LPS_TO_RAS @ np.column_stack([*columns, corner])
    ordered = tuple(int(counters[i]) for i in order)
    return OrderedSlices(ordered, affine, _UNKNOWN if undirected else _SCANNER, tuple(remarks))


def recon_planes(header: IsmrmrdHeader) -> int:
    """Number of planes of a 3-D scan that the images show: the middle ones, in the field of view of reconSpace."""
    planes = header.encoded.matrix[2]
    return min(planes, max(1, round(planes * header.shown.field[2] / header.encoded.field[2])))


def _axes(heads: ReadoutHeaders, directions_N33: Vector) -> Vector:
    """Directions of x, y and z as columns."""
    axes: Vector = directions_N33[0]
    other = np.abs(directions_N33 - axes).max((1, 2)) > PARALLEL
    if other.any():
        raise UnsupportedDataError(
            f"{readout_name(heads, int(other.argmax()))} has other directions than the first: slices that are turned "
            "against each other do not make a volume"
        )
    if np.abs(axes.T @ axes - np.eye(3)).max() > 2 * PARALLEL:
        raise UnsupportedDataError(
            "the directions of readout, phase and slice are not perpendicular unit vectors: the images have no place"
        )
    unit: Vector = axes / np.linalg.norm(axes, axis=0)
    return unit


def _require_still(heads: ReadoutHeaders, positions: Vector, counters: Vector) -> None:
    if not np.isfinite(heads["position"]).all():
        raise UnsupportedDataError("a position is NaN or infinite: the images have no place")
    moved = np.abs(heads["position"] - positions[np.searchsorted(counters, heads["slice"])]).max(1) > ROUNDING
    if moved.any():
        at = int(moved.argmax())
        raise UnsupportedDataError(
            f"{readout_name(heads, at)} of slice {int(heads['slice'][at])} lies elsewhere than the first of that "
            "slice: slices that follow motion are not supported"
        )
