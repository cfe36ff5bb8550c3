"""Where the frames of a stream come from: a scan in a file, or messages of an MRD stream.

Legend: Z slice, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from crnn_cli import notices
from crnn_cli.errors import Param, UsageError
from crnn_cli.io.kspace.ismrmrd.timing import TICK

if TYPE_CHECKING:
    from crnn_cli.data.acquisition import Complex
    from crnn_cli.data.image import Image
    from crnn_cli.data.raw_scan import RawSlice
    from crnn_cli.io.mrd.frames import StreamedFrame
    from crnn_cli.io.mrd.read import FrameStream
    from crnn_cli.reconstruction.coil_preparation import CoilRequest
    from crnn_cli.reconstruction.measurement import SliceMeasurement
    from crnn_cli.workflows.reconstruct.scan import Scan


@dataclass(frozen=True)
class ArrivedFrame:
    """A frame whose last line has come.

    Attributes
    ----------
    raw : its samples, T = 1, without oversampling of the readout.
    z : number of its slice, from 0.
    number : of the frame in its slice, from 0.
    seconds : when it was measured, counted from the first frame; None where that is not known.
    sent : the frame as it was sent, in an MRD stream.
    """

    raw: RawSlice
    z: int
    number: int
    seconds: float | None
    sent: StreamedFrame | None = None


class FrameSource(Protocol):
    """Frames in the order in which they were measured, and what is known of all of them."""

    @property
    def coils(self) -> CoilRequest:
        """How the coils are to be prepared, but for sensitivities that are given."""
        ...

    @property
    def frames(self) -> int | None:
        """Frames of all slices together; None where it is not known before the end."""
        ...

    @property
    def slices(self) -> int | None:
        """Slices; None where it is not known before the end."""
        ...

    @property
    def interval(self) -> float | None:
        """Seconds from frame to frame; None where it is not known."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the report says of the source."""
        ...

    def maps_of(self, z: int) -> Complex | None:
        """Sensitivities of a slice that are given."""
        ...

    def __iter__(self) -> Iterator[ArrivedFrame]:
        """Yield the frames, each as soon as it is there."""
        ...

    def to_output_grid(self, images_TYX: Complex) -> Complex:
        """Crop or resample images to the matrix that is written."""
        ...

    def place(self, images_ZTYX: Complex) -> Image:
        """Give images their geometry."""
        ...


@dataclass(frozen=True)
class ScanFrames:
    """The frames of a scan in a file, as if they came one after the other: slice by slice.

    Attributes
    ----------
    scan : see `crnn_cli.workflows.reconstruct.scan`.
    """

    scan: Scan

    @property
    def coils(self) -> CoilRequest:
        """As for the file."""
        from crnn_cli.reconstruction.coil_preparation import CoilRequest

        return CoilRequest(exact=True) if self.scan.raw is None else self.scan.raw.coil_request

    def maps_of(self, z: int) -> Complex | None:
        """Sensitivities that were given with the file."""
        return None if self.scan.raw is None else self.scan.raw.given_maps(z)

    @property
    def frames(self) -> int | None:
        """Frames of all slices."""
        return self.scan.slices.count * self.scan.slices.shape[1]

    @property
    def slices(self) -> int | None:
        """Slices of the file."""
        return self.scan.slices.count

    @property
    def interval(self) -> float | None:
        """Frame time of the file."""
        return self.scan.geometry.frame_time

    @property
    def facts(self) -> Mapping[str, Any]:
        """Files and their sha256, and where the samples come from."""
        return {"input": self.scan.source, "origin": self.scan.origin, "simulated": self.scan.simulated}

    def __iter__(self) -> Iterator[ArrivedFrame]:
        """Yield the frames slice by slice; one slice is in memory at a time."""
        from crnn_cli.data.raw_scan import RawSlice

        interval, passed = self.interval, 0
        for z in range(self.scan.slices.count):
            raw = self._slice(z)
            for number in range(raw.kspace_CTYX.shape[1]):
                part = slice(number, number + 1)
                mask_TYX = raw.mask_TYX if len(raw.mask_TYX) == 1 else raw.mask_TYX[part]
                frame = RawSlice(raw.kspace_CTYX[:, part], mask_TYX, raw.calibration_CYX)
                yield ArrivedFrame(frame, z, number, None if interval is None else interval * passed)
                passed += 1

    def _slice(self, z: int) -> RawSlice:
        import torch

        from crnn_cli.reconstruction.measurement import SingleSliceSource

        slices = self.scan.slices
        if self.scan.raw is not None:
            return self.scan.raw.read(slices.z if isinstance(slices, SingleSliceSource) else z)
        return _as_raw(slices.measure(z, torch.device("cpu")))

    def to_output_grid(self, images_TYX: Complex) -> Complex:
        """As the source of the slices does."""
        return self.scan.slices.to_output_grid(images_TYX)

    def place(self, images_ZTYX: Complex) -> Image:
        """As the scan does; where the stream ended early, with fewer frames."""
        return self.scan.to_image(images_ZTYX)


class MrdFrames:
    """The frames of an MRD stream, in the order in which they are completed; slices may take turns.

    Parameters
    ----------
    stream : of readouts.
    coils : virtual coils to compress to; None for all.
    map_sets : sets of sensitivities to estimate; None to find out.
    slice_tolerance : mm that slices may lie off an even spacing.
    """

    def __init__(
        self, stream: FrameStream, coils: int | None = None, map_sets: int | None = None,
        slice_tolerance: float | None = None,
    ) -> None:  # fmt: skip
        self._stream, self._coils, self._map_sets = stream, coils, map_sets
        self._slice_tolerance = slice_tolerance
        self._codes = (0, 0)
        self._numbers: dict[int, int] = {}
        self._first: int | None = None
        self._times: dict[int, tuple[int, int]] = {}
        self.frames: int | None = None
        self.slices: int | None = None

    @property
    def coils(self) -> CoilRequest:
        """With the noise covariance that was sent before the frames."""
        from crnn_cli.reconstruction.coil_preparation import CoilRequest

        return CoilRequest(self._stream.header.noise_CC, self._coils, None, self._map_sets)

    def maps_of(self, z: int) -> Complex | None:
        """None: nobody gave sensitivities."""
        return None

    @property
    def interval(self) -> float | None:
        """Mean time between the frames so far, by the stamps; None before the second, and without stamps."""
        spans = [(last - first) * TICK / (self._numbers[z] - 1) for z, (first, last) in self._times.items()
                 if self._numbers[z] > 1 and last > first]  # fmt: skip
        return min(spans) / max(1, len(self._times)) if spans else None

    @property
    def facts(self) -> Mapping[str, Any]:
        """Name of the stream, and where the samples come from."""
        header = self._stream.header
        coils = f"{header.coils} coil{'s' if header.coils > 1 else ''}"
        return {"input": {"stream": header.name}, "origin": f"raw k-space, MRD stream, {coils}", "simulated": False}

    def __iter__(self) -> Iterator[ArrivedFrame]:
        """Yield the frames as they are completed."""
        from crnn_cli.data.raw_scan import remove_oversampling

        notices.tell(*self._stream.header.remarks)
        for frame in self._stream:
            notices.tell(*frame.remarks)
            z = frame.slice_number
            self._codes = frame.codes
            self._first = frame.end if self._first is None else self._first
            self._times[z] = self._times.get(z, (frame.end, 0))[0], frame.end
            self._numbers[z] = number = self._numbers.get(z, 0) + 1
            raw = remove_oversampling(frame.raw, self._stream.header.fov_fraction[1])
            yield ArrivedFrame(raw, z, number - 1, (frame.end - self._first) * TICK, frame)
        notices.tell(*self._stream.at_end)

    def to_output_grid(self, images_TYX: Complex) -> Complex:
        """Crop to the field of view and resample to the matrix that the header asks for."""
        from crnn_cli.data.raw_scan import crop_and_resample

        header = self._stream.header
        images: Complex = crop_and_resample(images_TYX, (header.fov_fraction[0], 1.0), header.matrix)
        return images

    def place(self, images_ZTYX: Complex) -> Image:
        """Order the slices by their place, and give them that of the stack."""
        from crnn_cli.data.image import Image

        stack, interval = self._stream.stack(self._slice_tolerance), self.interval
        time = None if interval is None else interval * len(self._times)
        images_ZTYX = images_ZTYX[sorted(self._numbers)][list(stack.order)]
        return Image(images_ZTYX.transpose(3, 2, 0, 1), stack.affine, frame_time=time, codes=self._codes)


def _as_raw(measurement: SliceMeasurement) -> RawSlice:
    """Samples of one coil as a raw slice; views."""
    from crnn_cli.data.raw_scan import RawSlice

    return RawSlice(measurement.kspace_BCTYX[0].numpy(), measurement.mask_BTYX[0].bool().numpy())


def require_pace(source: FrameSource) -> None:
    """Refuse to replay a file at its own speed where nothing says it.

    Raises
    ------
    UsageError
        If the time between frames is not known.
    """
    if source.interval is None:
        raise UsageError(
            Param("pace"), " replays a scan at its own speed, and nothing says the time between its frames",
            remedy=("leave ", Param("pace"), " out",),
        )  # fmt: skip
