"""Events in simulated series, and false findings in real cines.

    python benchmarks/events.py [--series 200] [--model cine-forecast] [--data DATA --split val] [--out events.json]

Simulated  random scenes of 72 frames of 48 x 48 pixels (`crnn_cli.training.reconstruct.scenes`, seeds that training does
           not draw), 12 to 22 frames a beat. Every second one is clean: each beat at a rate of its own (standard
           deviation 4 %), slow sway up to half a pixel in either direction, turning up to half a degree, brightness up
           to 2 %, noise of 0.5 to 3 % of the brightest pixel. The others have one event besides, between frame 47 and 63,
           of four kinds in turn:
             ectopic beat    the beat breaks off within a few frames, the next begins early and takes a third longer
             breath          the body moves by 4 to 8 pixels and comes back within 12 to 25 frames
             jump            the body is moved by 2 to 6 pixels and turned by up to 3 degrees from one frame to the next
             dropped frames  a sixth of a beat is missing, 2 frames or more
           A series is scored by its largest surprise. Measure: area under the curve of clean against others; at the
           default threshold the share of clean series with a finding, and of events that are found within 6 frames.
Real       with --data: the cines of `benchmarks/forecast.py`, each played five times with its variation (beats at rates
           of their own, sway, turning, brightness, noise 2 %) and no event. Measure: beats with a finding, of all judged.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forecast as forecast_benchmark
import numpy as np
import torch
from torch import Tensor

from crnn_cli.forecast.events import THRESHOLD, FollowedSlice, follow_slice
from crnn_cli.training.forecast.play import beat_places, displace, play, slow, with_noise
from crnn_cli.training.reconstruct.scenes import SceneRandom, SceneSize, random_scene
from crnn_cli.workflows.forecast.engine import ForecastEngine, prepare

KINDS = ("ectopic beat", "breath", "jump", "dropped frames")
FRAMES, SIDE, MARGIN = 72, 48, 12
BEATS = 5
NEAR = 6  # frames after an event within which it counts as found


@dataclass(frozen=True)
class Simulated:
    """A simulated series; ``kind`` is empty where it is clean, ``at`` the frame of the event."""

    series_TYX: Tensor
    kind: str
    at: int


def simulated(number: int) -> Simulated:
    """Series of a number: clean where it is even."""
    rng = SceneRandom(7_000_000 + number)
    kind = "" if number % 2 == 0 else KINDS[number // 2 % len(KINDS)]
    period, at = rng.uniform(12, 22), rng.integer(46, 62)
    missing = max(2, round(period / 6)) if kind == "dropped frames" else 0
    beats_T = rhythm(FRAMES + missing, period, at if kind == "ectopic beat" else None, rng)
    phase_T = 2 * math.pi * beats_T
    phase_T = phase_T + rng.uniform(0, 0.6) * torch.sin(phase_T)
    scene = random_scene(SceneSize(len(phase_T), SIDE + 2 * MARGIN, SIDE + 2 * MARGIN), rng, phase_T)
    scene = scene[[t for t in range(len(scene)) if not at <= t < at + missing]]
    shift_T2, turn_T = movement(kind, at, rng)
    moved = displace(scene, shift_T2, turn_T)[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    moved = moved / moved.amax().clamp_min(1e-3) * (1 + 0.02 * slow(FRAMES, rng))[:, None, None]
    return Simulated(with_noise(moved, rng.uniform(0.005, 0.03), rng), kind, at)


def rhythm(frames: int, period: float, ectopic_at: int | None, rng: SceneRandom) -> Tensor:
    """Beats passed at each frame."""
    beats, passed, pace, number, early = [], rng.uniform(0, 1), 1.0, -1, -1.0
    for t in range(frames):
        if int(passed) != number:
            number, pace = int(passed), math.exp(0.04 * float(rng.normal(1)))
        beats.append(passed)
        step = pace / period
        if t == ectopic_at:
            early = math.floor(passed) + 1.0
        if ectopic_at is not None and t >= ectopic_at and passed < early:
            step = max(step, 0.15)
        elif 0 < early <= passed < early + 1:
            step *= 0.75
        passed += step
    return torch.tensor(beats)


def movement(kind: str, at: int, rng: SceneRandom) -> tuple[Tensor, Tensor]:
    """Shift (T, 2) and turn (T,) of the body: slow sway, and the breath or jump."""
    shift = torch.stack([0.5 * slow(FRAMES, rng) for _ in range(2)], dim=1)
    turn, t = math.radians(0.5) * slow(FRAMES, rng), torch.arange(FRAMES)
    angle = rng.uniform(-math.pi, math.pi)
    way = torch.tensor([math.sin(angle), math.cos(angle)])
    if kind == "breath":
        length = rng.integer(12, 25)
        breath_T = torch.where((t >= at) & (t < at + length), torch.sin(math.pi * (t - at) / length) ** 2, 0.0)
        shift = shift + rng.uniform(4, 8) * breath_T[:, None] * way
    if kind == "jump":
        shift = shift + rng.uniform(2, 6) * (t >= at)[:, None] * way
        turn = turn + math.radians(rng.uniform(-3, 3)) * (t >= at)
    return shift, turn


def area_under_curve(positive: list[float], negative: list[float]) -> float:
    """Share of pairs in which the positive has the larger score; ties count half."""
    wins = np.subtract.outer(positive, negative)
    return float(np.mean((wins > 0) + 0.5 * (wins == 0)))


def score(followed: FollowedSlice) -> float:
    """Largest surprise; 0 where nothing was judged."""
    return float(np.nanmax(followed.surprises)) if followed.judged_T.any() else 0.0


def measure_simulated(count: int, engine: ForecastEngine) -> dict[str, Any]:
    """Area under the curve, of all and by kind, and findings at the default threshold."""
    scores: dict[str, list[float]] = {kind: [] for kind in ("", *KINDS)}
    found: dict[str, list[bool]] = {kind: [] for kind in ("", *KINDS)}
    for number in range(count):
        case = simulated(number)
        followed = follow_slice(case.series_TYX, engine.network, engine.device)
        events = followed.events(THRESHOLD)
        scores[case.kind].append(score(followed))
        near = [e for e in events if not case.kind or e.first - NEAR <= case.at <= e.last + NEAR]
        found[case.kind].append(bool(near))
    clean = scores.pop("")
    everything = [value for values in scores.values() for value in values]
    return {
        "series": count, "auc": round(area_under_curve(everything, clean), 4),
        "auc_by_kind": {kind: round(area_under_curve(values, clean), 4) for kind, values in scores.items()},
        "clean_with_a_finding": round(float(np.mean(found[""])), 4),
        "found": {kind: round(float(np.mean(found[kind])), 4) for kind in KINDS},
    }  # fmt: skip


def measure_real(data: Path, split: str, engine: ForecastEngine) -> dict[str, Any]:
    """Beats with a finding in real cines that were played without any event."""
    judged, false, by_case = 0, 0, {}
    for seed, (name, cine) in enumerate(forecast_benchmark.read_cases(data, split).items()):
        rng = SceneRandom(9_000_000 + seed)
        variation, beat = forecast_benchmark.VARIATION, forecast_benchmark.BEAT
        places = beat_places(BEATS * beat, len(cine), len(cine) / beat, variation.rate, rng)
        followed = follow_slice(play(cine, places, variation, rng)[0], engine.network, engine.device)
        beats = {beat for event in followed.events(THRESHOLD) for beat in event.beats}
        judged, false = judged + followed.beats, false + len(beats)
        by_case[name] = {"beats": followed.beats, "with_a_finding": len(beats)}
    return {"beats": judged, "with_a_finding": false, "cases": by_case}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=200)
    parser.add_argument("--model")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    engine = prepare(options.model, "cpu")
    facts: dict[str, Any] = {"model": {"name": engine.bundle.name, "sha256": engine.bundle.sha256}}
    if options.series:
        facts["simulated"] = measure_simulated(options.series, engine)
    if options.data:
        facts["real"] = measure_real(options.data, options.split, engine)
    print(json.dumps(facts, indent=1))
    if options.out:
        options.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
