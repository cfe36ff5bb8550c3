"""Intervals of the numbers of the heart: their limits, and how many patients they hold.

python benchmarks/function_intervals.py DATA [--model BUNDLE] [--splits val test] [--level 0.9] [--json FILE]
    [--into BUNDLE]

DATA as for benchmarks/heart.py, whose splits it takes; none of these patients may have been trained on. Each patient
has two labelled frames, which are labelled by the model as well. The table tells, for every number, the share of
patients whose manual number lies within the interval that the *other* patients give, in all and in the disease group
that is held least, and the median width. --into writes the limits of all patients together into a config.json.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from heart import acdc

import crnn_cli as crnn
from crnn_cli.cardiac.intervals import conformal_limit, doubt_of, phases_of, score, structure_of, with_interval
from crnn_cli.cardiac.quantities import Quantity
from crnn_cli.labels.interval_limits import NUMBERS, IntervalLimits
from crnn_cli.labels.overlap import as_labels
from crnn_cli.workflows.segment.options import SegmentOptions
from crnn_cli.workflows.segment.steps import prepare, segment_image

LEAST_DOUBT = 0.04
Row = dict[str, Any]


def numbers_of(frames: list[np.ndarray], grid: crnn.Image) -> dict[str, Quantity]:
    """Numbers of the two frames, end diastole first, by side and name."""
    series = crnn.Image(np.stack(frames, -1), grid.affine, None, grid.codes, pixdim=grid.pixdim)
    found = crnn.function(series, labels="acdc", ed=1, es=2).quantities()
    return {name: found[name.partition(".")[0]][name.partition(".")[2]] for name in NUMBERS}


def measure(data: Path, model: str, splits: list[str]) -> list[Row]:
    """Of every patient: group; numbers of the model, manual ones, and the doubt of each."""
    engine = prepare(SegmentOptions(model=model))
    doubtful = IntervalLimits(0.9, 1, LEAST_DOUBT, {})
    listed, found = [each for each in acdc(data) if each.split in splits], []
    for patient in sorted({each.subject for each in listed}):
        frames = [each for each in listed if each.subject == patient]
        images = [crnn.load(each.image) for each in frames]
        manual = [as_labels(crnn.load(each.labels).array, each.labels.name).astype(np.uint8) for each in frames]
        runs = [segment_image(image, engine=engine) for image in images]
        dice = {
            label["name"]: [run.report["labels"][k]["predicted_dice"][0] for run in runs]
            for k, label in enumerate(runs[0].report["labels"])
        }
        order = (0, 1) if (manual[0] == 3).sum() >= (manual[1] == 3).sum() else (1, 0)  # listed in the order of time
        truth = numbers_of([manual[k] for k in order], images[0])
        ours = numbers_of([runs[k].labels.array for k in order], images[0])
        row: Row = {"patient": patient, "group": frames[0].group, "numbers": {}}
        for name in NUMBERS:
            if truth[name].value is None or ours[name].value is None:
                continue
            looks = [dice[structure_of(name)][k] for k in phases_of(name, *order)]
            row["numbers"][name] = (ours[name].value, truth[name].value, doubt_of(doubtful, looks))
        found.append(row)
        print(
            patient, {name: [round(float(v), 2) for v in three] for name, three in row["numbers"].items()}, flush=True
        )
    return found


def limits_of(rows: list[Row], level: float) -> IntervalLimits:
    """Limits of these patients together; numbers that too few of them have are left out."""
    limits = {}
    for name in NUMBERS:
        scores = [score(name, *row["numbers"][name]) for row in rows if name in row["numbers"]]
        if len(scores) + 1 >= 1 / (1 - level) - 1e-9:
            limits[name] = float(f"{conformal_limit(scores, level):.4g}")
    return IntervalLimits(level, len(rows), LEAST_DOUBT, limits)


def held(rows: list[Row], level: float) -> list[Row]:
    """Of every number and patient: whether the interval that the others give holds it, and how wide it is."""
    found = []
    for row in rows:
        limits = limits_of([each for each in rows if each is not row], level)
        for name, (value, manual, doubt) in row["numbers"].items():
            unit = "%" if name.endswith("ejection_fraction") else "ml"
            interval = with_interval(limits, name, Quantity(value, unit), doubt)
            if interval.low is not None and interval.high is not None:
                width = interval.high - interval.low
                found.append({
                    "name": name, "group": row["group"], "holds": interval.low <= manual <= interval.high,
                    "width": width if unit == "%" else 100 * width / value,
                })  # fmt: skip
    return found


def show(rows: list[Row], level: float) -> None:
    """Print coverage and width by number as Markdown."""
    every = held(rows, level)
    print(f"\nIntervals of {100 * level:g} %, {len(rows)} patients, each by the limits of the others\n")
    print("| number | patients | held | least of a group | median width |\n|---|---|---|---|---|")
    for name in NUMBERS:
        mine = [each for each in every if each["name"] == name]
        if not mine:
            continue
        groups = {
            group: np.mean([e["holds"] for e in mine if e["group"] == group]) for group in {e["group"] for e in mine}
        }
        worst = min(groups, key=lambda group: groups[group])
        unit = "points" if name.endswith("ejection_fraction") else "%"
        share, width = np.mean([each["holds"] for each in mine]), np.median([each["width"] for each in mine])
        print(
            f"| {name} | {len(mine)} | {100 * share:.0f} % | {worst} {100 * groups[worst]:.0f} % | {width:.1f} {unit} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="cardiac-sax-clstm")
    parser.add_argument("--splits", nargs="+", default=["val"], choices=("val", "test"))
    parser.add_argument("--level", type=float, default=0.9)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--into", type=Path, help="bundle folder whose config.json gets the limits")
    arguments = parser.parse_args()
    logging.getLogger("crnn").setLevel("ERROR")  # what is doubtful about each patient
    rows = measure(arguments.data, arguments.model, arguments.splits)
    show(rows, arguments.level)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    if arguments.into:
        limits = limits_of(rows, arguments.level)
        file = arguments.into / "config.json"
        config = json.loads(file.read_text())
        digest = config.pop("sha256")
        config["intervals"] = {
            "level": limits.level, "patients": limits.patients, "least_doubt": limits.least_doubt,
            "limits": dict(limits.limits),
        }  # fmt: skip
        file.write_text(json.dumps(config | {"sha256": digest}, indent=2) + "\n")


if __name__ == "__main__":
    main()
