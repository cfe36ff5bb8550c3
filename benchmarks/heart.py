"""Labels of the heart by disease group and phase: who is trained on, and how good a bundle is on the others.

python benchmarks/heart.py DATA --csv cardiac.csv                     writes the list for `crnn train segment`
python benchmarks/heart.py DATA --model BUNDLE [--split val] [--keep-largest] [--json FILE]

DATA holds the folders acdc_labelled and acdc_groups (80 ACDC patients of five groups, end diastole and end systole).
The split is fixed: 55 patients train, 10 (two of each group) are for choices, 15 (three of each group) are the test,
which is touched once, when nothing is left to choose. The table gives mean Dice by group and phase, and the worst
volumes.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np

import crnn_cli as crnn
from crnn_cli.labels.overlap import as_labels, overlaps

GROUPS = {"DCM": range(1, 21), "HCM": range(21, 36), "MINF": range(41, 56), "NOR": range(61, 76), "RV": range(81, 96)}
TEST = {5, 9, 13, 25, 30, 35, 45, 50, 55, 65, 70, 75, 85, 90, 95}
DEVELOPMENT = {1, 17, 22, 29, 42, 49, 62, 69, 82, 89}
LABELS = {3: "left ventricle", 2: "myocardium", 1: "right ventricle"}


def split_of(patient: int) -> str:
    """Part of the data that a patient belongs to."""
    return "test" if patient in TEST else "val" if patient in DEVELOPMENT else "train"


def group_of(patient: int) -> str:
    """Disease group of a patient, by the numbering of the ACDC training set."""
    return next(name for name, patients in GROUPS.items() if patient in patients)


def volumes(data: Path) -> list[tuple[int, str, Path, Path]]:
    """(patient, phase, image, labels) of every labelled volume, sorted by name."""
    rows = []
    for folder in sorted(data.glob("acdc_*/patient???")):
        frames = sorted(folder.glob("*_gt.nii.gz"))
        for phase, labels in zip(("ED", "ES"), frames, strict=True):
            image = labels.with_name(labels.name.replace("_gt", ""))
            rows.append((int(folder.name[-3:]), phase, image, labels))
    return rows


def write_csv(rows: list[tuple[int, str, Path, Path]], target: Path) -> None:
    """Write the list for training; the test is in it, marked, and left alone."""
    with target.open("w", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(("image", "label", "split", "subject"))
        table.writerows(
            (image.resolve(), labels.resolve(), split_of(n), f"patient{n:03d}") for n, _, image, labels in rows
        )


def measure(rows: list[tuple[int, str, Path, Path]], model: str, keep_largest: bool) -> list[dict]:
    """Dice of every structure on every volume, absent structures counted as 0."""
    bundle, found = crnn.load_model(model), []
    for patient, phase, image, labels in rows:
        made = crnn.segment(crnn.load(image), model=bundle, keep_largest=keep_largest)
        manual = as_labels(crnn.load(labels).array, labels.name)
        dice = overlaps(made.array, manual, list(LABELS))
        row = {"patient": patient, "group": group_of(patient), "phase": phase}
        found.append(row | {name: dice[value].dice or 0.0 for value, name in LABELS.items()})
        print(patient, phase, [round(found[-1][name], 3) for name in LABELS.values()], flush=True)
    return found


def show(found: list[dict], model: str) -> None:
    """Print the means by phase and group as Markdown, then the worst volumes."""
    names = list(LABELS.values())
    print(f"\n{model}, {len(found)} volumes of {len({row['patient'] for row in found})} patients\n")
    print(f"| phase | group | volumes | {' | '.join(names)} |")
    print("|---" * (3 + len(names)) + "|")
    for phase in ("ED", "ES", "both"):
        for group in (*GROUPS, "all"):
            rows = [r for r in found if phase in ("both", r["phase"]) and group in ("all", r["group"])]
            if rows:
                means = [f"{np.mean([row[name] for row in rows]):.3f}" for name in names]
                print(f"| {phase} | {group} | {len(rows)} | {' | '.join(means)} |")
    for name in names:
        worst = sorted(found, key=lambda row: row[name])[:3]
        below = sum(row[name] < 0.7 for row in found)
        print(
            f"\n{name}: {below} below 0.7; worst "
            + ", ".join(f"{r['patient']} {r['phase']} {r[name]:.3f}" for r in worst)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--csv", type=Path, help="write the list for training here")
    parser.add_argument("--model", help="bundle to measure")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--keep-largest", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = volumes(arguments.data)
    if arguments.csv:
        write_csv(rows, arguments.csv)
    if arguments.model:
        found = measure(
            [row for row in rows if split_of(row[0]) == arguments.split], arguments.model, arguments.keep_largest
        )
        show(found, arguments.model)
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
