"""Numbers of the heart from manual labels and from the labels of a model, patient by patient.

python benchmarks/function.py DATA [--model BUNDLE] [--split val] [--json FILE]

DATA as for benchmarks/heart.py, whose split it takes. The two labelled frames of a patient make a series of two frames.
The truth is the manual labels, measured in the same way. Also told: ejection fractions by group, to compare with those
published for the set.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from heart import GROUPS, acdc

import crnn_cli as crnn
from crnn_cli.labels.overlap import as_labels

NAMES = {
    ("left", "ejection_fraction"): "LVEF", ("left", "edv"): "LV EDV", ("left", "esv"): "LV ESV",
    ("left", "mass_ed"): "mass", ("right", "ejection_fraction"): "RVEF", ("right", "edv"): "RV EDV",
    ("right", "esv"): "RV ESV",
}  # fmt: skip


def figures(frames: list, grid: crnn.Image) -> dict[str, float | None]:
    """Numbers of a series of label frames."""
    series = crnn.Image(np.stack(frames, -1), grid.affine, None, grid.codes, pixdim=grid.pixdim)
    quantities = crnn.function(series, labels="acdc", ed=1, es=2).quantities()
    return {name: quantities[side][key].value for (side, key), name in NAMES.items()}


def measure(data: Path, model: str, split: str) -> list[dict]:
    """Manual and automatic numbers of every patient of a split."""
    bundle, found = crnn.load_model(model), []
    listed = [each for each in acdc(data) if each.split == split]
    for patient in sorted({each.subject for each in listed}):
        frames = [each for each in listed if each.subject == patient]
        manual = [
            as_labels(crnn.load(labels).array, labels.name).astype(np.uint8)
            for labels in (each.labels for each in frames)
        ]
        images = [crnn.load(each.image) for each in frames]
        if figures(manual, images[0])["LVEF"] < 0:  # the frames are listed in the order of time, not of size
            manual, images = manual[::-1], images[::-1]
        made = [crnn.segment(image, model=bundle).array for image in images]
        truth, ours = figures(manual, images[0]), figures(made, images[0])
        found.append({"patient": patient, "group": frames[0].group, "manual": truth, "model": ours})
        print(patient, {name: (truth[name] and round(truth[name]), ours[name] and round(ours[name])) for name in truth})
    return found


def show(found: list[dict]) -> None:
    """Print errors by number, and ejection fractions by group, as Markdown."""
    print("\n| number | patients | refused | mean absolute error | bias | r |\n|---|---|---|---|---|---|")
    for name in NAMES.values():
        pairs = [(row["manual"][name], row["model"][name]) for row in found if row["manual"][name] is not None]
        kept = np.array([pair for pair in pairs if pair[1] is not None])
        error = kept[:, 1] - kept[:, 0]
        relative = "" if name.endswith("EF") else f" ({100 * np.mean(np.abs(error) / kept[:, 0]):.1f} %)"
        unit = "points" if name.endswith("EF") else "g" if name == "mass" else "ml"
        print(f"| {name} | {len(kept)} | {len(pairs) - len(kept)} | {np.abs(error).mean():.1f} {unit}{relative} | "
              f"{error.mean():+.1f} | {np.corrcoef(kept.T)[0, 1]:.3f} |")  # fmt: skip
    print("\n| group | patients | LVEF manual | LVEF model |\n|---|---|---|---|")
    for group in GROUPS:
        rows = [row for row in found if row["group"] == group]
        if rows:
            means = [
                np.mean([row[who]["LVEF"] for row in rows if row[who]["LVEF"] is not None])
                for who in ("manual", "model")
            ]
            print(f"| {group} | {len(rows)} | {means[0]:.1f} | {means[1]:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="cardiac-sax-clstm")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = measure(arguments.data, arguments.model, arguments.split)
    show(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
