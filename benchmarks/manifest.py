"""Write the CSV for ``crnn train segment`` in which one fold is neither trained on nor looked at before the end.

python benchmarks/manifest.py DATA --fold 0/5 [--val 8] > data.csv

With ``--fold`` the command validates on the fold and publishes the best weights it saw, so that the figures are a
little optimistic. With this manifest the fold is marked ``test``, which the command leaves alone; ``--val`` subjects of
the others are for its validation, evenly spread by name; with none it publishes the last weights.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from crnn_cli.training.datasets.sets import find_labelled, split_pairs
from crnn_cli.training.start import parse_fold


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--fold", required=True, help="K/N: part K of N, from 0, as for benchmarks/segmentation.py")
    parser.add_argument("--val", type=int, default=0, help="subjects for validation")
    arguments = parser.parse_args()
    fold = parse_fold(arguments.fold)
    if fold is None:
        parser.error("--fold: give the part to hold out, such as 0/5")
    training, test = split_pairs(find_labelled(arguments.data).pairs, *fold)
    subjects = sorted({pair.subject for pair in training})
    chosen = {subjects[(2 * k + 1) * len(subjects) // (2 * arguments.val)] for k in range(arguments.val)}
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("image", "label", "split", "subject"))
    for pair in sorted([*training, *test], key=lambda pair: pair.name):
        split = "test" if pair in test else "val" if pair.subject in chosen else "train"
        table.writerow((pair.image.resolve(), pair.labels.resolve(), split, pair.subject))


if __name__ == "__main__":
    main()
