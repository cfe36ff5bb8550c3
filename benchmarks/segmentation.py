"""How good a segmentation bundle is on the volumes of one fold that it was not trained on.

python benchmarks/segmentation.py DATA --model BUNDLE --fold 0/5 [--keep-largest] [--json FILE]

DATA and the fold are as for ``crnn train segment``. Everything is measured on the images' own grid.
Prints a Markdown table; the rows of all cases go to --json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from crnn_cli.bundles.store import find_bundle, load_segmentation
from crnn_cli.labels.components import keep_largest
from crnn_cli.labels.overlap import overlaps
from crnn_cli.labels.surface import surface_distances
from crnn_cli.segmentation.preprocessing import SlicePreprocessing
from crnn_cli.segmentation.segment import choose_order, segment
from crnn_cli.training.datasets.sets import find_labelled, load_pair, split_pairs
from crnn_cli.training.start import parse_fold

MEASURES = ("dice", "jaccard", "hd95_mm", "mean_distance_mm", "volume_difference_percent")


def measure(tested: np.ndarray, reference: np.ndarray, values: list[int], spacing: tuple) -> dict[int, dict]:
    """Return the measures of every label; None where it is not defined."""
    found = {}
    for value, overlap in overlaps(tested, reference, values).items():
        apart = surface_distances(tested == value, reference == value, spacing)
        found[value] = {
            "dice": overlap.dice,
            "jaccard": overlap.jaccard,
            "hd95_mm": None if apart is None else apart.hd95,
            "mean_distance_mm": None if apart is None else apart.mean,
            "volume_difference_percent": overlap.difference_percent,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--fold", required=True, help="K/N: part K of N, from 0, was held out in training")
    parser.add_argument("--keep-largest", action="store_true", help="as crnn segment --keep-largest")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    fold = parse_fold(arguments.fold)
    if fold is None:
        parser.error("--fold: give the part that was held out in training, such as 0/5")
    bundle = find_bundle(arguments.model, "segment")
    network, use = load_segmentation(bundle, torch.device("cpu")), bundle.slices
    assert use is not None
    recipe = SlicePreprocessing(use.spacing, use.rule, use.low, use.high)
    training, test = split_pairs(find_labelled(arguments.data).pairs, *fold)
    values = [label.value for label in use.labels]
    cases = {}
    for pair in test:
        image, manual = load_pair(pair)
        order, _ = choose_order(image, None, use.plane)
        made = segment(image, order, network, recipe, torch.device("cpu")).labels
        if arguments.keep_largest:
            made, _ = keep_largest(made, values)
        cases[pair.name] = measure(made, manual, values, image.spacing)
        print(pair.name, [round(cases[pair.name][v]["dice"] or 0, 3) for v in values], flush=True)
    subjects = len({pair.subject for pair in test})
    trained_on = len({pair.subject for pair in training})
    print(f"\n{bundle.name} on {len(test)} volumes of {subjects} subjects, trained on {trained_on} others\n")
    print("| label | Dice, mean (SD) | lowest | Jaccard | HD95, mm | mean distance, mm | volume, % |")
    print("|---|---|---|---|---|---|---|")
    for label in use.labels:
        columns = {
            name: np.array([np.nan if c[label.value][name] is None else c[label.value][name] for c in cases.values()])
            for name in MEASURES
        }
        mean = {name: float(np.nanmean(column)) for name, column in columns.items()}
        print(
            f"| {label.name} | {mean['dice']:.3f} ({np.nanstd(columns['dice']):.3f}) | "
            f"{np.nanmin(columns['dice']):.3f} | {mean['jaccard']:.3f} | {mean['hd95_mm']:.2f} | "
            f"{mean['mean_distance_mm']:.2f} | {mean['volume_difference_percent']:+.1f} |"
        )
    if arguments.json:
        names = {label.value: label.name for label in use.labels}
        rows = {name: {names[value]: row for value, row in found.items()} for name, found in cases.items()}
        said = {"model": bundle.name, "sha256": bundle.sha256, "fold": arguments.fold}
        said |= {"keep_largest": arguments.keep_largest, "cases": rows}
        arguments.json.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
