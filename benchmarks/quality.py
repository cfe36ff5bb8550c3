"""How good reconstructions of retrospectively undersampled cine are: the protocol, version 1.

Cases     13: ACDC patients 041-050 (training set of the challenge; 4-D NIfTI cut to about 100 x 95 around the heart),
          middle slice (index n // 2); pig cine (CC0), slices 2, 5 and 7. None of them is trained on.
Axes      lines (phase encoding, undersampled) along array axis 0 of the NIfTI (100 lines; pig 256), readout along 1.
Truth     magnitude / its maximum over the sequence, times exp(i phase): a random quadratic plus one oblique sine over
          the field of view, zero mean, up to pi, plus a constant; one phase for all frames, seeded by the case.
Data      one coil, centred orthonormal FFT, no noise. Mask: `variable_density` of crnn_cli.mri.sampling at 4x, 6x, 8x,
          10x and 12x, floor(N / R) lines per frame, seeded
          by case and acceleration.
Measures  on the magnitude. PSNR: data range the maximum of the truth over the sequence, error over the whole
          sequence. SSIM: scikit-image, Gaussian weights, sigma 1.5, same data range, mean over frames.
Methods   zero-filled; view-shared; time-wiener; a few iterations of total variation from there; published CRNN-MRI
          weights (5 iterations from zero-filled; best input amplitude of a ladder by factors of 2, chosen per case with
          the truth); temporal total variation (BART pics, 100 iterations; best weight of a ladder by factors of 2,
          chosen per case with the truth); bundles, which are told nothing about the truth.
Caution   the data is scanner-reconstructed magnitude, partly interpolated, without noise: figures are optimistic
          against raw k-space, and images of one protocol only compare with each other.
Choices   made during development belong on other patients (--patients 21-30, without the pig), not on these cases.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import baselines
import nibabel as nib
import numpy as np
import pig_cine
import torch
from baselines import Cache, Method, Problem
from PIL import Image, ImageDraw, ImageFont
from skimage.metrics import structural_similarity

from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.mri.sampling import true_acceleration, variable_density

VERSION = "quality-1"
Key = tuple[str, float, str]  # case, acceleration, method
PUBLISHED, TV, ZERO = "published CRNN-MRI", "temporal TV", "zero-filled"


@dataclass(frozen=True)
class Result:
    case: str
    acceleration: float
    true_acceleration: float
    method: str
    psnr: float
    ssim: float
    setting: float | None
    tried: dict[float, float] = field(default_factory=dict)
    seconds: float = math.nan

    @property
    def key(self) -> Key:
        return self.case, self.acceleration, self.method


def from_json(stored: dict) -> Result:
    return Result(**{**stored, "tried": {float(setting): value for setting, value in stored.get("tried", {}).items()}})


def read_cases(data: Path, patients: Iterable[int], with_pig: bool) -> dict[str, np.ndarray]:
    """Return magnitudes (T, Y, X) by name."""
    cases = {f"acdc-{n:03d}": read_slice(data / f"acdc_cine/patient{n:03d}_4d.nii.gz") for n in patients}
    if with_pig:
        with tempfile.TemporaryDirectory() as folder:
            pig_cine.main(data / "pig_cine_sax", Path(folder))
            for index, z in enumerate(pig_cine.TEST_SLICES):
                cases[f"pig-{z}"] = read_slice(Path(folder, "pig_test.nii.gz"), index)
    return cases


def read_slice(file: Path, index: int | None = None) -> np.ndarray:
    """Return the magnitude (T, Y, X) of a slice, by default number n // 2, scaled to a maximum of 1."""
    volume = np.asanyarray(nib.load(file).dataobj)
    chosen = volume[:, :, volume.shape[2] // 2 if index is None else index].astype(np.float32)
    return np.ascontiguousarray(chosen.transpose(2, 0, 1)) / chosen.max()


def smooth_phase(case: str, lines: int, columns: int) -> np.ndarray:
    """Return the phase of a case in radians, (Y, X)."""
    dice = np.random.default_rng(zlib.crc32(case.encode()))
    y, x = np.meshgrid(np.linspace(-1, 1, lines), np.linspace(-1, 1, columns), indexing="ij")
    angle, offset, constant = dice.uniform(-math.pi, math.pi, 3)
    wave = np.sin(math.pi * (math.cos(angle) * y + math.sin(angle) * x) + offset)
    phase = sum(c * term for c, term in zip(dice.normal(size=6), (y, x, y * x, y * y, x * x, wave), strict=True))
    phase = phase - phase.mean()
    return phase * math.pi / np.abs(phase).max() + constant


def make_problem(case: str, magnitude_TYX: np.ndarray, acceleration: float, pattern: str = "") -> Problem:
    """Return what is measured of a case. pattern : for lines of another pattern, of the same phase."""
    frames, lines, columns = magnitude_TYX.shape
    phase = smooth_phase(case, lines, columns)
    truth = torch.from_numpy((magnitude_TYX * np.exp(1j * phase)).astype(np.complex64))[None]
    dice = torch.Generator().manual_seed(zlib.crc32(f"{case} {acceleration:g}{pattern}".encode()))
    mask = variable_density(frames, lines, acceleration, dice)[None, :, :, None]
    return Problem(truth, image_to_kspace(truth) * mask, mask)


def psnr(image: torch.Tensor, problem: Problem) -> float:
    truth = problem.truth_BTYX.abs().double()
    return float(10 * torch.log10(truth.max() ** 2 / (image.abs() - truth).square().mean()))


def ssim(image: torch.Tensor, problem: Problem) -> float:
    truth, other = problem.truth_BTYX[0].abs().double().numpy(), image[0].abs().double().numpy()
    options = {"data_range": truth.max(), "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(np.mean([structural_similarity(a, b, **options) for a, b in zip(truth, other, strict=True)]))


def evaluate(method: Method, case: str, acceleration: float, problem: Problem) -> Result:
    found = baselines.best_setting(method, problem, lambda image: psnr(image, problem))
    quality = psnr(found.image_BTYX, problem), ssim(found.image_BTYX, problem)
    true = true_acceleration(problem.mask_BTYX)
    return Result(case, acceleration, true, method.name, *quality, found.setting, found.tried, found.seconds)


def run(
    cases: dict[str, np.ndarray],
    accelerations: list[float],
    fixed: list[Method],
    ours: list[Method],
    cache: Cache,
    known: dict[Key, Result],
) -> Iterator[Result]:
    """Yield the results, acceleration by acceleration; fixed methods come from the cache where it has them."""
    for acceleration in accelerations:
        for case, magnitude in cases.items():
            problem = make_problem(case, magnitude, acceleration)
            for method in fixed:
                key = cache.key(VERSION, problem, (case, acceleration, method.name))
                stored, earlier = cache.get(key), known.get((case, acceleration, method.name))
                result = earlier or (from_json(stored) if stored else evaluate(method, case, acceleration, problem))
                if stored is None and earlier is None:
                    cache.put(key, asdict(result))
                yield result
            for method in ours:
                result = known.get((case, acceleration, method.name))
                yield result or evaluate(method, case, acceleration, problem)


def summary_table(results: list[Result]) -> str:
    """Return Markdown: means over the cases, mean differences to two methods, cases below zero-filled."""
    lines = [
        "| R | method | ACDC PSNR / SSIM | pig PSNR / SSIM | all PSNR / SSIM | - published | - TV | < zero-filled |",
        "|--:|---|---|---|---|--:|--:|--:|",
    ]
    rows = dict.fromkeys((r.acceleration, r.method) for r in results)
    for acceleration, method in sorted(rows, key=lambda row: row[0]):
        table = {m: _by_case(results, acceleration, m) for m in (method, PUBLISHED, TV, ZERO)}
        mine = table[method]
        groups = [_mean([r for r in mine.values() if r.case.startswith(group)]) for group in ("acdc", "pig", "")]
        gains = [_gain(mine, table[other]) if method != other else "" for other in (PUBLISHED, TV)]
        below = sum(r.psnr < table[ZERO][case].psnr for case, r in mine.items() if case in table[ZERO])
        below_text = f"{below} of {len(mine)}" if table[ZERO] and method != ZERO else ""
        lines.append(f"| {acceleration:g} | {method} | {' | '.join([*groups, *gains])} | {below_text} |")
    return "\n".join(lines)


def case_table(results: list[Result]) -> str:
    methods = list(dict.fromkeys(r.method for r in results))
    lines = [f"| R | case | {' | '.join(methods)} |", "|--:|---|" + "---|" * len(methods)]
    for acceleration, case in sorted({(r.acceleration, r.case) for r in results}):
        row = [_by_case(results, acceleration, method).get(case) for method in methods]
        texts = [_mean([r]) + (f" ({r.setting:g})" if r.setting is not None else "") if r else "" for r in row]
        lines.append(f"| {acceleration:g} | {case} | {' | '.join(texts)} |")
    return "\n".join(lines)


def _by_case(results: list[Result], acceleration: float, method: str) -> dict[str, Result]:
    return {r.case: r for r in results if (r.acceleration, r.method) == (acceleration, method)}


def _mean(results: list[Result]) -> str:
    if not results:
        return ""
    return f"{np.mean([r.psnr for r in results]):.2f} / {np.mean([r.ssim for r in results]):.3f}"


def _gain(mine: dict[str, Result], other: dict[str, Result]) -> str:
    """Return the mean difference over the cases that both have, in dB and SSIM."""
    both = [(mine[case], other[case]) for case in mine if case in other]
    if not both:
        return ""
    return f"{np.mean([a.psnr - b.psnr for a, b in both]):+.2f} / {np.mean([a.ssim - b.ssim for a, b in both]):+.3f}"


FIGURE_CASES, FIGURE_ACCELERATION = ("acdc-042", "acdc-049", "pig-5"), 8.0
TILE, PROFILE, GAP, ERROR_GAIN = 200, 70, 3, 5


def figure(file: Path, cases: dict[str, np.ndarray], methods: list[Method], results: list[Result]) -> None:
    """Draw, for each case: a frame by each method, its error times five, and a line along Y over time."""
    names = [name for name in FIGURE_CASES if name in cases] or list(cases)[:3]
    shown = [m for m in methods if _by_case(results, FIGURE_ACCELERATION, m.name)]
    height = 2 * TILE + PROFILE + 4 * GAP + 16
    canvas = Image.new("L", ((1 + len(shown)) * (TILE + GAP), len(names) * height))
    for row, name in enumerate(names):
        problem = make_problem(name, cases[name], FIGURE_ACCELERATION)
        columns = [(f"{name}, {FIGURE_ACCELERATION:g}x: truth", problem.truth_BTYX)]
        for method in shown:
            known = _by_case(results, FIGURE_ACCELERATION, method.name)[name]
            chosen = replace(method, ladder=() if known.setting is None else (known.setting,))
            image = baselines.best_setting(chosen, problem, lambda _: 0.0).image_BTYX
            columns.append((f"{method.name}  {known.psnr:.1f} dB {known.ssim:.3f}", image))
        for column, (label, image) in enumerate(columns):
            _draw_column(canvas, (column * (TILE + GAP), row * height), label, image, problem.truth_BTYX)
    canvas.save(file)


def _draw_column(
    canvas: Image.Image, at: tuple[int, int], label: str, image: torch.Tensor, truth: torch.Tensor
) -> None:
    """Draw label, frame, error and profile under each other; Y runs to the right, X (in the profile time) down."""
    magnitude_TYX, truth_TYX = image[0].abs().numpy(), truth[0].abs().numpy()
    white = np.quantile(truth_TYX, 0.998)
    motion_TYX = truth_TYX.std(axis=0)
    frame = int(np.abs(truth_TYX - truth_TYX.mean(axis=0)).mean(axis=(1, 2)).argmax())
    column = int(motion_TYX.mean(axis=0).argmax())
    error = ERROR_GAIN * np.abs(magnitude_TYX[frame] - truth_TYX[frame])
    x, y = at
    ImageDraw.Draw(canvas).text((x + 2, y + 1), label, fill=255, font=ImageFont.load_default(11))
    y += 16
    for picture, height in ((magnitude_TYX[frame].T, TILE), (error.T, TILE), (magnitude_TYX[:, :, column], PROFILE)):
        grey = Image.fromarray((255 * np.clip(picture / white, 0, 1)).astype(np.uint8))
        canvas.paste(grey.resize((TILE, height), Image.Resampling.BICUBIC), (x, y))
        y += height + GAP


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of acdc_cine, pig_cine_sax and weights")
    parser.add_argument("--accelerations", type=float, nargs="+", default=[8.0, 4.0, 6.0, 10.0, 12.0])
    parser.add_argument("--patients", help="ACDC patients, as 21-30, instead of the test cases; no pig")
    parser.add_argument("--models", nargs="*", default=["cine-crnn"], help="bundles to measure, by name or folder")
    parser.add_argument("--iterations", type=int, nargs="+", help="of these; the bundle's own where not given")
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32"], help="of these")
    parser.add_argument("--ensembles", type=int, nargs="+", default=[1], help="flipped copies that these average over")
    parser.add_argument("--skip", nargs="*", default=[], help="words in names of methods to leave out, as TV")
    parser.add_argument("--cases", action="store_true", help="a table of every case, with the settings chosen")
    parser.add_argument("--results", type=Path, nargs="*", default=[], help="take results from such --json")
    parser.add_argument("--json", type=Path, help="write everything here")
    parser.add_argument("--cache", type=Path, help="keep and take results of the fixed methods here")
    parser.add_argument("--figure", type=Path, help="write a PNG here")
    options = parser.parse_args()
    first, last = map(int, (options.patients or "41-50").split("-"))
    cases = read_cases(options.data, range(first, last + 1), with_pig=options.patients is None)
    published = baselines.published_crnn(options.data / "weights/crnn_mri_d5_c5.pth")
    fixed = [baselines.zero_filled(), *baselines.starts(), baselines.temporal_tv(), published]
    fixed = [m for m in fixed if m is not None and not any(word in m.name for word in options.skip)]
    ours = our_methods(options)
    earlier = [from_json(r) for file in options.results for r in json.loads(file.read_text())["results"]]
    known = {r.key: r for r in earlier if r.case in cases and r.acceleration in options.accelerations}
    results = []
    with torch.inference_mode():
        for result in run(cases, options.accelerations, fixed, ours, Cache(options.cache), known):
            print(f"{result.acceleration:g}x {result.case} {result.method} {_mean([result])}", file=sys.stderr)
            results.append(result)
            known.pop(result.key, None)
        results += known.values()
        if options.figure:
            figure(options.figure, cases, [*fixed, *ours], results)
    ends = [r for r in results if r.tried and r.setting in (min(r.tried), max(r.tried))]
    print(summary_table(results))
    print(f"\nSettings at an end of their ladder: {len(ends)} of {sum(bool(r.tried) for r in results)}.")
    if options.cases:
        print("\n" + case_table(results))
    if options.json:
        options.json.write_text(json.dumps({"protocol": VERSION, "results": [asdict(r) for r in results]}, indent=1))


def our_methods(options: argparse.Namespace) -> list[Method]:
    """Return what is measured: every bundle, in each form that was asked for."""
    return [
        baselines.bundle(name, iterations, shown(name, iterations, precision, copies), precision == "bf16", copies)
        for name in options.models
        for iterations in options.iterations or [None]
        for precision in options.precisions
        for copies in options.ensembles
    ]


def shown(name: str, iterations: int | None, precision: str, copies: int) -> str:
    """Return what a bundle is called in tables."""
    of = f" {iterations} it" if iterations else ""
    mean = f", ensemble of {copies}" if copies > 1 else ""
    return Path(name).name + of + (", bf16" if precision == "bf16" else "") + mean


if __name__ == "__main__":
    main()
