"""Pixel data of DICOM files: uncompressed 16-bit pixels directly, all others through the decoders of pydicom.

Decoders: pydicom itself for RLE and deflated data; pillow for JPEG baseline and JPEG 2000; GDCM or pylibjpeg, where
installed, for JPEG lossless, JPEG extended of 12 bits and JPEG-LS.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

from crnn_cli.data.image import Array
from crnn_cli.errors import UnsupportedDataError

DESCRIPTION = (
    "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation",
)  # fmt: skip
"""Keywords of the attributes that describe how pixels are stored."""
_TRUSTED = ("gdcm", "pylibjpeg", "pillow", "pydicom")
"""Decoders, best first. pyjpegls is not among them: it never returns from some damaged files."""
_DECODER = "python-gdcm"
_BY_DECODER = (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, JPEG2000, JPEG2000Lossless)
_CONVERT = "convert it to an uncompressed transfer syntax first"
_PILLOW_BITS = 8
_START_OF_SCAN, _FILL = 0xDA, 0xFF
_START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG, and that of JPEG-LS; of the range, three mean something else."""
_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_EXPLICIT = _PIXEL_DATA + b"OW\x00\x00"
_PIXEL_TAGS = (_PIXEL_DATA, b"\xe0\x7f\x08\x00", b"\xe0\x7f\x09\x00")
_BIG_ENDIAN = b"\x7f\xe0\x00\x10"
_UNDEFINED = 0xFFFFFFFF


class StoredElement(NamedTuple):
    """The element that holds the pixels of a file, as its first bytes show it.

    Attributes
    ----------
    found : whether there is one.
    syntax : TransferSyntaxUID as the bytes have it, where the meta header says something else; "" if unknown.
    start : byte at which it begins.
    lacks : number of bytes that are missing at the end of the file.
    """

    found: bool
    syntax: str
    start: int
    lacks: int = 0

    @classmethod
    def at(cls, opened: BinaryIO, start: int, syntax: str) -> Self:
        """Look at the element at a place of a file.

        Parameters
        ----------
        syntax : TransferSyntaxUID of the meta header, "" if it has none.
        """
        if syntax == DeflatedExplicitVRLittleEndian:
            return cls(False, syntax, start)
        opened.seek(start)
        head = opened.read(12)
        if head[:4] == _BIG_ENDIAN:
            return cls(True, syntax or str(ExplicitVRBigEndian), start)
        if head[:4] not in _PIXEL_TAGS:
            return cls(False, syntax, start)
        explicit = head[4:6] in (b"OW", b"OB", b"OF", b"OD", b"UN")
        length = int.from_bytes(head[8:12] if explicit else head[4:8], "little")
        stated, native = UID(syntax), syntax in ("", ImplicitVRLittleEndian, ExplicitVRLittleEndian)
        if length == _UNDEFINED:
            return cls(True, "" if native else syntax, start)
        if native or (stated.is_transfer_syntax and not stated.is_private and stated.is_compressed):
            syntax = str(ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian)
        end = start + (12 if explicit else 8) + length
        return cls(True, syntax, start, max(0, end - opened.seek(0, io.SEEK_END)))


@dataclass(frozen=True)
class PixelLayout:
    """Storage of the pixels of a file, from its header.

    Attributes
    ----------
    syntax : TransferSyntaxUID, as the bytes of the file have it; "" if it is unknown.
    at : byte at which the element PixelData begins, where the file is not deflated.
    described : values of the attributes in `DESCRIPTION`, in their order; None for those that are absent.
    """

    syntax: str = ""
    at: int = 0
    described: tuple[Any, ...] = (None,) * len(DESCRIPTION)

    @classmethod
    def of(cls, facts: dict[str, Any], syntax: str, at: int) -> Self:
        """Layout from attributes by keyword."""
        return cls(syntax, at, tuple(facts.get(keyword) for keyword in DESCRIPTION))

    @property
    def unknown(self) -> bool:
        """Whether nothing says how the pixels are compressed."""
        return not self.syntax

    @property
    def unused_low_bits(self) -> int:
        """Number of bits below the stored ones: HighBit + 1 - BitsStored."""
        stored, high = self.described[6], self.described[7]
        if not isinstance(stored, int) or not isinstance(high, int) or not isinstance(self.described[5], int):
            return 0
        return max(0, high + 1 - stored) if high < self.described[5] else 0


def decode_pixels(content: bytes, layout: PixelLayout, name: str) -> Array:
    """Decode the stored pixels of a file, (rows, columns) or (frames, rows, columns), before any rescale.

    Errors of pydicom on damaged pixels pass through.

    Parameters
    ----------
    content : the whole file.
    name : of the file, for messages.

    Raises
    ------
    UnsupportedDataError
        If the transfer syntax is none that can be decoded, or its decoder is not installed.
    """
    plain = _plain(content, layout)
    if plain is not None:
        return plain
    syntax = UID(layout.syntax)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise UnsupportedDataError(f"{name} is stored as {syntax.name}: {_CONVERT}") from None
    data = dcmread(io.BytesIO(content), force=True)
    if decoder.is_native:
        return _native(data, syntax, layout.unused_low_bits)
    plugin = next((name for name in _TRUSTED if name in decoder.available_plugins), None)
    if syntax == JPEGExtended12Bit and plugin == "pillow" and (data.get("BitsStored") or 8) > _PILLOW_BITS:
        plugin = None
    if plugin is None:
        advice = f"pip install {_DECODER}" if syntax in _BY_DECODER else _CONVERT
        raise UnsupportedDataError(
            f"{name} is compressed ({syntax.name}), and no decoder for it is installed: {advice}"
        )
    if plugin == "gdcm" and syntax in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes):
        return _jpeg_by_gdcm(data)
    return pixel_array(data, decoding_plugin=plugin)


def _native(data: Dataset, syntax: UID, unused_low_bits: int) -> Array:
    """Decode uncompressed pixels, in the encoding that the bytes have; bits below the stored ones fall away."""
    data.file_meta.TransferSyntaxUID = syntax
    if unused_low_bits:
        data.BitsStored = data.HighBit + 1
    pixels: Array = pixel_array(data, allow_excess_frames=False)
    return np.right_shift(pixels, unused_low_bits) if unused_low_bits else pixels


def _jpeg_by_gdcm(data: Dataset) -> Array:
    """Decode JPEG by GDCM; 12-bit Extended too, which pydicom does not hand to GDCM though GDCM goes by the stream."""
    for frame in generate_frames(data.PixelData, number_of_frames=data.get("NumberOfFrames") or 1):
        _require_segments(frame, (data.Rows, data.Columns))
    if data.file_meta.TransferSyntaxUID == JPEGExtended12Bit:
        data.file_meta.TransferSyntaxUID = JPEGLossless
    return pixel_array(data, decoding_plugin="gdcm")


def _require_segments(frame: bytes, size: tuple[int, int]) -> None:
    """Raise ValueError unless the segments of a JPEG or JPEG-LS stream follow each other and state the size.

    GDCM ends the process if they do not.
    """
    at = 2
    while frame[at : at + 1] == b"\xff":
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4])
        if marker == _START_OF_SCAN:
            return
        if marker in _START_OF_FRAME:
            stated = int.from_bytes(frame[at + 5 : at + 7]), int.from_bytes(frame[at + 7 : at + 9])
            if stated != size:
                raise ValueError(
                    f"the JPEG stream is {stated[0]} x {stated[1]}, and the header says {size[0]} x {size[1]}"
                )
        at += 1 if marker == _FILL else 2 + length
    raise ValueError(f"the JPEG stream has no marker at byte {at}")


def _plain(content: bytes, layout: PixelLayout) -> Array | None:
    """View uncompressed little endian 16-bit pixels in the content; None for any other storage.

    The element must have exactly the length that the header promises; anything odd is left to pydicom.
    """
    samples, colours, rows, columns, frames, allocated, bits, _, signed = layout.described
    if samples != 1 or colours not in ("MONOCHROME1", "MONOCHROME2") or allocated != 16 or signed not in (0, 1):
        return None
    shape = (rows, columns) if frames in (None, 1) else (frames, rows, columns)
    if not all(isinstance(n, int) and n > 0 for n in (*shape, bits)) or bits > 16:
        return None
    head = content[layout.at : layout.at + 12]
    if layout.syntax == ExplicitVRLittleEndian and head[:8] == _EXPLICIT:
        start, length = layout.at + 12, head[8:12]
    elif layout.syntax == ImplicitVRLittleEndian and head[:4] == _PIXEL_DATA:
        start, length = layout.at + 8, head[4:8]
    else:
        return None
    count = math.prod(shape)
    if int.from_bytes(length, "little") != 2 * count or start + 2 * count > len(content):
        return None
    stored: Array = np.frombuffer(content, "<i2" if signed else "<u2", count, start).reshape(shape)
    above = 16 - bits - layout.unused_low_bits
    return stored if bits == 16 else (stored << above) >> (16 - bits)


CODECS = {
    "RLE": "1.2.840.10008.1.2.5", "JPEG": "1.2.840.10008.1.2.4.50", "JPEG lossless": "1.2.840.10008.1.2.4.70",
    "JPEG-LS": "1.2.840.10008.1.2.4.80", "JPEG 2000": "1.2.840.10008.1.2.4.90",
}  # fmt: skip
"""Compressions that scanners and archives use, each with one of its transfer syntaxes."""


def available_codecs() -> dict[str, str | None]:
    """The decoder that reads each of `CODECS`; None where none is installed that is trusted."""
    found: dict[str, str | None] = {}
    for name, syntax in CODECS.items():
        plugins = get_decoder(UID(syntax)).available_plugins
        found[name] = next((plugin for plugin in _TRUSTED if plugin in plugins), None)
    return found
