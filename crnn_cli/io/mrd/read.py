"""Frames of k-space from a stream of MRD messages, or from an ISMRMRD file replayed as one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from crnn_cli.io.kspace.choices import NOTHING_CHOSEN, RawChoices
from crnn_cli.io.mrd.frames import StreamedFrame, StreamHeader
from crnn_cli.notices import Remark


class FrameStream:
    """The frames of a stream, one after another: read until the first is whole, then go on as they are taken.

    Nothing is read ahead: a sender waits while nobody takes frames (back pressure of the pipe or the connection).
    Memory holds the readouts of the frames that are open, one for each slice of one time.

    Attributes
    ----------
    header : what holds for all frames.
    at_end : doubts about how the stream ended; empty before it did.
    """

    header: StreamHeader
    at_end: tuple[Remark, ...]

    def __iter__(self) -> Iterator[StreamedFrame]:
        """Yield each frame as soon as its last line has come, the first included.

        Raises
        ------
        UnreadableError
            If the stream ends in the middle of a frame, or is damaged.
        UnsupportedDataError
            If lines come for a frame that has left (interleaved cardiac phases), the header changes, coils change, or
            a slice moves.
        """
        raise NotImplementedError


def stream_frames(stream: BinaryIO, name: str, choice: RawChoices = NOTHING_CHOSEN) -> FrameStream:
    """Read a stream of MRD messages up to the end of its first frame.

    Parameters
    ----------
    stream : ``read(n)`` returns n bytes, or fewer at the end alone: ``sys.stdin.buffer``, or that of a connection.
    name : of the stream, for messages.
    choice : set, contrast, repetition and phase to take, where there are several.

    Raises
    ------
    UsageError
        If there is nothing of the set, contrast, repetition or phase that was chosen in the first frame.
    UnreadableError
        If it is another protocol, damaged, or ends before the first frame is whole.
    UnsupportedDataError
        If the scan is not Cartesian, is 3-D, has several sets or contrasts, or interleaved cardiac phases.
    """
    raise NotImplementedError


def file_frames(path: Path, variable: str | None = None, choice: RawChoices = NOTHING_CHOSEN) -> FrameStream:
    """Replay an ISMRMRD file as a stream: readouts in the order of the file, a block of them in memory.

    Whoever paces the replay waits before taking a frame, by `StreamedFrame.end_ms`.

    Raises
    ------
    UsageError, UnreadableError, UnsupportedDataError
        As `stream_frames`, and as `crnn_cli.io.kspace.ismrmrd.file`.
    """
    raise NotImplementedError
