"""What tuning a network to the scan at hand brings: PSNR and SSIM before and after, of every case.

    python benchmarks/adapt.py --data DATA [--seconds 180] [--accelerations 4 8 12] [--device cuda] [--json FILE]

Cases, phase, sampling and measures are those of `quality.py`. Every case is a scan of one slice, tuned as `crnn
reconstruct --adapt` does it, from the weights of the model. The truth is used for the measures only. At 12x, 100 lines
leave 8 in a frame, most of them in the centre: there is little to tune on, or nothing, and the table says so.

Residual   ||A x - y|| / ||y|| at the lines for validation, before and after.
Used       whether the tuned weights predict those lines better; if not, the weights of the model are used, and the
           difference is 0.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import quality
import torch
from baselines import Problem

from crnn_cli.adaptation.adapt import AdaptResult, AdaptSettings, adapt
from crnn_cli.compute.device import choose_device, has_native_bfloat16
from crnn_cli.data.acquisition import Complex
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.reconstruction.reconstruct import NetworkReconstructor
from crnn_cli.workflows.reconstruct.methods import NETWORK, MethodRequest, prepare_method


@dataclass(frozen=True)
class Result:
    """A case before and after; see the top of this file."""

    case: str
    acceleration: float
    psnr_before: float
    psnr_after: float
    ssim_before: float
    ssim_after: float
    residual_before: float | None
    residual_after: float | None
    steps: int
    best_step: int
    seconds: float
    used: bool
    why: str


@dataclass(frozen=True)
class How:
    """What is tuned, how long, and where."""

    method: NetworkReconstructor
    tuning: AdaptSettings
    device: torch.device


@dataclass(frozen=True)
class Scan:
    """A case as a scan of one slice; see `crnn_cli.reconstruction.measurement.SliceSource`."""

    data: SliceMeasurement
    count: int = 1

    @classmethod
    def of(cls, problem: Problem) -> Scan:
        return cls(replace(problem.measured(), mask_BTYX=problem.mask_BTYX.bool()))

    def measure(self, z: int, device: torch.device) -> SliceMeasurement:
        del z
        return self.data.to(device)

    def to_output_grid(self, images_TYX: Complex) -> Complex:
        return images_TYX


def run(name: str, acceleration: float, problem: Problem, how: How) -> Result:
    scan = Scan.of(problem)
    before = quality_of(how.method, scan, problem, how.device)
    tuned, found = adapt(scan, how.method, how.tuning, how.device)
    after = quality_of(tuned, scan, problem, how.device)
    return result(name, acceleration, before, after, found)


def quality_of(method: NetworkReconstructor, scan: Scan, problem: Problem, device: torch.device) -> tuple[float, float]:
    with torch.inference_mode():
        image = method(scan.measure(0, device), lambda: None).images_BTYX.cpu()
    return quality.psnr(image, problem), quality.ssim(image, problem)


def result(
    name: str, acceleration: float, before: tuple[float, float], after: tuple[float, float], found: AdaptResult
) -> Result:  # fmt: skip
    return Result(
        name, acceleration, before[0], after[0], before[1], after[1], found.before, found.after, found.steps,
        found.best_step, round(found.seconds, 1), found.used, found.why,
    )  # fmt: skip


def middle(magnitude_TYX: np.ndarray, columns: int | None) -> np.ndarray:
    """Return the middle columns, scaled to a maximum of 1."""
    if columns is None:
        return magnitude_TYX
    first = max(0, (magnitude_TYX.shape[2] - columns) // 2)
    cut = magnitude_TYX[:, :, first : first + columns]
    return np.ascontiguousarray(cut / cut.max())


def problems(cases: dict[str, np.ndarray], accelerations: list[float]) -> Iterator[tuple[str, float, Problem]]:
    for acceleration in accelerations:
        for name, magnitude in cases.items():
            yield name, acceleration, quality.make_problem(name, magnitude, acceleration)


def case_lines(results: list[Result]) -> list[str]:
    """Return the lines of a table in Markdown of every case; no PSNR where there is no truth."""
    lines = ["| R | case | PSNR before | after | difference | SSIM before | after | residual | steps | used |",
             "|--:|---|--:|--:|--:|--:|--:|---|--:|---|"]  # fmt: skip
    for r in results:
        told = "" if r.residual_before is None else f"{r.residual_before:.3f} -> {r.residual_after:.3f}"
        quality = (
            f"{r.psnr_before:.2f} | {r.psnr_after:.2f} | {r.psnr_after - r.psnr_before:+.2f} | {r.ssim_before:.3f} | "
            f"{r.ssim_after:.3f}"
        )
        quality = " | | | | " if math.isnan(r.psnr_before) else quality
        lines.append(
            f"| {r.acceleration:g} | {r.case} | {quality} | {told} | {r.best_step} of {r.steps} | "
            f"{'yes' if r.used else 'no'} |"
        )
    return lines


def table(results: list[Result]) -> str:
    """Return Markdown: every case, and the mean of each acceleration."""
    lines = case_lines(results)
    for acceleration in dict.fromkeys(r.acceleration for r in results):
        mine = [r for r in results if r.acceleration == acceleration]
        gains = [r.psnr_after - r.psnr_before for r in mine]
        means = [np.mean([getattr(r, f"{kind}_{when}") for r in mine])
                 for kind in ("psnr", "ssim") for when in ("before", "after")]  # fmt: skip
        lines.append(
            f"| {acceleration:g} | mean of {len(mine)} | {means[0]:.2f} | {means[1]:.2f} | {np.mean(gains):+.2f} "
            f"({min(gains):+.2f} to {max(gains):+.2f}) | {means[2]:.3f} | {means[3]:.3f} | | | "
            f"{sum(r.used for r in mine)} |"
        )
    return "\n".join(lines)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what every script that tunes takes; see `prepared`, `earlier` and `keep`."""
    parser.add_argument("--seconds", type=float, default=180.0, help="for a slice")
    parser.add_argument("--steps", type=int, help="the same by steps")
    parser.add_argument("--model", help="another bundle than the default one")
    parser.add_argument("--threads", type=int, help="of PyTorch")
    parser.add_argument("--device", type=choose_device, default="cpu")
    parser.add_argument("--json", type=Path, help="write everything here; cases that are there already are not run")


def prepared(options: argparse.Namespace) -> How:
    """Return the network and how it is to be tuned."""
    if options.threads:
        torch.set_num_threads(options.threads)
    method = prepare_method(MethodRequest(NETWORK, options.model), options.device).method
    assert isinstance(method, NetworkReconstructor)
    half = has_native_bfloat16(options.device)
    return How(
        method, AdaptSettings(None if options.steps else options.seconds, options.steps, bfloat16=half), options.device
    )


def earlier(file: Path | None) -> list[Result]:
    """Return the results that a file holds."""
    return [Result(**r) for r in json.loads(file.read_text())] if file and file.exists() else []


def keep(results: list[Result], file: Path | None) -> None:
    """Write the results, if they are to be kept."""
    if file:
        file.write_text(json.dumps([asdict(r) for r in results], indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of acdc_cine and pig_cine_sax")
    parser.add_argument("--accelerations", type=float, nargs="+", default=[4.0, 8.0, 12.0])
    add_options(parser)
    parser.add_argument("--cases", nargs="+", help="only these, such as acdc-041 pig-5")
    parser.add_argument("--columns", type=int, help="only so many in the middle of the readout")
    options = parser.parse_args()
    how = prepared(options)
    cases = quality.read_cases(options.data, range(41, 51), with_pig=True)
    chosen = {n: middle(m, options.columns) for n, m in cases.items() if not options.cases or n in options.cases}
    results = earlier(options.json)
    done = {(r.case, r.acceleration) for r in results}
    for name, acceleration, problem in problems(chosen, options.accelerations):
        if (name, acceleration) in done:
            continue
        results.append(run(name, acceleration, problem, how))
        last = results[-1]
        gain = last.psnr_after - last.psnr_before if math.isfinite(last.psnr_after) else math.nan
        print(f"{acceleration:g}x {name} {last.psnr_before:.2f} {gain:+.2f} dB, {last.why}", file=sys.stderr)
        keep(results, options.json)
    print(table(results))


if __name__ == "__main__":
    main()
