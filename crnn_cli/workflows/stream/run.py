"""A stream, frame by frame: calibrate, reconstruct, hand on, and measure the latency.

One frame is in work at a time: while a sink waits for its reader, nothing more is read (back pressure).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from crnn_cli import notices
from crnn_cli.compute.clock import Latency, Pace, now
from crnn_cli.data.host_memory import resident_bytes
from crnn_cli.errors import CrnnError

if TYPE_CHECKING:
    from crnn_cli.assessment.held_out import ResidualSums
    from crnn_cli.data.acquisition import Complex
    from crnn_cli.reconstruction.measurement import SliceMeasurement
    from crnn_cli.reconstruction.stream import StreamedSlice, StreamMethod
    from crnn_cli.workflows.stream.sources import ArrivedFrame, FrameSource

CHECK_EVERY = 8
"""Every so many frames one is reconstructed again without a tenth of its lines, after it has left."""
_SHARE = 0.1
_STEADY = 64  # frames after which memory should not grow any more


class FrameSink(Protocol):
    """Takes images, each as soon as it is there."""

    def put(self, image_YX: Complex, frame: ArrivedFrame) -> None:
        """Take the image of a frame, on the output grid.

        Raises
        ------
        BrokenPipeError
            If nobody takes it.
        """
        ...


@dataclass
class StreamRecord:
    """What is known of a stream so far.

    Attributes
    ----------
    latency : of each frame from its last line to its image; frames that waited for the calibration are left out.
    late : frames whose image came later than the next frame.
    done : frames whose image has left, by slice.
    calibration : seconds that the calibration of the first slice took.
    held_out : residual at lines held out, of every `CHECK_EVERY`-th frame.
    ended : why the stream ended early; "" where it did not.
    memory : resident bytes of the process at the `_STEADY`-th frame, and at the end.
    samples : measured, and all of the grid.
    """

    latency: Latency = field(default_factory=Latency)
    late: int = 0
    done: Counter[int] = field(default_factory=Counter)
    calibration: float = 0.0
    held_out: ResidualSums | None = None
    checked: int = 0
    ended: str = ""
    memory: tuple[int, int] = (0, 0)
    samples: tuple[int, int] = (0, 0)

    def facts(self, interval: float | None) -> dict[str, Any]:
        """Facts for the report; ``interval`` in seconds from frame to frame."""
        latency, (steady, last), held = self.latency, self.memory, self.held_out
        ms = {name: _rounded(1000 * value) for name, value in (
            ("median", latency.quantile(0.5)), ("percentile_99", latency.quantile(0.99)), ("worst", latency.worst),
        )}  # fmt: skip
        return {
            "frames": sum(self.done.values()),
            "latency_ms": ms if latency.frames else None,
            "frames_late": None if interval is None else self.late,
            "interval_ms": None if interval is None else _rounded(1000 * interval),
            "calibration_seconds": round(self.calibration, 3),
            "held_out": {"overall": None if held is None else _rounded(held.residual, 4), "frames": self.checked},
            "memory": {f"bytes_at_frame_{_STEADY}": steady or None, "bytes_at_end": last},
            "ended": self.ended or None,
        }


def _rounded(value: float, digits: int = 1) -> float | None:
    return None if math.isnan(value) else round(value, digits)


def run_stream(
    source: FrameSource, method: StreamMethod, sink: FrameSink, record: StreamRecord, *, paced: bool = False,
    progress: notices.Progress = notices.no_progress,
) -> None:  # fmt: skip
    """Reconstruct the frames of a source until it ends.

    What is known stays in the record, however the stream ends.

    Parameters
    ----------
    source : of the frames.
    method : how they are reconstructed.
    sink : takes the images.
    record : is filled.
    paced : wait for each frame until it is due.
    progress : called with frames done, and frames in all where that is known.

    Raises
    ------
    CrnnError
        As the source, and `crnn_cli.reconstruction.stream`.
    """
    run = _Run(source, method, sink, record)
    pace = Pace() if paced else None
    try:
        for frame in run.frames():
            arrived = now() if pace is None or frame.seconds is None else pace.wait(frame.seconds)
            run.take(frame, arrived)
            progress(sum(record.done.values()), source.frames or 0)
        run.flush()
        progress(sum(record.done.values()), source.frames or 0)
    finally:
        run.close()


class _Run:
    """The slices of a stream, and the frames that wait for the calibration of theirs."""

    def __init__(self, source: FrameSource, method: StreamMethod, sink: FrameSink, record: StreamRecord) -> None:
        self._source, self._method, self._sink, self._record = source, method, sink, record
        self._slices: dict[int, StreamedSlice] = {}
        self._waiting: dict[int, list[ArrivedFrame]] = {}

    def frames(self) -> Iterator[ArrivedFrame]:
        """Frames of the source; where it breaks off, those that came whole and wait for the calibration are made."""
        try:
            yield from self._source
        except CrnnError:
            with suppress(CrnnError):  # too few to calibrate by: why the stream broke off is told
                self.flush()
            raise

    def take(self, frame: ArrivedFrame, arrived: float) -> None:
        """Reconstruct a frame, or let it wait for the calibration."""
        from crnn_cli.reconstruction.stream import StreamedSlice

        if frame.z not in self._slices:
            self._finish_others()
            maps = self._source.maps_of(frame.z)
            method = replace(self._method, request=replace(self._method.request, maps=maps))
            self._slices[frame.z] = StreamedSlice(method, f"slice {frame.z + 1}")
            self._waiting[frame.z] = []
        streamed, waiting = self._slices[frame.z], self._waiting[frame.z]
        measured, possible = self._record.samples
        self._record.samples = measured + int(frame.raw.mask_TYX.sum()), possible + frame.raw.mask_TYX.size
        calibrating = streamed.calibrating
        waiting.append(frame)
        began = now()
        self._hand_on(streamed.push(frame.raw), frame.z, None if calibrating else arrived)
        if calibrating and not streamed.calibrating and not self._record.calibration:
            self._record.calibration = now() - began

    def flush(self) -> None:
        """Calibrate slices that had too few frames, and hand on what waited."""
        for z, streamed in self._slices.items():
            self._hand_on(streamed.calibrate(), z, None)

    def close(self) -> None:
        """End what runs beside the stream."""
        self._record.memory = self._record.memory[0], resident_bytes()
        for streamed in self._slices.values():
            streamed.close()

    def _finish_others(self) -> None:
        """In a file one slice follows the other: those before are done, and leave memory."""
        if self._source.frames is None:
            return
        self.flush()
        for streamed in self._slices.values():
            streamed.close()
        self._slices, self._waiting = {}, {}

    def _hand_on(self, measurements: Any, z: int, arrived: float | None) -> None:
        """Reconstruct measurements of a slice and hand on their images."""
        streamed, waiting, record = self._slices[z], self._waiting[z], self._record
        for measurement in measurements:
            frame = waiting.pop(0)
            check = self._prepare_check(streamed, measurement, frame)
            made = streamed.reconstruct(measurement)
            image_YX = self._on_grid(measurement, made.image_B1YX)
            self._sink.put(image_YX, frame)
            record.done[z] += 1
            if arrived is not None:
                seconds, interval = now() - arrived, self._source.interval
                record.latency.add(seconds)
                record.late += interval is not None and seconds > interval
            if sum(record.done.values()) == _STEADY:
                record.memory = resident_bytes(), 0
            if check is not None:
                check()

    def _on_grid(self, measurement: SliceMeasurement, image_B1YX: Any) -> Complex:
        from crnn_cli.errors import UnsupportedDataError
        from crnn_cli.reconstruction.measurement import on_output_grid

        if not bool(image_B1YX.isfinite().all()):
            raise UnsupportedDataError(
                "the network produced values that are not finite: the input's range is not usable"
            )
        image: Complex = on_output_grid(self._source.to_output_grid, measurement.visible(image_B1YX))[0]
        return image

    def _prepare_check(
        self, streamed: StreamedSlice, measurement: SliceMeasurement, frame: ArrivedFrame
    ) -> Callable[[], None] | None:
        """Prepare the residual of a frame at lines held out, to be measured when its image has left."""
        if (frame.number + 1) % CHECK_EVERY:
            return None
        import torch

        from crnn_cli.assessment.held_out import hold_out_lines, residual_sums
        from crnn_cli.errors import UnsupportedDataError

        generator = torch.Generator().manual_seed(frame.number)
        try:
            part, held_BTYX = hold_out_lines(measurement, _SHARE, generator)
        except UnsupportedDataError:  # too few lines
            return None
        predict = streamed.reconstruct_part(part)

        def check() -> None:
            sums, before = residual_sums(measurement, predict(), held_BTYX), self._record.held_out
            self._record.held_out = sums if before is None else before + sums
            self._record.checked += 1

        return check
