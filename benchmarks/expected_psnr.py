"""Which PSNR to expect without a truth: fits the law of a bundle, and judges it on cases apart from the fit.

    python benchmarks/expected_psnr.py collect fit.jsonl --data DATA [--model NAME ...] [--limit 100]
    python benchmarks/expected_psnr.py fit fit.jsonl [--model NAME] [--write]
    python benchmarks/expected_psnr.py collect test.jsonl --data DATA --test [--model NAME ...]
    python benchmarks/expected_psnr.py judge test.jsonl [--model NAME]
    python benchmarks/expected_psnr.py collect own.jsonl --cines full_1.nii.gz full_2.nii.gz --model my-bundle

collect    reconstructs cases as `crnn reconstruct` does, and appends a line for each to a file; what is there is not
           done again. Cases of the fit: `expected_cases.py`, or the middle slices of fully sampled series of your own
           (--cines), each at six accelerations. --test: the 13 cases of `quality.py` at 4x, 8x and 12x, the middle
           columns of the readout.
fit        mean difference in dB of the NMSE that the PSNR stands for and the missed energy; the share of the noise
           that counts is searched for. Errors are those of each object by the law of the others; the interval has
           their 5 and 95 % quantiles, with the correction of conformal prediction for their number.
           --write puts the law into config.json.
judge      the law of the bundle on other cases: rank correlation, mean absolute error, cases in the interval.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import expected_cases
import numpy as np
import quality
import torch
from expected_cases import Case
from scipy.stats import spearmanr
from torch import Tensor

from crnn_cli.assessment.expected_psnr import ErrorBudget, error_budget, expected_quality
from crnn_cli.assessment.reliability import AssessedReconstructor
from crnn_cli.bundles.config import CONFIG, read_bundle
from crnn_cli.bundles.psnr_law import LEVEL, PSNRLaw
from crnn_cli.bundles.store import find_bundle
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.reconstruction.reconstruct import Reconstructor
from crnn_cli.workflows.reconstruct.methods import MethodRequest, prepare_method

Row = dict[str, Any]
Told = tuple[Case, Callable[[], tuple[Tensor, SliceMeasurement]]]
TEST_ACCELERATIONS, OWN_ACCELERATIONS = (4.0, 8.0, 12.0), (3.0, 4.0, 6.0, 8.0, 11.0, 14.0)
NOISE_SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
BARS = "rank .8 within 8x, .9 over all; mean absolute error 1.5 dB; 85 to 95 % in the interval"


def reconstructed(method: Reconstructor[None], truth: Tensor, data: SliceMeasurement, options: Any) -> Row:
    """Reconstruct as the command does: the budget, and the true quality."""
    watched = AssessedReconstructor(method, options.folds, lambda images: images, mapped=options.mapped, banded=True)
    result = watched(data, lambda: None)
    acceleration = float(data.mask_BTYX.numel() / data.mask_BTYX.sum())
    image, wanted = data.visible(result.images_BTYX).abs().double(), truth.abs().double()
    error = float((image - wanted).square().sum())
    budget = error_budget([result.assessment], acceleration)
    found = {"reason": result.assessment.reason} if budget is None else asdict(budget)
    return found | {
        "contrast": 10 * math.log10(float(image.max()) ** 2 * image.numel() / float(image.square().sum())),
        "psnr": 10 * math.log10(float(wanted.max()) ** 2 * image.numel() / error),
        "nmse": 10 * math.log10(error / float(wanted.square().sum())),
    }


def cases(options: argparse.Namespace) -> Iterator[Told]:
    """Yield cases, and how to measure them."""
    if options.cines:
        for number, file in enumerate(options.cines):
            magnitude = quality.read_slice(file)
            for acceleration in OWN_ACCELERATIONS:
                yield (
                    Case("own", number, acceleration),
                    lambda m=magnitude, r=acceleration, f=file: _clean(f.name, m, r),
                )
    elif options.test:
        found = quality.read_cases(options.data, range(41, 51), with_pig=True)
        for acceleration in options.accelerations:
            for number, (name, magnitude) in enumerate(found.items()):
                first = max(0, (magnitude.shape[2] - options.columns) // 2)
                cut = np.ascontiguousarray(magnitude[:, :, first : first + options.columns])
                yield Case(name, number, acceleration), lambda n=name, m=cut, r=acceleration: _clean(n, m, r)
    else:
        for case in expected_cases.draw_cases()[: options.limit]:
            yield case, lambda c=case: expected_cases.measured(c, options.data)


def _clean(name: str, magnitude: np.ndarray, acceleration: float) -> tuple[Tensor, SliceMeasurement]:
    problem = quality.make_problem(name, magnitude, acceleration)
    return problem.truth_BTYX, problem.measured()


def collect(options: argparse.Namespace) -> None:
    """Append a line for each case and model that the file lacks."""
    known = {_key(row) for row in read(options.file)} if options.file.exists() else set()
    place = torch.device("cpu")
    methods = {name: prepare_method(MethodRequest(model=name), place).method for name in options.model}
    for case, measure in cases(options):
        described = {"object": case.name, "factor": case.acceleration, "coils": case.coils, "deviation": case.noise}
        wanted = [name for name in options.model if _key({"model": name, **described}) not in known]
        if not wanted:
            continue
        with torch.inference_mode():
            truth, data = measure()
            for name in wanted:
                found = reconstructed(methods[name], truth, data, options)
                row = {"model": name, **described}
                with options.file.open("a") as file:
                    file.write(json.dumps(row | found) + "\n")
                print(f"{name} {case}: {found['psnr']:.2f} dB", file=sys.stderr)


def _key(row: Row) -> tuple[Any, ...]:
    return row["model"], row["object"], row["factor"], row["coils"], row.get("deviation", 0.0)


def read(file: Path) -> list[Row]:
    """Read the lines of a file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def budget_of(row: Row) -> ErrorBudget:
    """Budget of a line."""
    return ErrorBudget(*(row[key] for key in ("missed", "noise", "energy", "acceleration")))


def intercept(rows: list[Row], noise_share: float) -> float:
    """Return the mean of the NMSE that the PSNR stands for less the missed energy, in dB."""
    return float(np.mean([row["contrast"] - row["psnr"] - budget_of(row).missed_db(noise_share) for row in rows]))


def left_out_errors(rows: list[Row], noise_share: float) -> list[float]:
    """Return the true less the expected PSNR of each line, by the law of the lines of other objects."""
    errors = []
    for name in dict.fromkeys(row["object"] for row in rows):
        others, own = [r for r in rows if r["object"] != name], [r for r in rows if r["object"] == name]
        offset = intercept(others, noise_share)
        errors += [row["psnr"] - row["contrast"] + budget_of(row).missed_db(noise_share) + offset for row in own]
    return errors


def fit(rows: list[Row]) -> tuple[PSNRLaw, list[float]]:
    """Fit the law; also the errors of cases left out."""
    share = min(NOISE_SHARES, key=lambda s: float(np.mean(np.abs(left_out_errors(rows, s)))))
    errors, count = left_out_errors(rows, share), len(rows)
    tail = (1 - LEVEL) / 2
    low, high = (np.quantile(errors, q) for q in (max(0.0, tail - 1 / count), min(1.0, 1 - tail + 1 / count)))
    missed, speeds = [budget_of(r).missed_db(share) for r in rows], [r["acceleration"] for r in rows]
    return PSNRLaw(
        float(f"{intercept(rows, share):.4g}"), share, (float(f"{low:.3g}"), float(f"{high:.3g}")),
        (math.floor(10 * min(speeds)) / 10, math.ceil(10 * max(speeds)) / 10),
        (math.floor(min(missed)), math.ceil(max(missed))), count,
    ), errors  # fmt: skip


def write_law(model: str, law: PSNRLaw) -> None:
    """Put the law into config.json of the bundle."""
    file = find_bundle(model, "reconstruct").folder / CONFIG
    config = json.loads(file.read_text())
    config["expected_psnr"] = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(law).items()}
    config["sha256"] = config.pop("sha256")  # stays last
    file.write_text(json.dumps(config, indent=2) + "\n")
    read_bundle(file.parent)


def judge(rows: list[Row], law: PSNRLaw) -> str:
    """Return Markdown: how well the law does, by acceleration and over all."""
    lines = [
        "| R | cases | rank | mean absolute error | bias | in the interval | outside the fit |",
        "|--:|" * 1 + "--:|" * 6,
    ]
    for factor in [*sorted({row["factor"] for row in rows}), None]:
        some = [row for row in rows if factor in (None, row["factor"])]
        found = [expected_quality(law, budget_of(row), row["contrast"]) for row in some]
        true = np.array([row["psnr"] for row in some])
        errors = true - np.array([each.psnr for each in found])
        rank = spearmanr(true, [each.psnr for each in found]).statistic
        inside = np.mean([each.low <= psnr <= each.high for each, psnr in zip(found, true, strict=True)])
        outside = sum(bool(each.outside) for each in found)
        name = "all" if factor is None else f"{factor:g}"
        lines.append(
            f"| {name} | {len(some)} | {rank:.2f} | {np.abs(errors).mean():.2f} dB | {errors.mean():+.2f} dB | "
            f"{100 * inside:.0f} % | {outside} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["collect", "fit", "judge"])
    parser.add_argument("file", type=Path, help="of the lines, one for each case and model")
    parser.add_argument("--data", type=Path, help="folder of acdc_cine, acdc_groups and pig_cine_sax")
    parser.add_argument("--model", nargs="+", default=["cine-crnn"], help="bundles")
    parser.add_argument("--test", action="store_true", help="the cases of the protocol")
    parser.add_argument("--cines", type=Path, nargs="+", help="fully sampled series (NIfTI) to fit on")
    parser.add_argument("--limit", type=int, help="so many of the cases of the fit")
    parser.add_argument("--columns", type=int, default=64, help="of the test cases")
    parser.add_argument("--accelerations", type=float, nargs="+", default=TEST_ACCELERATIONS, help="of the test cases")
    parser.add_argument("--folds", type=int, default=1)
    parser.add_argument("--mapped", action="store_true", help="a quarter left out, as --uncertainty does")
    parser.add_argument("--write", action="store_true", help="put the law into config.json")
    options = parser.parse_args()
    if options.step == "collect":
        if not options.data and not options.cines:
            parser.error("collect needs --data or --cines")
        collect(options)
        return
    for model in options.model:
        rows = [row for row in read(options.file) if row["model"] == model and "missed" in row]
        if options.step == "judge":
            law = find_bundle(model, "reconstruct").psnr_law
            assert law is not None, f"{model} has no law: fit it first"
            print(f"{model} ({BARS})\n\n{judge(rows, law)}\n")
            continue
        law, errors = fit(rows)
        print(f"{model}: {law}\nleft out: mean absolute error {np.abs(errors).mean():.2f} dB, {len(rows)} cases")
        print(f"not told, too few lines: {sum(r['model'] == model for r in read(options.file)) - len(rows)}")
        if options.write:
            write_law(model, law)


if __name__ == "__main__":
    main()
