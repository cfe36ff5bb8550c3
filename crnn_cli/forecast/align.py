"""Alignment of a recalled frame with the newest one: a small shift, a small turn, and a factor of brightness.

    x_t(p) ~ g r(p + u + a J p),   J p = (-p_x, p_y) turned by a right angle, p from the middle of the frame

u, a and g are found by Gauss-Newton steps of least squares over all pixels. The heart is in the same phase in both
frames, so that what differs is the body that has moved: breathing, drift. Where the result would be a large movement,
or does not bring the frames nearer to each other, nothing is moved.

Legend: N frame, Y, X pixel.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_STEPS = 3
_DRIFT_FRAMES, _LEAST_DRIFT_FRAMES = 8, 4
_FASTEST_DRIFT = 0.3  # pixels a frame
_LARGEST_SHIFT, _LARGEST_TURN = 6.0, 0.15  # pixels, radians
_GAINS = (0.7, 1.4)


@dataclass(frozen=True)
class Movement:
    """Where to take a pixel from, and the factor of brightness.

    Attributes
    ----------
    y, x : shift in pixels.
    turn : radians.
    gain : factor.
    """

    y: float = 0.0
    x: float = 0.0
    turn: float = 0.0
    gain: float = 1.0

    @property
    def is_small(self) -> bool:
        """Whether it can be that of a body in a scanner from beat to beat."""
        near = max(abs(self.y), abs(self.x)) <= _LARGEST_SHIFT and abs(self.turn) <= _LARGEST_TURN
        return near and _GAINS[0] <= self.gain <= _GAINS[1]

    def applied_to(self, frames_NYX: Tensor) -> Tensor:
        """Frames moved by it, read by cubic interpolation; beyond the edge the edge is taken.

        >>> ramp = torch.arange(9.0).expand(1, 9, 9)
        >>> Movement(x=1.0, gain=2.0).applied_to(ramp)[0, 4, :4].round()
        tensor([2., 4., 6., 8.])
        """
        rows, columns = frames_NYX.shape[-2:]
        y, x = _places(rows, columns)
        place_y = y + self.y + self.turn * x
        place_x = x + self.x - self.turn * y
        scale = torch.tensor([2 / max(columns - 1, 1), 2 / max(rows - 1, 1)])
        grid = torch.stack([place_x, place_y], dim=-1) * scale
        moved = F.grid_sample(frames_NYX[None], grid[None], mode="bicubic", padding_mode="border", align_corners=True)
        return self.gain * moved[0]


class Drift:
    """How movements change from frame to frame: the slope of a line through the last ones, by least squares.

    >>> drift = Drift()
    >>> for t in range(6):
    ...     drift.add(Movement(y=0.1 * t))
    >>> round(drift.ahead(Movement(y=0.5), 2).y, 3)
    0.7
    """

    def __init__(self) -> None:
        self._last: deque[tuple[float, float, float]] = deque(maxlen=_DRIFT_FRAMES)

    def add(self, movement: Movement) -> None:
        """Take in the movement of the newest frame."""
        self._last.append((movement.y, movement.x, movement.turn))

    def forget(self) -> None:
        """Forget all: another frame is recalled."""
        self._last.clear()

    def ahead(self, movement: Movement, steps: int) -> Movement:
        """Movement so many frames later; of fewer than 4 movements no drift is known."""
        count = len(self._last)
        if count < _LEAST_DRIFT_FRAMES or not steps:
            return movement
        middle = (count - 1) / 2
        weights = [(t - middle) / (count * (count**2 - 1) / 12) for t in range(count)]
        y, x, turn = (
            sum(w * v for w, v in zip(weights, values, strict=True)) for values in zip(*self._last, strict=True)
        )
        fastest = max(abs(y), abs(x), _FASTEST_DRIFT) / _FASTEST_DRIFT
        go = steps / fastest
        return Movement(movement.y + go * y, movement.x + go * x, movement.turn + go * turn, movement.gain)


def movement_between(recalled_YX: Tensor, newest_YX: Tensor) -> Movement:
    """Find the movement that brings a recalled frame into the place of the newest one.

    >>> y, x = torch.meshgrid(torch.linspace(-1, 1, 40), torch.linspace(-1, 1, 40), indexing="ij")
    >>> frame = torch.exp(-9 * (x**2 + y**2)) + torch.exp(-20 * ((x - 0.5) ** 2 + (y - 0.3) ** 2))
    >>> found = movement_between(frame, Movement(y=0.5, x=-0.25, turn=0.02).applied_to(frame[None])[0])
    >>> round(found.y, 2), round(found.x, 2), round(found.turn, 2)
    (0.5, -0.25, 0.02)
    """
    rows, columns = newest_YX.shape
    if min(rows, columns) < 8:
        return Movement()
    newest = _smooth(newest_YX)
    found = Movement()
    for _ in range(_STEPS):
        moved = _smooth(found.applied_to(recalled_YX[None])[0])
        basis = movement_basis(moved)[2:-2, 2:-2].reshape(-1, 4).double()
        left = (newest - moved)[2:-2, 2:-2].reshape(-1).double()
        square = basis.T @ basis
        ridge = 1e-6 * torch.diag(square.diagonal()) + 1e-12 * torch.eye(4, dtype=torch.float64)
        dy, dx, da, dg = torch.linalg.solve(square + ridge, basis.T @ left).tolist()
        found = Movement(found.y + dy, found.x + dx, found.turn + da, found.gain * (1 + dg))
        if not found.is_small:
            return Movement()
    before = (newest - _smooth(recalled_YX)).square().mean()
    after = (newest - _smooth(found.applied_to(recalled_YX[None])[0])).square().mean()
    return found if after < before else Movement()


def movement_basis(frame_YX: Tensor) -> Tensor:
    """What a shift along y, along x, a turn, and a factor of brightness change, to first order, (Y, X, 4)."""
    y, x = _places(*frame_YX.shape)
    across, along = torch.gradient(frame_YX)
    return torch.stack([across, along, across * x - along * y, frame_YX], dim=-1)


def _places(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of pixels, counted from the middle."""
    return (torch.arange(rows) - (rows - 1) / 2)[:, None].expand(rows, columns), (
        torch.arange(columns) - (columns - 1) / 2
    ).expand(rows, columns)


def _smooth(frame_YX: Tensor) -> Tensor:
    """Means of 3 x 3 pixels, against noise."""
    smooth: Tensor = F.avg_pool2d(frame_YX[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
    return smooth
