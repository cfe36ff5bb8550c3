"""Frames of k-space from a stream of MRD messages, or from an ISMRMRD file replayed as one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from crnn_cli.errors import CrnnError, Param, UnreadableError, UnsupportedDataError, UsageError
from crnn_cli.io.kspace.choices import NOTHING_CHOSEN, RawChoices
from crnn_cli.io.kspace.ismrmrd.choice import COUNTERS
from crnn_cli.io.kspace.ismrmrd.header import parse_header
from crnn_cli.io.kspace.ismrmrd.positions import OrderedSlices
from crnn_cli.io.kspace.ismrmrd.reconcile import fewer_than_stated
from crnn_cli.io.mrd.assemble import settle
from crnn_cli.io.mrd.collect import FrameCollector, OpenFrame
from crnn_cli.io.mrd.frames import StreamedFrame
from crnn_cli.io.mrd.messages import Close, Message, Readout, XmlHeader, read_messages
from crnn_cli.io.mrd.replay import replayed
from crnn_cli.notices import Doubt, Fact, Remark


class FrameStream:
    """The frames of a stream, one after another: read until the first is whole, then go on as they are taken.

    Nothing is read ahead: a sender waits while nobody takes frames (back pressure of the pipe or the connection).
    Memory holds the readouts of the frames that are open, one for each slice of one time.

    Parameters
    ----------
    messages : of the stream.
    name : of the stream, for messages.
    choice : set, contrast, repetition and phase to take, where there are several.

    Attributes
    ----------
    header : what holds for all frames.
    at_end : doubts and facts about how the stream ended; empty before it did.

    Raises
    ------
    UsageError, UnreadableError, UnsupportedDataError
        As `stream_frames`.
    """

    def __init__(self, messages: Iterator[Message], name: str, choice: RawChoices = NOTHING_CHOSEN) -> None:
        for param, value in choice.given().items():
            if param not in COUNTERS:
                raise UsageError(Param(param, value), " is not possible for a stream of frames")
        self.at_end: tuple[Remark, ...] = ()
        self._name, self._choice, self._messages = name, choice, messages
        self._text, self._collector = self._begin()
        self._collected = self._collect()
        self._waiting = next(self._collected, None)
        if self._waiting is None:
            raise self._without_frames()
        chosen = replace(choice, repetition=None, phase_number=None)
        noise, self._collector.noise = self._collector.noise, []
        self._assembler = settle(name, self._collector.header, self._waiting, noise, chosen)
        self.header = self._assembler.header

    def __iter__(self) -> Iterator[StreamedFrame]:
        """Yield each frame as soon as its last line has come, the first included; can be gone through once.

        Raises
        ------
        UnreadableError
            If the stream ends in the middle of a frame, or is damaged.
        UnsupportedDataError
            If lines come for a frame that has left (interleaved cardiac phases), the header changes, coils change, or
            a slice moves.
        """
        frame, self._waiting = self._waiting, None
        while frame is not None:
            yield self._assembler.assemble(frame)
            frame = next(self._collected, None)

    def stack(self, slice_tolerance: float | None = None) -> OrderedSlices:
        """Order the slices that had a frame so far, with the affine of a volume of them.

        Parameters
        ----------
        slice_tolerance : in mm, as of `crnn_cli.data.slice_stack.SliceStack`.

        Raises
        ------
        UnsupportedDataError
            If they are turned against each other, or unevenly spaced or tilted.
        """
        return self._assembler.stack(slice_tolerance)

    def _begin(self) -> tuple[bytes, FrameCollector]:
        """Read the XML header."""
        message = next(self._messages, None)
        if isinstance(message, XmlHeader):
            return message.text, FrameCollector(self._name, parse_header(message.text), self._choice)
        if isinstance(message, Readout):
            text = f"{self._name} has a readout where the XML header must come: nothing says how k-space was sampled"
            raise UnreadableError(text)
        raise UnreadableError(f"{self._name} ended before an XML header came")

    def _collect(self) -> Iterator[OpenFrame]:
        """Frames as they become whole."""
        closed = False
        for message in self._messages:
            if isinstance(message, Close):
                closed = True
            elif not isinstance(message, XmlHeader):
                yield from self._collector.add(message)
            elif message.text != self._text:
                raise UnsupportedDataError(
                    f"{self._name} sends another XML header in the middle of a scan: its matrix may have changed",
                    remedy=("send each scan as a stream of its own",),
                )
        yield from self._collector.finish(closed)
        self.at_end = self._about_end(closed)

    def _about_end(self, closed: bool) -> tuple[Remark, ...]:
        collector = self._collector
        remarks: list[Remark] = [*fewer_than_stated(collector.header, collector.values())]
        if not closed:
            text = f"{self._name} ended after a whole frame, and without the message CLOSE: more may have been measured"
            remarks.append(Doubt("stream-not-closed", text))
        if collector.left_out:
            remarks.append(Fact("readouts-not-for-images", f"{collector.left_out} readouts left out"))
        return tuple(remarks)

    def _without_frames(self) -> CrnnError:
        given = [Param(param, value) for param, value in self._choice.given().items()]
        if self._collector.chosen_away:
            return UsageError(*given[:1], f": no readout for images of {self._name} has it")
        return UnreadableError(
            f"{self._name} has no readouts for images ({len(self._collector.noise)} of noise, "
            f"{self._collector.left_out} others): send the scan itself"
        )


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
        If there is nothing of the set, contrast, repetition or phase that was chosen.
    UnreadableError
        If it is another protocol, damaged, or ends before the first frame is whole.
    DeviceError
        If there is no memory for the matrix that the header states.
    UnsupportedDataError
        If the scan is not Cartesian, is 3-D, has several sets or contrasts, or interleaved cardiac phases.
    """
    return FrameStream(read_messages(stream, name), name, choice)


def file_frames(path: Path, variable: str | None = None, choice: RawChoices = NOTHING_CHOSEN) -> FrameStream:
    """Replay an ISMRMRD file as a stream: readouts in the order of the file, a block of them in memory.

    Whoever paces the replay waits before taking a frame, by `StreamedFrame.end_ms`.

    Raises
    ------
    UsageError, UnreadableError, UnsupportedDataError
        As `stream_frames`, and as `crnn_cli.io.mrd.replay.replayed`.
    """
    return FrameStream(replayed(path, variable), str(path), choice)
