"""Anatomy of the phantom: a chest with a beating heart in short-axis view, made of ellipses.

Legend: T frame. Lengths in mm; x grows towards the patient's right hand, y towards the breastbone. Blood is 1.

Regions nest or are disjoint and never cross, so each point has the intensity of the innermost region that contains it:
an ellipse adds its own intensity minus that of the region around it. The right ventricle is the crescent that the left
one leaves of a larger ellipse, which it touches at the lateral wall.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from crnn_cli.mri.phantom.ellipses import Ellipse

BLOOD, FAT, MARROW, LIVER, MYOCARDIUM, MUSCLE, LUNG = 1.0, 0.8, 0.55, 0.46, 0.34, 0.26, 0.06
VEIN = 0.75
BODY = (332.0, 242.0)  # largest extent along x and y
MAX_DRIFT = 10.0
SYSTOLE = 0.36  # fraction of the cardiac cycle

Moving = float | Tensor
Place = tuple[Moving, Moving]


class RandomSource:
    """Uniform random numbers from a generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def __call__(self, low: float, high: float) -> float:
        """Draw a number uniformly from ``low`` to ``high``."""
        share = float(torch.rand(1, dtype=torch.float64, generator=self._generator))
        return low + (high - low) * share


def contraction(cycle_T: Tensor) -> Tensor:
    """Contraction of the heart, from 0 (end of diastole) to 1 (end of systole), at times in cardiac cycles (period 1).

    sin^2(pi w), where w runs from 0 to 1/2 over systole (36 % of the cycle) and from 1/2 to 1 over diastole.

    >>> contraction(torch.tensor([0.0, 0.36, 1.0])).tolist()
    [0.0, 1.0, 0.0]
    """
    time_T = torch.remainder(cycle_T, 1)
    systole_T = time_T / (2 * SYSTOLE)
    diastole_T = 0.5 + (time_T - SYSTOLE) / (2 * (1 - SYSTOLE))
    return torch.sin(math.pi * torch.where(time_T < SYSTOLE, systole_T, diastole_T)) ** 2


def beating_heart(cycle_T: Tensor, drift_T: Tensor, generator: torch.Generator, scale: float = 1.0) -> list[Ellipse]:
    """Ellipses of a random chest with a beating heart; those that do not move have one frame.

    Parameters
    ----------
    cycle_T : time of each frame in cardiac cycles, float64.
    drift_T : displacement of heart and liver along +y in mm, 0 to 10; the right lung is compressed by the liver.
    generator : of the anatomy; the same state gives the same chest.
    scale : size of the heart, from 1 at the base to 0.4 near the apex.
    """
    draw = RandomSource(generator)
    return [*_chest(draw, drift_T), *_heart(draw, contraction(cycle_T), drift_T, scale)]


def wall_thickness(a_T: Tensor, b_T: Tensor, area: float | Tensor) -> Tensor:
    """Wall thickness w for which the ring between semi-axes (a, b) and (a + w, b + w) has a given area.

    Solves area = pi ((a + w)(b + w) - a b); all lengths in mm, the area in mm^2.
    """
    total_T = a_T + b_T
    return (torch.sqrt(total_T**2 + 4 * area / math.pi) - total_T) / 2


def _chest(draw: RandomSource, drift_T: Tensor) -> list[Ellipse]:
    """Ellipses of body, fat, lungs, mediastinum, liver, spine, breastbone and vessels: everything but the heart."""
    size, fat = draw(0.97, 1.05), draw(9, 14)
    lung_b, liver_b = draw(33, 36) * size, draw(27, 30) * size
    lung = (draw(83, 85) * size, 36 * size + drift_T / 2)
    liver = (draw(82, 86) * size, -33 * size + drift_T)
    organs = [
        _ellipse(FAT, (0, 0), (158 * size, 115 * size)),
        _ellipse(MUSCLE - FAT, (0, 0), (158 * size - fat, 115 * size - fat)),
        _ellipse(LUNG - MUSCLE, (-48 * size, 10 * size), (88 * size, 73 * size)),
        _ellipse(MUSCLE - LUNG, (-20.5 * size, 10 * size), (60 * size, 59.7 * size)),
        _ellipse(LUNG - MUSCLE, lung, (38 * size, lung_b - drift_T / 2)),
        _ellipse(LIVER - MUSCLE, liver, (draw(43, 46) * size, liver_b)),
        _ellipse(MARROW - MUSCLE, (17 * size, -75 * size), (draw(16, 18), draw(12, 14))),
        _ellipse(FAT - MUSCLE, (17 * size, -94 * size), (6, 4.5)),
        _ellipse(MARROW - MUSCLE, (6 * size, 90 * size), (draw(11, 15), 4.5)),
    ]
    aorta = _circle(BLOOD - MUSCLE, (-18 * size, -74 * size), draw(9.5, 11))
    return [*organs, aorta, *_vessels(draw, lung, liver, size)]


def _vessels(draw: RandomSource, lung: Place, liver: Place, size: float) -> list[Ellipse]:
    """Vessels of the right lung, the liver and the left lung."""
    vessels = [_circle(BLOOD - LIVER, (liver[0] - 26, liver[1] + draw(-2, 2)), draw(6.5, 8))]
    for turn in range(4):
        angle = draw(0, 0.6) + turn * math.pi / 2
        cos, sin = math.cos(angle), math.sin(angle)
        branch = (liver[0] + 8 + 18 * cos, liver[1] + 12 * sin)
        vessels.append(_circle(MYOCARDIUM - LUNG, (lung[0] + 20 * cos, lung[1] + 13 * sin), draw(1.5, 3.5)))
        vessels.append(_ellipse(VEIN - LIVER, branch, (draw(3, 5), draw(1.5, 2.5)), draw(0, math.pi)))
    for x, y in ((-121, -6), (-118, 26), (-104, 47), (-111, -28)):
        centre = ((x + draw(-2, 2)) * size, (y + draw(-2, 2)) * size)
        vessels.append(_circle(MYOCARDIUM - LUNG, centre, draw(1.5, 3)))
    return vessels


def _heart(draw: RandomSource, contracted_T: Tensor, drift_T: Tensor, scale: float) -> list[Ellipse]:
    """Ellipses of epicardial fat, both ventricles, papillary muscles and a trabecula.

    The inner axes shorten by a third. The wall keeps its volume while the long axis shortens by 15 %, so that its area
    in the slice is area(0) / (1 - 0.15 c).
    """
    shrink_T = 1 - draw(0.29, 0.36) * contracted_T
    a, b, wall, width = (scale * draw(*limits) for limits in ((20.5, 23.5), (21.5, 24.5), (8, 9.5), (24, 29)))
    a_T, b_T, area = a * shrink_T, b * shrink_T, math.pi * ((a + wall) * (b + wall) - a * b)
    wall_T = wall_thickness(a_T, b_T, area / (1 - 0.15 * contracted_T))
    width_T = width * (1 - 0.34 * contracted_T)
    left = _Oval(torch.zeros_like(a_T), a_T + wall_T, b_T + wall_T)
    right = left.surrounded(width_T)
    right_wall = right.surrounded(scale * 3)
    fat = right_wall.surrounded(scale * draw(5, 9))
    axes = _HeartAxes(draw(-42, -38), draw(-5, -2) + drift_T, draw(0.5, 0.8), 2 * scale * contracted_T)
    ventricles = [
        axes.ellipse(FAT - MUSCLE, (fat.u_T, 0), (fat.a_T, fat.b_T)),
        axes.ellipse(MYOCARDIUM - FAT, (right_wall.u_T, 0), (right_wall.a_T, right_wall.b_T)),
        axes.ellipse(BLOOD - MYOCARDIUM, (right.u_T, 0), (right.a_T, right.b_T)),
        axes.ellipse(MYOCARDIUM - BLOOD, (left.u_T, 0), (left.a_T, left.b_T)),
        axes.ellipse(BLOOD - MYOCARDIUM, (0, 0), (a_T, b_T)),
    ]
    muscles = []
    for angle in (2.2, 4.2):
        angle_T = draw(-0.15, 0.15) + angle + 0.17 * contracted_T
        centre = (0.62 * a_T * torch.cos(angle_T), 0.62 * b_T * torch.sin(angle_T))
        semi_axes = (scale * draw(3.8, 4.8), scale * draw(2.8, 3.6))
        muscles.append(axes.ellipse(MYOCARDIUM - BLOOD, centre, semi_axes, angle_T))
    middle = (left.a_T + width_T / 2, scale * draw(-12, 12))
    muscles.append(axes.ellipse(MYOCARDIUM - BLOOD, middle, (scale * 1.6, scale * draw(2.5, 4))))
    return [*ventricles, *muscles]


@dataclass(frozen=True)
class _Oval:
    """An ellipse in the axes of the heart, centred at (u, 0)."""

    u_T: Tensor
    a_T: Tensor
    b_T: Tensor

    def surrounded(self, thickness: float | Tensor) -> _Oval:
        """Ellipse around this one, at a distance of ``thickness`` mm at its right end and 0.4 mm at its left end.

        The radius of curvature b^2 / a at the left end grows, so that the two never cross.
        """
        outer_T = self.a_T + thickness / 2 + 0.2
        return _Oval(self.u_T + thickness / 2 - 0.2, outer_T, 1.005 * self.b_T * torch.sqrt(outer_T / self.a_T))


@dataclass(frozen=True)
class _HeartAxes:
    """Axes of the heart, u from the left to the right ventricle and v across: rotated by ``turn`` rad."""

    x: float
    y_T: Tensor
    turn: float
    pull_T: Tensor

    def ellipse(self, amplitude: float, centre: Place, semi_axes: Place, angle: Moving = 0.0) -> Ellipse:
        """Ellipse of the chest from centre and semi-axes in u and v."""
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        u, v = centre[0] + self.pull_T, centre[1]
        placed = (self.x + u * cos - v * sin, self.y_T + u * sin + v * cos)
        return _ellipse(amplitude, placed, semi_axes, angle + self.turn)


def _circle(amplitude: float, centre: Place, radius: Moving) -> Ellipse:
    return _ellipse(amplitude, centre, (radius, radius))


def _ellipse(amplitude: float, centre: Place, semi_axes: Place, angle: Moving = 0.0) -> Ellipse:
    """Ellipse from numbers that vary over time, (T,), or do not."""
    values = [torch.as_tensor(v, dtype=torch.float64).reshape(-1) for v in (*centre, *semi_axes, angle)]
    frames = max(value.numel() for value in values)
    x_T, y_T, a_T, b_T, angle_T = (value.expand(frames) for value in values)
    return Ellipse(amplitude, torch.stack([x_T, y_T], 1), torch.stack([a_T, b_T], 1), angle_T)
