"""A server of MRD messages for one client at a time."""

from __future__ import annotations

from types import TracebackType
from typing import BinaryIO

DEFAULT_TIMEOUT = 60.0
"""Seconds without a byte from, or to, a client after which it counts as gone."""


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, ``:PORT`` or ``PORT``; the host is 127.0.0.1 where none is named.

    Raises
    ------
    UsageError
        If it is neither.
    """
    raise NotImplementedError


class Connection:
    """A client: what it sends, and what is sent to it.

    Attributes
    ----------
    name : address of the client, for messages.
    input, output : like standard input and output; errors of the network are UnreadableError and OutputError.
    """

    name: str
    input: BinaryIO
    output: BinaryIO

    def close(self) -> None:
        """Close the connection; twice does no harm."""
        raise NotImplementedError


class Listener:
    """Listens at an address while it is open (context manager).

    A second client is told by TEXT that the first is being served, and closed. It is answered whenever the server
    waits for the first client to send or to take data.

    Raises
    ------
    OutputError
        If the address is taken, or not of this machine.
    """

    def __init__(self, host: str, port: int, timeout: float | None = DEFAULT_TIMEOUT) -> None:
        raise NotImplementedError

    @property
    def address(self) -> tuple[str, int]:
        """Host and port; the port that was given by the system where 0 was asked for."""
        raise NotImplementedError

    def accept(self) -> Connection:
        """Wait for the next client, without a limit."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop listening."""
        raise NotImplementedError

    def __enter__(self) -> Listener:
        """The listener itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()
