"""Where the frames of a stream come from: a scan in a file, or messages of an MRD stream.

Legend: Z slice, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from crnn_cli.errors import Param, UsageError

if TYPE_CHECKING:
    from crnn_cli.data.acquisition import Complex
    from crnn_cli.data.image import Image
    from crnn_cli.data.raw_scan import RawSlice
    from crnn_cli.io.mrd.frames import StreamedFrame
    from crnn_cli.reconstruction.coil_preparation import CoilRequest
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

        return CoilRequest() if self.scan.raw is None else self.scan.raw.coil_request

    def maps_of(self, z: int) -> Complex | None:
        """Sensitivities that were given with the file."""
        return None if self.scan.raw is None else self.scan.raw.given_maps(z)

    @property
    def frames(self) -> int | None:
        """Frames of all slices."""
        return self.scan.slices.count * self.scan.slices.shape[1]

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
        from crnn_cli.reconstruction.measurement import SingleSliceSource

        slices = self.scan.slices
        while isinstance(slices, SingleSliceSource):
            slices, z = slices.slices, slices.z
        if self.scan.raw is not None:
            return self.scan.raw.read(z)
        return _as_raw(slices.measure(z, _cpu()))

    def to_output_grid(self, images_TYX: Complex) -> Complex:
        """As the source of the slices does."""
        return self.scan.slices.to_output_grid(images_TYX)

    def place(self, images_ZTYX: Complex) -> Image:
        """As the scan does; where the stream ended early, with fewer frames."""
        return self.scan.to_image(images_ZTYX)


def _cpu() -> Any:
    import torch

    return torch.device("cpu")


def _as_raw(measurement: Any) -> RawSlice:
    """Samples of one coil, measured already, as a raw slice; views."""
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
