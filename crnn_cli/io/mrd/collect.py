"""Readouts of a stream sorted into frames, each closed as soon as its last line has come.

A frame is one slice at one value of the counters repetition and phase. It ends with a readout that is flagged as the
last of its slice, phase, repetition or measurement, or when the counters of a later readout have moved on, in whatever
slice. Only frames of one time are open at once, one for each slice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from crnn_cli.errors import Param, UnreadableError, UnsupportedDataError
from crnn_cli.io.kspace.choices import RawChoices
from crnn_cli.io.kspace.ismrmrd.choice import COUNTERS
from crnn_cli.io.kspace.ismrmrd.header import IsmrmrdHeader
from crnn_cli.io.kspace.ismrmrd.readouts import CALIBRATION, CALIBRATION_AND_IMAGING, NOISE, OTHER
from crnn_cli.io.mrd.messages import Readout

LAST_IN_SLICE, LAST_IN_PHASE, LAST_IN_REPETITION, LAST_IN_MEASUREMENT = 8, 12, 14, 25
_LINES = 8
"""Readouts of a frame, as a multiple of the lines of the matrix, above which nothing says where frames end."""
_NOISE, _HELD = 2**26, 2**30
"""Bytes that are kept of noise, and of the frames that are open."""
_COUNTS = 2**16  # values of a counter


def _bits(*flags: int) -> int:
    return sum(1 << (flag - 1) for flag in flags)


_IS_NOISE, _IS_OTHER, _CALIBRATES = _bits(NOISE), _bits(*OTHER.values()), _bits(CALIBRATION)
_IMAGES_TOO, _ENDS = _bits(CALIBRATION_AND_IMAGING), _bits(LAST_IN_SLICE, LAST_IN_PHASE, LAST_IN_REPETITION)
_ENDS_ALL = _bits(LAST_IN_MEASUREMENT)


@dataclass
class OpenFrame:
    """Readouts of one slice at one time.

    Attributes
    ----------
    slice_number, repetition, phase : its counters.
    skipped : frames that are missing before it, by the counters.
    step : smallest step of the counters from frame to frame so far.
    images : readouts for images, in the order in which they came.
    calibration : those for calibration alone since the last frame of the slice.
    """

    slice_number: int
    repetition: int
    phase: int
    skipped: int = 0
    step: int = 1
    images: list[Readout] = field(default_factory=list)
    calibration: list[Readout] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Counters of the frame, for messages."""
        return f"repetition {self.repetition}, phase {self.phase} of slice {self.slice_number}"


@dataclass
class _Track:
    """What is known of a slice.

    Attributes
    ----------
    repetition, phase, lines : counters and number of lines of its last frame; no lines before the first was whole.
    step : smallest step of the counter from frame to frame; 0 before there was one.
    phases_vary : whether its phase varies.
    calibration : calibration lines for its next frame.
    """

    repetition: int = 0
    phase: int = 0
    lines: int = 0
    step: int = 0
    phases_vary: bool = False
    calibration: list[Readout] = field(default_factory=list)


class FrameCollector:
    """Sorts readouts into frames.

    Parameters
    ----------
    name : of the stream, for messages.
    header : of the scan.
    choice : set, contrast, repetition and phase whose readouts are taken; None takes all of them.

    Attributes
    ----------
    noise : noise readouts, as far as they come before the first frame is whole.
    left_out : readouts of other purposes, of other encodings, and noise that came too late.
    chosen_away : readouts for images with other counters than chosen.
    """

    def __init__(self, name: str, header: IsmrmrdHeader, choice: RawChoices) -> None:
        self.name, self.header = name, header
        self.noise: list[Readout] = []
        self.left_out = self.chosen_away = self._noise_bytes = self._held = 0
        self._begun = False
        self._wanted = [(COUNTERS[param], value) for param, value in choice.given().items() if param in COUNTERS]
        self._open: dict[int, OpenFrame] = {}
        self._tracks: dict[int, _Track] = {}
        self._seen = {counter: np.zeros(_COUNTS, bool) for counter in ("repetition", "phase", "slice")}
        self._most = _LINES * header.encoded.matrix[1]

    def add(self, readout: Readout) -> Iterator[OpenFrame]:
        """Take a readout, and yield the frames that are whole by it."""
        flags, at = int(readout.head["flags"]), int(readout.head["idx"]["slice"])
        if flags & _IS_NOISE:
            self._take_noise(readout)
        elif flags & _IS_OTHER or int(readout.head["encoding_space_ref"]):
            self.left_out += 1
        elif flags & _CALIBRATES and not flags & _IMAGES_TOO:
            self._hold(self._calibration(at), readout)
        elif any(int(readout.head["idx"][counter]) != value for counter, value in self._wanted):
            self.chosen_away += 1
        else:
            yield from self._take_line(readout)
        if flags & _ENDS_ALL:
            yield from self._close(list(self._open), flagged=True)
        elif flags & _ENDS and not flags & _IS_NOISE:
            frame = self._open.get(at)
            if frame and (frame.repetition, frame.phase) == self._when(readout):
                yield from self._close([at], flagged=True)

    def finish(self, closed: bool) -> Iterator[OpenFrame]:
        """Yield the frames that are open when the stream ends, as far as they are whole.

        A frame without a flagged end is whole where it has as many lines as the one before it of the same slice; the
        only one, where the sender said that this was all.

        Parameters
        ----------
        closed : whether the sender said so (CLOSE).

        Raises
        ------
        UnreadableError
            If a frame lacks lines.
        """
        for at, frame in list(self._open.items()):
            came, before = len(frame.images), self._tracks[at].lines
            if came < before or not (before or closed):
                of = f" of {before}" if before else ""
                raise UnreadableError(
                    f"{self.name} ends in the middle of a frame: {came}{of} lines of {frame.title} have come; the "
                    "frames before it are whole"
                )
            yield from self._close([at], flagged=False)

    def values(self) -> dict[str, int]:
        """Number of values of repetition, phase and slice that readouts for images had."""
        return {counter: int(seen.sum()) for counter, seen in self._seen.items()}

    def _take_line(self, readout: Readout) -> Iterator[OpenFrame]:
        """Take a readout for images; frames of another time are whole by it."""
        at, (repetition, phase) = int(readout.head["idx"]["slice"]), self._when(readout)
        passed = [z for z, frame in self._open.items() if (frame.repetition, frame.phase) != (repetition, phase)]
        yield from self._close(passed, flagged=False)
        if at not in self._open:
            self._open[at] = self._begin(readout)
        for counter, value in zip(self._seen, (repetition, phase, at), strict=True):
            self._seen[counter][value] = True
        frame = self._open[at]
        self._hold(frame.images, readout)
        if readout.head["idx"]["kspace_encode_step_2"] != frame.images[0].head["idx"]["kspace_encode_step_2"]:
            raise UnsupportedDataError(
                f"{self.name} is a 3-D scan (kspace_encode_step_2 varies): only 2-D frames are streamed",
                remedy=_FROM_A_FILE,
            )

    def _begin(self, readout: Readout) -> OpenFrame:
        """A new frame with the counters of a readout."""
        at, (repetition, phase) = int(readout.head["idx"]["slice"]), self._when(readout)
        frame, track = OpenFrame(at, repetition, phase), self._tracks.setdefault(at, _Track())
        if track.lines:
            frame.skipped = self._skipped(track, frame, readout.number)
            frame.step = track.step or 1
        track.repetition, track.phase = repetition, phase
        frame.calibration, track.calibration = track.calibration, []
        return frame

    def _skipped(self, track: _Track, frame: OpenFrame, number: int) -> int:
        """Frames that are missing between the last frame of a slice and this one.

        The order of time is that of (repetition, phase), where the repetition may start again from 0 after 65535. A
        counter that takes every n-th value from the beginning skips nothing; where a smaller step comes later, those
        of the step before are counted then.

        Raises
        ------
        UnsupportedDataError
            If this frame is not later.
        """
        repetitions = (frame.repetition - track.repetition) % _COUNTS
        phases = frame.phase - track.phase
        if repetitions >= _COUNTS // 2 or (not repetitions and phases <= 0):
            raise self._interleaved(frame, number)
        track.phases_vary |= phases != 0
        if repetitions and track.phases_vary:  # a beat begins: those that lack the end of another are not known
            return repetitions - 1 + frame.phase
        step = repetitions or phases
        before = track.step or step
        track.step = min(step, before)
        return max(step, before) // track.step - 1

    def _close(self, slices: list[int], flagged: bool) -> Iterator[OpenFrame]:
        self._begun |= bool(slices)
        for at in slices:
            frame = self._open.pop(at)
            self._tracks[at].lines = len(frame.images)
            self._held -= sum(each.samples.nbytes for each in (*frame.images, *frame.calibration))
            if not flagged:
                self._require_not_segmented(frame)
            yield frame

    def _require_not_segmented(self, frame: OpenFrame) -> None:
        """Refuse a frame of one segment of a scan whose header states cardiac phases and segments."""
        stated = self.header.segments > 1 and self.header.counts.get("phase", 1) > 1
        if stated and len({int(readout.head["idx"]["segment"]) for readout in frame.images}) == 1:
            text = f"{self.name} measures its cardiac phases in {self.header.segments} segments, one after another"
            raise UnsupportedDataError(f"{text}: no frame is whole before the end of the scan", remedy=_FROM_A_FILE)

    def _interleaved(self, frame: OpenFrame, number: int) -> UnsupportedDataError:
        return UnsupportedDataError(
            f"{self.name}: readout {number + 1} is a line of {frame.title}, which was whole by its flags or its "
            "counters: cardiac phases, averages or repetitions are interleaved, so that no frame is whole before the "
            "end of the scan",
            remedy=_FROM_A_FILE,
        )

    def _take_noise(self, readout: Readout) -> None:
        self._noise_bytes += readout.samples.nbytes
        if self._begun or self._noise_bytes > _NOISE:
            self.left_out += 1
        else:
            self.noise.append(readout)

    def _calibration(self, at: int) -> list[Readout]:
        """Calibration lines of the frame of a slice that is open, or of its next one."""
        if at in self._open:
            return self._open[at].calibration
        return self._tracks.setdefault(at, _Track()).calibration

    def _hold(self, readouts: list[Readout], readout: Readout) -> None:
        """Add a readout to those of a frame, within bounds."""
        readouts.append(readout)
        self._held += readout.samples.nbytes
        if len(readouts) > self._most or self._held > _HELD:
            raise UnsupportedDataError(
                f"{self.name}: a frame has {len(readouts)} readouts by readout {readout.number + 1}, and the matrix "
                f"has {self.header.encoded.matrix[1]} lines: neither flags nor the counters repetition and phase say "
                "where frames end",
                remedy=_FROM_A_FILE,
            )

    def _when(self, readout: Readout) -> tuple[int, int]:
        return int(readout.head["idx"]["repetition"]), int(readout.head["idx"]["phase"])


_FROM_A_FILE = ("save the scan as an ISMRMRD file, and reconstruct that without ", Param("stream"))
