"""Where the images of a stream go: a file that is written at the end, or standard output frame by frame.

Legend: Z slice, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, BinaryIO

from crnn_cli import notices
from crnn_cli.data.mapped_arrays import SpooledBytes, drop_pages, zeros
from crnn_cli.notices import Fact

if TYPE_CHECKING:
    from crnn_cli.data.acquisition import Complex
    from crnn_cli.io.mrd.images import ImageWriter
    from crnn_cli.workflows.stream.sources import ArrivedFrame, FrameSource


class Collected:
    """Images of a stream, kept in memory where they are few, else in a temporary file, until it ends.

    A stream that was interrupted keeps the frames that were done; a slice with fewer frames than another is filled up
    with zeros.
    """

    def __init__(self) -> None:
        self._slices: dict[int, SpooledBytes] = {}
        self._frames: dict[int, int] = {}
        self._shape: tuple[int, ...] = ()

    def put(self, image_YX: Complex, frame: ArrivedFrame) -> None:
        """Take an image; all of them have one shape."""
        self._shape = image_YX.shape
        self._slices.setdefault(frame.z, SpooledBytes()).write(image_YX.tobytes())
        self._frames[frame.z] = self._frames.get(frame.z, 0) + 1

    @property
    def frames(self) -> Mapping[int, int]:
        """Frames of each slice so far."""
        return self._frames

    def images(self, slices: int | None) -> Complex:
        """All images, (Z, T, Y, X) complex64.

        Parameters
        ----------
        slices : Z, where it is known before the end; slices that never came are zero.
        """
        import numpy as np

        count = max(slices or 0, *(z + 1 for z in self._frames))
        images: Complex = zeros((count, max(self._frames.values()), *self._shape), np.complex64)
        for z, spooled in self._slices.items():
            place, flat = 0, images[z].reshape(-1)
            for chunk in spooled.chunks():
                values = np.frombuffer(chunk, np.complex64)
                flat[place : place + len(values)] = values
                place += len(values)
            drop_pages(images)
        if len(set(self._frames.values())) > 1 or len(self._frames) < count:
            notices.tell(
                Fact("stream-slices-uneven", "the slices have different numbers of frames; what did not come is zero")
            )
        return images


class NiftiStream:
    """A NIfTI series on a pipe, each frame as soon as it is there: one slice, whose number of frames is known.

    Parameters
    ----------
    out : binary stream.
    source : of the frames.
    complex_output : complex64 in place of float32 magnitudes.
    description : of the header.
    """

    def __init__(self, out: BinaryIO, source: FrameSource, complex_output: bool, description: str) -> None:
        self._out, self._source, self._complex, self._description = out, source, complex_output, description
        self._begun = False

    def put(self, image_YX: Complex, frame: ArrivedFrame) -> None:
        """Write an image; before the first, the header."""
        import numpy as np

        from crnn_cli.io.nifti.image import series_header

        image = self._source.place(image_YX[None, None])
        array = image.array if self._complex else np.abs(image.array)
        if not self._begun:
            self._begun = True
            frames = self._source.frames or 1
            self._out.write(series_header(image, array.dtype, frames, self._description))
        self._out.write(array.tobytes(order="F"))
        self._out.flush()


class MrdSink:
    """MRD images, each as soon as it is there.

    Parameters
    ----------
    writer : of the messages.
    """

    def __init__(self, writer: ImageWriter) -> None:
        self._writer = writer

    def put(self, image_YX: Complex, frame: ArrivedFrame) -> None:
        """Send an image with the place and the counters of its frame."""
        assert frame.sent is not None  # a sink of MRD images has a source of MRD readouts
        self._writer.write(image_YX, frame.sent)


class Both:
    """Two sinks, one after the other."""

    def __init__(self, first: MrdSink, second: Collected) -> None:
        self._sinks = first, second

    def put(self, image_YX: Complex, frame: ArrivedFrame) -> None:
        """Give the image to both."""
        for sink in self._sinks:
            sink.put(image_YX, frame)
