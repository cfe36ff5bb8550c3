"""Memory of a sequence: the frames of the last beats, and which of them looked like the newest one.

    e(l) = mean over the last 6 frames of |(1 - P)(x_t - x_(t-l))|^2      on frames averaged over blocks of pixels

P projects onto what small shifts and turns and a factor of brightness change, to first order: a body that has moved is
not another phase of the heart.

The lag l of the recalled frame has the least e(l) beyond the first l where e has risen to half of its largest value:
the picture must have changed before it can come back. Where e does not fall to half of its largest value again,
nothing has come back (the first beat, a still object), and the newest frame stands for what is recalled. The lag may be
that of several beats; the period is the lag of the first return, the least e(l) until it rises to half again.

Beats are not whole numbers of frames long, and the body moves from beat to beat. So frames are recalled at a place
between frames, where a parabola through e has its least, by Catmull-Rom splines; and they are moved, turned and made as
bright as the newest frame is, and as it will be if it goes on to move as it did (`crnn_cli.forecasting.align`).

Legend: N frame, Y, X pixel; lags in frames.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crnn_cli.forecasting.align import Drift, Movement, movement_basis, movement_between

MOST_FRAMES = 64
_WINDOW = 6
_LEAST_ROWS = 3
_SAME_LAG = 2
_BLOCKS = 48
_COMES_BACK = 0.5


class FrameMemory:
    """The last frames of one sequence, in constant memory.

    >>> memory = FrameMemory()
    >>> for t in range(20):
    ...     memory.add(torch.full((8, 8), float(t % 7)))
    >>> memory.period, memory.lag, float(memory.newest[0, 0]), round(float(memory.recalled(2)[0, 0]), 1)
    (7, 7, 5.0, 0.0)

    Parameters
    ----------
    most : frames that are kept; a beat must be shorter to be recalled.

    Attributes
    ----------
    lag : frames from the recalled frame to the newest; 0 where nothing is recalled.
    period : frames from the latest frame that came back to the newest; 0 where none did.
    distances : e(l) of the formula at l = 1, 2, ..., in squared units of the frames.
    """

    def __init__(self, most: int = MOST_FRAMES) -> None:
        self._frames: deque[Tensor] = deque(maxlen=most)
        self._coarse: deque[Tensor] = deque(maxlen=most)
        self._recent: deque[Tensor] = deque(maxlen=_WINDOW)
        self.lag, self.period = 0, 0
        self.distances = torch.zeros(0)
        self._movement: Movement | None = None
        self._drift = Drift()

    def add(self, frame_YX: Tensor) -> None:
        """Take in the newest frame, and find the one that looked like it.

        Parameters
        ----------
        frame_YX : real.
        """
        coarse = _coarse(frame_YX)
        self._frames.append(frame_YX)
        self._coarse.append(coarse)
        earlier = list(self._coarse)[:-1]
        if earlier:
            self._recent.append(_distances(torch.stack(earlier), coarse).flip(0))
        self.distances = _mean_of_known(list(self._recent))
        before = self.lag
        self.lag, self.period = _returns(self.distances)
        self._movement = None
        if not self.lag or abs(self.lag - before) > _SAME_LAG:
            self._drift.forget()

    @property
    def newest(self) -> Tensor:
        """The newest frame."""
        return self._frames[-1]

    def recalled(self, steps: int) -> Tensor:
        """What followed the recalled frame.

        Parameters
        ----------
        steps : frames after it, 0 for itself. Beyond the newest frame, that many are counted on from the recalled one.
        """
        return self._recall([steps])[0]

    def _recall(self, steps: list[int]) -> Tensor:
        """Frames (N, Y, X) so many steps after the recalled one, in the place of the newest."""
        if not self.lag:
            return self.newest.expand(len(steps), *self.newest.shape)
        found = torch.stack([self._between(step) for step in steps])
        if self._movement is None:
            first = found[0] if steps[0] == 0 else self._between(0)
            self._movement = movement_between(first, self.newest)
            self._drift.add(self._movement)
        moved = [self._drift.ahead(self._movement, step) for step in steps]
        return torch.cat([move.applied_to(frame[None]) for move, frame in zip(moved, found, strict=True)])

    def _between(self, step: int) -> Tensor:
        """Frame at a place between frames; a step beyond the newest is counted on from the recalled one."""
        after = (step - 1) % self.lag + 1 if step else 0
        last = len(self._frames) - 1
        place = last - self.lag - _least_between(self.distances, self.lag) + after
        before = math.floor(place)
        a, b, c, d = (self._frames[min(max(before + k, 0), last)] for k in (-1, 0, 1, 2))
        u = place - before
        if u == 0:
            return b
        return b + 0.5 * u * (c - a + u * (2 * a - 5 * b + 4 * c - d + u * (3 * (b - c) + d - a)))

    def read(self) -> Tensor:
        """Frames of an encoder step, (R, Y, X); see `crnn_cli.networks.forecaster.READ`."""
        return torch.cat([self.newest[None], self._recall([0, 1])])

    def sources(self, ahead: int) -> Tensor:
        """Frames of the forecaster's step to ``ahead`` frames, (S, Y, X); see `SOURCES` of the network."""
        return torch.cat([self.newest[None], self._recall([0, ahead, ahead + 1])])


def _coarse(frame_YX: Tensor) -> Tensor:
    """Means over blocks of pixels, 48 or fewer along a side."""
    rows, columns = (min(_BLOCKS, size) for size in frame_YX.shape)
    means: Tensor = F.adaptive_avg_pool2d(frame_YX[None, None], (rows, columns))[0, 0]
    return means


def _mean_of_known(rows: list[Tensor]) -> Tensor:
    """Mean over rows at each lag that the last 3 of them have; earlier ones may lack the largest lags.

    One frame alone looks the same on the way out and on the way back.
    """
    if len(rows) < _LEAST_ROWS:
        return torch.zeros(0)
    length = len(rows[-_LEAST_ROWS])
    padded = torch.stack([F.pad(row[:length], (0, max(0, length - len(row))), value=math.nan) for row in rows])
    return padded.nanmean(0)


def _distances(earlier_NYX: Tensor, newest_YX: Tensor) -> Tensor:
    """Mean squared differences (N,) that no small shift, turn or factor of brightness explains, to first order."""
    basis_PM, _ = torch.linalg.qr(movement_basis(newest_YX).flatten(0, 1))
    left_NP = (earlier_NYX - newest_YX).flatten(1)
    explained = (left_NP @ basis_PM).square().sum(1)
    distances_N: Tensor = (left_NP.square().sum(1) - explained).clamp_min(0) / left_NP.shape[1]
    return distances_N


def _least_between(distances: Tensor, lag: int) -> float:
    """Where a parabola through the distances about a lag has its least, from the lag, at most half a frame."""
    if lag < 2 or lag >= len(distances):
        return 0.0
    before, at, after = (float(distances[lag - 1 + k]) for k in (-1, 0, 1))
    bend = before - 2 * at + after
    return max(-0.5, min(0.5, 0.5 * (before - after) / bend)) if bend > 0 else 0.0


def _returns(distances: Tensor) -> tuple[int, int]:
    """Lag of the frame that is recalled, and of the first that came back; 0 and 0 where none did."""
    e = distances.numpy()
    half = _COMES_BACK * float(e.max(initial=0))
    far = np.flatnonzero(e >= half)
    if not half > 0 or not len(far):
        return 0, 0
    near = np.flatnonzero(e[far[0] : -1] < half) + far[0]  # at the largest lag it may still be falling
    if not len(near):
        return 0, 0
    again = far[far > near[0]]
    end = again[0] if len(again) else len(e) - 1
    return int(near[np.argmin(e[near])]) + 1, int(near[0] + np.argmin(e[near[0] : end])) + 1
