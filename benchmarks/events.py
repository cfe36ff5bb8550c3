"""Events in simulated series, and false findings in clean ones: a first draft."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from crnn_cli.training.forecast.play import displace, slow, with_noise
from crnn_cli.training.reconstruct.scenes import SceneRandom, SceneSize, random_scene

KINDS = ("ectopic beat", "breath", "jump", "dropped frames")
FRAMES, SIDE = 96, 64


@dataclass(frozen=True)
class Simulated:
    series_TYX: Tensor
    kind: str
    at: int


def simulated(number: int) -> Simulated:
    """Series ``number``: clean where it is even, else with one event."""
    rng = SceneRandom(7_000_000 + number)
    kind = "" if number % 2 == 0 else KINDS[number // 2 % len(KINDS)]
    period, at = rng.uniform(14, 30), rng.integer(50, 80)
    missing = max(2, round(period / 6)) if kind == "dropped frames" else 0
    length = FRAMES + missing
    steps, pace, beat = [], 1.0, -1
    place = rng.uniform(0, 1)
    premature = -1.0
    for t in range(length):
        if int(place) != beat:
            beat, pace = int(place), math.exp(0.04 * float(rng.normal(1)))
        steps.append(place)
        step = pace / period
        if kind == "ectopic beat":
            if t == at:
                premature = math.floor(place) + 1.0
            if t >= at and place < premature:
                step = max(step, 0.15)  # the beat breaks off within a few frames
            elif premature > 0 and premature <= place < premature + 1:
                step *= 0.75  # the pause that makes up for it
        place += step
    phase_T = 2 * math.pi * torch.tensor(steps)
    shape = rng.uniform(0, 0.6)
    phase_T = phase_T + shape * torch.sin(phase_T)
    scene = random_scene(SceneSize(length, SIDE + 24, SIDE + 24), rng, phase_T)
    keep = [t for t in range(length) if not at <= t < at + missing]
    scene = scene[keep]
    shift = torch.stack([0.5 * slow(FRAMES, rng) for _ in range(2)], dim=1)
    turn = math.radians(0.5) * slow(FRAMES, rng)
    angle, t = rng.uniform(-math.pi, math.pi), torch.arange(FRAMES)
    way = torch.tensor([math.sin(angle), math.cos(angle)])
    if kind == "breath":
        length = rng.integer(12, 25)
        bump = torch.where((t >= at) & (t < at + length), torch.sin(math.pi * (t - at) / length) ** 2, 0.0)
        shift = shift + rng.uniform(4, 8) * bump[:, None] * way
    if kind == "jump":
        shift = shift + rng.uniform(2, 6) * (t >= at)[:, None] * way
        turn = turn + math.radians(rng.uniform(-3, 3)) * (t >= at)
    moved = displace(scene, shift, turn)[:, 12:-12, 12:-12]
    moved = moved / moved.amax().clamp_min(1e-3) * (1 + 0.02 * slow(FRAMES, rng))[:, None, None]
    return Simulated(with_noise(moved, rng.uniform(0.005, 0.03), rng), kind, at)
