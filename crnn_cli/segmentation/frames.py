"""Labels of a cine through its frames: each frame is settled together with its neighbours.

The log-probabilities of a voxel are fitted by a parabola over the frames around each, as by Savitzky and Golay. Their
noise gets smaller, its variance to a half or a third. A peak keeps its height, as a parabola has one: an average of the
same frames would fill the cavity at end systole.

Legend: K class (0 background), W frame of the window.

References
----------
Savitzky, Golay: "Smoothing and differentiation of data by simplified least squares procedures", Analytical Chemistry
36(8), 1964.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.image import Image

_ONE_CYCLE = 40  # frames: a series of unknown times and no more frames than this is taken for one heart cycle
_CYCLE_MS = 800.0  # length of such a cycle
_CLOSED = 1.5  # largest step from the last frame to the first, relative to a step between frames, of a closed cycle
_LEAST = 0.01  # smaller probabilities count as this, so that a frame that fails has no more weight than another


@dataclass(frozen=True)
class FrameWindow:
    """The frames that settle a frame.

    Attributes
    ----------
    half : frames on either side, 2 or more.
    frames : in the series, at least 2 half + 1.
    cyclic : the first frame follows the last.
    """

    half: int
    frames: int
    cyclic: bool

    def around(self, frame: int) -> list[int]:
        """The frames that settle one; near the ends of a series that is not cyclic they lie to one side."""
        if self.cyclic:
            return [(frame + k) % self.frames for k in range(-self.half, self.half + 1)]
        first = min(max(frame - self.half, 0), self.frames - 1 - 2 * self.half)
        return list(range(first, first + 2 * self.half + 1))

    def weights(self, frame: int) -> NDArray[np.float64]:
        """Weights (W,) of the frames `around` one; their sum is 1.

        >>> FrameWindow(2, 30, True).weights(0).round(3).tolist()
        [-0.086, 0.343, 0.486, 0.343, -0.086]
        """
        offset_W = np.arange(-self.half, self.half + 1)
        if not self.cyclic:
            offset_W = np.array(self.around(frame)) - frame
        weights_W: NDArray[np.float64] = np.linalg.pinv(np.vander(offset_W, 3, increasing=True).astype(float))[0]
        return weights_W


def frame_window(image: Image, half_ms: float | None) -> FrameWindow | None:
    """Choose the window of a series; None where frames are to be labelled each on its own.

    That is so for a volume, for frames too far apart in time, and for a long series whose frame time is unknown.

    Parameters
    ----------
    image : (x, y, z) or (x, y, z, t). Where its frame time is unknown, up to 40 frames are taken for one heart cycle.
    half_ms : time on either side of a frame, in ms; None for no window.
    """
    frames = image.frames
    if half_ms is None or frames < 5:
        return None
    if image.frame_time:
        step_ms = 1000 * image.frame_time
    elif frames <= _ONE_CYCLE:
        step_ms = _CYCLE_MS / frames
    else:
        return None
    half = min(math.floor(half_ms / step_ms + 0.5), (frames - 1) // 2)
    return FrameWindow(half, frames, is_closed(image.array)) if half >= 2 else None


def smooth_over_frames(
    frames: Iterable[NDArray[np.float32]], window: FrameWindow
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Settle each frame together with its neighbours.

    No more frames are kept than two windows have.

    Parameters
    ----------
    frames : class probabilities (K, ...) of each frame, in order; asked for once.
    window : of the series.

    Yields
    ------
    Number of a frame, and its class probabilities; frames come as soon as their neighbours are there.
    """
    due: dict[int, list[int]] = {}  # frames by the last of their neighbours to come
    last_use: dict[int, int] = {}
    for frame in range(window.frames):
        around = window.around(frame)
        due.setdefault(max(around), []).append(frame)
        last_use |= {one: max(last_use.get(one, 0), *around) for one in around}
    kept: dict[int, NDArray[np.float16]] = {}
    for number, probabilities_K in enumerate(frames):
        kept[number] = np.log(np.maximum(probabilities_K, _LEAST)).astype(np.float16)
        for frame in due.get(number, ()):
            yield frame, _settled([kept[one] for one in window.around(frame)], window.weights(frame))
        kept = {one: values for one, values in kept.items() if last_use[one] > number}


def _settled(logs_WK: list[NDArray[np.float16]], weights_W: NDArray[np.float64]) -> NDArray[np.float32]:
    """Class probabilities of weighted log-probabilities."""
    log_K = np.zeros(logs_WK[0].shape, np.float32)
    for values_K, weight in zip(logs_WK, weights_W, strict=True):
        log_K += np.float32(weight) * values_K
    probabilities_K: NDArray[np.float32] = np.exp(log_K - log_K.max(axis=0))
    probabilities_K /= probabilities_K.sum(axis=0)
    return probabilities_K


def is_closed(array: NDArray[Any]) -> bool:
    """Whether the first frame follows the last as any frame follows the one before."""
    steps = [_step(array[..., t], array[..., t - 1]) for t in range(array.shape[-1])]
    return steps[0] <= _CLOSED * float(np.median(steps[1:]))


def _step(frame: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.abs(np.abs(frame).astype(np.float32) - np.abs(other).astype(np.float32)).mean(dtype=np.float64))
