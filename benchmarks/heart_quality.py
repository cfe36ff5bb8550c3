"""Does the predicted Dice tell good labels from bad ones? Curves of a bundle, and how well they do on other patients.

python benchmarks/heart_quality.py DATA --model BUNDLE [--splits val] [--leave-out GROUP] [--rescanned 4] --json FILE
python benchmarks/heart_quality.py --from FILE [FILE ...] [--config BUNDLE/config.json]

The first form labels ACDC volumes that the bundle was not trained on, and poorer scans of the same (`rescanned`: lower
resolution, ghosts, motion, noise), and notes for every structure the expected Dice, the true one and the findings. The
second fits curves (isotonic regression of the true on the expected Dice), each patient by the curves of the others, and
prints how the prediction ranks, and how many failures (true Dice below 0.7) are flagged: by a predicted Dice below the
limit, or by a finding about the structure. The limit is the highest with at most one false alarm in ten. With --config
the curves of all patients are written there, and the limit.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from heart import CAVITY, COHORTS, LABELS, Labelled
from scipy.optimize import isotonic_regression
from scipy.stats import spearmanr

import crnn_cli as crnn
from crnn_cli.bundles.store import find_bundle, load_segmentation
from crnn_cli.data.image import Image
from crnn_cli.labels.plausibility import find_implausible
from crnn_cli.segmentation.preprocessing import SlicePreprocessing
from crnn_cli.segmentation.segment import choose_order, segment
from crnn_cli.training.segment.scanner import rescanned

FAILURE = 0.7
MOST_FALSE_ALARMS = 0.1
KNOTS = 8
Row = dict[str, Any]


def poorer(image: Image, times: int, seed: list[int]) -> Image:
    """The image after ``times`` poorer scans; 0 leaves it as it is."""
    order, _ = choose_order(image, None, None)
    slices = np.ascontiguousarray(order.to_slices(image.array.astype(np.float32)))
    scale, rng = float(np.percentile(slices, 99)), np.random.default_rng(seed)
    for _ in range(times):
        slices = rescanned(slices / scale, rng) * scale
    return Image(order.from_slices(slices), image.affine, pixdim=image.pixdim)


def measure(rows: list[Labelled], model: str, versions: int) -> list[Row]:
    """Expected and true Dice of every structure of every volume and of its poorer scans, and the findings."""
    bundle = find_bundle(model, "segment")
    assert bundle.slices is not None
    fed, network = bundle.slices, load_segmentation(bundle, torch.device("cpu"))
    preprocessing = SlicePreprocessing(fed.spacing, fed.rule, fed.low, fed.high)
    found = []
    for row in rows:
        image, manual = crnn.load(row.image), np.asarray(crnn.load(row.labels).array).round()
        values = {CAVITY: 1} if row.structures else {name: value for value, name in LABELS.items()}
        for version in range(versions + 1):
            shown = poorer(image, version, [version, *map(ord, row.subject + row.phase)])
            order, _ = choose_order(shown, None, None)
            made = segment(
                shown, order, network, preprocessing, torch.device("cpu"), keep_within=fed.keep_within or 22,
                class_weights=fed.class_weights, base_rule=fed.base_rule,
            )  # fmt: skip
            stack = np.moveaxis(made.labels, order.axes[0], 0)[None]
            findings = [(each.doubt.code, each.label) for each in find_implausible(stack, fed.labels)]
            for label in [label for label in fed.labels if label.name in values]:
                ours, theirs = made.labels == label.value, manual == values[label.name]
                true = 2 * int((ours & theirs).sum()) / max(1, int(ours.sum() + theirs.sum()))
                found.append({
                    "subject": row.subject, "group": row.group, "phase": row.phase, "version": version,
                    "label": label.name, "expected": made.expected_dice[0][label.value - 1], "dice": true,
                    "findings": [code for code, name in findings if name == label.name],
                })  # fmt: skip
        print(row.subject, row.phase, flush=True)
    return found


def curve_of(rows: list[Row]) -> tuple[list[float], list[float]]:
    """Knots of the isotonic regression of the true on the expected Dice, thinned to a few."""
    pairs = sorted((row["expected"], row["dice"]) for row in rows if row["expected"] > 0)
    expected, dice = np.array(pairs).T
    rising = isotonic_regression(dice).x
    parts = np.array_split(np.arange(len(pairs)), min(KNOTS, max(1, len(pairs) // 3)))
    knots = [(float(expected[part].mean()), float(rising[part].mean())) for part in parts]
    return [round(x, 4) for x, _ in knots], [round(y, 4) for _, y in knots]


def predictions(rows: list[Row]) -> np.ndarray:
    """Predicted Dice of every row, by the curve of its structure from the other patients."""
    predicted = np.zeros(len(rows))
    for index, row in enumerate(rows):
        if row["expected"] > 0:
            others = [o for o in rows if o["label"] == row["label"] and o["subject"] != row["subject"]]
            predicted[index] = np.interp(row["expected"], *curve_of(others))
    return predicted


def is_flagged(rows: list[Row], predicted: np.ndarray, limit: float) -> np.ndarray:
    """Whether each label is doubted: its predicted Dice is low, or something about it is implausible."""
    return (predicted < limit) | np.array([bool(row["findings"]) for row in rows])


def limit_of(rows: list[Row], predicted: np.ndarray) -> float:
    """Highest limit, in steps of 0.01, with which at most `MOST_FALSE_ALARMS` of the good labels are flagged."""
    good = np.array([row["dice"] >= FAILURE for row in rows])
    limits = [limit for limit in np.arange(0.5, 0.96, 0.01)
              if is_flagged(rows, predicted, limit)[good].mean() <= MOST_FALSE_ALARMS]  # fmt: skip
    return round(float(max(limits, default=FAILURE)), 2)


def show(rows: list[Row], predicted: np.ndarray, limit: float) -> None:
    """Print a Markdown table by structure."""
    dice, names = np.array([row["dice"] for row in rows]), np.array([row["label"] for row in rows])
    failed, flagged = dice < FAILURE, is_flagged(rows, predicted, limit)
    print(f"limit {limit:g}\n")
    print("| structure | labels | rank correlation | mean error | failures | flagged | false alarms |")
    print("|---|---|---|---|---|---|---|")
    for name in [*dict.fromkeys(names), "all"]:
        mine = names == name if name != "all" else np.ones(len(names), bool)
        rank = spearmanr(predicted[mine], dice[mine]).statistic
        error = np.abs(predicted - dice)[mine].mean()
        bad, good = mine & failed, mine & ~failed
        caught = f"{flagged[bad].sum()}" if bad.any() else "-"
        print(
            f"| {name} | {mine.sum()} | {rank:.2f} | {error:.3f} | {bad.sum()} | {caught} | "
            f"{flagged[good].sum()} of {good.sum()} |"
        )


def write_curves(rows: list[Row], limit: float, file: Path) -> None:
    """Write the curves of all patients into a bundle's config.json."""
    config = json.loads(file.read_text())
    names = [label["name"] for label in config["labels"]]
    curves = [curve_of([row for row in rows if row["label"] == name]) for name in names]
    quality = {"doubt_below": limit, "curves": [{"expected": x, "dice": y} for x, y in curves]}
    sha256 = config.pop("sha256")
    config |= {"quality": quality, "sha256": sha256}
    file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--model")
    parser.add_argument("--cohort", default="acdc", choices=COHORTS)
    parser.add_argument("--splits", nargs="+", default=["val"], choices=("train", "val"))
    parser.add_argument("--leave-out", nargs="*", default=[], metavar="GROUP", help="that the bundle was trained on")
    parser.add_argument("--rescanned", type=int, default=0, metavar="N", help="poorer scans of every volume")
    parser.add_argument("--json", type=Path, help="write the measures here")
    parser.add_argument("--from", dest="files", type=Path, nargs="+", help="measures that were written before")
    parser.add_argument("--config", type=Path, help="write the curves here")
    arguments = parser.parse_args()
    if arguments.files:
        rows = [row for file in arguments.files for row in json.loads(file.read_text())]
        predicted = predictions(rows)
        limit = limit_of(rows, predicted)
        show(rows, predicted, limit)
        if arguments.config:
            write_curves(rows, limit, arguments.config)
        return
    chosen = [row for row in COHORTS[arguments.cohort](arguments.data)
              if row.split in arguments.splits and row.group not in arguments.leave_out]  # fmt: skip
    found = measure(chosen, arguments.model, arguments.rescanned)
    arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
