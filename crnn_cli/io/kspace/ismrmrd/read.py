"""Raw k-space from ISMRMRD (MRD) files, such as those of OCMR.

An ISMRMRD file is HDF5 with a group (usually ``dataset``) of two data sets: ``xml``, the header of the scan, and
``data``, a table of readouts. Each readout has an AcquisitionHeader (flags, counters, position, directions, time
stamps) and its samples of all coils. Readouts are sorted by flags and counters. Headers are read at once, samples when
a slice is asked for: a large file needs the memory of one slice.

Legend: Z slice, C coil, T frame, Y phase encoding, X readout.

References
----------
Inati et al., MRM 77, 2017.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crnn_cli.data.raw_scan import RawScan, RawSlice
from crnn_cli.io.kspace.ismrmrd.file import ReadoutHeaders, find_group, read_header, read_readout_headers
from crnn_cli.io.kspace.ismrmrd.grid import Grid, Lines
from crnn_cli.io.kspace.ismrmrd.header import IsmrmrdHeader, parse_header
from crnn_cli.io.kspace.ismrmrd.noise import noise_covariance
from crnn_cli.io.kspace.ismrmrd.positions import recon_planes, slice_positions
from crnn_cli.io.kspace.ismrmrd.readouts import GridIndex, ReadoutGroups, grid_index, group_readouts
from crnn_cli.io.kspace.ismrmrd.timing import Frames, counted_frames, heart_frames
from crnn_cli.notices import Doubt, Fact, Remark


def read_ismrmrd(
    path: Path, variable: str | None = None, phases: int | None = None, slice_tolerance: float | None = None
) -> RawScan:
    """Read the headers of an ISMRMRD file as a scan, whose slices are read on demand.

    Parameters
    ----------
    variable : group of the HDF5 file, usually ``dataset``; None for the only one that holds a scan.
    phases : number of cardiac phases that readouts are sorted into by their time since the R wave; None for the frames
        that the counters of the file give.
    slice_tolerance : distance in mm that slices may lie off an even spacing; None for rounding alone.

    Raises
    ------
    UnreadableError
        If the file is missing, damaged, no ISMRMRD, or contradicts its header. Samples are checked when a slice is
        read.
    UnsupportedDataError
        If the scan is not Cartesian, has several sets, contrasts or numbers of coils, both phases and repetitions,
        unevenly spaced slices, or no ECG time stamps to sort into ``phases``.
    """
    group = find_group(path, variable)
    header = parse_header(read_header(path, group))
    groups = group_readouts(read_readout_headers(path, group))
    imaging, calibration = groups.imaging, groups.calibration
    index, remarks = grid_index(imaging, header)
    frames = _frames(imaging, index, header, phases)
    stack = slice_positions(imaging, header, slice_tolerance)
    x, y, z = header.encoded.matrix
    grid = Grid(int(imaging["active_channels"][0]), frames.count, z, y, x)
    lines = Lines(path, group, imaging, index, frames.number, grid).where(frames.kept)
    lines.require_full_planes()
    calibration_lines = None
    if len(calibration):
        calibration_index, more = grid_index(calibration, header)
        one_frame = Grid(grid.coils, 1, z, y, x)
        frame_0 = np.zeros(len(calibration), np.int64)
        calibration_lines = Lines(path, group, calibration, calibration_index, frame_0, one_frame)
        remarks += [each for each in more if each not in remarks]
    noise_CC, noise_remarks = noise_covariance(groups.noise, lines, header)
    planes = recon_planes(header) if z > 1 else len(stack.order)

    def read(slice_index: int) -> RawSlice:
        if not 0 <= slice_index < planes:
            raise IndexError(f"slice {slice_index} of {planes}")
        number, plane = (stack.order[0], slice_index + z // 2 - planes // 2) if z > 1 else (stack.order[slice_index], 0)
        kspace_CTYX, mask_TYX = lines.read(number, plane)
        calibration_CYX = None if calibration_lines is None else calibration_lines.read(number, plane)[0][:, 0]
        return RawSlice(kspace_CTYX, mask_TYX, calibration_CYX)

    matrix = (*header.shown.matrix[:2], planes)
    return RawScan(
        format="ISMRMRD",
        stored=_stored(groups, header, lines, len(stack.order)),
        shape_ZCTYX=(planes, grid.coils, grid.frames, y, x),
        geometry=stack.geometry(matrix, frames.count, frames.time),
        axes_ZYX=(2, 1, 0),
        read=read,
        fov_fraction_YX=(_share(header, 1), _share(header, 0)),
        noise_CC=noise_CC,
        remarks=(
            *_remarks(header, lines),
            *groups.remarks,
            *remarks,
            *stack.remarks,
            *frames.remarks,
            *noise_remarks,
        ),
    )


def _frames(imaging: ReadoutHeaders, index: GridIndex, header: IsmrmrdHeader, phases: int | None) -> Frames:
    if phases is not None:
        return heart_frames(imaging, phases)
    _, y, z = header.encoded.matrix
    line_ids = (imaging["slice"] * z + index.plane) * y + index.row
    return counted_frames(imaging, line_ids, header.tr)


def _share(header: IsmrmrdHeader, axis: int) -> float:
    return min(1.0, header.shown.field[axis] / header.encoded.field[axis])


def _stored(groups: ReadoutGroups, header: IsmrmrdHeader, lines: Lines, slices: int) -> str:
    """Contents of the file as text: readouts, coils, slices, frames, matrices, acceleration."""
    grid, imaging = lines.grid, groups.imaging
    matrices = [" x ".join(map(str, space.matrix)) for space in (header.encoded, header.shown)]
    parts = [
        f"{len(imaging)} readouts for images, {grid.coils} coils, {slices} slices, {grid.frames} frames",
        f"matrix encoded {matrices[0]}, shown {matrices[1]} (x, y, z)",
    ]
    if len(groups.calibration):
        rows = len(np.unique(grid_index(groups.calibration, header)[0].row))
        parts.append(f"{rows} calibration lines{' ' + header.calibration if header.calibration else ''}")
    if header.acceleration != (1, 1):
        parts.append(f"acceleration {' x '.join(map(str, header.acceleration))}")
    return "; ".join(parts)


def _remarks(header: IsmrmrdHeader, lines: Lines) -> list[Remark]:
    remarks: list[Remark] = []
    if header.encodings > 1:
        remarks.append(Doubt("several-encodings", f"the header has {header.encodings} encodings: the first is read"))
    if lines.grid.planes > 1:
        text = f"3-D scan, transformed along its {lines.grid.planes} planes"
        remarks.append(Fact("three-dimensional", text))
    averages = lines.averages()
    if averages.max() > 1:
        text = f"lines measured {averages.min()} to {averages.max()} times, averaged"
        remarks.append(Fact("averaged", text))
    return remarks + lines.missing(header.acceleration)
