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
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from crnn_cli.labels.overlap import overlaps
from crnn_cli.networks.slice_clstm import SliceCLSTM
from crnn_cli.segmentation.preprocessing import SlicePreprocessing
from crnn_cli.segmentation.segment import choose_order, labels_from_probabilities, segment
from crnn_cli.training.datasets.sets import find_labelled, load_pair, split_pairs
from crnn_cli.training.job import Stage, TrainingPlan
from crnn_cli.training.loop import TrainingLoop
from crnn_cli.training.processes import Processes
from crnn_cli.training.run import RunFolder
from crnn_cli.training.segment.items import Case, ItemSize, load_case
from crnn_cli.training.segment.job import SegmentJob
from crnn_cli.training.segment.settings import SegmentationLoss, SegmentationNetworkSettings, SegmentSettings, Task
from crnn_cli.training.settings import read_toml

CPU = torch.device("cpu")
NAMES = ("anterior hippocampus", "posterior hippocampus")
COMMON, OWN = Stage("common", 500, 2, 1.5e-3), Stage("own", 250, 2, 1e-3)
THRESHOLDS = [round(0.05 * k, 2) for k in range(1, 20)]
ROWS = {
    "CNN alone, Jaccard": (0, {"jaccard": 1.0}),
    "+ ConvLSTM ascending, Jaccard": (1, {"jaccard": 1.0}),
    "+ ConvLSTM both directions, Jaccard": (2, {"jaccard": 1.0}),
    "both directions, cross-entropy": (2, {"ce": 1.0}),
    "both directions, balanced cross-entropy": (2, {"balanced": 1.0}),
}


class WholeNetwork(SegmentJob):
    """Trains the network as the settings ask for it from the first step, in one stage."""

    def network(self, stage: int, before: torch.nn.Module | None) -> SliceCLSTM:
        return super().network(1, before)


def task_of(directions: int, loss: dict[str, float]) -> Task:
    """Return the task of a row: the published recipe with half the width."""
    settings = read_toml(SegmentSettings, Path(__file__).parent / "recipes" / "hippocampus.toml")
    weights = {"jaccard": 0.0, "dice": 0.0, "ce": 0.0, "balanced": 0.0} | loss
    settings = replace(
        settings,
        network=SegmentationNetworkSettings(width=12, hidden=8, directions=directions),
        loss=SegmentationLoss(**weights),
    )
    recipe = SlicePreprocessing(1.0, "percentiles", 1.0, 99.0)
    return Task(NAMES, "axial", recipe, settings, (ItemSize(2, 16, 56, 40),), (0.6, 1.6), (0.6, 1.6))


def train(task: Task, cases: Sequence[Case], stage: Stage, folder: Path, seed: int, start: SliceCLSTM | None):
    """Return the averaged network after one stage; a run that was stopped goes on."""
    job = WholeNetwork(task, cases, (), seed, start)
    plan = TrainingPlan((stage,), task.settings.optimiser, seed, validations=0)
    loop = TrainingLoop(job, plan, RunFolder(folder), Processes(CPU), lambda report: None)
    loop.run()
    return loop.averaged


def train_seed(data: Path, out: Path, seed: int) -> None:
    """Train and measure every row of a seed; what is there already is kept."""
    torch.set_num_threads(1)
    training, test = split_pairs(find_labelled(data).pairs, 0, 5)
    first = task_of(0, {"ce": 1.0})
    cases = [load_case(pair, first.plane, first.recipe) for pair in training]
    common = train(first, cases, COMMON, out / f"common-{seed}", seed, None)
    for number, (directions, loss) in enumerate(ROWS.values()):
        folder = out / f"row{number}-{seed}"
        if (folder / "test.json").exists():
            continue
        task = task_of(directions, loss)
        network = train(task, cases, OWN, folder, seed + 1000, common)  # other items than in the common stage
        (folder / "test.json").write_text(json.dumps(sweep(network, task, test)))


def sweep(network: SliceCLSTM, task: Task, pairs: list) -> list[list[float]]:
    """Return for every threshold the mean Dice of each structure over the test volumes."""
    network.eval()
    dice = np.zeros((len(pairs), len(THRESHOLDS), task.classes - 1))
    for p, pair in enumerate(pairs):
        image, manual = load_pair(pair)
        order, _ = choose_order(image, None, task.plane)
        found = segment(image, order, network, task.recipe, CPU, keep_probabilities=True)
        for t, threshold in enumerate(THRESHOLDS):
            made = labels_from_probabilities(found.probabilities, threshold)
            counted = overlaps(made, manual, range(1, task.classes))
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
