"""The server: one client at a time, others told to wait, and an end for whoever goes or does nothing."""

import io
import selectors
import socket
import struct
import threading
from functools import cache

import numpy as np
import pytest
from ismrmrd.serialization import ProtocolDeserializer

from crnn_cli.errors import OutputError, UnreadableError, UsageError
from crnn_cli.io.mrd.images import ImageWriter
from crnn_cli.io.mrd.listen import Listener, parse_address
from crnn_cli.io.mrd.read import stream_frames
from tests.io.mrd.made import real_time, stream_of


@cache
def content():
    """Return a stream of 4 frames, each of 4 lines."""
    return stream_of(*real_time(flagged=True))


@cache
def first():
    """Return the stream up to the end of its first frame."""
    acquisitions, xml = real_time(flagged=True)
    return stream_of(acquisitions[:4], xml, close=False)


@pytest.fixture
def listener():
    with Listener("127.0.0.1", 0, timeout=5) as opened:
        yield opened


def connect(listener):
    client = socket.create_connection(listener.address, timeout=10)
    return client, client.makefile("rb")


def serve(listener, done=None):
    """Answer each frame of the next client by an image of its number."""
    connection = listener.accept()
    try:
        frames = stream_frames(connection.input, connection.name)
        writer = ImageWriter(connection.output, frames.header)
        for frame in frames:
            writer.write(np.full(frames.header.matrix, frame.number), frame)
        writer.close()
    finally:
        connection.close()
        if done is not None:
            done.set()


def in_thread(function, *arguments):
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def all_messages(received):
    return list(ProtocolDeserializer(received).deserialize())


def test_each_frame_is_answered_while_the_client_still_sends(listener):
    thread = in_thread(serve, listener)
    client, received = connect(listener)
    with client, received:
        client.sendall(first())
        images = ProtocolDeserializer(received).deserialize()
        answer = next(images)  # comes before another byte is sent
        client.sendall(content()[len(first()) :])
        read = [answer, *images]
        assert received.read() == b""
    thread.join(10)
    assert [image.data.max() for image in read] == [0, 1, 2, 3]


def test_a_second_client_is_told_to_wait_and_the_next_is_served(listener):
    thread = in_thread(serve, listener)
    client, received = connect(listener)
    with client, received:
        client.sendall(first())
        images = ProtocolDeserializer(received).deserialize()
        next(images)
        second, told = connect(listener)
        with second, told:
            second.sendall(content()[:50])  # as it does not know yet
            assert all_messages(told) == ["another client is being served; try again when it is done\0"]
            assert told.read() == b""
        client.sendall(content()[len(first()) :])
        assert len(list(images)) == 3
    thread.join(10)
    thread = in_thread(serve, listener)
    client, received = connect(listener)
    with client, received:
        client.sendall(content())
        assert len(all_messages(received)) == 4
    thread.join(10)


def test_a_client_that_goes_in_the_middle_of_a_frame(listener):
    client, received = connect(listener)
    connection = listener.accept()
    with client, received:
        client.sendall(content()[: len(first()) + 700])
    found = iter(stream_frames(connection.input, connection.name))
    next(found)
    with pytest.raises(UnreadableError, match=r"127\.0\.0\.1:\d+ ends (in the middle of a frame|within a readout)"):
        next(found)
    connection.close()
    connection.close()


def test_a_connection_that_is_reset(listener):
    client, received = connect(listener)
    connection = listener.accept()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    received.close()
    client.close()
    with pytest.raises(UnreadableError, match="was lost"):
        connection.input.read(2)
    with pytest.raises(OutputError, match="was lost"):
        connection.output.write(bytes(50_000_000))
    connection.close()


def test_a_client_that_does_nothing_is_not_waited_for():
    with Listener("127.0.0.1", 0, timeout=0.2) as listener:
        client, received = connect(listener)
        connection = listener.accept()
        with client, received:
            with pytest.raises(UnreadableError, match=r"has sent nothing for 0\.2 s"):
                connection.input.read(2)
            with pytest.raises(OutputError, match=r"has taken nothing for 0\.2 s"):
                connection.output.write(bytes(50_000_000))
        connection.close()


def test_words_reach_a_client_that_first_sends_all_of_its_scan(listener):
    """What it still sends is taken and dropped, or it would break off before it reads why."""
    answers = []

    def send_all_and_read():
        client, received = connect(listener)
        with client, received:
            client.sendall(b"GET / HTTP/1.1\r\n" + bytes(20_000_000))
            answers.append(received.read())

    thread = in_thread(send_all_and_read)
    connection = listener.accept()
    with pytest.raises(UnreadableError, match="HTTP"):
        stream_frames(connection.input, connection.name)
    connection.output.write(struct.pack("<HI", 5, 3) + b"no\0")
    connection.close()
    thread.join(10)
    assert answers == [struct.pack("<HI", 5, 3) + b"no\0"]


def test_nobody_is_listened_to_after_an_interrupt():
    listener = Listener("127.0.0.1", 0)
    address = listener.address

    def interrupted():
        with listener:
            connect(listener)[0].close()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)


def test_a_signal_just_before_a_wait_is_seen_after_it(monkeypatch):
    waits = []

    class Selector(selectors.DefaultSelector):
        def select(self, timeout=None):
            waits.append(timeout)
            if len(waits) == 3:
                raise KeyboardInterrupt
            return []

    with Listener("127.0.0.1", 0, timeout=None) as listener, socket.socket() as client:
        monkeypatch.setattr("selectors.DefaultSelector", Selector)
        for wait in (listener.accept, lambda: listener.wait(client, selectors.EVENT_READ)):
            waits.clear()
            with pytest.raises(KeyboardInterrupt):
                wait()
            assert all(seconds is not None and 0 < seconds <= 1 for seconds in waits)


def test_an_address_that_is_taken(listener):
    host, port = listener.address
    with pytest.raises(OutputError, match=rf"cannot listen at {host}:{port}: .*in use"):
        Listener(host, port)


def test_loopback_unless_told_otherwise():
    assert parse_address("9002") == parse_address(":9002") == ("127.0.0.1", 9002)
    assert parse_address("0.0.0.0:1") == ("0.0.0.0", 1)
    for wrong in ("", "host", "host:", "1:65536", "::1:9002", "host:-1", "host:٣"):
        with pytest.raises(UsageError, match="no address to listen at"):
            parse_address(wrong)


def test_the_stream_pair_is_that_of_standard_input_and_output(listener):
    """What a connection carries equals what a file of the same bytes gives."""
    client, received = connect(listener)
    connection = listener.accept()
    with client, received:
        client.sendall(content())
        by_network = [frame.kspace_CYX for frame in stream_frames(connection.input, "a")]
    connection.close()
    by_pipe = [frame.kspace_CYX for frame in stream_frames(io.BytesIO(content()), "b")]
    np.testing.assert_array_equal(by_network, by_pipe)
