"""How often does the truth lie within the uncertainty that is stated? Finds the scale for a bundle, and judges it.

    python benchmarks/uncertainty.py --data DATA [--model NAME] [--write] [--adapt-steps 80] [--json FILE]

Cases, phase, sampling and accelerations are those of `quality.py`: one coil, no noise; the middle columns and the first
frames of each, which costs little, as lines are left out along the others. Maps are made as `crnn reconstruct
--uncertainty` makes them.

Scale      such that on the cases of --calibrate, each counted alike, the true magnitude lies within 1.64 standard
           deviations in 90 % of the pixels in the body. --write puts it into config.json of the bundle.
Coverage   on the cases of --judge, which must be others: shares within 1, 1.64 and 2 standard deviations; of normally
           distributed errors they would be 68.3, 89.9 and 95.4 %. The bar is 85 to 95 % within 1.64.
Tuned      with --adapt-steps the network is tuned to each case first, as `crnn reconstruct --adapt-steps` does it.
Rank       Spearman's correlation of error and deviation over the pixels: does the map say where? 0 is by chance.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import quality
import torch
from adapt import Scan
from baselines import Problem
from scipy.stats import spearmanr
from torch import Tensor

from crnn_cli.adaptation.adapt import AdaptSettings, adapt
from crnn_cli.assessment.reliability import AssessedReconstructor
from crnn_cli.bundles.config import CONFIG, read_bundle
from crnn_cli.bundles.store import find_bundle
from crnn_cli.mri.coverage import WIDTHS, body_mask
from crnn_cli.reconstruction.reconstruct import NetworkReconstructor, Reconstructor
from crnn_cli.workflows.reconstruct.methods import NETWORK, MethodRequest, PreparedMethod, prepare_method

AIM, WIDTH, BAR = 0.9, 1.64, (0.85, 0.95)
STEPS = 1001


@dataclass(frozen=True)
class Result:
    """What was found of one case. ratios : quantiles of error over deviation at scale 1, in the body."""

    case: str
    acceleration: float
    method: str
    error: float
    deviation: float
    rank: float
    ratios: list[float]

    def covered(self, width: float, scale: float) -> float:
        return float(np.mean(np.array(self.ratios) <= width * scale))


def measure(
    case: str, acceleration: float, name: str, chosen: PreparedMethod, problem: Problem, options: argparse.Namespace
) -> Result:  # fmt: skip
    """Reconstruct with a map, as the command does."""
    scan = Scan.of(problem)
    method, unseen = _tuned(chosen.method, scan, options) if options.adapt_steps else (chosen.method, {})
    watched = AssessedReconstructor(method, options.runs, scan.to_output_grid, mapped=True)
    with torch.inference_mode():
        assessed = watched(replace(scan.data, unseen_BTYX=unseen.get(0)), lambda: None)
    truth_BTYX = problem.truth_BTYX.abs()
    inside = body_mask(truth_BTYX)[0].expand(truth_BTYX.shape[1:])
    error = (assessed.images_BTYX.abs() - truth_BTYX)[0].abs()[inside].double().numpy()
    deviation = torch.from_numpy(assessed.assessment.spread_TYX)[inside].double().numpy()
    ratios = np.quantile(error / deviation.clip(1e-12), np.linspace(0, 1, STEPS))
    rank = float(spearmanr(error, deviation).statistic)
    levels = (float(np.sqrt(np.mean(values**2))) for values in (error, deviation))
    return Result(case, acceleration, name, *levels, rank, [float(f"{ratio:.5g}") for ratio in ratios])


def run(
    cases: dict[str, np.ndarray], methods: dict[str, PreparedMethod], options: argparse.Namespace
) -> Iterator[Result]:
    for acceleration in options.accelerations:
        for case, magnitude in cases.items():
            first = max(0, (magnitude.shape[2] - options.columns) // 2)
            cut = np.ascontiguousarray(magnitude[: options.frames, :, first : first + options.columns])
            problem = quality.make_problem(case, cut, acceleration)
            for name, chosen in methods.items():
                result = measure(case, acceleration, name, chosen, problem, options)
                print(
                    f"{acceleration:g}x {case} {name}: alone it would need {best_scale([result]):.3f}", file=sys.stderr
                )
                yield result


def _tuned(
    method: Reconstructor[None], scan: Scan, options: argparse.Namespace
) -> tuple[Reconstructor[None], dict[int, Tensor | None]]:
    """Return the method tuned to a scan, and what it never saw of it."""
    assert isinstance(method, NetworkReconstructor)
    tuning = AdaptSettings(steps=options.adapt_steps, bfloat16=options.precision == "bf16")
    tuned, found = adapt(scan, method, tuning, torch.device("cpu"))
    return tuned, found.validation if found.used else {}


def best_scale(results: list[Result]) -> float:
    return float(np.quantile(np.concatenate([result.ratios for result in results]), AIM) / WIDTH)


def table(results: list[Result], scale: float) -> str:
    """Return Markdown: coverage by acceleration, its range over the cases, and how many are within the bar."""
    heading = " | ".join(f"within {width:g} sd" for width in WIDTHS)
    lines = [
        f"| R | cases | {heading} | least to most within {WIDTH:g} | in the bar | rank |",
        "|--:|--:|" + "--:|" * 6,
    ]
    for acceleration in [*sorted({r.acceleration for r in results}), None]:
        some = [r for r in results if acceleration in (None, r.acceleration)]
        means = [f"{100 * np.mean([r.covered(width, scale) for r in some]):.1f} %" for width in WIDTHS]
        shares = [r.covered(WIDTH, scale) for r in some]
        inside = sum(BAR[0] <= share <= BAR[1] for share in shares)
        span = f"{100 * min(shares):.1f} to {100 * max(shares):.1f} %"
        rank = np.mean([r.rank for r in some])
        name = "all" if acceleration is None else f"{acceleration:g}"
        lines.append(f"| {name} | {len(some)} | {' | '.join(means)} | {span} | {inside} of {len(some)} | {rank:.2f} |")
    return "\n".join(lines)


def write_scale(model: str | None, scale: float) -> None:
    """Put the scale into config.json of the bundle."""
    file = find_bundle(model, "reconstruct").folder / CONFIG
    config = json.loads(file.read_text())
    config["uncertainty"] = {"scale": scale}
    config["sha256"] = config.pop("sha256")  # stays last
    file.write_text(json.dumps(config, indent=2) + "\n")
    read_bundle(file.parent)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of acdc_cine and pig_cine_sax")
    parser.add_argument("--calibrate", type=int, nargs="*", default=list(range(21, 41)), help="ACDC patients")
    parser.add_argument("--judge", type=int, nargs="*", default=list(range(41, 51)), help="ACDC patients")
    parser.add_argument("--pig", action="store_true", help="judge on the pig, too")
    parser.add_argument("--accelerations", type=float, nargs="+", default=[4.0, 8.0, 12.0])
    parser.add_argument("--model", help="the bundle; the default of crnn reconstruct where not given")
    parser.add_argument("--methods", nargs="+", default=[NETWORK])
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--columns", type=int, default=48)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--precision", default="bf16", help="of the network")
    parser.add_argument("--adapt-steps", type=int, help="tune the network to each case first")
    parser.add_argument("--scale", type=float, help="judge this one, whatever --calibrate finds")
    parser.add_argument("--write", action="store_true", help="put the scale into config.json of the bundle")
    parser.add_argument("--json", type=Path, help="write everything here")
    options = parser.parse_args()
    if set(options.calibrate) & set(options.judge):
        parser.error("cases to calibrate on must not be among those to judge on")
    place = torch.device("cpu")
    methods = {name: prepare_method(_wanted(name, options), place) for name in options.methods}
    cases = quality.read_cases(options.data, options.calibrate, with_pig=False)
    fitted = list(run(cases, methods, options))
    others = quality.read_cases(options.data, options.judge, with_pig=options.pig)
    judged = list(run(others, methods, options))
    scales = {}
    for name, chosen in methods.items():
        own = [result for result in fitted if result.method == name]
        scale = options.scale or (best_scale(own) if own else chosen.scale or 1.0)
        scales[name] = scale = float(f"{scale:.3g}")
        print(f"\n{name}: scale {scale:g}")
        for what, results in (("calibrated on", fitted), ("judged on", judged)):
            some = [result for result in results if result.method == name]
            print(f"\n{what}\n\n{table(some, scale)}" if some else "")
    if options.json:
        everything = {"calibrated": [asdict(r) for r in fitted], "judged": [asdict(r) for r in judged]}
        options.json.write_text(json.dumps({"protocol": quality.VERSION, "scales": scales, **everything}))
    if options.write:
        write_scale(options.model, scales[NETWORK])


def _wanted(name: str, options: argparse.Namespace) -> MethodRequest:
    """Return a method; the data is without noise and to be kept as it is."""
    return (
        MethodRequest(name, options.model, noise_ratio=0.0, precision=options.precision)
        if name == NETWORK
        else MethodRequest(name)
    )


if __name__ == "__main__":
    main()
