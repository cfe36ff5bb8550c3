"""Raw k-space from ISMRMRD (MRD) files: lines sorted by flags and counters, noise, geometry and time from their heads.

Legend: Z slice, C coil, T frame, Y phase encoding, X readout. Heads are read at once, samples when a slice is asked
for: a large file needs the memory of one slice. OCMR files are ISMRMRD files.

References
----------
Inati et al., MRM 77, 2017.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crnn_cli.data.raw_scan import RawScan, RawSlice
from crnn_cli.io.kspace.ismrmrd.file import ReadoutHeaders, find_group, read_header, read_heads
from crnn_cli.io.kspace.ismrmrd.grid import Grid, Lines
from crnn_cli.io.kspace.ismrmrd.header import IsmrmrdHeader, parse_header
from crnn_cli.io.kspace.ismrmrd.noise import noise_covariance
from crnn_cli.io.kspace.ismrmrd.positions import recon_planes, slice_positions
from crnn_cli.io.kspace.ismrmrd.readouts import GridIndex, ReadoutGroups, grid_index, group_readouts
from crnn_cli.io.kspace.ismrmrd.timing import Frames, counted_frames, heart_frames


def read_ismrmrd(
    place: Path, group: str | None = None, phases: int | None = None, uneven: float | None = None
) -> RawScan:  # fmt: skip
    """Return the scan in an ISMRMRD file, described from the heads of its readouts.

    Parameters
    ----------
    group : of the HDF5 file, usually ``dataset``; None for the only one that holds a scan.
    phases : sort the readouts into so many cardiac phases by their time since the R wave; None to take the frames
        as the file counts them.
    uneven : how far slices may lie beside even places and be taken as even, in mm; None where they may not.

    Raises
    ------
    UnreadableError
        If the file is missing, damaged, no ISMRMRD, or contradicts its header. Samples are looked at when a slice is
        read.
    UnsupportedDataError
        If the scan is not Cartesian, has several sets, contrasts or coil numbers, is ambiguous in time, lies unevenly
        in space, or cannot be sorted into ``phases``.
    """
    group = find_group(place, group)
    header = parse_header(read_header(place, group))
    heads = read_heads(place, group)
    kinds = group_readouts(heads)
    imaging, calibration = kinds.imaging, kinds.calibration
    cells, notes = grid_index(imaging, header)
    frames = _frames(imaging, cells, header, phases)
    where = slice_positions(imaging, header, uneven)
    x, y, z = header.encoded.matrix
    grid = Grid(int(imaging["active_channels"][0]), frames.count, z, y, x)
    lines = Lines(place, group, imaging, cells, frames.number, grid).where(frames.kept)
    lines.require_full_planes()
    also = None
    if len(calibration):
        their_cells, more = grid_index(calibration, header)
        one_frame = Grid(grid.coils, 1, z, y, x)
        also = Lines(place, group, calibration, their_cells, np.zeros(len(calibration), np.int64), one_frame)
        notes += [note for note in more if note not in notes]
    noise_CC, noise_notes = noise_covariance(kinds.noise, lines, header)
    planes = recon_planes(header) if z > 1 else len(where.order)

    def read(index: int) -> RawSlice:
        if not 0 <= index < planes:
            raise IndexError(f"slice {index} of {planes}")
        number, plane = (where.order[0], index + z // 2 - planes // 2) if z > 1 else (where.order[index], 0)
        kspace_CTYX, mask_TYX = lines.read(number, plane)
        return RawSlice(kspace_CTYX, mask_TYX, also.read(number, plane)[0][:, 0] if also is not None else None)

    matrix = (*header.shown.matrix[:2], planes)
    return RawScan(
        format="ISMRMRD",
        stored=_stored(kinds, header, lines, len(where.order)),
        shape_ZCTYX=(planes, grid.coils, grid.frames, y, x),
        geometry=where.geometry(matrix, frames.count, frames.time),
        axes_ZYX=(2, 1, 0),
        read=read,
        fov_fraction_YX=(_share(header, 1), _share(header, 0)),
        noise_CC=noise_CC,
        notes=(*_notes(header, lines), *kinds.notes, *notes, *where.notes, *frames.notes, *noise_notes),
    )


def _frames(imaging: ReadoutHeaders, cells: GridIndex, header: IsmrmrdHeader, phases: int | None) -> Frames:
    if phases is not None:
        return heart_frames(imaging, phases)
    _, y, z = header.encoded.matrix
    places = (imaging["slice"] * z + cells.plane) * y + cells.row
    return counted_frames(imaging, places, header.tr)


def _share(header: IsmrmrdHeader, axis: int) -> float:
    return min(1.0, header.shown.field[axis] / header.encoded.field[axis])


def _stored(kinds: ReadoutGroups, header: IsmrmrdHeader, lines: Lines, slices: int) -> str:
    """Return what the file holds, in words."""
    grid, imaging = lines.grid, kinds.imaging
    matrices = [" x ".join(map(str, space.matrix)) for space in (header.encoded, header.shown)]
    parts = [
        f"{len(imaging)} readouts for images, {grid.coils} coils, {slices} slices, {grid.frames} frames",
        f"matrix encoded {matrices[0]}, shown {matrices[1]} (x, y, z)",
    ]
    if len(kinds.calibration):
        rows = len(np.unique(grid_index(kinds.calibration, header)[0].row))
        parts.append(f"{rows} calibration lines{' ' + header.calibration if header.calibration else ''}")
    if header.acceleration != (1, 1):
        parts.append(f"acceleration {' x '.join(map(str, header.acceleration))}")
    return "; ".join(parts)


def _notes(header: IsmrmrdHeader, lines: Lines) -> list[str]:
    notes = []
    if header.encodings > 1:
        notes.append(f"the header has {header.encodings} encodings: the first is read")
    if lines.grid.planes > 1:
        notes.append(f"3-D scan, transformed along its {lines.grid.planes} planes")
    averages = lines.averages()
    if averages.max() > 1:
        notes.append(f"lines measured {averages.min()} to {averages.max()} times, averaged")
    return notes + lines.missing(header.acceleration)
