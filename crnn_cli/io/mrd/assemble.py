"""Readouts of a frame put in their places in k-space, by the functions that read files.

What a file tells by all of its readouts, the first frame must tell: where the centre of reversed readouts is, whether
oversampling was removed, how many readouts are averaged.

Legend: C coil, Y phase encoding, X readout.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from crnn_cli.data.acquisition import Complex
from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.kspace.choices import RawChoices
from crnn_cli.io.kspace.ismrmrd.choice import choose_readouts
from crnn_cli.io.kspace.ismrmrd.file import ReadoutHeaders, concatenated, headers_of, readout_name
from crnn_cli.io.kspace.ismrmrd.grid import Grid, Lines
from crnn_cli.io.kspace.ismrmrd.header import IsmrmrdHeader
from crnn_cli.io.kspace.ismrmrd.inspect import central_readouts, dead_coils, reversed_centre
from crnn_cli.io.kspace.ismrmrd.noise import noise_covariance
from crnn_cli.io.kspace.ismrmrd.positions import OrderedSlices, slice_positions
from crnn_cli.io.kspace.ismrmrd.readouts import (
    ReadoutGroups,
    ReversedCentre,
    grid_index,
    group_readouts,
    require_same_coils,
)
from crnn_cli.io.kspace.ismrmrd.reconcile import positions_in_millimetres, reconcile
from crnn_cli.io.limits import require_memory
from crnn_cli.io.mrd.collect import OpenFrame
from crnn_cli.io.mrd.frames import StreamedFrame, StreamHeader
from crnn_cli.io.mrd.messages import Readout
from crnn_cli.notices import Doubt, Fact, Remark


class _Gathered:
    """Readouts in memory, in the order in which they came, as a source of samples."""

    def __init__(self, readouts: Iterable[Readout]) -> None:
        self.readouts = {each.number: each for each in sorted(readouts, key=lambda each: each.number)}
        records = [each.head for each in self.readouts.values()]
        heads = np.empty(len(records), records[0].dtype)
        for index, record in enumerate(records):  # np.array of records takes ten times as long
            heads[index] = record
        self.heads = headers_of(heads, np.array(list(self.readouts), np.int64))

    def samples(self, heads: ReadoutHeaders) -> Iterator[tuple[int, Complex]]:
        """Samples of readouts, as a `SampleSource`."""
        for index, number in enumerate(heads.row.tolist()):
            samples = self.readouts[number].samples
            if not np.isfinite(samples).all():
                raise UnreadableError(
                    f"{readout_name(heads, index)} has NaN or infinite samples: the sender or the network is broken"
                )
            yield index, samples


@dataclass(frozen=True)
class FrameAssembler:
    """Makes frames of the readouts of a stream, as its first frame has settled.

    Attributes
    ----------
    header : of the stream.
    centre : where the centre of reversed readouts is; None as of `grid_index`.
    choice : set and contrast to take.
    first_heads : header of the first readout of each slice, by its counter, for slices must not move.
    numbers : frames of each slice so far.
    codes : codes of the remarks so far; each is given once.
    """

    header: StreamHeader
    centre: ReversedCentre | None
    choice: RawChoices
    first_heads: dict[int, ReadoutHeaders]
    numbers: dict[int, int]
    codes: set[str]

    def assemble(self, frame: OpenFrame) -> StreamedFrame:
        """Put the readouts of a frame in their places.

        Raises
        ------
        UnreadableError
            If a line or a sample lies outside the matrix, or is NaN or infinite; the readout is named.
        UnsupportedDataError
            If the number of coils changes, the slice moves, or there are several sets or contrasts.
        """
        gathered = _Gathered((*frame.images, *frame.calibration))
        groups, header = _groups(gathered, self.choice), self.header.xml
        _require_coils(groups, self.header.coils)
        imaging = positions_in_millimetres(groups.imaging, header)
        lines, remarks = _lines(self.header.name, gathered, imaging, header, self.centre)
        kspace_C1YX, mask_1YX = lines.read(frame.slice_number, 0)
        if not mask_1YX.any():
            raise UnsupportedDataError(f"{self.header.name}: all samples of {frame.title} are zero")
        calibration_CYX = None
        if len(groups.calibration):
            apart, more = _lines(self.header.name, gathered, groups.calibration, header, self.centre)
            calibration_CYX, remarks = apart.read(frame.slice_number, 0)[0][:, 0], remarks + more
        first = self.first_heads.setdefault(frame.slice_number, imaging.where(np.array([0])))
        place = slice_positions(concatenated([first, imaging]), header)
        number = self.numbers.get(frame.slice_number, 0)
        self.numbers[frame.slice_number] = number + 1
        stamps = imaging["acquisition_time_stamp"]
        return StreamedFrame(
            kspace_CYX=kspace_C1YX[:, 0], mask_YX=mask_1YX[0], calibration_CYX=calibration_CYX, number=number,
            skipped=frame.skipped, slice_number=frame.slice_number, lines=len(imaging),
            head=gathered.readouts[int(imaging.row[0])].head, position=tuple(imaging["position"][0].tolist()),
            begin=int(stamps[0]), end=int(stamps[-1]), affine=place.affine, codes=place.codes,
            remarks=self._new([*remarks, *place.remarks, *lines.averaged(), *_about_counters(frame)]),
        )  # fmt: skip

    def stack(self, slice_tolerance: float | None = None) -> OrderedSlices:
        """Order the slices that had a frame so far; arguments and errors as of `slice_positions`."""
        return slice_positions(concatenated(list(self.first_heads.values())), self.header.xml, slice_tolerance)

    def _new(self, remarks: list[Remark]) -> tuple[Remark, ...]:
        """Those of a code that was not given before."""
        new = {each.code: each for each in reversed(remarks) if each.code not in self.codes}
        self.codes.update(new)
        return tuple(reversed(new.values()))


def settle(
    name: str, header: IsmrmrdHeader, frame: OpenFrame, noise: list[Readout], choice: RawChoices
) -> FrameAssembler:
    """Find by the first frame what holds for the whole stream.

    Parameters
    ----------
    name : of the stream.
    header : as it came; it is set right where the readouts contradict it.
    noise : noise readouts that came before.

    Raises
    ------
    DeviceError
        If there is no memory for the matrices of the header.
    UsageError, UnreadableError, UnsupportedDataError
        As `FrameAssembler.assemble` and `crnn_cli.io.kspace.ismrmrd.read.read_ismrmrd`.
    """
    gathered = _Gathered((*frame.images, *frame.calibration, *noise))
    groups = _groups(gathered, choice)
    _require_coils(groups, int(groups.imaging["active_channels"][0]))
    stated = header
    header, changes = reconcile(header, groups)
    if header.encoded.matrix[2] > 1:
        raise UnsupportedDataError(f"{name} is a 3-D scan: only frames of 2-D scans are streamed")
    _require_room(name, header, int(groups.imaging["active_channels"][0]))
    imaging = positions_in_millimetres(groups.imaging, header)
    central = central_readouts(gathered.samples, imaging, header)
    centre, about = reversed_centre(central, header)
    lines, _ = _lines(name, gathered, imaging, header, centre)
    noise_CC, about_noise = noise_covariance(groups.noise, lines, header)
    turned = [Fact("reversed-lines", about)] if about else []
    remarks = tuple(dict.fromkeys([*stated.doubts(), *changes, *dead_coils(central), *turned, *about_noise]))
    frames = header.counts.get("repetition", 1) * header.counts.get("phase", 1)
    found = StreamHeader(
        name, header, lines.grid.coils, noise_CC, frames if frames > 1 else None, header.counts.get("slice"), remarks
    )
    return FrameAssembler(found, centre, choice, {}, {}, {each.code for each in remarks})


def _require_room(name: str, header: IsmrmrdHeader, coils: int) -> None:
    """Refuse matrices for which there is no memory, before any is reserved."""
    for what, space, count in (("k-space of a frame", header.encoded, coils), ("an image", header.shown, 1)):
        x, y, _ = space.matrix
        require_memory(8 * count * x * y, f"{name}: {what}, {count} x {y} x {x} complex samples,")


def _groups(gathered: _Gathered, choice: RawChoices) -> ReadoutGroups:
    return choose_readouts(group_readouts(gathered.heads), choice)


def _require_coils(groups: ReadoutGroups, coils: int) -> None:
    require_same_coils(groups)
    found = int(groups.imaging["active_channels"][0])
    if found != coils:
        raise UnsupportedDataError(
            f"{readout_name(groups.imaging, 0)} has {found} coils, those before had {coils}: coils that change during "
            "a scan are not supported"
        )


def _lines(
    name: str, gathered: _Gathered, heads: ReadoutHeaders, header: IsmrmrdHeader, centre: ReversedCentre | None
) -> tuple[Lines, list[Remark]]:
    """Readouts of one frame in their places."""
    index, remarks = grid_index(heads, header, centre)
    x, y, z = header.encoded.matrix
    grid = Grid(int(heads["active_channels"][0]), 1, z, y, x)
    return Lines(name, gathered.samples, heads, index, np.zeros(len(heads), np.int64), grid), remarks


def _about_counters(frame: OpenFrame) -> list[Remark]:
    remarks: list[Remark] = []
    if frame.step > 1:
        text = f"the counters take every {frame.step}th value only: their values are taken as consecutive frames"
        remarks.append(Doubt("counter-stride", text))
    if frame.skipped:
        missing = f"{frame.skipped} frame{'s are' if frame.skipped > 1 else ' is'} missing before {frame.title}"
        remarks.append(Doubt("frames-skipped", f"{missing}, by the counters"))
    return remarks
