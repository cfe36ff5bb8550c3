"""What becomes of a reconstruction where training did not prepare it: other sampling patterns, and noise.

    python benchmarks/robustness.py --data DATA [--model NAME] [--json FILE]

Cases, phase and measures are those of `quality.py`; the readout is cut to a multiple of four columns.

Patterns   radial-like: spokes of golden-angle steps on the grid, about 8x, every frame another set.
           partial Fourier: the variable-density lines of 8x, but none beyond 5/8 of k-space.
           both axes: every second sample along both axes, four shifts that take turns over the frames: 4x.
           Compared with zero-filled, the start of the network and temporal total variation (BART, best weight per case,
           chosen with the truth).
Noise      complex Gaussian in k-space at 8x, 40 to 10 dB: mean power of the fully sampled k-space over the variance.
           Compared with zero-filled, case by case.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import zlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import baselines
import numpy as np
import quality
import torch
from baselines import Method, Problem

from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.mri.sampling import true_acceleration

GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5)) / 2
START = "total-variation start"
DECIBELS = (40, 30, 20, 10)


def spokes(frames: int, lines: int, columns: int, acceleration: float) -> torch.Tensor:
    """Return a mask (T, Y, X) of grid points nearest to spokes through the centre, until enough are measured."""
    mask = torch.zeros(frames, lines, columns, dtype=torch.bool)
    step = torch.arange(-0.5, 0.5, 0.5 / max(lines, columns))
    number = 0
    for frame in mask:
        while frame.float().mean() < 1 / acceleration:
            y = ((0.5 + step * math.sin(number * GOLDEN_ANGLE)) * lines).long().clamp(0, lines - 1)
            x = ((0.5 + step * math.cos(number * GOLDEN_ANGLE)) * columns).long().clamp(0, columns - 1)
            frame[y, x] = True
            number += 1
    return mask


def partial_fourier(problem: Problem) -> torch.Tensor:
    """Return the mask (1, T, Y, 1) of a problem without the lines beyond 5/8."""
    lines = problem.mask_BTYX.shape[2]
    return problem.mask_BTYX & (torch.arange(lines) < lines * 5 / 8)[:, None]


def both_axes(frames: int, lines: int, columns: int) -> torch.Tensor:
    """Return a mask (T, Y, X) of every second sample along both axes, shifted from frame to frame."""
    mask = torch.zeros(frames, lines, columns, dtype=torch.bool)
    for t in range(frames):
        mask[t, t % 2 :: 2, (t // 2) % 2 :: 2] = True
    return mask


def with_mask(problem: Problem, mask_BTYX: torch.Tensor) -> Problem:
    """Return the same truth measured with another mask."""
    return replace(problem, kspace_BTYX=image_to_kspace(problem.truth_BTYX) * mask_BTYX, mask_BTYX=mask_BTYX)


def with_noise(problem: Problem, decibels: float, case: str) -> Problem:
    """Return the problem with noise at its samples."""
    power = float(image_to_kspace(problem.truth_BTYX).abs().square().mean())
    dice = torch.Generator().manual_seed(zlib.crc32(f"{case} {decibels} dB".encode()))
    noise = torch.randn(problem.kspace_BTYX.shape, dtype=torch.complex64, generator=dice)  # variance 1
    sigma = math.sqrt(power / 10 ** (decibels / 10))
    return replace(problem, kspace_BTYX=problem.kspace_BTYX + sigma * noise * problem.mask_BTYX)


def problems(cases: dict[str, np.ndarray]) -> Iterator[tuple[str, str, Problem]]:
    """Yield kind, case and problem."""
    for case, magnitude in cases.items():
        plain = quality.make_problem(case, magnitude[..., : magnitude.shape[-1] // 4 * 4], 8.0)
        shape = tuple(plain.truth_BTYX.shape[1:])
        yield "radial-like", case, with_mask(plain, spokes(*shape, 8.0)[None])
        yield "partial Fourier", case, with_mask(plain, partial_fourier(plain))
        yield "both axes", case, with_mask(plain, both_axes(*shape)[None])
        for decibels in DECIBELS:
            yield f"{decibels} dB", case, with_noise(plain, decibels, case)


def table(results: list[tuple[str, quality.Result]], ours: str) -> str:
    """Return Markdown: means by kind and method, and how ours stands to the others."""
    lines = [
        "| measured | true R | zero-filled | its start | temporal TV | ours | less best: mean, worst | better on |",
        "|---|--:|---|---|---|---|--:|--:|",
    ]
    for kind in dict.fromkeys(kind for kind, _ in results):
        by_method: dict[str, dict[str, quality.Result]] = {}
        for _, result in (pair for pair in results if pair[0] == kind):
            by_method.setdefault(result.method, {})[result.case] = result
        mine = by_method[ours]
        others = [found for name, found in by_method.items() if name != ours]
        gains = [r.psnr - max(found[case].psnr for found in others) for case, r in mine.items()]
        means = [_mean(by_method.get(name, {})) for name in (quality.ZERO, START, quality.TV, ours)]
        rate = np.mean([r.true_acceleration for r in mine.values()])
        lines.append(
            f"| {kind} | {rate:.1f} | {' | '.join(means)} | {np.mean(gains):+.2f}, {min(gains):+.2f} | "
            f"{sum(gain > 0 for gain in gains)} of {len(gains)} |"
        )
    return "\n".join(lines)


def _mean(found: dict[str, quality.Result]) -> str:
    if not found:
        return "-"
    return f"{np.mean([r.psnr for r in found.values()]):.2f} / {np.mean([r.ssim for r in found.values()]):.3f}"


def _result(
    method: Method, case: str, rate: float, problem: Problem, cache: baselines.Cache | None, kind: str
) -> quality.Result:  # fmt: skip
    if cache is None:
        return quality.evaluate(method, case, rate, problem)
    key = cache.key(f"robustness-1 {kind}", problem, (case, rate, method.name))
    stored = cache.get(key)
    if stored is not None:
        return quality.from_json(stored)
    result = quality.evaluate(method, case, rate, problem)
    cache.put(key, asdict(result))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of acdc_cine and pig_cine_sax")
    parser.add_argument("--model", default="cine-crnn", help="bundle to measure")
    parser.add_argument("--patients", help="ACDC patients, as 21-30, instead of the test cases; no pig")
    parser.add_argument("--kinds", nargs="*", help="only these, as 'both axes' '10 dB'")
    parser.add_argument("--cache", type=Path, help="keep and take results of zero-filled and total variation here")
    parser.add_argument("--fixed", action="store_true", help="only fill the cache; the model is not run")
    parser.add_argument("--json", type=Path, help="write everything here")
    options = parser.parse_args()
    first, last = map(int, (options.patients or "41-50").split("-"))
    cases = quality.read_cases(options.data, range(first, last + 1), with_pig=options.patients is None)
    ours = baselines.bundle(options.model, None, Path(options.model).name)
    total_variation = baselines.temporal_tv()
    cache = baselines.Cache(options.cache)
    results: list[tuple[str, quality.Result]] = []
    with torch.inference_mode():
        for kind, case, problem in problems(cases):
            if options.kinds and kind not in options.kinds:
                continue
            methods: list[Method | None] = [baselines.zero_filled(), None if options.fixed else ours]
            methods += (
                [] if kind.endswith("dB") else [*(m for m in baselines.starts() if m.name == START), total_variation]
            )
            rate = round(true_acceleration(problem.mask_BTYX), 3)
            for method in filter(None, methods):
                result = _result(method, case, rate, problem, None if method is ours else cache, kind)
                print(f"{kind}, {case}, {method.name}: {result.psnr:.2f} / {result.ssim:.3f}", file=sys.stderr)
                results.append((kind, result))
    if not options.fixed:
        print(table(results, ours.name))
    if options.json:
        options.json.write_text(json.dumps([{"measured": k, **asdict(r)} for k, r in results], indent=1))


if __name__ == "__main__":
    main()
