"""How good forecasts of cines are: PSNR against the last frame, and against the frame of one beat before.

    python benchmarks/forecast.py DATA [--model cine-forecast] [--split val] [--noise 0.02] [--out forecast.json]

Cases     the middle slice of every cine of DATA/acdc_cine that belongs to the split (`heart.split_of`; the test is for
          the end), and slices 2, 5 and 7 of the pig (DATA/pig_cine_sax), which no model was trained on.
Beats     each cine is one beat. It is played twice (`crnn_cli.training.forecast.play`), 24 frames a beat on the mean:
          each beat at a rate of its own (standard deviation 5 %), slow sway up to 1 pixel in either direction, turning
          up to 1 degree, brightness up to 3 %, and noise of 2 % of the brightest pixel to both parts of a complex
          image, anew for every frame. A second beat that repeated the first to the bit would make the frame of one
          beat before perfect. Places between frames are read by cubic splines. Seeds are the numbers of the cases.
Forecast  from each frame of the second beat whose next four are in it, four frames ahead. The network is told nothing
          of rates, sway or seeds.
Against   the last frame repeated; the frame one beat before, where the beat has its mean length (24 frames); and the
          frame that memory recalls, which the network reads too.
Measure   PSNR of a frame against the played one, data range the brightest pixel of the series; mean over frames, then
          over cases. Against the truth as measured, with its noise (`noisy`), and without the noise that was added
          (`clean`): a forecast cannot know noise, and copies of frames have noise of their own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pig_cine
import quality
import torch
from heart import split_of
from torch import Tensor

from crnn_cli.forecasting.stream import SliceStream
from crnn_cli.training.forecast.play import Variation, beat_places, play
from crnn_cli.training.reconstruct.scenes import SceneRandom
from crnn_cli.workflows.forecast.engine import ForecastEngine, prepare

BEAT, AHEAD = 24, 4
VARIATION = Variation(rate=0.05, sway=1.0, turn=1.0, brightness=0.03, noise=0.02)
METHODS = ("forecast", "last frame", "one beat before", "recalled")


def read_cases(data: Path, split: str) -> dict[str, Tensor]:
    """Cines (T, Y, X) by name, brightest pixel 1."""
    numbers = sorted(int(file.name[7:10]) for file in (data / "acdc_cine").glob("patient*_4d.nii.gz"))
    cases = quality.read_cases(data, [n for n in numbers if split_of(n) == split], with_pig=False)
    with tempfile.TemporaryDirectory() as folder:
        pig_cine.main(data / "pig_cine_sax", Path(folder))
        for index, z in enumerate(pig_cine.TEST_SLICES):
            cases[f"pig-{z}"] = quality.read_slice(Path(folder, "pig_test.nii.gz"), index)
    return {name: torch.from_numpy(cine) for name, cine in cases.items()}


def played(cine_TYX: Tensor, seed: int, variation: Variation) -> tuple[Tensor, Tensor]:
    """Two beats and the frames to compare with: as measured, and without the noise that was added."""
    rng = SceneRandom(8_000_000 + seed)
    places = beat_places(2 * BEAT, len(cine_TYX), len(cine_TYX) / BEAT, variation.rate, rng)
    return play(cine_TYX, places, variation, rng)


def measured(cine_TYX: Tensor, seed: int, variation: Variation, engine: ForecastEngine) -> dict[str, list[list[float]]]:
    """PSNR by kind of truth and method: for each frame ahead, the mean over the frames of the second beat."""
    noisy, clean = played(cine_TYX, seed, variation)
    stream = SliceStream(engine.network, engine.device)
    found: dict[str, list[list[float]]] = {}
    for t, frame in enumerate(noisy[:-AHEAD]):
        stream.add(frame)
        if t < BEAT:
            continue
        made = stream.forecast(AHEAD)
        for k in range(1, AHEAD + 1):
            images = dict(zip(METHODS, (
                made[k - 1], frame, noisy[t + k - BEAT], stream.memory.recalled(k) * stream.scale,
            ), strict=True))  # fmt: skip
            for kind, truth in (("noisy", noisy), ("clean", clean)):
                largest = float(truth.max())
                for name, image in images.items():
                    error = float((image - truth[t + k]).square().mean())
                    rows = found.setdefault(f"{kind}, {name}", [[] for _ in range(AHEAD)])
                    rows[k - 1].append(10 * float(np.log10(largest**2 / max(error, 1e-12))))
    return {name: [float(np.mean(row)) for row in rows] for name, rows in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--noise", type=float, default=VARIATION.noise)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    engine = prepare(options.model, "cpu")
    variation = replace(VARIATION, noise=options.noise)
    cases = {
        name: measured(cine, seed, variation, engine)
        for seed, (name, cine) in enumerate(read_cases(options.data, options.split).items())
    }
    mean = {
        name: np.mean([each[name] for each in cases.values()], axis=0).round(2).tolist()
        for name in next(iter(cases.values()))
    }
    print(f"{len(cases)} cases, {engine.bundle.name} {engine.bundle.sha256[:12]}, noise {options.noise:g}")
    for name, row in mean.items():
        print(f"{name:24}", *(f"{value:6.2f}" for value in row))
    if options.out:
        model = {"name": engine.bundle.name, "sha256": engine.bundle.sha256}
        facts = {"model": model, "split": options.split, "noise": options.noise, "mean": mean, "cases": cases}
        options.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
