"""The claims of Cai et al. (MICCAI 2017, arXiv 1803.11303) on the hippocampus, each with its spread over seeds.

python benchmarks/claims.py DATA --out RUNS [--seeds 3] [--processes 2]

For each seed a slice CNN is trained with cross-entropy; from it every row of the table goes on for the same number of
steps: the CNN alone, with a ConvLSTM in ascending order of slices, with one in both orders (Jaccard loss); and the last
of these with cross-entropy, class-balanced cross-entropy and Jaccard loss. Fold 0 of 5 is the test, never looked at in
training. The threshold on the probability of the structures together is swept from 0.05 to 0.95.

The networks have half the width of the published ones, and little training: the rows compare with each other only.
RUNS keeps everything, so that the script can be stopped and goes on. Prints the table; draws RUNS/claims.png.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from crnn_cli.labels.overlap import overlaps
from crnn_cli.networks.slice_clstm import SliceCLSTM
from crnn_cli.segmentation import choose_order, labels_of, segment
from crnn_cli.training.datasets import find_pairs, load_pair, split_pairs
from crnn_cli.training.run import RunFolder
from crnn_cli.training.segmentation import TASKS, Stage, Task, Trainer
from crnn_cli.training.slices import Items, ItemSize, load_case

SIZE = ItemSize(2, 16, 56, 40)
COMMON, OWN = 500, 250
THRESHOLDS = [round(0.05 * k, 2) for k in range(1, 20)]
ROWS = {
    "CNN alone, Jaccard": (0, {"jaccard": 1.0}),
    "+ ConvLSTM ascending, Jaccard": (1, {"jaccard": 1.0}),
    "+ ConvLSTM both directions, Jaccard": (2, {"jaccard": 1.0}),
    "both directions, cross-entropy": (2, {"ce": 1.0}),
    "both directions, balanced cross-entropy": (2, {"balanced": 1.0}),
}


def task_of(directions: int, loss: dict[str, float]) -> Task:
    """Return the task of a row: the common stage, then the row's own."""
    base = TASKS["hippocampus"]
    stages = (Stage(COMMON, 0, SIZE, {"ce": 1.0}), Stage(OWN, directions, SIZE, loss, 1e-3))
    return replace(base, config=replace(base.config, width=12, hidden=8), stages=stages)


def train_seed(data: Path, out: Path, seed: int) -> None:
    """Train and measure every row of a seed; what is there already is kept."""
    torch.set_num_threads(1)
    training, test = split_pairs(find_pairs(data), 0, 5)
    task = TASKS["hippocampus"]
    cases = [load_case(pair, task.plane, task.recipe) for pair in training]
    items = Items(cases, task.recipe, task.augmentation, task.config.classes)
    common = out / f"common-{seed}"
    for number, (directions, loss) in enumerate(ROWS.values()):
        folder = out / f"row{number}-{seed}"
        if (folder / "test.json").exists():
            continue
        own = task_of(directions, loss)
        if not (common / "weights.safetensors").exists():
            Trainer(replace(own, stages=own.stages[:1]), items, RunFolder(common), seed).run()
        trainer = Trainer(own, items, RunFolder(folder), seed)
        if trainer.stage == 0:
            before = SliceCLSTM(replace(own.config, directions=0))
            before.load_state_dict(load_file(common / "weights.safetensors"))
            trainer.start_stage(1, before)
        trainer.run()
        (folder / "test.json").write_text(json.dumps(sweep(trainer.averaged, own, test)))


def sweep(network: SliceCLSTM, task: Task, pairs: list) -> list[list[float]]:
    """Return for every threshold the mean Dice of each structure over the test volumes."""
    network.eval()
    dice = np.zeros((len(pairs), len(THRESHOLDS), task.config.classes - 1))
    for p, pair in enumerate(pairs):
        image, manual = load_pair(pair)
        order, _ = choose_order(image, None, task.plane)
        found = segment(image, order, network, task.recipe, torch.device("cpu"), keep_probabilities=True)
        for t, threshold in enumerate(THRESHOLDS):
            made = labels_of(found.probabilities, threshold)
            counted = overlaps(made, manual, range(1, task.config.classes))
            dice[p, t] = np.array([overlap.dice for overlap in counted.values()], float)
    return dice.mean(axis=0).tolist()


def show(out: Path, seeds: int) -> None:
    """Print the table and draw the sweep."""
    import matplotlib  # noqa: PLC0415

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    print("| row | Dice at 0.5, mean of both structures, mean +- SD over seeds | best threshold | 0.05 | 0.95 |")
    print("|---|---|---|---|---|")
    for number, name in enumerate(ROWS):
        files = [out / f"row{number}-{seed}" / "test.json" for seed in range(seeds)]
        curves = np.array([json.loads(f.read_text()) for f in files if f.exists()]).mean(axis=-1)
        mean, spread = curves.mean(axis=0), curves.std(axis=0, ddof=1)
        half = THRESHOLDS.index(0.5)
        best = int(mean.argmax())
        print(
            f"| {name} | {mean[half]:.4f} +- {spread[half]:.4f} | {THRESHOLDS[best]:.2f}: {mean[best]:.4f} | "
            f"{mean[0]:.4f} | {mean[-1]:.4f} |"
        )
        plt.fill_between(THRESHOLDS, mean - spread, mean + spread, alpha=0.2)
        plt.plot(THRESHOLDS, mean, label=name)
    plt.xlabel("threshold")
    plt.ylabel("Dice, mean of both structures and 40 volumes")
    plt.legend(fontsize=8)
    plt.grid(alpha=0.3)
    plt.savefig(out / "claims.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        pool.starmap(train_seed, [(arguments.data, arguments.out, seed) for seed in range(arguments.seeds)])
    show(arguments.out, arguments.seeds)


if __name__ == "__main__":
    main()
