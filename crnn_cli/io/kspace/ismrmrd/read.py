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

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from crnn_cli.data.raw_scan import RawScan, RawSlice
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.io.kspace.checks import require_every_frame
from crnn_cli.io.kspace.choices import NOTHING_CHOSEN, RawChoices
from crnn_cli.io.kspace.ismrmrd.choice import choose_readouts
from crnn_cli.io.kspace.ismrmrd.file import (
    ReadoutHeaders,
    find_group,
    read_header,
    read_readout_headers,
    read_samples,
)
from crnn_cli.io.kspace.ismrmrd.grid import Grid, Lines
from crnn_cli.io.kspace.ismrmrd.header import IsmrmrdHeader, Space, parse_header
from crnn_cli.io.kspace.ismrmrd.inspect import central_readouts, dead_coils, reversed_centre
from crnn_cli.io.kspace.ismrmrd.noise import noise_covariance
from crnn_cli.io.kspace.ismrmrd.positions import OrderedSlices, recon_planes, slice_positions
from crnn_cli.io.kspace.ismrmrd.readouts import (
    GridIndex,
    ReadoutGroups,
    ReversedCentre,
    grid_index,
    group_readouts,
    require_same_coils,
)
from crnn_cli.io.kspace.ismrmrd.reconcile import fewer_than_stated, positions_in_millimetres, reconcile
from crnn_cli.io.kspace.ismrmrd.timing import Frames, counted_frames, full_frames, heart_frames
from crnn_cli.io.kspace.ismrmrd.volume import read_volume
from crnn_cli.notices import Fact, Remark


@dataclass(frozen=True)
class _Measured:
    """Lines of a scan in their places, and what was found on the way.

    Attributes
    ----------
    header : set right where readouts contradict it.
    groups : readouts by purpose.
    lines, calibration : readouts for images and for calibration; None without any of the latter.
    frames, stack : of the images.
    remarks : as of a `RawScan`.
    """

    header: IsmrmrdHeader
    groups: ReadoutGroups
    lines: Lines
    calibration: Lines | None
    frames: Frames
    stack: OrderedSlices
    remarks: tuple[Remark, ...]


def read_ismrmrd(
    path: Path, variable: str | None = None, phases: int | None = None, slice_tolerance: float | None = None, *,
    set_number: int | None = None, contrast: int | None = None, repetition: int | None = None,
    phase_number: int | None = None, view: int | None = None, drop_empty: bool = False,
) -> RawScan:  # fmt: skip
    """Read the headers of an ISMRMRD file as a scan, whose slices are read on demand.

    Parameters
    ----------
    variable : group of the HDF5 file, usually ``dataset``; None for the only one that holds a scan.
    phases : number of cardiac phases that readouts are sorted into by their time since the R wave; None for the frames
        that the counters of the file give.
    slice_tolerance : distance in mm that slices may lie off an even spacing; None for rounding alone.
    set_number, contrast, repetition, phase_number, view : the readouts to take, as of
        `crnn_cli.io.kspace.choices.RawChoices`.
    drop_empty : leave out frames of which a slice has no line.

    Raises
    ------
    UsageError
        If there is nothing of the set, contrast, repetition, phase or view that was chosen.
    UnreadableError
        If the file is missing, damaged, no ISMRMRD, or contradicts its header. Samples are checked when a slice is
        read.
    UnsupportedDataError
        If the scan is not Cartesian; has several numbers of coils, unevenly spaced slices, or empty frames; has several
        sets, contrasts or views, or both phases and repetitions, and none was chosen; or has no ECG time stamps to sort
        into ``phases``.
    """
    choice = RawChoices(None, set_number, contrast, repetition, phase_number, view, drop_empty)
    return _read(path, variable, choice, (phases, slice_tolerance))


def read_ismrmrd_calibration(path: Path) -> RawScan:
    """Read a file of calibration lines; those flagged as such are taken as for images, where no others are.

    Raises
    ------
    UnreadableError, UnsupportedDataError
        As `read_ismrmrd`.
    """
    return _read(path, None, NOTHING_CHOSEN, (None, None), for_calibration=True)


def _read(
    path: Path, variable: str | None, choice: RawChoices, timing: tuple[int | None, float | None],
    for_calibration: bool = False,
) -> RawScan:  # fmt: skip
    """Read a scan; ``timing`` are the phases and the slice tolerance."""
    group = find_group(path, variable)
    groups = choose_readouts(group_readouts(read_readout_headers(path, group), for_calibration), choice)
    measured = _measured(path, group, groups, choice, timing)
    header, lines = measured.header, measured.lines
    noise_CC, noise_remarks = noise_covariance(measured.groups.noise, lines, header)
    scan = RawScan(
        format="ISMRMRD",
        stored=_stored(measured),
        shape_ZCTYX=(0, lines.grid.coils, lines.grid.frames, lines.grid.lines, lines.grid.samples),
        geometry=measured.stack.geometry((*header.shown.matrix[:2], 1), measured.frames.count, measured.frames.time),
        axes_ZYX=(2, 1, 0),
        read=lambda z: RawSlice(*lines.read(z, 0)),
        fov_fraction_YX=(_share(header, 1), _share(header, 0)),
        noise_CC=noise_CC,
        remarks=(*measured.remarks, *noise_remarks),
    )
    if lines.grid.planes > 1 and not lines.has_full_planes():
        return _volume_scan(scan, measured)
    return _slice_scan(scan, measured)


def _naming_other_encodings(error: UnsupportedDataError, groups: ReadoutGroups) -> UnsupportedDataError:
    """Error of lacking lines with the readouts that were left out, which may be those that lack."""
    elsewhere = [remark.text for remark in groups.remarks if remark.code == "other-encodings"]
    if not elsewhere:
        return error
    others = (", or ", *error.remedy) if error.remedy else ()
    return UnsupportedDataError(
        *error.parts, f"; {elsewhere[0]}", remedy=("convert each encoding to a file of its own", *others)
    )


def _measured(
    path: Path, group: str, groups: ReadoutGroups, choice: RawChoices, timing: tuple[int | None, float | None]
) -> _Measured:
    """Put the readouts of a scan in their places; ``timing`` are the phases and the slice tolerance."""
    require_same_coils(groups)
    header, changes = reconcile(parse_header(read_header(path, group)), groups)
    changes += fewer_than_stated(header, {name: len(np.unique(groups.imaging[name])) for name in header.counts})
    imaging, samples = positions_in_millimetres(groups.imaging, header), partial(read_samples, path, group)
    central = central_readouts(samples, imaging, header)
    centre, about_reversed = reversed_centre(central, header)
    index, more = grid_index(imaging, header, centre)
    frames = _frames(imaging, index, header, timing[0])
    stack = slice_positions(imaging, header, timing[1])
    x, y, z = header.encoded.matrix
    grid = Grid(int(imaging["active_channels"][0]), frames.count, z, y, x)
    lines = Lines(str(path), samples, imaging, index, frames.number, grid).where(frames.kept)
    if z > 1 or choice.drop_empty:
        lines = lines.without_zeros()
    if z > 1:
        lines.require_one_slab()
    places = stack.places(lines.heads["slice"])
    try:
        frames, kept, number = full_frames(frames, lines.frames, places, choice.drop_empty)
    except UnsupportedDataError as error:
        raise _naming_other_encodings(error, groups) from None
    lines = replace(lines, frames=number, grid=replace(grid, frames=frames.count)).where(kept)
    calibration, other = _calibration(groups.calibration, lines, header, centre)
    turned = [Fact("reversed-lines", about_reversed)] if about_reversed else []
    remarks = [
        *_remarks(header, lines), *groups.remarks, *changes, *dead_coils(central), *more, *other, *turned,
        *stack.remarks, *frames.remarks,
    ]  # fmt: skip
    return _Measured(header, groups, lines, calibration, frames, stack, tuple(dict.fromkeys(remarks)))


def _calibration(
    heads: ReadoutHeaders, lines: Lines, header: IsmrmrdHeader, centre: ReversedCentre | None
) -> tuple[Lines | None, list[Remark]]:
    """Calibration lines as those of a scan of one frame; None without any."""
    if not len(heads):
        return None, []
    index, remarks = grid_index(heads, header, centre)
    frame_0 = np.zeros(len(heads), np.int64)
    return Lines(lines.name, lines.samples, heads, index, frame_0, replace(lines.grid, frames=1)), remarks


def _slice_scan(scan: RawScan, measured: _Measured) -> RawScan:
    """Scan whose slices are those of the file, or the planes of a 3-D scan that has all of them."""
    header, lines, calibration, order = measured.header, measured.lines, measured.calibration, measured.stack.order
    z = header.encoded.matrix[2]
    planes = recon_planes(header) if z > 1 else len(order)

    def read(slice_index: int) -> RawSlice:
        if not 0 <= slice_index < planes:
            raise IndexError(f"slice {slice_index} of {planes}")
        number, plane = (order[0], slice_index + z // 2 - planes // 2) if z > 1 else (order[slice_index], 0)
        kspace_CTYX, mask_TYX = lines.read(number, plane)
        require_every_frame(mask_TYX, f"{lines.name}, slice {slice_index + 1}")
        calibration_CYX = None if calibration is None else calibration.read(number, plane)[0][:, 0]
        return RawSlice(kspace_CTYX, mask_TYX, calibration_CYX)

    matrix = (*header.shown.matrix[:2], planes)
    geometry = measured.stack.geometry(matrix, measured.frames.count, measured.frames.time)
    return replace(scan, shape_ZCTYX=(planes, *scan.shape_ZCTYX[1:]), geometry=geometry, read=read)


def _volume_scan(scan: RawScan, measured: _Measured) -> RawScan:
    """Scan whose slices are the positions along the readout of a 3-D scan, read whole."""
    header, grid = measured.header, measured.lines.grid
    width = round(grid.samples * _share(header, 0))
    planes = recon_planes(header)
    shown = Space(
        (width, header.shown.matrix[1], planes),
        (header.encoded.field[0] * width / grid.samples, *header.shown.field[1:]),
    )
    stack = slice_positions(measured.lines.heads, replace(header, shown=shown))
    volume: Callable[[int], RawSlice] = read_volume(measured.lines, measured.calibration, width).read
    text = "a 3-D scan: transformed along its fully sampled readout, positions x are the slices; it was read whole"
    return replace(
        scan, shape_ZCTYX=(width, grid.coils, grid.frames, grid.lines, grid.planes),
        geometry=stack.geometry(shown.matrix, grid.frames, measured.frames.time), axes_ZYX=(0, 1, 2), read=volume,
        fov_fraction_YX=(_share(header, 1), planes / grid.planes), readout_X=False,
        remarks=(*scan.remarks, Fact("three-dimensional", text)),
    )  # fmt: skip


def _frames(imaging: ReadoutHeaders, index: GridIndex, header: IsmrmrdHeader, phases: int | None) -> Frames:
    if phases is not None:
        return heart_frames(imaging, phases)
    _, y, z = header.encoded.matrix
    line_ids = (imaging["slice"] * z + index.plane) * y + index.row
    return counted_frames(imaging, line_ids, header.tr)


def _share(header: IsmrmrdHeader, axis: int) -> float:
    return min(1.0, header.shown.field[axis] / header.encoded.field[axis])


def _stored(measured: _Measured) -> str:
    """Contents of the file as text: readouts, coils, slices, frames, matrices, acceleration."""
    header, grid, imaging = measured.header, measured.lines.grid, measured.groups.imaging
    matrices = [" x ".join(map(str, space.matrix)) for space in (header.encoded, header.shown)]
    parts = [
        f"{len(imaging)} readouts for images, {grid.coils} coils, {len(measured.stack.order)} slices, "
        f"{grid.frames} frames",
        f"matrix encoded {matrices[0]}, shown {matrices[1]} (x, y, z)",
    ]
    if measured.calibration is not None:
        rows = len(np.unique(measured.calibration.index.row))
        parts.append(f"{rows} calibration lines{' ' + header.calibration if header.calibration else ''}")
    if header.acceleration != (1, 1):
        parts.append(f"acceleration {' x '.join(map(str, header.acceleration))}")
    return "; ".join(parts)


def _remarks(header: IsmrmrdHeader, lines: Lines) -> list[Remark]:
    remarks: list[Remark] = [*header.doubts()]
    full = lines.has_full_planes()
    if lines.grid.planes > 1 and full:
        text = f"3-D scan, transformed along its {lines.grid.planes} planes"
        remarks.append(Fact("three-dimensional", text))
    remarks += lines.averaged()
    return remarks + (lines.missing(header.acceleration) if full else [])
