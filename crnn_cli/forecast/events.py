"""Events: frames and beats of a series that the forecast from the frame before did not foresee.

A frame is an event where its surprise (`crnn_cli.forecast.surprise`) is above a threshold; neighbours at most two
frames apart are one event. Frames are judged from the first beat's return on: before, every frame is new.

Beats are counted by what is recalled. A frame lies n beats after the frame that it looks like; n is the whole number of
beats that fits the frame before and the period.

Legend: T frame, Y, X pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crnn_cli.forecast.stream import SliceStream
from crnn_cli.forecast.surprise import Values, error_db, surprise, usual_error
from crnn_cli.networks.forecaster import CineForecaster

THRESHOLD = 5.0
"""Surprise above which a frame is an event."""
LEAST_JUDGED = 8
"""Frames that a series must have after its first beat: fewer do not say what is usual."""
_GAP = 2


@dataclass(frozen=True)
class Event:
    """Neighbouring frames that were not foreseen.

    Attributes
    ----------
    first, last : frames, from 0.
    peak : the frame of the largest surprise.
    surprise : of that frame.
    beats : that the frames lie in, from 1.
    """

    first: int
    last: int
    peak: int
    surprise: float
    beats: tuple[int, ...]


@dataclass(frozen=True)
class FollowedSlice:
    """A slice that was followed to its end.

    Attributes
    ----------
    errors_T : of the forecast of each frame in dB, 0 dB as bright as the bright parts; NaN of the first frame.
    judged_T : frames that could be foreseen.
    beats_T : beats passed at each frame, with fractions; 0 where no beat came back.
    period : frames of a beat, the median over those that came back; None where none did.
    """

    errors_T: Values
    judged_T: NDArray[np.bool_]
    beats_T: Values
    period: float | None

    @property
    def surprises(self) -> Values:
        """Surprise of each frame; NaN where it is not judged."""
        return surprise(self.errors_T, self.judged_T, self.beats_T)

    def limits_db(self, threshold: float) -> Values:
        """Error of each frame from which it is an event; NaN where no frame is judged."""
        usual_T, deviation = usual_error(self.errors_T, self.judged_T, self.beats_T)
        return np.where(self.judged_T, usual_T + threshold * deviation, np.nan)

    @property
    def beats(self) -> int:
        """Beats that were judged in part at least."""
        return len(np.unique(np.floor(self.beats_T[self.judged_T])))

    def events(self, threshold: float = THRESHOLD) -> list[Event]:
        """Events, in order.

        Parameters
        ----------
        threshold : surprise above which a frame is one.
        """
        surprise_T = self.surprises
        with np.errstate(invalid="ignore"):
            marked = np.flatnonzero(surprise_T > threshold)
        runs = np.split(marked, np.flatnonzero(np.diff(marked) > _GAP + 1) + 1) if len(marked) else []
        found = []
        for run in runs:
            first, last = int(run[0]), int(run[-1])
            peak = first + int(np.nanargmax(surprise_T[first : last + 1]))
            beats = np.unique(np.floor(self.beats_T[first : last + 1])).astype(int) + 1
            found.append(Event(first, last, peak, float(surprise_T[peak]), tuple(int(b) for b in beats)))
        return found


def follow_slice(frames: Iterable[Tensor], network: CineForecaster, device: torch.device) -> FollowedSlice:
    """Follow a slice, and compare each frame with its forecast from the frame before.

    Memory is constant but for three numbers a frame.

    Parameters
    ----------
    frames : (Y, X) magnitudes, one after the other; each is let go when the next is asked for.
    network, device : see `SliceStream`.
    """
    stream, forecast = SliceStream(network, device), None
    errors, judged, lags, periods = [], [], [], []
    returned = False
    for frame_YX in frames:
        errors.append(math.nan if forecast is None else error_db(frame_YX / stream.scale, forecast / stream.scale))
        judged.append(returned)
        stream.add(frame_YX)
        returned = returned or stream.memory.lag > 0
        forecast = stream.forecast(1)[0]
        lags.append(stream.memory.lag)
        periods.append(stream.memory.period)
    known = [period for period in periods if period]
    period = float(np.median(known)) if known else None
    return FollowedSlice(np.array(errors), np.array(judged, bool), count_beats(lags, period), period)


def count_beats(lags: list[int], period: float | None) -> Values:
    """Beats passed at each frame, with fractions.

    >>> count_beats([0, 0, 0, 0, 4, 4, 4, 4, 8], 4.0).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]

    Parameters
    ----------
    lags : frames back to the one that looked like this one; 0 where none did.
    period : frames of a beat; None where none came back.
    """
    beats = np.zeros(len(lags))
    if period is None:
        return beats
    for t in range(1, len(lags)):
        onward = beats[t - 1] + 1 / period
        if lags[t]:
            before = beats[t - lags[t]]
            onward = before + max(1, round(onward - before))
        beats[t] = max(beats[t - 1], onward)
    return beats
