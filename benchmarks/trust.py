"""Does the residual at lines held out tell how wrong a reconstruction is? Rank correlation with the true error.

    python benchmarks/trust.py --data DATA [--model NAME] [--methods tv zero-filled] [--json FILE]

Cases, phase, sampling and accelerations are those of `quality.py`. Each is reconstructed as `crnn reconstruct
--hold-out-folds 2` does it: one coil, from all lines; a tenth of the lines outside the centre held out, twice.

Error      ||x - truth|| / ||truth|| of the complex images, all frames.
Told       of what a user has without a truth: the residual at lines held out by one fold and by two, the same with the
           noise taken off (none is added here, but interpolation by the scanner leaves little far out), the share of
           the energy that the data do not determine.
Spearman   over cases at each acceleration (is this scan worse than that one?), over accelerations of each case (is this
           scan too fast?), over methods at each case and acceleration (which method is better here?), over everything.
           Means over the groups, in brackets how many; 1 is the same order, 0 none.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import quality
import torch
from baselines import Problem
from scipy.stats import spearmanr

from crnn_cli.assessment.reliability import AssessedReconstructor, reliability_summary
from crnn_cli.reconstruction.reconstruct import Reconstructor
from crnn_cli.workflows.reconstruct.methods import NETWORK, MethodRequest, prepare_method


@dataclass(frozen=True)
class Result:
    """What is known of one reconstruction, with the truth and without."""

    case: str
    acceleration: float
    method: str
    error: float
    one_fold: float
    two_folds: float
    above_noise: float
    undetermined: float


TOLD = ("one_fold", "two_folds", "above_noise", "undetermined")
GROUPS: dict[str, Callable[[Result], tuple]] = {
    "over cases": lambda r: (r.acceleration, r.method),
    "over accelerations": lambda r: (r.case, r.method),
    "over methods": lambda r: (r.case, r.acceleration),
    "over everything": lambda r: (),
}


def judge(case: str, acceleration: float, name: str, method: Reconstructor[None], problem: Problem) -> Result:
    """Reconstruct and judge, as the command does."""
    found, truth = {}, problem.truth_BTYX
    data = problem.measured()
    for folds in (1, 2):
        watched = AssessedReconstructor(method, folds, lambda images: images, banded=name == NETWORK)
        assessed = watched(data, lambda: None)
        found[folds] = reliability_summary([assessed.assessment], [0], folds)
    error = float((assessed.images_BTYX - truth).norm() / truth.norm())
    held = found[2]["held_out"]
    above = math.sqrt(max(0.0, held["overall"] ** 2 - (held["noise_floor"] or 0.0) ** 2))
    told = found[1]["held_out"]["overall"], held["overall"], above, found[2]["null_space_energy_fraction"]["overall"]
    return Result(case, acceleration, name, error, *told)


def run(
    cases: dict[str, np.ndarray], accelerations: list[float], methods: dict[str, Reconstructor[None]]
) -> Iterator[Result]:
    """Yield results, acceleration by acceleration."""
    for acceleration in accelerations:
        for case, magnitude in cases.items():
            problem = quality.make_problem(case, magnitude, acceleration)
            for name, method in methods.items():
                with torch.inference_mode():
                    yield judge(case, acceleration, name, method, problem)


def spearman(results: list[Result], told: str, group: Callable[[Result], tuple]) -> tuple[float, int]:
    """Return the mean rank correlation of what is told with the error, over groups of three or more, and how many."""
    groups = defaultdict(list)
    for result in results:
        groups[group(result)].append(result)
    found = [
        spearmanr([r.error for r in members], [getattr(r, told) for r in members]).statistic
        for members in groups.values()
        if len(members) >= 3
    ]
    known = [value for value in found if math.isfinite(value)]
    return (float(np.mean(known)), len(known)) if known else (math.nan, 0)


def table(results: list[Result]) -> str:
    """Return Markdown: what is told, and how well it ranks, for all methods and the network alone."""
    lines = ["| told | " + " | ".join(GROUPS) + " |", "|---|" + "--:|" * len(GROUPS)]
    for told in TOLD:
        cells = [f"{value:.2f} ({count})" for value, count in (spearman(results, told, g) for g in GROUPS.values())]
        lines.append(f"| {told.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of acdc_cine and pig_cine_sax")
    parser.add_argument("--accelerations", type=float, nargs="+", default=[4.0, 6.0, 8.0, 10.0, 12.0])
    parser.add_argument("--patients", help="ACDC patients, as 41-42, instead of all test cases; no pig")
    parser.add_argument("--model", help="the bundle; the default of crnn reconstruct where not given")
    parser.add_argument("--methods", nargs="*", default=[NETWORK, "zero-filled", "sliding-window", "tv", "llr"])
    parser.add_argument("--columns", type=int, help="cut the readout to so many columns, for a trial")
    parser.add_argument("--frames", type=int, help="and time to so many frames")
    parser.add_argument("--json", type=Path, help="write everything here")
    options = parser.parse_args()
    first, last = map(int, (options.patients or "41-50").split("-"))
    cases = quality.read_cases(options.data, range(first, last + 1), with_pig=options.patients is None)
    cases = {name: _cut(magnitude, options.frames, options.columns) for name, magnitude in cases.items()}
    place = torch.device("cpu")
    methods = {name: prepare_method(_asked(name, options.model), place).method for name in options.methods}
    results = []
    for result in run(cases, options.accelerations, methods):
        print(
            f"{result.acceleration:g}x {result.case} {result.method}: error {result.error:.3f}, "
            f"held out {result.two_folds:.3f}, undetermined {result.undetermined:.3f}",
            file=sys.stderr,
        )
        results.append(result)
    print(table(results))
    if NETWORK in methods and len(methods) > 1:
        print(f"\n{NETWORK} alone:\n\n" + table([r for r in results if r.method == NETWORK]))
    if options.json:
        options.json.write_text(json.dumps({"protocol": quality.VERSION, "results": [asdict(r) for r in results]}))


def _asked(name: str, model: str | None) -> MethodRequest:
    """Return what is wanted: the data is without noise and to be kept as it is."""
    return MethodRequest(name, model, noise_ratio=0.0) if name == NETWORK else MethodRequest(name)


def _cut(magnitude_TYX: np.ndarray, frames: int | None, columns: int | None) -> np.ndarray:
    """Return the first frames and the middle columns."""
    first = 0 if columns is None else max(0, (magnitude_TYX.shape[2] - columns) // 2)
    end = None if columns is None else first + columns
    return np.ascontiguousarray(magnitude_TYX[:frames, :, first:end])


if __name__ == "__main__":
    main()
