"""A server of MRD messages over TCP for one client at a time, as Gadgetron and python-ismrmrd-server listen.

There is neither encryption nor a password in the protocol: whoever reaches the address can send scans and gets their
images. No threads: while the server waits for its client it answers others.
"""

from __future__ import annotations

import io
import math
import selectors
import socket
import time
from collections import deque
from types import TracebackType
from typing import BinaryIO, cast

from crnn_cli.errors import OutputError, UnreadableError, UsageError
from crnn_cli.io.mrd.messages import close_message, text_message

DEFAULT_TIMEOUT = 60.0
"""Seconds without a byte from, or to, a client after which it counts as gone."""
_LOOPBACK = "127.0.0.1"
_BUFFER = 2**18
_LINGER = 2.0
"""Seconds that a client has to read the last messages before the connection is dropped."""
_PAUSE = 1.0
"""Longest wait for the system in seconds: a signal that comes just before a wait is seen after it."""
_REFUSED = 8
"""Refused clients whose connections are kept open, so that they can read why."""


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, ``:PORT`` or ``PORT``; the host is 127.0.0.1 where none is named.

    Raises
    ------
    UsageError
        If it is none of these.

    >>> parse_address("9002"), parse_address("[::1]:9002"), parse_address("0.0.0.0:0")
    (('127.0.0.1', 9002), ('::1', 9002), ('0.0.0.0', 0))
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not (port.isascii() and port.isdigit()) or int(port) > 65535 or (":" in host and not text.startswith("[")):
        raise UsageError(
            f"{text!r} is no address to listen at",
            remedy=("give a host and a port from 0 to 65535, as 127.0.0.1:9002, or [::1]:9002",),
        )
    return host or _LOOPBACK, int(port)


class Connection:
    """A client: what it sends, and what is sent to it.

    Attributes
    ----------
    name : address of the client, for messages.
    input, output : as standard input and output. Reading raises UnreadableError, writing OutputError, where the client
        has gone or does nothing for too long.
    """

    def __init__(self, client: socket.socket, name: str, listener: Listener) -> None:
        self.name, self._client = name, client
        raw = _SocketStream(client, name, listener)
        self.input = cast(BinaryIO, io.BufferedReader(raw, _BUFFER))
        self.output = cast(BinaryIO, raw)

    def close(self) -> None:
        """Close the connection, once the client has read what was sent, or after two seconds."""
        if self._client.fileno() < 0:
            return
        try:
            self._client.shutdown(socket.SHUT_WR)
            end = time.monotonic() + _LINGER
            while (left := end - time.monotonic()) > 0:
                self._client.settimeout(left)
                if not self._client.recv(_BUFFER):
                    break
        except OSError:
            pass
        finally:
            self._client.close()


class Listener:
    """Listens at an address while it is open (context manager).

    A second client is told by TEXT that the first is being served, and its connection ends. It is answered whenever the
    server waits for the first client to send, or to take what it is sent.

    Parameters
    ----------
    host, port : where; port 0 for one that the system chooses.
    timeout : seconds without a byte after which a client counts as gone; None for no limit.

    Raises
    ------
    OutputError
        If the address is taken, or is not one of this machine.
    """

    def __init__(self, host: str, port: int, timeout: float | None = DEFAULT_TIMEOUT) -> None:
        self.timeout = timeout
        self._refused: deque[socket.socket] = deque()
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            self._socket = socket.create_server((host, port), family=family)
        except (OSError, UnicodeError) as error:
            raise OutputError(
                f"cannot listen at {host}:{port}: {error}",
                remedy=("take a free port and an address of this machine, such as 127.0.0.1:9002",),
            ) from None
        self._socket.setblocking(False)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens at."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    def accept(self) -> Connection:
        """Wait for the next client, without a limit."""
        while True:
            with selectors.DefaultSelector() as selector:
                selector.register(self._socket, selectors.EVENT_READ)
                while not selector.select(_PAUSE):
                    pass
            try:
                client, address = self._socket.accept()
            except OSError:  # it has gone already
                continue
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return Connection(client, f"{address[0]}:{address[1]}", self)

    def wait(self, client: socket.socket, event: int) -> bool:
        """Wait until a client can be read or written; false after the timeout. Other clients are refused meanwhile.

        Parameters
        ----------
        event : of `selectors`.
        """
        end = math.inf if self.timeout is None else time.monotonic() + self.timeout
        with selectors.DefaultSelector() as selector:
            selector.register(client, event)
            selector.register(self._socket, selectors.EVENT_READ)
            while (left := end - time.monotonic()) > 0:
                ready = {key.fileobj for key, _ in selector.select(min(left, _PAUSE))}
                if self._socket in ready:
                    self._refuse()
                if client in ready:
                    return True
        return False

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        while self._refused:
            self._refused.pop().close()

    def __enter__(self) -> Listener:
        """The listener itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _refuse(self) -> None:
        """Tell a second client that it must wait; its connection is kept a while, or it could not read that."""
        try:
            client, _ = self._socket.accept()
        except OSError:
            return
        self._refused.append(client)
        try:
            client.setblocking(False)
            client.send(text_message("another client is being served; try again when it is done") + close_message())
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        if len(self._refused) > _REFUSED:
            self._refused.popleft().close()


class _SocketStream(io.RawIOBase):
    """A socket as a stream that waits; a write sends all."""

    def __init__(self, client: socket.socket, name: str, listener: Listener) -> None:
        super().__init__()
        self._client, self._name, self._listener = client, name, listener

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Receive what is there, at least a byte; 0 at the end."""
        while self._listener.wait(self._client, selectors.EVENT_READ):
            try:
                return self._client.recv_into(buffer)
            except BlockingIOError:
                continue
            except OSError as error:
                raise UnreadableError(f"the connection to {self._name} was lost: {error}") from None
        raise UnreadableError(f"{self._name} has sent nothing for {self._listener.timeout:g} s: it counts as gone")

    def write(self, content: bytes) -> int:  # type: ignore[override]
        """Send all of it."""
        left = memoryview(content)
        while left:
            if not self._listener.wait(self._client, selectors.EVENT_WRITE):
                raise OutputError(
                    f"{self._name} has taken nothing for {self._listener.timeout:g} s: it counts as gone",
                    remedy=("let the client read images while it sends readouts",),
                )
            try:
                left = left[self._client.send(left) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise OutputError(f"the connection to {self._name} was lost: {error}") from None
        return len(content)
