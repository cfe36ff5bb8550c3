"""Random beating scenes: training data for cine reconstruction without patients.

A scene is a still picture on a fine grid (regions, a heart, vessels, texture), warped through the cardiac cycle by a
periodic displacement field; a phase, shading and drift are added. Anatomy is not the aim: a network should learn from
it how edges move, not the look of a heart.

Legend: T frame, Y phase encoding, X readout. Lengths are in pixels of the output grid, angles in radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SUPERSAMPLING = 2


@dataclass(frozen=True)
class SceneSize:
    """Size of a scene.

    Attributes
    ----------
    frames : of the sequence.
    lines, columns : along phase encoding and readout.
    """

    frames: int
    lines: int
    columns: int


class SceneRandom:
    """Random numbers of one item, all from one seed.

    >>> SceneRandom(3).integer(1, 6) == SceneRandom(3).integer(1, 6)
    True
    """

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float, high: float) -> float:
        """Draw a number from ``low`` to ``high``."""
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def log_uniform(self, low: float, high: float) -> float:
        """Draw a number from ``low`` to ``high`` whose logarithm is uniform."""
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def integer(self, low: int, high: int) -> int:
        """Draw an integer from ``low`` to ``high``, both included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def chance(self, probability: float) -> bool:
        """Draw True with a probability."""
        return self.uniform(0, 1) < probability

    def normal(self, *shape: int) -> Tensor:
        """Draw a tensor of standard normal numbers."""
        return torch.randn(*shape, generator=self.generator)

    def smooth(self, lines: int, columns: int, cell: float) -> Tensor:
        """Draw a smooth field of about unit variance.

        Parameters
        ----------
        lines, columns : its size.
        cell : pixels over which it changes.
        """
        rows, cols = max(3, math.ceil(lines / cell) + 3), max(3, math.ceil(columns / cell) + 3)
        coarse = self.normal(1, 1, rows, cols)
        shape = (math.ceil(rows * cell) + 1, math.ceil(cols * cell) + 1)
        fine = F.interpolate(coarse, size=shape, mode="bicubic", align_corners=True)[0, 0]
        top, left = (fine.shape[0] - lines) // 2, (fine.shape[1] - columns) // 2
        return 1.3 * fine[top : top + lines, left : left + columns]


def random_scene(size: SceneSize, rng: SceneRandom, phase_T: Tensor | None = None) -> Tensor:
    """Draw a random beating scene.

    Parameters
    ----------
    size : of the scene.
    rng : random numbers.
    phase_T : cardiac phase of each frame, of which everything that moves is then a function; None for a random rhythm,
        perhaps with breathing.

    Returns
    -------
    Magnitude (T, Y, X), float32, bright parts about 1.
    """
    fine = SceneSize(size.frames, size.lines * SUPERSAMPLING, size.columns * SUPERSAMPLING)
    margin = 8 * SUPERSAMPLING
    still, heart = _still_picture(fine.lines + 2 * margin, fine.columns + 2 * margin, rng)
    breathing = phase_T is None
    phase_T = _cycle(fine.frames, rng) if phase_T is None else phase_T
    moving_TYX = _warp(still, _motion(fine, margin, heart, phase_T, rng, breathing), margin)
    if rng.chance(0.6):
        moving_TYX = moving_TYX * _brightening(fine, margin, heart, phase_T, rng)
    return _downsample(moving_TYX, rng)


def with_phase(magnitude_TYX: Tensor, rng: SceneRandom) -> Tensor:
    """Add phase and shading to a magnitude sequence.

    The phase is smooth, up to a few pi, and a small part of it follows the beat.

    Parameters
    ----------
    magnitude_TYX : real.
    rng : random numbers.

    Returns
    -------
    Complex (T, Y, X).
    """
    frames, lines, columns = magnitude_TYX.shape
    extent = float(max(lines, 64))
    phase = rng.uniform(0.2, 2.5) * rng.smooth(lines, columns, extent / rng.uniform(1.0, 3.0))
    swing = rng.uniform(0, 0.3) * rng.smooth(lines, columns, extent / 3)
    beat = torch.sin(2 * math.pi * torch.arange(frames) / rng.uniform(12, 40) + rng.uniform(0, 6.28))
    angle_TYX = phase + beat[:, None, None] * swing + rng.uniform(-math.pi, math.pi)
    shading = torch.exp(rng.uniform(0, 0.4) * rng.smooth(lines, columns, extent / 2))
    return torch.polar(magnitude_TYX * shading, angle_TYX.expand_as(magnitude_TYX).contiguous())


def from_cine(cine_TYX: Tensor, size: SceneSize, rng: SceneRandom) -> Tensor:
    """Draw a random view of a real cine: rotated, mirrored, scaled, cropped, with changed contrast.

    Parameters
    ----------
    cine_TYX : one cycle, magnitude or complex; it is repeated in time, at random backwards. A complex view keeps its
        phase.
    size : of the view.
    rng : random numbers.
    """
    frames = cine_TYX.shape[0]
    steps = torch.arange(size.frames) * (1 if rng.chance(0.8) else 2) + rng.integer(0, frames - 1)
    cine = cine_TYX[(steps % frames).flip(0) if rng.chance(0.5) else steps % frames]
    angle, zoom = rng.uniform(-math.pi, math.pi), rng.log_uniform(0.7, 2.2)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) * zoom
    if rng.chance(0.5):
        turn[:, 0] *= -1
    y, x = _pixel_grid(size.lines, size.columns)
    off = torch.tensor([rng.uniform(-0.5, 0.5) * size.lines, rng.uniform(-0.5, 0.5) * size.columns])
    place = torch.stack([y - size.lines / 2, x - size.columns / 2], -1) + off * rng.uniform(0, 1)
    bend = torch.stack([rng.smooth(size.lines, size.columns, 24) for _ in range(2)], -1)
    place_TYX2 = (place + rng.uniform(0, 2.5) * bend).expand(size.frames, -1, -1, -1)
    if rng.chance(0.5):
        place_TYX2 = place_TYX2 + _sway(size, size.lines / rng.uniform(1.5, 6), rng)
    grid = _normalised(place_TYX2 @ turn.T + _moving_centre(cine), cine.shape[1], cine.shape[2])
    parts = torch.view_as_real(cine).movedim(-1, 1).contiguous() if cine.is_complex() else cine[:, None]
    sampled = F.grid_sample(parts, grid, mode="bicubic", padding_mode="reflection", align_corners=True)
    magnitude = torch.linalg.vector_norm(sampled, dim=1) if cine.is_complex() else sampled[:, 0].clamp_min(0)
    bent = (magnitude / magnitude.amax().clamp_min(1e-6)) ** rng.uniform(0.5, 1.3)
    if not cine.is_complex():
        return bent
    return torch.polar(bent, torch.atan2(sampled[:, 1], sampled[:, 0]))


def _moving_centre(cine_TYX: Tensor) -> Tensor:
    """Centre of mass of the variance over time, y and x."""
    variance_YX = cine_TYX.abs().var(0, unbiased=False)
    total = variance_YX.sum()
    if not float(total) > 0:
        return torch.tensor(cine_TYX.shape[1:]) / 2
    y, x = _pixel_grid(*variance_YX.shape)
    return torch.stack([(variance_YX * y).sum(), (variance_YX * x).sum()]) / total


def _sway(size: SceneSize, cell: float, rng: SceneRandom) -> Tensor:
    """Displacements (T, Y, X, 2) in pixels: one smooth field for the cosine, another for the sine of the phase."""
    phase_T, amount = _cycle(size.frames, rng), rng.uniform(0, 1.5)
    fields = [torch.stack([rng.smooth(size.lines, size.columns, cell) for _ in range(2)], -1) for _ in range(2)]
    waves = (torch.cos(phase_T), torch.sin(phase_T))
    first, second = (wave[:, None, None, None] * field for wave, field in zip(waves, fields, strict=True))
    return amount * (first + second)


def _still_picture(lines: int, columns: int, rng: SceneRandom) -> tuple[Tensor, tuple[float, float, float]]:
    """A still picture and the heart in it: centre y, x and outer radius, in fine pixels."""
    scale = float(max(lines, 96 * SUPERSAMPLING))
    regions = rng.integer(3, 10)
    cell = scale / rng.uniform(3, 14)
    labels = torch.stack([rng.smooth(lines, columns, cell) for _ in range(regions)]).argmax(0)
    palette = torch.tensor([rng.uniform(0.02, 1.0) ** rng.uniform(0.7, 2.0) for _ in range(regions)])
    picture = palette[labels]
    y, x = _pixel_grid(lines, columns)
    for _ in range(rng.integer(0, 8)):
        _paint_disc(picture, y, x, scale * rng.log_uniform(0.008, 0.05), rng)
    for _ in range(rng.integer(0, 2)):
        parts = rng.integer(3, 8)
        cell = scale / rng.uniform(6, 25)
        labels = torch.stack([rng.smooth(lines, columns, cell) for _ in range(parts)]).argmax(0)
        strength = rng.uniform(0, 0.6)
        picture = picture * torch.tensor([math.exp(strength * rng.uniform(-1, 1)) for _ in range(parts)])[labels]
    radius = scale * rng.uniform(0.15, 0.42)
    centre = (lines * rng.uniform(0.25, 0.75), columns * rng.uniform(0.1, 0.9))
    if rng.chance(0.8):
        _paint_heart(picture, y - centre[0], x - centre[1], radius, rng)
    for fineness in (rng.uniform(2, 5), rng.uniform(5, 20)):
        texture = rng.smooth(lines, columns, fineness * SUPERSAMPLING)
        picture = picture * torch.exp(rng.uniform(0, 0.25) * texture)
    if rng.chance(0.5):
        picture = picture * _body(y / lines - 0.5, x / columns - 0.5, rng)
    return picture, (*centre, radius)


def _paint_heart(picture: Tensor, y: Tensor, x: Tensor, radius: float, rng: SceneRandom) -> None:
    """Paint, around the origin, a dark ring with a bright pool, muscles in the pool, and a crescent beside it."""
    ragged = 1 + rng.uniform(0.02, 0.15) * rng.smooth(picture.shape[0], picture.shape[1], radius / rng.uniform(1, 3))
    distance = torch.hypot(y * rng.uniform(0.8, 1.2), x) * ragged / radius
    blood, muscle = rng.uniform(0.5, 1.0), rng.uniform(0.05, 0.4)
    if rng.chance(0.15):
        blood, muscle = muscle, blood
    angle = rng.uniform(0, 2 * math.pi)
    beside = torch.hypot(y - 0.9 * radius * math.sin(angle), x - 0.9 * radius * math.cos(angle)) * ragged
    picture[beside < 1.05 * radius] = muscle
    picture[beside < rng.uniform(0.8, 1.0) * radius] = blood * rng.uniform(0.8, 1.1)
    picture[distance < 1] = muscle
    pool = rng.uniform(0.5, 0.85)
    picture[distance < pool] = blood
    for _ in range(rng.integer(0, 6)):
        turn, out, size = rng.uniform(0, 6.28), rng.uniform(0.5, 1) * pool * radius, radius * rng.uniform(0.04, 0.15)
        picture[torch.hypot(y - out * math.sin(turn), x - out * math.cos(turn)) < size] = muscle


def _paint_disc(picture: Tensor, y: Tensor, x: Tensor, radius: float, rng: SceneRandom) -> None:
    lines, columns = picture.shape
    inside = torch.hypot(y - lines * rng.uniform(0, 1), x - columns * rng.uniform(0, 1)) < radius
    picture[inside] = rng.uniform(0.0, 1.2)


def _body(y: Tensor, x: Tensor, rng: SceneRandom) -> Tensor:
    """Support of a body that ends inside the field of view along y (coordinates from -1/2 to 1/2)."""
    outline = torch.hypot((y - rng.uniform(-0.08, 0.08)) / rng.uniform(0.3, 0.5), x / rng.uniform(0.5, 2.0))
    air = rng.uniform(0, 0.03)
    return torch.where(outline < 1, 1.0, air)


def _motion(
    size: SceneSize, margin: int, heart: tuple[float, float, float], phase_T: Tensor, rng: SceneRandom,
    breathing: bool = True,
) -> Tensor:  # fmt: skip
    """Displacements (T, 2, Y, X) in fine pixels: contraction, smooth swaying in quadrature, drift."""
    squeeze_T = (0.5 - 0.5 * torch.cos(phase_T)) ** rng.uniform(0.6, 1.5) * rng.uniform(0.1, 0.6)
    y, x, near = _near_heart(size, margin, heart, rng.uniform(0.7, 1.3))
    contraction = torch.stack([y, x]) * near + rng.uniform(-0.2, 0.2) * torch.stack([-x, y]) * near
    displacement = squeeze_T[:, None, None, None] * contraction
    local = 0.2 + near
    for wave in (torch.cos(phase_T), torch.sin(phase_T)):
        cell = size.lines / rng.uniform(1.5, 5)
        sway = torch.stack([rng.smooth(size.lines, size.columns, cell) for _ in range(2)])
        amount = rng.uniform(0, 2.0) * SUPERSAMPLING
        displacement = displacement + wave[:, None, None, None] * amount * local * sway
    if breathing and rng.chance(0.35):
        breath = torch.sin(torch.arange(size.frames) * rng.uniform(0.02, 0.25) + rng.uniform(0, 6.28))
        way = rng.normal(2) * rng.uniform(0, 2.5) * SUPERSAMPLING
        displacement = displacement + breath[:, None, None, None] * way[:, None, None]
    return displacement


def _brightening(
    size: SceneSize, margin: int, heart: tuple[float, float, float], phase_T: Tensor, rng: SceneRandom
) -> Tensor:
    """Factors (T, Y, X): inflow and motion through the plane change brightness over the cycle."""
    _, _, near = _near_heart(size, margin, heart, rng.uniform(0.5, 1.2))
    exponent = torch.zeros(size.frames, size.lines, size.columns)
    for wave in (torch.cos(phase_T), torch.sin(2 * phase_T + rng.uniform(0, 6.28))):
        field = rng.smooth(size.lines, size.columns, heart[2] / rng.uniform(1, 4))
        exponent = exponent + rng.uniform(0, 0.35) * wave[:, None, None] * near * field
    return torch.exp(exponent.clamp(-1.5, 1.0))


def _near_heart(
    size: SceneSize, margin: int, heart: tuple[float, float, float], reach: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Y and x from the centre of the heart, and a bump about it, 1 in its middle."""
    y, x = _pixel_grid(size.lines, size.columns)
    y, x = y + margin - heart[0], x + margin - heart[1]
    return y, x, torch.exp(-0.5 * ((y**2 + x**2) / (heart[2] * reach) ** 2))


def _cycle(frames: int, rng: SceneRandom) -> Tensor:
    """Cardiac phase of each frame: period 12 to 40 frames, faster in systole, occasionally arrhythmic."""
    rate = 2 * math.pi / rng.uniform(12, 40)
    steps = torch.full((frames,), rate)
    if rng.chance(0.15):
        steps = steps * torch.exp(0.3 * rng.normal(frames))
    phase = rng.uniform(0, 6.28) + torch.cumsum(steps, 0)
    return phase + rng.uniform(0, 0.6) * torch.sin(phase)


def _warp(still: Tensor, displacement_T2YX: Tensor, margin: int) -> Tensor:
    frames, _, lines, columns = displacement_T2YX.shape
    y, x = _pixel_grid(lines, columns)
    place_TYX2 = torch.stack([y, x], -1) + margin + displacement_T2YX.permute(0, 2, 3, 1)
    grid = _normalised(place_TYX2, *still.shape)
    source = still.expand(frames, 1, -1, -1)
    return F.grid_sample(source, grid, mode="bilinear", padding_mode="reflection", align_corners=True)[:, 0]


def _downsample(fine_TYX: Tensor, rng: SceneRandom) -> Tensor:
    """Resample to the output grid: by averaging, or, as a scanner does, by cropping k-space (ringing)."""
    if rng.chance(0.5):
        return F.avg_pool2d(fine_TYX[:, None], SUPERSAMPLING)[:, 0]
    lines, columns = fine_TYX.shape[1:]
    out_lines, out_columns = lines // SUPERSAMPLING, columns // SUPERSAMPLING
    kspace = torch.fft.fftshift(torch.fft.fft2(fine_TYX), (-2, -1))
    top, left = lines // 2 - out_lines // 2, columns // 2 - out_columns // 2
    kspace = kspace[:, top : top + out_lines, left : left + out_columns] / SUPERSAMPLING**2
    image: Tensor = torch.fft.ifft2(torch.fft.ifftshift(kspace, (-2, -1)))
    return image.abs()


def _pixel_grid(lines: int, columns: int) -> tuple[Tensor, Tensor]:
    y, x = torch.meshgrid(torch.arange(lines).float(), torch.arange(columns).float(), indexing="ij")
    return y, x


def _normalised(place_yx: Tensor, lines: int, columns: int) -> Tensor:
    """Convert pixel positions (..., y x) to those of grid_sample: (..., x y) from -1 to 1."""
    scale = torch.tensor([2 / (lines - 1), 2 / (columns - 1)])
    return (place_yx * scale - 1).flip(-1)
