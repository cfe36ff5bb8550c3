"""Labels of the heart by disease group and phase: who is trained on, and how good a bundle is on the others.

python benchmarks/heart.py DATA --csv FILE [--cohort acdc|sunnybrook|both] [--reconstructed FOLDER]
    [--copies FOLDER] [--without "right ventricle" --labels FOLDER]
                                                               writes the list for `crnn train segment` and `drawn`
python benchmarks/heart.py DATA --model BUNDLE [--cohort acdc|sunnybrook] [--split val] [--keep-largest] [--json FILE]

DATA holds the folders acdc_labelled and acdc_groups (80 ACDC patients of five groups, end diastole and end systole)
and sunnybrook_lv (45 subjects of four groups, cavity of the left ventricle only). The splits are fixed. ACDC: 55
patients train, 10 (two of each group) are for choices, 15 (three of each group) are the test, which is touched once,
when nothing is left to choose. Sunnybrook: 33 subjects train, 4 are for choices, 8 (two of each group) are the test.
FOLDER holds frames of reconstructed cines, see `heart_reconstructed.py`; with --model these alone are measured.
--without leaves a structure out of all label maps of ACDC, written to --labels: a network that has never seen it. The
table gives mean Dice by group and phase, then the worst volumes and the 95 % Hausdorff distance.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import crnn_cli as crnn
from crnn_cli.labels.overlap import as_labels, overlaps
from crnn_cli.labels.surface import surface_distances

GROUPS = {"DCM": range(1, 21), "HCM": range(21, 36), "MINF": range(41, 56), "NOR": range(61, 76), "RV": range(81, 96)}
TEST = {5, 9, 13, 25, 30, 35, 45, 50, 55, 65, 70, 75, 85, 90, 95}
DEVELOPMENT = {1, 17, 22, 29, 42, 49, 62, 69, 82, 89}
LABELS = {3: "left ventricle", 2: "myocardium", 1: "right ventricle"}
SUNNYBROOK_TEST = {
    "SC-HF-I-05", "SC-HF-I-09", "SC-HF-NI-07", "SC-HF-NI-33", "SC-HYP-03", "SC-HYP-10", "SC-N-05", "SC-N-10",
}  # fmt: skip
SUNNYBROOK_DEVELOPMENT = {"SC-HF-I-11", "SC-HF-NI-14", "SC-HYP-08", "SC-N-09"}
CAVITY = "left ventricle"


@dataclass(frozen=True)
class Labelled:
    """A labelled volume: whose it is, what it shows, where it lies, and what is labelled in it."""

    subject: str
    group: str
    phase: str
    split: str
    image: Path
    labels: Path
    structures: str = ""


def split_of(patient: int) -> str:
    """Part of the ACDC data that a patient belongs to."""
    return "test" if patient in TEST else "val" if patient in DEVELOPMENT else "train"


def group_of(patient: int) -> str:
    """Disease group of a patient, by the numbering of the ACDC training set."""
    return next(name for name, patients in GROUPS.items() if patient in patients)


def acdc(data: Path) -> list[Labelled]:
    """Every labelled volume of ACDC, sorted by name."""
    found = []
    for folder in sorted(data.glob("acdc_*/patient???")):
        number = int(folder.name[-3:])
        frames = sorted(folder.glob("*_gt.nii.gz"))
        for phase, labels in zip(("ED", "ES"), frames, strict=True):
            image = labels.with_name(labels.name.replace("_gt", ""))
            found.append(Labelled(folder.name, group_of(number), phase, split_of(number), image, labels))
    return found


def sunnybrook(data: Path) -> list[Labelled]:
    """Every labelled volume of Sunnybrook, sorted by name; the one with the larger cavity is end diastole."""
    by_subject: dict[str, list[Path]] = {}
    for labels in sorted((data / "sunnybrook_lv").glob("*_gt.nii.gz")):
        by_subject.setdefault(labels.name.split("_")[0], []).append(labels)
    found = []
    for subject, files in by_subject.items():
        sizes = [int((crnn.load(file).array > 0).sum()) for file in files]
        split = "test" if subject in SUNNYBROOK_TEST else "val" if subject in SUNNYBROOK_DEVELOPMENT else "train"
        for file, size in zip(files, sizes, strict=True):
            phase = "ED" if size == max(sizes) else "ES"
            image = file.with_name(file.name.replace("_gt", ""))
            found.append(Labelled(subject, subject[3:-3], phase, split, image, file, CAVITY))
    return found


def reconstructed(folder: Path, data: Path) -> list[Labelled]:
    """Labelled frames of reconstructed cines; see `heart_reconstructed.py`."""
    by_image = {each.image.name.removesuffix(".nii.gz"): each for each in acdc(data)}
    found = []
    for labels in sorted(folder.glob("*_gt.nii.gz")):
        image = labels.with_name(labels.name.replace("_gt", ""))
        whole = by_image[image.name.rpartition("_")[0]]
        found.append(replace(whole, image=image, labels=labels))
    return found


COHORTS = {"acdc": acdc, "sunnybrook": sunnybrook, "both": lambda data: [*acdc(data), *sunnybrook(data)]}


def copied(rows: list[Labelled], folder: Path) -> list[Labelled]:
    """The volumes of ACDC that are trained on once more, as files of their own, so that they count twice."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for row in rows:
        if row.split == "train" and not row.structures:
            files = [shutil.copy(file, folder / f"again_{file.name}") for file in (row.image, row.labels)]
            found.append(replace(row, image=Path(files[0]), labels=Path(files[1])))
    return found


def without(rows: list[Labelled], name: str, folder: Path) -> list[Labelled]:
    """The volumes with label maps in which one structure is background; those that have no other are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    value, found = {name: value for value, name in LABELS.items()}[name], []
    for row in rows:
        if not row.structures:
            labels = crnn.load(row.labels)
            manual = as_labels(labels.array, row.labels.name)
            target = folder / row.labels.name
            crnn.save(replace(labels, array=np.where(manual == value, 0, manual).astype(np.uint8)), target)
            found.append(replace(row, labels=target))
        elif name not in row.structures:
            found.append(row)
    return found


def write_csv(rows: list[Labelled], target: Path) -> None:
    """Write the list for training; the test is in it, marked, and left alone."""
    with target.open("w", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(("image", "label", "split", "subject", "structures"))
        table.writerows((r.image.resolve(), r.labels.resolve(), r.split, r.subject, r.structures) for r in rows)


def measure(rows: list[Labelled], model: str, keep_largest: bool) -> list[dict]:
    """Dice of every structure that is labelled and that the model has; absent structures count as 0."""
    bundle, found = crnn.load_model(model), []
    assert bundle.slices is not None
    value_of = {label.name: label.value for label in bundle.slices.labels}
    for row in rows:
        made = crnn.segment(crnn.load(row.image), model=bundle, keep_largest=keep_largest)
        manual = as_labels(crnn.load(row.labels).array, row.labels.name)
        manual_values = {CAVITY: 1} if row.structures else {name: value for value, name in LABELS.items()}
        dice, hd95 = {}, {}
        for name in [name for name in LABELS.values() if name in value_of and name in manual_values]:
            same = [array == value for array, value in ((made.array, value_of[name]), (manual, manual_values[name]))]
            dice[name] = overlaps(*(mask.astype(np.uint8) for mask in same), [1])[1].dice or 0.0
            distances = surface_distances(same[0], same[1], made.spacing)
            hd95[name] = None if distances is None else round(distances.hd95, 3)
        found.append({"subject": row.subject, "group": row.group, "phase": row.phase, "hd95_mm": hd95} | dice)
        print(row.subject, row.phase, {name: round(value, 3) for name, value in dice.items()}, flush=True)
    return found


def show(found: list[dict], model: str) -> None:
    """Print the means by phase and group as Markdown, then the worst volumes."""
    names = [name for name in LABELS.values() if name in found[0]]
    print(f"\n{model}, {len(found)} volumes of {len({row['subject'] for row in found})} subjects\n")
    print(f"| phase | group | volumes | {' | '.join(names)} |")
    print("|---" * (3 + len(names)) + "|")
    for phase in ("ED", "ES", "both"):
        for group in (*dict.fromkeys(row["group"] for row in found), "all"):
            rows = [r for r in found if phase in ("both", r["phase"]) and group in ("all", r["group"])]
            if rows:
                means = [f"{np.mean([row[name] for row in rows]):.3f}" for name in names]
                print(f"| {phase} | {group} | {len(rows)} | {' | '.join(means)} |")
    for name in names:
        worst = sorted(found, key=lambda row: row[name])[:3]
        below = sum(row[name] < 0.7 for row in found)
        print(
            f"\n{name}: {below} below 0.7; worst "
            + ", ".join(f"{r['subject']} {r['phase']} {r[name]:.3f}" for r in worst)
        )
        known = [row["hd95_mm"][name] for row in found if row["hd95_mm"][name] is not None]
        mean, middle = np.mean(known), np.median(known)
        print(f"95 % Hausdorff distance, mean {mean:.1f} mm, median {middle:.1f}, worst {max(known):.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--csv", type=Path, help="write the list for training here")
    parser.add_argument("--cohort", default="acdc", choices=COHORTS)
    parser.add_argument("--reconstructed", type=Path, help="frames of reconstructed cines, for training as well")
    parser.add_argument("--copies", type=Path, help="folder for copies of what is trained on, so that it counts twice")
    parser.add_argument("--without", choices=LABELS.values(), help="structure to leave out of every label map")
    parser.add_argument("--labels", type=Path, help="folder for the label maps without it")
    parser.add_argument("--model", help="bundle to measure")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--keep-largest", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = COHORTS[arguments.cohort](arguments.data)
    more = reconstructed(arguments.reconstructed, arguments.data) if arguments.reconstructed else []
    if arguments.csv:
        if arguments.without:
            rows = without(rows, arguments.without, arguments.labels)
        again = copied(rows, arguments.copies) if arguments.copies else []
        write_csv([*rows, *more, *again], arguments.csv)
    if arguments.model:
        rows = more or rows
        found = measure([row for row in rows if row.split == arguments.split], arguments.model, arguments.keep_largest)
        show(found, arguments.model)
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
