"""Images as MRD messages (1022): one of each frame, with its place, counters and stamps."""

from __future__ import annotations

from typing import BinaryIO, Literal

from crnn_cli.data.acquisition import Complex
from crnn_cli.io.mrd.frames import StreamedFrame, StreamHeader

Kind = Literal["magnitude", "complex"]


class ImageWriter:
    """Writes one image message for each frame, and CLOSE at the end.

    Parameters
    ----------
    out : ``sys.stdout.buffer``, or the output of a connection. Each message is flushed.
    header : of the stream that the frames come from.
    kind : float32 magnitudes, or complex64.
    series : number of the series of images.

    Raises
    ------
    BrokenPipeError
        By any write after the reader of a pipe has gone, as usual; of a connection OutputError.
    """

    def __init__(self, out: BinaryIO, header: StreamHeader, kind: Kind = "magnitude", series: int = 1) -> None:
        raise NotImplementedError

    def write(self, image_YX: Complex, frame: StreamedFrame) -> None:
        """Send the image of a frame, on the matrix ``header.matrix``."""
        raise NotImplementedError

    def text(self, message: str) -> None:
        """Send words to the client (TEXT, 5), such as an error."""
        raise NotImplementedError

    def close(self) -> None:
        """Say that no more images will come (CLOSE, 4)."""
        raise NotImplementedError
