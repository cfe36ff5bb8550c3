"""Training of a slice-sequence segmentation network: first the CNN, then the CNN with the ConvLSTM, end to end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crnn_cli.io.atomic_write import Output
from crnn_cli.labels.overlap import overlaps
from crnn_cli.labels.statistics import label_statistics
from crnn_cli.networks.slice_clstm import SliceCLSTM
from crnn_cli.report.label_montage import labelled_slices, outlines_output
from crnn_cli.segmentation.segment import choose_order, segment
from crnn_cli.training.datasets.sets import Pair, load_pair
from crnn_cli.training.segment.items import Case, Item, Items, collate_items, load_case
from crnn_cli.training.segment.losses import supervised_loss
from crnn_cli.training.segment.partial import merge_unlabelled, model_labels, structure_values
from crnn_cli.training.segment.settings import Task


class SegmentJob:
    """Job of `crnn_cli.training.loop.TrainingLoop`; see `crnn_cli.training.job.TrainingJob`.

    Parameters
    ----------
    task : what is learned, and how.
    cases : to train on.
    held_out : to validate with; may be empty.
    seed : of the items.
    start : network of the same sizes whose weights training starts with; None for random ones.
    """

    def __init__(
        self, task: Task, cases: Sequence[Case], held_out: Sequence[Pair], seed: int, start: SliceCLSTM | None = None
    ) -> None:
        self.task, self.held_out, self.seed, self.start = task, held_out, seed, start
        self.items = Items(cases, task.recipe, task.settings.augmentation, task.classes)

    def network(self, stage: int, before: nn.Module | None) -> SliceCLSTM:
        """Build the network of a stage.

        Weights of the network before are kept, others are those of the network to start with, or random.
        """
        network = SliceCLSTM(self.task.config(stage))
        network.truncate = self.task.settings.network.truncate
        for earlier in (self.start, before):
            if earlier is not None:
                network.load_state_dict(earlier.state_dict(), strict=False)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def item(self, stage: int, number: int) -> Item:
        """Draw image_SYX, one-hot labels_SKYX and labelled_K."""
        return self.items.numbered(self.task.sizes[stage], (self.seed, stage), number)

    def describe(self, stage: int, number: int) -> str:
        """Name of the volume that an item was made from."""
        return self.items.cases[self.items.case_of((self.seed, stage), number)].name

    def losses(self, stage: int, network: nn.Module, items: list[Any], device: torch.device) -> Iterator[Tensor]:
        """Yield the loss of all items as one batch: they share its statistics."""
        del stage
        image_BSYX, labels_BSKYX, labelled_BK = (part.to(device, non_blocking=True) for part in collate_items(items))
        outputs = [merge_unlabelled(output.float(), labelled_BK) for output in network(image_BSYX)]
        yield supervised_loss(self.task.settings.loss.weights(), outputs, labels_BSKYX)

    def set_mode(self, stage: int, network: nn.Module) -> None:
        """Set training mode, with frozen normalisation where the stage has that."""
        network.train()
        if self.task.stage_settings()[stage].frozen_norm:
            for module in network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def miniature(self, stage: int, count: int) -> tuple[list[Any], float]:
        """Items of two slices of 32 x 32 pixels, and the size ratio of the real ones."""
        size, classes = self.task.sizes[stage], self.task.classes
        labels = torch.zeros(2, classes, 32, 32)
        labels[:, 0] = 1
        labelled = torch.ones(classes, dtype=torch.bool)
        return [(torch.rand(2, 32, 32), labels, labelled)] * count, size.slices * size.rows * size.columns / (
            2 * 32 * 32
        )

    def memory_multipliers(self, stage: int, network: nn.Module) -> Iterator[float]:
        """Yield 1: there are no activation checkpoints."""
        del stage, network
        yield 1.0

    def suggest_smaller(self, stage: int, share: float) -> str:
        """Name the number of sequences that would fit, or the rows and columns."""
        size, table = self.task.sizes[stage], ("cnn", "recurrent")[stage]
        if size.sequences * share >= 1:
            return f"set sequences = {int(size.sequences * share)} in [{table}]"
        side = (size.sequences * share) ** 0.5
        rows, columns = (max(16, int(n * side) // 8 * 8) for n in (size.rows, size.columns))
        return f"set sequences = 1, rows = {rows}, columns = {columns} in [{table}]"

    def validate(self, network: nn.Module, device: torch.device) -> dict[str, Any]:
        """Segment the held-out volumes and compare them with their labels.

        Returns
        -------
        Mean Dice of each structure over the volumes, and the mean of these as the score; {} if nothing is held out.
        """
        if not self.held_out:
            return {}
        assert isinstance(network, SliceCLSTM)
        table = np.array(list(dice_table(network, self.task, self.held_out, device).values()), float)
        seen = ~np.isnan(table).all(axis=0)
        means = {name: round(float(np.nanmean(column)), 4) if any_ else None
                 for name, column, any_ in zip(self.task.names, table.T, seen, strict=True)}  # fmt: skip
        score = float(np.mean([value for value in means.values() if value is not None])) if seen.any() else 0.0
        return {"score": round(score, 4), "dice": means}

    def pictures(self, network: nn.Module, device: torch.device, folder: Path) -> list[Output]:
        """Pictures of the first held-out volume with outlines of the predicted and of the given labels."""
        assert isinstance(network, SliceCLSTM)
        if not self.held_out:
            return []
        image, manual = load_pair(self.held_out[0])
        given = model_labels(manual, structure_values(self.held_out[0].structures, self.task.names))
        order, _ = choose_order(image, None, self.task.plane)
        made = segment(image, order, network.eval(), self.task.recipe, device).labels
        labels, name = self.task.labels(), self.held_out[0].name
        found = []
        for what, values in (("made", made), ("given", given)):
            statistics = label_statistics(replace(image, array=values), image, labels)
            slices = labelled_slices(image, values, order)
            caption = f"{name}, held out: labels {what}"
            found.append(outlines_output(slices, labels, statistics, folder / f"held-out-{what}.png", caption))
        return found


def dice_table(
    network: SliceCLSTM, task: Task, pairs: Sequence[Pair], device: torch.device
) -> dict[str, list[float | None]]:
    """Segment volumes and compute the Dice of every structure, each volume on its own grid.

    Returns
    -------
    By volume the Dice of structures 1, 2, ...; None where a structure is in neither label map, or not labelled at all.
    """
    network.eval()
    found = {}
    for pair in pairs:
        image, labels = load_pair(pair)
        order, _ = choose_order(image, None, task.plane)
        made = segment(image, order, network, task.recipe, device).labels
        values = structure_values(pair.structures, task.names)
        measured = overlaps(made, model_labels(labels, values), range(1, task.classes))
        found[pair.name] = [overlap.dice if k in values else None for k, overlap in measured.items()]
    return found


def load_cases(
    pairs: Sequence[Pair], task: Task, cache: Path, limit: float, progress: Callable[[int, int], None]
) -> list[Case]:
    """Read the volumes and resample them to the network's grid, each once.

    Parameters
    ----------
    pairs : the volumes.
    task : with the grid.
    cache : folder of files for what is beyond the limit; they are mapped into memory, and the operating system keeps of
        them what fits.
    limit : GiB of memory for the volumes.
    progress : called with (volumes done, volumes in all).
    """
    cases: list[Case] = []
    held = 0
    for done, pair in enumerate(pairs):
        case = load_case(pair, task.plane, task.recipe, task.names)
        held += case.image_SYX.nbytes + case.labels_SYX.nbytes
        cases.append(case if held <= limit * 2**30 else _on_disk(case, cache, done))
        progress(done + 1, len(pairs))
    return cases


def _on_disk(case: Case, cache: Path, number: int) -> Case:
    cache.mkdir(exist_ok=True)
    places = []
    for kind, array in (("image", case.image_SYX), ("labels", case.labels_SYX)):
        places.append(cache / f"{number}-{kind}.npy")
        np.save(places[-1], array)
    return replace(case, image_SYX=np.load(places[0], mmap_mode="r"), labels_SYX=np.load(places[1], mmap_mode="r"))
