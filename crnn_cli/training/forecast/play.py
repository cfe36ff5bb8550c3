"""A cine played for many beats, no two of them alike: other rates, slow sway, brightness, noise.

A cine is one beat, whose frames follow each other in a circle. It is read at places between its frames (Catmull-Rom
splines in time), moved as a whole (linearly), and noise is added as to both parts of a complex image.

Legend: T frame, Y, X pixel. Places in time are in frames of the cine, displacements in pixels, angles in radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from crnn_cli.training.reconstruct.scenes import SceneRandom


@dataclass(frozen=True)
class Variation:
    """How beats differ.

    Attributes
    ----------
    rate : standard deviation of the logarithm of the rate, from beat to beat.
    sway : pixels of slow movement, at most, in each direction.
    turn : degrees of slow turning, at most.
    brightness : share of slow change, at most.
    noise : standard deviation, in units of the image.
    """

    rate: float = 0.05
    sway: float = 1.0
    turn: float = 1.0
    brightness: float = 0.03
    noise: float = 0.02


def play(cine_TYX: Tensor, places_T: Tensor, variation: Variation, rng: SceneRandom) -> tuple[Tensor, Tensor]:
    """Play a cine at places in time, with all of the variation but that of the rate.

    Parameters
    ----------
    cine_TYX : magnitude of one beat.
    places_T : see `beat_places`.
    variation, rng : what varies, and its random numbers.

    Returns
    -------
    The series (T, Y, X) with noise, and without.
    """
    frames = len(places_T)
    sway_T2 = torch.stack([variation.sway * slow(frames, rng) for _ in range(2)], dim=1)
    turn_T = math.radians(variation.turn) * slow(frames, rng)
    moved = displace(resample_time(cine_TYX, places_T), sway_T2, turn_T)
    clean = moved * (1 + variation.brightness * slow(frames, rng))[:, None, None]
    return with_noise(clean, variation.noise, rng), clean


def beat_places(frames: int, beat: int, step: float, rate: float, rng: SceneRandom) -> Tensor:
    """Places in time of a series: each beat at a rate of its own.

    Parameters
    ----------
    frames : of the series.
    beat : frames of the cine.
    step : frames of the cine from frame to frame, on the mean.
    rate : see `Variation`.
    rng : random numbers.

    Returns
    -------
    (T,), rising; the whole part of place / beat counts the beats.
    """
    places, place, pace, number = [], rng.uniform(0, beat), 1.0, -1
    for _ in range(frames):
        if int(place // beat) != number:
            number, pace = int(place // beat), math.exp(rate * float(rng.normal(1)))
        places.append(place)
        place += step * pace
    return torch.tensor(places)


def resample_time(cine_TYX: Tensor, places_T: Tensor) -> Tensor:
    """Read a cine between its frames, in a circle, by Catmull-Rom splines.

    >>> cine = torch.rand(5, 4, 4)
    >>> torch.allclose(resample_time(cine, torch.tensor([3.0, 6.0])), cine[[3, 1]])
    True
    """
    before = places_T.floor()
    u = (places_T - before)[:, None, None]
    a, b, c, d = (cine_TYX[(before.long() + k) % len(cine_TYX)] for k in (-1, 0, 1, 2))
    found: Tensor = b + 0.5 * u * (c - a + u * (2 * a - 5 * b + 4 * c - d + u * (3 * (b - c) + d - a)))
    return found.clamp_min(0)


def displace(series_TYX: Tensor, shift_T2: Tensor, turn_T: Tensor) -> Tensor:
    """Move and turn each frame as a whole, about its middle.

    Parameters
    ----------
    series_TYX : frames.
    shift_T2 : pixels, y and x.
    turn_T : radians.
    """
    frames, rows, columns = series_TYX.shape
    scale = torch.tensor([2 / max(columns - 1, 1), 2 / max(rows - 1, 1)])
    cos, sin, aspect = turn_T.cos(), turn_T.sin(), (rows - 1) / max(columns - 1, 1)
    affine_T23 = torch.zeros(frames, 2, 3)
    affine_T23[:, 0, 0], affine_T23[:, 0, 1] = cos, -sin * aspect
    affine_T23[:, 1, 0], affine_T23[:, 1, 1] = sin / aspect, cos
    affine_T23[:, :, 2] = -shift_T2.flip(1) * scale
    grid = F.affine_grid(affine_T23, [frames, 1, rows, columns], align_corners=True)
    return F.grid_sample(series_TYX[:, None], grid, padding_mode="reflection", align_corners=True)[:, 0]


def with_noise(series_TYX: Tensor, deviation: float, rng: SceneRandom) -> Tensor:
    """Add noise to both parts of a complex image of no phase, and take the magnitude."""
    real, imaginary = deviation * rng.normal(2, *series_TYX.shape)
    return torch.hypot(series_TYX + real, imaginary)


def slow(frames: int, rng: SceneRandom) -> Tensor:
    """Draw a slow wave (T,) from -1 to 1: a period of 40 to 200 frames, as of breathing, and any phase."""
    return torch.sin(torch.arange(frames) * (2 * math.pi / rng.log_uniform(40, 200)) + rng.uniform(0, 2 * math.pi))
