"""Memory of a sequence: the frames of the last beats, and which of them looked like the newest one.

    e(l) = mean over the last 3 frames of |x_t - x_(t-l)|^2      on frames averaged over blocks of pixels

The lag l of the recalled frame has the least e(l) beyond the first l where e has risen to half of its largest value:
the picture must have changed before it can come back. Where e does not fall to half of its largest value again,
nothing has come back (the first beat, a still object), and the newest frame stands for what is recalled. The lag may be
that of several beats; the period is the lag of the first return, the least e(l) until it rises to half again.

Legend: Y, X pixel; lags in frames.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MOST_FRAMES = 64
_WINDOW = 3
_BLOCKS = 48
_COMES_BACK = 0.5


class FrameMemory:
    """The last frames of one sequence, in constant memory.

    >>> memory = FrameMemory()
    >>> for t in range(20):
    ...     memory.add(torch.full((8, 8), float(t % 7)))
    >>> memory.period, memory.lag, float(memory.newest[0, 0]), float(memory.recalled(2)[0, 0])
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

    def add(self, frame_YX: Tensor) -> None:
        """Take in the newest frame, and find the one that looked like it.

        Parameters
        ----------
        frame_YX : real.
        """
        coarse = _coarse(frame_YX)
        if self._coarse:
            self._recent.append((torch.stack(list(self._coarse)) - coarse).square().mean((1, 2)).flip(0))
        self._frames.append(frame_YX)
        self._coarse.append(coarse)
        usable = min((len(each) for each in self._recent), default=0)
        self.distances = torch.stack([each[:usable] for each in self._recent]).mean(0) if usable else torch.zeros(0)
        self.lag, self.period = _returns(self.distances)

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
        if not self.lag:
            return self.newest
        after = (steps - 1) % self.lag + 1 if steps else 0
        return self._frames[len(self._frames) - 1 - self.lag + after]

    def read(self) -> Tensor:
        """Frames of an encoder step, (R, Y, X); see `crnn_cli.networks.forecaster.READ`."""
        return torch.stack([self.newest, self.recalled(0), self.recalled(1)])

    def sources(self, ahead: int) -> Tensor:
        """Frames of the forecaster's step to ``ahead`` frames, (S, Y, X); see `SOURCES` of the network."""
        return torch.stack([self.newest, self.recalled(0), self.recalled(ahead), self.recalled(ahead + 1)])


def _coarse(frame_YX: Tensor) -> Tensor:
    """Means over blocks of pixels, 48 or fewer along a side."""
    rows, columns = (min(_BLOCKS, size) for size in frame_YX.shape)
    means: Tensor = F.adaptive_avg_pool2d(frame_YX[None, None], (rows, columns))[0, 0]
    return means


def _returns(distances: Tensor) -> tuple[int, int]:
    """Lag of the frame that is recalled, and of the first that came back; 0 and 0 where none did."""
    e = distances.numpy()
    half = _COMES_BACK * float(e.max(initial=0))
    far = np.flatnonzero(e >= half)
    if not half > 0 or not len(far):
        return 0, 0
    near = np.flatnonzero(e[far[0] :] < half) + far[0]
    if not len(near):
        return 0, 0
    again = far[far > near[0]]
    end = again[0] if len(again) else len(e)
    return int(near[np.argmin(e[near])]) + 1, int(near[0] + np.argmin(e[near[0] : end])) + 1
