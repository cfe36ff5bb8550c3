"""Training of a network for drawn slices: from labelled volumes and random shapes to a bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from crnn_cli.bundles.store import Bundle, load_drawn
from crnn_cli.data.geometry import PLANES, thickest_axis
from crnn_cli.segmentation.preprocessing import normalise_intensity
from crnn_cli.segmentation.segment import choose_order
from crnn_cli.segmentation.structure_grid import INTENSITY
from crnn_cli.training.datasets.sets import Pair, load_pair
from crnn_cli.training.drawn.items import DrawnItems
from crnn_cli.training.drawn.job import DrawnJob
from crnn_cli.training.drawn.regions import watershed_regions
from crnn_cli.training.drawn.settings import DrawnSettings
from crnn_cli.training.drawn.stack import Stack
from crnn_cli.training.job import Stage, TrainingReport
from crnn_cli.training.segment.items import load_case
from crnn_cli.training.segment.run import LabelledData
from crnn_cli.training.session import (
    TrainingRequest,
    TrainingRun,
    digest_of_files,
    earlier_settings,
    initial_network,
    initial_weights_label,
    run_training,
    session,
)


def train_drawn(
    data: LabelledData, settings: DrawnSettings | None, request: TrainingRequest,
    tell: Callable[[TrainingReport], None], loading: Callable[[int, int], None],
) -> Bundle | None:  # fmt: skip
    """Train a network for drawn slices and write its bundle.

    Parameters
    ----------
    data : labelled volumes that passed the check; structures of all of them count alike.
    settings : None for the defaults, or for those of the run that is resumed.
    request : what was asked for.
    tell : called with reports.
    loading : called with (volumes read, volumes in all).

    Returns
    -------
    The bundle; None in all processes but the first.

    Raises
    ------
    CrnnError
        See `crnn_cli.training.session`; UnsupportedDataError as `LabelledData.split`.
    """
    with session(request) as (folder, processes, asked):
        settings = settings or earlier_settings(DrawnSettings, folder, asked) or DrawnSettings()
        training, held_out = data.split(asked.fold)
        network = initial_network(asked, load_drawn, settings.network.config())
        files = [file for pair in [*training, *held_out] for file in (pair.image, pair.labels)]
        said: dict[str, Any] = {
            "training_volumes": [pair.name for pair in training], "held_out": [pair.name for pair in held_out],
            "sha256": digest_of_files(files), "begun_from": initial_weights_label(asked),
        }  # fmt: skip
        labelled = load_stacks(training, loading)
        levels = [float(level) for level in settings.levels]
        regions = [_regions(stack, level) for stack in labelled for level in levels]
        items = DrawnItems(labelled, [each for each in regions if each.structures()], settings.items)
        job = DrawnJob(settings, items, load_stacks(held_out, loading), asked.seed, network)
        config = {
            "task": "segment-drawn", "network": "drawn-clstm", "settings": asdict(settings.network.config()),
            "summary": f"any structure, from a few drawn slices: trained by its user on {len(training)} volumes",
        }  # fmt: skip
        rate = settings.optimiser.learning_rate
        stages = (Stage("drawn slices", settings.steps, settings.stacks, rate),)
        run = TrainingRun(job, stages, settings, settings.optimiser, config, said)
        return run_training(run, asked, folder, processes, tell)


def load_stacks(pairs: Sequence[Pair], loading: Callable[[int, int], None]) -> list[Stack]:
    """Read labelled volumes as stacks with square pixels: across the thick slices, or in all three planes.

    Parameters
    ----------
    pairs : the volumes.
    loading : called with (volumes read, volumes in all).
    """
    stacks = []
    for done, pair in enumerate(pairs):
        image, _ = load_pair(pair)
        for plane in PLANES if thickest_axis(image) is None else (None,):
            order, _ = choose_order(image, plane, plane)
            recipe = replace(INTENSITY, spacing=min(order.spacing[1:]))
            case = load_case(replace(pair, structures=()), plane, recipe)
            scaled = normalise_intensity(case.image_SYX, recipe)
            stacks.append(Stack(scaled, case.labels_SYX.astype(np.uint16), pair.name))
        loading(done + 1, len(pairs))
    return stacks


def _regions(stack: Stack, level: float) -> Stack:
    return Stack(stack.image_SYX, watershed_regions(stack.image_SYX, level), stack.name)
