"""Train a slice-sequence segmentation network: first the CNN, then the ConvLSTM attached to it, end to end.

Run as ``python -m crnn_cli.training.segmentation TASK DATA --out FOLDER [--fold 0]``; TASK is a row of `TASKS`. It can
be stopped and started again at any time: it goes on from FOLDER/checkpoint.pt, and every step has its own seed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from crnn_cli.labels.overlap import overlaps
from crnn_cli.networks.slice_clstm import SliceCLSTM, SliceCLSTMConfig
from crnn_cli.segmentation import SliceRecipe, choose_order, segment
from crnn_cli.training.losses import supervised_loss
from crnn_cli.training.reconstruction import learning_rate_factor
from crnn_cli.training.run import RunFolder, follow
from crnn_cli.training.slices import Augmentation, Items, ItemSize, Pair, find_pairs, load_case, load_pair, split_pairs

LOG_EVERY, SAVE_EVERY = 50, 250


@dataclass(frozen=True)
class Stage:
    """A stretch of training.

    steps : of the optimiser. directions : of the ConvLSTM. loss : weights by names of `crnn_cli.training.losses`.
    learning_rate : peak; warm-up over 2 % of the steps, then cosine to 1 %.
    frozen_norm : normalise with the running mean and variance instead of the batch's, as inference does; for batches of
    so few subjects that their own statistics disturb.
    """

    steps: int
    directions: int
    size: ItemSize
    loss: dict[str, float]
    learning_rate: float = 1.5e-3
    frozen_norm: bool = False


@dataclass(frozen=True)
class Task:
    """What is to be learned, and how.

    structures : name and colour of the label values 1, 2, ... plane : of the slices, None for across the widest
    spacing. in_slice, between_slices : spacings in mm that images of this kind have. folds : of cross-validation.
    """

    structures: tuple[tuple[str, tuple[int, int, int]], ...]
    plane: str | None
    recipe: SliceRecipe
    config: SliceCLSTMConfig
    augmentation: Augmentation
    stages: tuple[Stage, ...]
    in_slice: tuple[float, float]
    between_slices: tuple[float, float]
    folds: int


MIXED = {"ce": 0.5, "jaccard": 1.0}
TASKS = {
    "hippocampus": Task(
        structures=(("anterior hippocampus", (255, 160, 40)), ("posterior hippocampus", (60, 190, 255))),
        plane="axial",
        recipe=SliceRecipe(spacing=1.0, rule="percentiles", low=1.0, high=99.0),
        config=SliceCLSTMConfig(classes=3),
        augmentation=Augmentation(turn=15, scale=0.15, shear=0.05, bent=0.3, mirror=0.5),
        stages=(
            Stage(3600, 0, ItemSize(2, 16, 56, 40), MIXED),
            Stage(3000, 2, ItemSize(2, 16, 56, 40), MIXED),
        ),
        in_slice=(0.6, 1.6),
        between_slices=(0.6, 1.6),
        folds=5,
    ),
    "cardiac-sax": Task(
        structures=(
            ("right ventricle", (70, 140, 255)),
            ("myocardium", (80, 220, 110)),
            ("left ventricle", (255, 80, 80)),
        ),
        plane=None,
        recipe=SliceRecipe(spacing=1.5, rule="percentiles", low=1.0, high=99.0),
        config=SliceCLSTMConfig(classes=4),
        augmentation=Augmentation(turn=30, any_turn=0.25, bent=0.4, reverse=0.3, foreground=0.65, cut=0.2),
        stages=(
            Stage(2000, 0, ItemSize(4, 4, 112, 112), MIXED),
            Stage(1500, 2, ItemSize(1, 8, 112, 112), MIXED, 7e-4, frozen_norm=True),
        ),
        in_slice=(0.5, 3.0),
        between_slices=(4.0, 15.0),
        folds=4,
    ),
}


class Trainer:
    """Network, optimiser, running average of the weights, and where they stand."""

    def __init__(self, task: Task, items: Items, folder: RunFolder, seed: int) -> None:
        self.task, self.items, self.folder, self.seed = task, items, folder, seed
        self.stage, self.step, self.seconds = 0, 0, 0.0
        state = folder.state()
        self.start_stage(state["stage"] if state else 0, None)
        if state:
            self.network.load_state_dict(state["network"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.seconds = state["step"], state["seconds"]

    def start_stage(self, stage: int, before: SliceCLSTM | None) -> None:
        """Build the network of a stage; what the network before had is kept, what is new starts afresh."""
        torch.manual_seed(self.seed + stage)
        self.stage, self.step = stage, 0
        config = replace(self.task.config, directions=self.task.stages[stage].directions)
        self.network, self.averaged = SliceCLSTM(config), SliceCLSTM(config)
        if before is not None:
            self.network.load_state_dict(before.state_dict(), strict=False)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged.load_state_dict(self.network.state_dict())
        self.optimiser = torch.optim.AdamW(self.network.parameters(), weight_decay=1e-3)

    def run(self) -> None:
        """Train all stages to their end."""
        while True:
            stage = self.task.stages[self.stage]
            self._run_stage(stage)
            if self.stage + 1 == len(self.task.stages):
                return
            self.start_stage(self.stage + 1, self.averaged)

    def _run_stage(self, stage: Stage) -> None:
        losses: list[float] = []
        while self.step < stage.steps:
            began = time.monotonic()
            losses.append(self._train_step(stage))
            self.step += 1
            self.seconds += time.monotonic() - began
            if self.step % LOG_EVERY == 0:
                self._log({"loss": round(float(np.mean(losses[-LOG_EVERY:])), 5)})
            if self.step % SAVE_EVERY == 0 or self.step == stage.steps:
                self.save()

    def _train_step(self, stage: Stage) -> float:
        seed = (self.seed * 10 + self.stage) * 10_000_000 + self.step
        image_BSYX, labels_BSKYX = self.items.draw(stage.size, seed)
        for group in self.optimiser.param_groups:
            group["lr"] = stage.learning_rate * learning_rate_factor(self.step / stage.steps)
        self.network.train()
        if stage.frozen_norm:
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        loss = supervised_loss(stage.loss, self.network(image_BSYX), labels_BSKYX)
        self.optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        if torch.isfinite(norm):
            self.optimiser.step()
        follow(self.averaged, self.network, self.step, 0.995)
        return float(loss.detach())

    def save(self) -> None:
        """Write the checkpoint and the averaged weights."""
        state = {
            "network": self.network.state_dict(), "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(), "stage": self.stage, "step": self.step, "seconds": self.seconds,
        }  # fmt: skip
        self.folder.save(state, self.averaged.state_dict())

    def _log(self, figures: dict[str, Any]) -> None:
        self.folder.log({"stage": self.stage, "step": self.step, "minutes": round(self.seconds / 60, 2), **figures})


def dice_table(network: SliceCLSTM, task: Task, pairs: Sequence[Pair]) -> dict[str, list[float | None]]:
    """Return the Dice of every structure (1, 2, ...) by case on the image's own grid, None where it is in neither."""
    network.eval()
    found = {}
    for pair in pairs:
        image, labels = load_pair(pair)
        order, _ = choose_order(image, None, task.plane)
        made = segment(image, order, network, task.recipe, torch.device("cpu")).labels
        found[pair.name] = [o.dice for o in overlaps(made, labels, range(1, task.config.classes)).values()]
    return found


def main() -> None:
    """Read the arguments, train, measure on the held-out fold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    task = TASKS[arguments.task]
    training, test = split_pairs(find_pairs(arguments.data), arguments.fold, task.folds)
    folder = RunFolder(arguments.out)
    described = {"task": arguments.task, "fold": arguments.fold, "seed": arguments.seed, **asdict(task)}
    described |= {"training": [p.name for p in training], "test": [p.name for p in test]}
    folder.describe(described)
    cases = [load_case(pair, task.plane, task.recipe) for pair in training]
    trainer = Trainer(task, Items(cases, task.recipe, task.augmentation, task.config.classes), folder, arguments.seed)
    trainer.run()
    table = dice_table(trainer.averaged, task, test)
    means = np.nanmean(np.array(list(table.values()), float), axis=0).round(4).tolist()
    (arguments.out / "test.json").write_text(json.dumps({"mean_dice": means, "cases": table}, indent=1))


if __name__ == "__main__":
    main()
