"""Images as MRD messages (1022): one of each frame, with its place, counters and stamps."""

from __future__ import annotations

import struct
from typing import BinaryIO, Final, Literal

import numpy as np

from crnn_cli.data.acquisition import Complex
from crnn_cli.io.mrd.frames import StreamedFrame, StreamHeader
from crnn_cli.io.mrd.messages import IMAGE, IMAGE_HEADER, close_message, text_message

Kind = Literal["magnitude", "complex"]
_TYPES: Final = {"magnitude": (1, 5, "<f4"), "complex": (5, 7, "<c8")}
"""Of each kind: image_type and data_type of MRD, and the numbers."""
_ATTRIBUTES = (
    b"<?xml version='1.0' encoding='UTF-8'?>\n<ismrmrdMeta><meta><name>DataRole</name><value>Image</value></meta>"
    b"<meta><name>ImageProcessingHistory</name><value>CRNN</value></meta></ismrmrdMeta>"
)
_COUNTERS = ("average", "slice", "contrast", "phase", "repetition", "set")
_AS_SENT = ("measurement_uid", "read_dir", "phase_dir", "slice_dir", "patient_table_position", "acquisition_time_stamp",
            "physiology_time_stamp", "user_int", "user_float")  # fmt: skip


class ImageWriter:
    """Writes one image message for each frame, and CLOSE at the end.

    An image has the counters, the stamps and the directions of the first readout of its frame, and the field of view of
    reconSpace. Each message is written at once, and flushed. What a write raises after the reader has gone is left to
    the caller: BrokenPipeError of a pipe, OutputError of a connection.

    Parameters
    ----------
    out : ``sys.stdout.buffer``, or the output of a connection.
    header : of the stream that the frames come from.
    kind : float32 magnitudes, or complex64.
    series : number of the series of images.
    """

    def __init__(self, out: BinaryIO, header: StreamHeader, kind: Kind = "magnitude", series: int = 1) -> None:
        self._out, self._kind = out, kind
        self._image_type, self._data_type, self._dtype = _TYPES[kind]
        self._count, self._series, self._field = 0, series, header.xml.shown.field

    def write(self, image_YX: Complex, frame: StreamedFrame) -> None:
        """Send the image of a frame.

        Parameters
        ----------
        image_YX : on the matrix ``header.matrix``; of complex values the magnitude is taken where that is the kind.
        frame : that it was reconstructed from.
        """
        values = np.abs(image_YX) if self._kind == "magnitude" else image_YX
        pixels = np.ascontiguousarray(values, self._dtype)
        self._count += 1
        head = self._head(pixels.shape[0], pixels.shape[1], frame)
        parts = (
            struct.pack("<H", IMAGE), head.tobytes(), struct.pack("<Q", len(_ATTRIBUTES)), _ATTRIBUTES,
            pixels.tobytes(),
        )  # fmt: skip
        self._send(b"".join(parts))

    def text(self, message: str) -> None:
        """Send words for people (TEXT), such as an error."""
        self._send(text_message(message))

    def close(self) -> None:
        """Say that no more images will come (CLOSE)."""
        self._send(close_message())

    def _head(self, lines: int, samples: int, frame: StreamedFrame) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        head = np.zeros(1, IMAGE_HEADER)
        for name in _AS_SENT:
            head[name] = frame.head[name]
        for name in _COUNTERS:
            head[name] = frame.head["idx"][name]
        head["version"], head["channels"], head["data_type"] = 1, 1, self._data_type
        head["image_type"], head["image_series_index"] = self._image_type, self._series
        head["image_index"] = self._count % 2**16
        head["matrix_size"], head["field_of_view"] = (samples, lines, 1), self._field
        head["position"], head["attribute_string_len"] = frame.position, len(_ATTRIBUTES)
        return head

    def _send(self, message: bytes) -> None:
        self._out.write(message)
        self._out.flush()
