"""Memory of a sequence: the frames of the last beats, and which of them looked like the newest one.

    e(l) = mean over the last 3 frames of |x_t - x_(t-l)|^2      on frames averaged over blocks of pixels

The lag l of the recalled frame has the least e(l) beyond the first l where e has risen to half of its largest value:
the picture must have changed before it can come back. Where e does not fall to half of its largest value again,
nothing has come back (the first beat, a still object), and the newest frame stands for what is recalled.

Legend: Y, X pixel; lags in frames.
"""

from __future__ import annotations

from collections import deque

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
    >>> memory.lag, float(memory.newest[0, 0]), float(memory.recalled(2)[0, 0])
    (7, 5.0, 0.0)

    Parameters
    ----------
    most : frames that are kept; a beat must be shorter to be recalled.

    Attributes
    ----------
    lag : frames from the recalled frame to the newest; 0 where nothing is recalled.
    distances : e(l) of the formula at l = 1, 2, ..., in squared units of the frames.
    """

    def __init__(self, most: int = MOST_FRAMES) -> None:
        self._frames: deque[Tensor] = deque(maxlen=most)
        self._coarse: deque[Tensor] = deque(maxlen=most)
        self._recent: deque[Tensor] = deque(maxlen=_WINDOW)
        self.lag = 0
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
        self.lag = _best_lag(self.distances)

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


def _best_lag(distances: Tensor) -> int:
    if len(distances) < 2:
        return 0
    largest = float(distances.max())
    changed = int((distances >= _COMES_BACK * largest).int().argmax())
    after = distances[changed + 1 :]
    if not largest > 0 or len(after) == 0 or float(after.min()) > _COMES_BACK * largest:
        return 0
    return changed + 2 + int(after.argmin())
