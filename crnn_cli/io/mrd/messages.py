"""Messages of the MRD (ISMRMRD) protocol of version 1, which Gadgetron and python-ismrmrd-server speak.

A message is an id (uint16) and its content, little endian:

====  =================  ===============================================================================================
1     CONFIG_FILE        1024 bytes, the name of a configuration
2     CONFIG_TEXT        length (uint32), text
3     METADATA_XML_TEXT  length (uint32), the XML header of the scan
4     CLOSE              nothing; the end
5     TEXT               length (uint32), text for people
1008  ACQUISITION        header of 340 bytes, trajectory (float32), samples of all coils (complex64): one readout
1022  IMAGE              header of 198 bytes, length of the attributes (uint64), attributes (XML), pixels
1026  WAVEFORM           header of 40 bytes, values (uint32), such as an ECG
1030  NDARRAY            type, version and number of axes (uint16), their lengths (uint64), values
====  =================  ===============================================================================================

Our own reader, beside the `ismrmrd` package against which it is tested: lengths are bounded before memory is reserved
for them, short reads are errors that say what is missing, and readouts come as the records that the reader of files
takes.

References
----------
Inati et al., MRM 77, 2017; ismrmrd.h and serialization.h of ISMRMRD.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from crnn_cli.data.acquisition import Complex
from crnn_cli.errors import UnreadableError
from crnn_cli.io.signature import looks_like
from crnn_cli.notices import detail, say

CONFIG_FILE, CONFIG_TEXT, METADATA, CLOSE, TEXT = 1, 2, 3, 4, 5
ACQUISITION, IMAGE, WAVEFORM, NDARRAY = 1008, 1022, 1026, 1030

_COUNTERS = np.dtype([
    *((name, "<u2") for name in (
        "kspace_encode_step_1", "kspace_encode_step_2", "average", "slice", "contrast", "phase", "repetition", "set",
        "segment",
    )),
    ("user", "<u2", 8),
])  # fmt: skip
_PLACE = [(name, "<f4", 3) for name in ("position", "read_dir", "phase_dir", "slice_dir", "patient_table_position")]
_USER = [("user_int", "<i4", 8), ("user_float", "<f4", 8)]
ACQUISITION_HEADER = np.dtype([
    ("version", "<u2"), ("flags", "<u8"), ("measurement_uid", "<u4"), ("scan_counter", "<u4"),
    ("acquisition_time_stamp", "<u4"), ("physiology_time_stamp", "<u4", 3), ("number_of_samples", "<u2"),
    ("available_channels", "<u2"), ("active_channels", "<u2"), ("channel_mask", "<u8", 16), ("discard_pre", "<u2"),
    ("discard_post", "<u2"), ("center_sample", "<u2"), ("encoding_space_ref", "<u2"), ("trajectory_dimensions", "<u2"),
    ("sample_time_us", "<f4"), *_PLACE, ("idx", _COUNTERS), *_USER,
])  # fmt: skip
"""Header of a readout, 340 bytes."""
IMAGE_HEADER = np.dtype([
    ("version", "<u2"), ("data_type", "<u2"), ("flags", "<u8"), ("measurement_uid", "<u4"), ("matrix_size", "<u2", 3),
    ("field_of_view", "<f4", 3), ("channels", "<u2"), *_PLACE,
    *((name, "<u2") for name in ("average", "slice", "contrast", "phase", "repetition", "set")),
    ("acquisition_time_stamp", "<u4"), ("physiology_time_stamp", "<u4", 3), ("image_type", "<u2"),
    ("image_index", "<u2"), ("image_series_index", "<u2"), *_USER, ("attribute_string_len", "<u4"),
])  # fmt: skip
"""Header of an image, 198 bytes."""
_WAVEFORM_HEADER = struct.Struct("<HxxxxxxQIIIHHfHxx")
PIXEL_BYTES = {1: 2, 2: 2, 3: 4, 4: 4, 5: 4, 6: 8, 7: 8, 8: 16}
"""Bytes of a pixel by its data_type: uint16, int16, uint32, int32, float32, float64, complex64, complex128."""

_MOST_TEXT = 2**24
_MOST_DATA = 2**26
"""Bytes of text, and of any other content, beyond which a length is taken as damaged: 16 and 64 MiB."""
_BLOCK = 2**20


@dataclass(frozen=True)
class XmlHeader:
    """The XML header of a scan, as text."""

    text: bytes


@dataclass(frozen=True)
class Readout:
    """One readout.

    Attributes
    ----------
    number : of the readout in the stream or the file, from 0.
    head : record with the fields of AcquisitionHeader, of a stream or of an HDF5 file.
    samples : of all coils, complex64 (C, X), in the order in which they were measured.
    """

    number: int
    head: np.void
    samples: Complex


@dataclass(frozen=True)
class Close:
    """The sender says that this was all."""


Message = XmlHeader | Readout | Close


def read_messages(stream: BinaryIO, name: str) -> Iterator[Message]:
    """Yield the headers, the readouts and the end of a stream as they come; others are left out.

    A text is logged. What comes after CLOSE is not read. A stream that ends between two messages ends without `Close`.

    Parameters
    ----------
    stream : ``read(n)`` waits for n bytes.
    name : of the stream, for messages.

    Raises
    ------
    UnreadableError
        If it is another protocol, ends within a message, or has an unknown message or a length that cannot be.
    """
    return _Reader(stream, name).messages()


class _Reader:
    """Reads messages; ``at`` counts the bytes, for errors."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.stream, self.name, self.at, self.readouts = stream, name, 0, 0

    def messages(self) -> Iterator[Message]:
        """Messages up to CLOSE or the end."""
        while start := self._some(2):
            if len(start) < 2:
                raise self._cut("the id of a message", 2, 1)
            kind = int.from_bytes(start, "little")
            if kind == CLOSE:
                yield Close()
                return
            if kind == ACQUISITION:
                yield self._readout()
            elif kind == METADATA:
                yield XmlHeader(self._text("the XML header"))
            else:
                self._other(kind, start)

    def _other(self, kind: int, start: bytes) -> None:
        """Read a message that is not needed, and leave it out."""
        if kind == TEXT:
            say(f"{self.name} says: {_shown(self._text('a text'))}")
        elif kind == CONFIG_FILE:
            detail(f"{self.name} asks for the configuration {_shown(self._exactly(1024, 'a configuration'))!r}")
        elif kind == CONFIG_TEXT:
            self._text("a configuration")
        elif kind == WAVEFORM:
            head = _WAVEFORM_HEADER.unpack(self._exactly(_WAVEFORM_HEADER.size, "a waveform"))
            self._skip(4 * head[5] * head[6], "a waveform")
        elif kind == IMAGE:
            self._image()
        elif kind == NDARRAY:
            self._array()
        else:
            raise self._unknown(kind, start)

    def _readout(self) -> Readout:
        what = "a readout"
        head = np.frombuffer(self._exactly(ACQUISITION_HEADER.itemsize, what), ACQUISITION_HEADER)[0]
        coils, count = int(head["active_channels"]), int(head["number_of_samples"])
        self._skip(4 * count * int(head["trajectory_dimensions"]), what)
        content = self._exactly(self._bounded(8 * coils * count, what), what)
        self.readouts += 1
        return Readout(self.readouts - 1, head, np.frombuffer(content, "<c8").reshape(coils, count))

    def _image(self) -> None:
        what = "an image"
        head = np.frombuffer(self._exactly(IMAGE_HEADER.itemsize, what), IMAGE_HEADER)[0]
        size = PIXEL_BYTES.get(int(head["data_type"]))
        if size is None:
            raise self._damaged(f"an image of the data type {int(head['data_type'])}, which does not exist")
        self._skip(int.from_bytes(self._exactly(8, what), "little"), what)
        for n in (*head["matrix_size"].tolist(), int(head["channels"])):
            size *= n
        self._skip(size, what)

    def _array(self) -> None:
        what = "an array"
        kind, _, axes = struct.unpack("<HHH", self._exactly(6, what))
        size = PIXEL_BYTES.get(kind)
        if size is None or axes > 16:
            raise self._damaged(f"an array of the data type {kind} with {axes} axes")
        for n in struct.unpack(f"<{axes}Q", self._exactly(8 * axes, what)):
            size *= n
        self._skip(size, what)

    def _text(self, what: str) -> bytes:
        length = int.from_bytes(self._exactly(4, what), "little")
        return self._exactly(self._bounded(length, what, _MOST_TEXT), what)

    def _bounded(self, length: int, what: str, most: int = _MOST_DATA) -> int:
        if length > most:
            raise self._damaged(f"{what} of {length} bytes, more than the {most} that are believed")
        return length

    def _skip(self, length: int, what: str) -> None:
        """Read and drop a part of a message."""
        left = self._bounded(length, what)
        while left:
            left -= len(self._exactly(min(left, _BLOCK), what))

    def _exactly(self, length: int, what: str) -> bytes:
        """Read so many bytes, a block at a time: memory grows with what arrives, not with what is claimed."""
        content = self._some(length)
        if len(content) < length:
            raise self._cut(what, length, len(content))
        return content

    def _some(self, length: int) -> bytes:
        """Read so many bytes, or fewer at the end of the stream."""
        parts, left = [], length
        while left and (part := self.stream.read(min(left, _BLOCK))):
            parts.append(part)
            left -= len(part)
            self.at += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _cut(self, what: str, wanted: int, got: int) -> UnreadableError:
        return UnreadableError(
            f"{self.name} ends within {what}, after {got} of {wanted} bytes (byte {self.at} of the stream): the sender "
            "has stopped, or the connection was lost"
        )

    def _damaged(self, what: str) -> UnreadableError:
        return UnreadableError(
            f"{self.name} has {what} (byte {self.at} of the stream): it is damaged, or no MRD stream"
        )

    def _unknown(self, kind: int, start: bytes) -> UnreadableError:
        """Error of a message that is not of the protocol; at the beginning of a stream, of another protocol."""
        if self.at > 2:
            return UnreadableError(
                f"{self.name} has a message of the unknown kind {kind} at byte {self.at - 2}: what follows cannot be "
                "read; the stream is damaged, or speaks another version of the protocol"
            )
        looks = looks_like(start)
        return UnreadableError(
            f"{self.name} is no stream of MRD messages: it {looks}",
            remedy=("send the XML header and the readouts as MRD messages, as ismrmrd_hdf5_to_stream does",),
        )


def _shown(text: bytes) -> str:
    """Text of others as one line for people, at most 500 characters."""
    words = text.split(b"\0", 1)[0][:500].decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in words).split())


def text_message(message: str) -> bytes:
    """TEXT as bytes, ended by a zero as others send it."""
    content = message.encode() + b"\0"
    return struct.pack("<HI", TEXT, len(content)) + content


def close_message() -> bytes:
    """CLOSE as bytes."""
    return struct.pack("<H", CLOSE)
