"""Streams of MRD messages, written by the serializer of the `ismrmrd` package."""

import io
import struct

import ismrmrd
import numpy as np
from ismrmrd.serialization import ConfigFile, ConfigText, ProtocolSerializer

from crnn_cli.io.mrd.read import stream_frames
from tests.support.ismrmrd import Options, header_of, readout, scan

LAST_IN_SLICE, LAST_IN_REPETITION = 8, 14
REAL_TIME = Options(counter="repetition", slices=1, frames=4, acceleration=2, lines=8, samples=8)


def xml_message(xml):
    """Return METADATA_XML_TEXT as bytes, the XML (text or bytes) as it is."""
    content = xml.encode() if isinstance(xml, str) else xml
    return struct.pack("<HI", 3, len(content)) + content


def message(thing):
    """Return one message as bytes."""
    out = io.BytesIO()
    ProtocolSerializer(out).serialize(thing)
    return out.getvalue()


def stream_of(acquisitions, xml, close=True):
    """Return a stream: header, readouts, CLOSE."""
    out = io.BytesIO()
    out.write(xml_message(xml))
    serializer = ProtocolSerializer(out)
    for acquisition in acquisitions:
        serializer.serialize(acquisition)
    if close:
        serializer.close()
    return out.getvalue()


def frames_of(content, **choices):
    """Open a stream that is in memory; return its header and frames."""
    found = stream_frames(io.BytesIO(content), "the stream", **choices)
    return found, list(found)


def real_time(o=REAL_TIME, flagged=False, **changes):
    """Return the acquisitions of a scan and its XML header; ``flagged`` marks the last line of each slice and frame."""
    acquisitions, _ = scan(o)
    if flagged:
        flag_ends(acquisitions)
    return acquisitions, header_of(o, **changes)


def flag_ends(acquisitions, flag=LAST_IN_SLICE):
    """Flag the last line of each slice of each frame."""
    last = {(a.idx.slice, a.idx.repetition, a.idx.phase): a for a in acquisitions if not a.is_flag_set(20)}
    for acquisition in last.values():
        acquisition.setFlag(flag)


def lines(count=4, coils=2, samples=16, first=0, seed=0, **head):
    """Return readouts of noise, one after another."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(count, coils, samples, 2)).astype(np.float32).view(np.complex64)[..., 0]
    return [readout(values[y], np.eye(3), (0, 0, 0), kspace_encode_step_1=first + y, **head) for y in range(count)]


def every_other_message():
    """Return one message of each kind that is left out."""
    image = ismrmrd.Image.from_array(np.ones((2, 1, 4, 3), np.complex64))
    image.meta = {"DataRole": "Image"}
    wave = ismrmrd.Waveform.from_array(np.arange(12, dtype=np.uint32).reshape(3, 4))
    things = (ConfigFile("crnn"), ConfigText("<configuration/>"), "hello", wave, image, np.ones((3, 2), np.float32))
    return [message(thing) for thing in things]
