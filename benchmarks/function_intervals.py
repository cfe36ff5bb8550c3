"""Intervals of the numbers of the heart: their limits, and how many patients they hold.

python benchmarks/function_intervals.py DATA [--model BUNDLE] [--splits val test] [--level 0.9] [--group-level 0.8]
    [--kept FILE] [--into BUNDLE]

DATA as for benchmarks/heart.py, whose splits it takes; none of these patients may have been trained on. Each patient
has two labelled frames, which are labelled by the model as well. The table tells, for every number, the share of
patients whose manual number lies within the interval that the *other* patients give, in all and in the disease group
that is held least, and the median width; once with limits for all patients together, and once with those that also
hold each group. --kept keeps the numbers of the patients, and takes those that are in the file. --into writes the
limits of all patients into a config.json.
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
from crnn_cli.cardiac.intervals import BothPhases, doubt_of, half_width, limit_of_groups, score, structure_of
from crnn_cli.cardiac.quantities import Quantity
from crnn_cli.labels.interval_limits import NUMBERS, IntervalLimits
from crnn_cli.labels.overlap import as_labels
from crnn_cli.workflows.segment.options import SegmentOptions
from crnn_cli.workflows.segment.steps import prepare, segment_image

LEAST_DOUBT = 0.05
Row = dict[str, Any]


def numbers_of(frames: list[np.ndarray], grid: crnn.Image) -> dict[str, Quantity]:
    """Numbers of the two frames, end diastole first, by side and name."""
    series = crnn.Image(np.stack(frames, -1), grid.affine, None, grid.codes, pixdim=grid.pixdim)
    found = crnn.function(series, labels="acdc", ed=1, es=2).quantities()
    return {name: found[name.partition(".")[0]][name.partition(".")[2]] for name in NUMBERS}


def measure(data: Path, model: str, splits: list[str], kept: Path | None) -> list[Row]:
    """Of every patient: group; numbers of the model and manual ones; predicted Dice by structure, ED and ES."""
    engine = prepare(SegmentOptions(model=model))
    found: list[Row] = json.loads(kept.read_text()) if kept and kept.exists() else []
    listed = [each for each in acdc(data) if each.split in splits]
    for patient in sorted({each.subject for each in listed} - {row["patient"] for row in found}):
        frames = [each for each in listed if each.subject == patient]
        images = [crnn.load(each.image) for each in frames]
        manual = [as_labels(crnn.load(each.labels).array, each.labels.name).astype(np.uint8) for each in frames]
        runs = [segment_image(image, engine=engine) for image in images]
        order = (0, 1) if (manual[0] == 3).sum() >= (manual[1] == 3).sum() else (1, 0)  # listed in the order of time
        dice = {
            label["name"]: [runs[frame].report["labels"][k]["predicted_dice"][0] for frame in order]
            for k, label in enumerate(runs[0].report["labels"])
        }
        truth = numbers_of([manual[k] for k in order], images[0])
        ours = numbers_of([runs[k].labels.array for k in order], images[0])
        numbers = {
            name: (ours[name].value, truth[name].value) for name in NUMBERS
            if truth[name].value is not None and ours[name].value is not None
        }  # fmt: skip
        found.append({"patient": patient, "group": frames[0].group, "numbers": numbers, "dice": dice})
        print(patient, {name: [round(float(v), 2) for v in both] for name, both in numbers.items()}, flush=True)
        if kept:
            kept.write_text(json.dumps(found, indent=1) + "\n")
    return found


def phases_of(row: Row, name: str) -> BothPhases:
    """Volumes or masses, and their doubts, that a number of a patient stands on."""
    structure, side = structure_of(name), name.partition(".")[0]
    words = ("mass_ed", "mass_es") if name.partition(".")[2].startswith("mass") else ("edv", "esv")
    doubtful = IntervalLimits(0.9, 0.0, 1, LEAST_DOUBT, {})
    volumes = [row["numbers"][f"{side}.{word}"][0] for word in words]
    return BothPhases(*volumes, *(doubt_of(doubtful, dice) for dice in row["dice"][structure]))


def limits_of(rows: list[Row], level: float, group_level: float) -> IntervalLimits:
    """Limits of these patients together; numbers that too few of them have are left out."""
    limits = {}
    for name in NUMBERS:
        scores: dict[str, list[float]] = {}
        for row in [each for each in rows if name in each["numbers"]]:
            scores.setdefault(row["group"], []).append(score(name, *row["numbers"][name], phases_of(row, name)))
        try:
            limits[name] = float(f"{limit_of_groups(scores, level, group_level):.4g}")
        except ValueError as error:
            print(f"{name}: {error}")
    return IntervalLimits(level, group_level, len(rows), LEAST_DOUBT, limits)


def held(rows: list[Row], level: float, group_level: float) -> list[Row]:
    """Of every number and patient: whether the interval that the others give holds it, and how wide it is."""
    found = []
    for row in rows:
        limits = limits_of([each for each in rows if each is not row], level, group_level)
        for name, (value, manual) in row["numbers"].items():
            half = half_width(limits, name, value, phases_of(row, name))
            if half is not None:
                found.append({
                    "name": name, "group": row["group"], "holds": abs(value - manual) <= half,
                    "width": 2 * half if name.endswith("ejection_fraction") else 200 * half / value,
                })  # fmt: skip
    return found


def show(rows: list[Row], level: float, group_level: float) -> None:
    """Print coverage and width by number as Markdown."""
    groups = f", {100 * group_level:g} % in each group" if group_level else ""
    print(f"\nIntervals of {100 * level:g} %{groups}; {len(rows)} patients, each by the limits of the others\n")
    print("| number | patients | held | least of a group | median width |\n|---|---|---|---|---|")
    every = held(rows, level, group_level)
    for name in NUMBERS:
        mine = [each for each in every if each["name"] == name]
        if not mine:
            continue
        by_group = {
            group: np.mean([e["holds"] for e in mine if e["group"] == group])
            for group in sorted({e["group"] for e in mine})
        }
        worst = min(by_group, key=lambda group: by_group[group])
        unit = "points" if name.endswith("ejection_fraction") else "%"
        share, width = np.mean([each["holds"] for each in mine]), np.median([each["width"] for each in mine])
        least = f"{worst} {100 * by_group[worst]:.0f} %"
        print(f"| {name} | {len(mine)} | {100 * share:.0f} % | {least} | {width:.1f} {unit} |")


def write(bundle: Path, limits: IntervalLimits) -> None:
    """Write limits into the config.json of a bundle."""
    file = bundle / "config.json"
    config = json.loads(file.read_text())
    digest = config.pop("sha256")
    config["intervals"] = {
        "level": limits.level, "group_level": limits.group_level, "patients": limits.patients,
        "least_doubt": limits.least_doubt, "limits": dict(limits.limits),
    }  # fmt: skip
    file.write_text(json.dumps(config | {"sha256": digest}, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="cardiac-sax-clstm")
    parser.add_argument("--splits", nargs="+", default=["val"], choices=("val", "test"))
    parser.add_argument("--level", type=float, default=0.9)
    parser.add_argument("--group-level", type=float, default=0.8, help="0: groups are not looked at")
    parser.add_argument("--kept", type=Path, help="JSON that keeps the numbers of the patients")
    parser.add_argument("--into", type=Path, help="bundle folder whose config.json gets the limits")
    arguments = parser.parse_args()
    logging.getLogger("crnn").setLevel("ERROR")  # what is doubtful about each patient
    rows = measure(arguments.data, arguments.model, arguments.splits, arguments.kept)
    for group_level in dict.fromkeys((0.0, arguments.group_level)):
        show(rows, arguments.level, group_level)
    limits = limits_of(rows, arguments.level, arguments.group_level)
    print(json.dumps(limits.limits))
    if arguments.into:
        write(arguments.into, limits)


if __name__ == "__main__":
    main()
