"""What the `ismrmrd` package sends arrives; what is no MRD stream, or damaged, is named and ends at once."""

import io
import logging
import struct

import ismrmrd
import numpy as np
import pytest
from ismrmrd.acquisition import AcquisitionHeader
from ismrmrd.image import ImageHeader

from crnn_cli.errors import CrnnError, UnreadableError
from crnn_cli.io.mrd.messages import ACQUISITION_HEADER, IMAGE_HEADER, Close, Readout, XmlHeader, read_messages
from tests.io.mrd.made import every_other_message, frames_of, lines, message, real_time, stream_of, xml_message


def read(content):
    return list(read_messages(io.BytesIO(content), "the stream"))


def test_headers_are_laid_out_as_in_the_package():
    assert np.dtype(AcquisitionHeader) == ACQUISITION_HEADER
    assert np.dtype(ImageHeader) == IMAGE_HEADER


def test_readouts_arrive_and_other_messages_are_left_out(caplog):
    trajectory = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
    first, second = lines(2, scan_counter=7)
    second = ismrmrd.Acquisition(second.getHead(), second.data, None)
    turning = ismrmrd.Acquisition.from_array(second.data, trajectory, scan_counter=9)
    sent = [first, second, turning]
    others = every_other_message()
    content = b"".join([*others, xml_message(b"<xml/>\0"), *others])
    content += b"".join(message(each) + b"".join(others) for each in sent) + struct.pack("<H", 4) + b"never read"
    with caplog.at_level(logging.INFO, "crnn"):
        found = read(content)
    assert found[0] == XmlHeader(b"<xml/>\0")
    assert isinstance(found[-1], Close)
    assert len(found) == 5
    for number, (one, acquisition) in enumerate(zip(found[1:-1], sent, strict=True)):
        assert isinstance(one, Readout)
        assert one.number == number
        assert one.head.tobytes() == bytes(acquisition.getHead())
        np.testing.assert_array_equal(one.samples, acquisition.data)
    assert "the stream says: hello" in caplog.text


def test_words_of_others_are_one_printable_line(caplog):
    with caplog.at_level(logging.INFO, "crnn"):
        read(struct.pack("<HI", 5, 14) + b"a\x1b[31m\r\nb\xff\0cc\0")
    assert [record.message for record in caplog.records] == ["the stream says: a [31m b\ufffd"]


def test_a_stream_cut_anywhere_ends_with_what_is_missing():
    """Only between two messages does a cut stream end without an error."""
    parts = [xml_message(b"<xml/>"), *map(message, lines(1, samples=4)), *every_other_message()]
    content, ends = b"".join(parts), set(np.cumsum([0, *map(len, parts)]).tolist())
    beside = {end + away for end in ends for away in (-1, 0, 1, 2, 3)} & set(range(len(content)))
    for cut in sorted({*range(0, len(content), 5), *beside}):
        if cut in ends:
            assert not any(isinstance(each, Close) for each in read(content[:cut]))
        else:
            with pytest.raises(UnreadableError, match=rf"the stream ends within .*\(byte {cut} of the stream\)"):
                read(content[:cut])


@pytest.mark.parametrize(
    ("content", "looks"),
    [
        (b"GET / HTTP/1.1\r\n", "HTTP"), (b"POST /scan", "HTTP"), (b"\x16\x03\x01\x02\0", "TLS"), (b"SSH-2.0", "SSH"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"), (b"\x1f\x8b\x08\0", "gzip"), (b"\x5c\x01\0\0", "a NIfTI file"),
        (b"\x1c\x02\0\0", "a NIfTI-2 file"), (bytes(200), "zeros"), (b"yardl", "an MRD stream of version 2"),
        (b"<?xml", "XML"), (b"\x93NUMPY", "a NumPy file"), (b"PK\x03\x04", "a zip archive"),
        (b"\xff\xffrest", r"begins with b'\\xff\\xff'"),
    ],
)  # fmt: skip
def test_other_protocols_are_named(content, looks):
    with pytest.raises(UnreadableError, match=f"no stream of MRD messages: it (looks like )?{looks}"):
        read(content)


def test_an_unknown_message_in_the_middle_has_a_place():
    with pytest.raises(UnreadableError, match="unknown kind 77 at byte 12: what follows cannot be read"):
        read(xml_message(b"<xml/>") + struct.pack("<H", 77) + bytes(50))


class Endless(io.RawIOBase):
    """A stream that goes on with zeros; it notes the largest piece that was asked for, and how much was."""

    def __init__(self, start, length=2**24):
        self.start, self.left, self.largest = io.BytesIO(start), length, 0

    def read(self, n=-1):
        self.largest, self.left = max(self.largest, n), self.left - n
        assert n >= 0, "all at once"
        assert self.left > -(2**24), "nothing will come, and more and more is asked for"
        return self.start.read(n) or bytes(max(0, min(n, self.left)))


def claims():
    """Messages that claim more than there can be."""
    acquisition, image = np.zeros(1, ACQUISITION_HEADER), np.zeros(1, IMAGE_HEADER)
    acquisition["active_channels"] = acquisition["number_of_samples"] = 65535
    yield "samples", struct.pack("<H", 1008) + acquisition.tobytes()
    acquisition["active_channels"], acquisition["trajectory_dimensions"] = 0, 65535
    yield "trajectory", struct.pack("<H", 1008) + acquisition.tobytes()
    image["data_type"], image["channels"], image["matrix_size"] = 8, 65535, 65535
    yield "pixels", struct.pack("<H", 1022) + image.tobytes() + struct.pack("<Q", 0)
    yield "attributes", struct.pack("<H", 1022) + image.tobytes() + struct.pack("<Q", 2**64 - 1)
    image["data_type"] = 99
    yield "type", struct.pack("<H", 1022) + image.tobytes()
    yield "header", struct.pack("<HI", 3, 2**32 - 1)
    yield "text", struct.pack("<HI", 5, 2**32 - 1)
    yield "waveform", struct.pack("<HHxxxxxxQIIIHHfHxx", 1026, 1, 0, 0, 0, 0, 65535, 65535, 0, 0)
    yield "array", struct.pack("<HHHHQQ", 1030, 8, 0, 2, 2**40, 2**40)
    yield "array type", struct.pack("<HHHHQ", 1030, 99, 0, 1, 4)
    yield "axes", struct.pack("<HHHH", 1030, 8, 0, 65535)


@pytest.mark.parametrize(("what", "content"), list(claims()), ids=lambda value: value if isinstance(value, str) else "")
def test_no_memory_is_reserved_for_what_a_length_claims(what, content):
    stream = Endless(content)
    with pytest.raises(UnreadableError, match="it is damaged, or no MRD stream"):
        list(read_messages(stream, "the stream"))
    assert stream.largest < 2**10, what


def test_memory_grows_with_what_arrives():
    """A length that may be true is read piece by piece."""
    stream = Endless(struct.pack("<HI", 3, 2**24), length=2**22)
    with pytest.raises(UnreadableError, match=rf"ends within the XML header, after .* of {2**24} bytes"):
        list(read_messages(stream, "the stream"))
    assert stream.largest <= 2**20


def test_a_damaged_stream_is_refused_or_read_and_never_breaks():
    acquisitions, xml = real_time(flagged=True)
    content = bytearray(stream_of(acquisitions, xml))
    rng, ended = np.random.default_rng(5), {"read": 0, "refused": 0}
    for _ in range(40):
        damaged = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        try:
            frames_of(bytes(damaged))
            ended["read"] += 1
        except CrnnError:
            ended["refused"] += 1
    assert min(ended.values()) > 3, ended
