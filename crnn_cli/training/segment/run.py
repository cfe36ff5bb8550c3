"""Training of a segmentation model: from labelled volumes to a bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from crnn_cli.bundles.store import Bundle, load_segmentation
from crnn_cli.data.image import Image
from crnn_cli.errors import Param, UnsupportedDataError
from crnn_cli.training.datasets.checks import CheckedVolume
from crnn_cli.training.datasets.sets import LabelledSet, Pair, split_pairs
from crnn_cli.training.job import TrainingReport
from crnn_cli.training.segment.job import SegmentJob, load_cases
from crnn_cli.training.segment.settings import SegmentSettings, resolve_settings
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

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LabelledData:
    """Labelled volumes that passed the check.

    Attributes
    ----------
    pairs : image and labels on disk.
    grids : position of each image in space; the arrays are not used.
    values : label values that occur.
    names : of label values, as far as known.
    """

    pairs: Sequence[Pair]
    grids: Sequence[Image]
    values: set[int]
    names: dict[int, str]

    @classmethod
    def from_checked(cls, found: LabelledSet, good: Sequence[CheckedVolume]) -> LabelledData:
        """Select the pairs of a set that passed the check."""
        grids = {each.name: each.grid for each in good if each.grid is not None}
        pairs = [pair for pair in found.pairs if pair.name in grids]
        return cls(pairs, [grids[pair.name] for pair in pairs], {v for each in good for v in each.values}, found.names)

    def split(self, fold: tuple[int, int] | None) -> tuple[list[Pair], list[Pair]]:
        """Split into training and held-out pairs: by the manifest if it has splits, else by the fold.

        Parameters
        ----------
        fold : (number, of how many); None holds out nothing.

        Raises
        ------
        UnsupportedDataError
            If nothing is left to train on, or to hold out.
        """
        if any(pair.split for pair in self.pairs):
            training = [pair for pair in self.pairs if pair.split in ("", "train")]
            held_out = [pair for pair in self.pairs if pair.split == "val"]
        elif fold is None:
            training, held_out = list(self.pairs), []
        else:
            training, held_out = split_pairs(self.pairs, *fold)
            if not held_out or not training:
                raise UnsupportedDataError(
                    f"{len({p.subject for p in self.pairs})} subject(s) cannot be divided into {fold[1]} folds",
                    remedy=("add data, or train on everything and validate on nothing with ", Param("fold", "none")),
                )
        if not training:
            raise UnsupportedDataError("the manifest leaves nothing to train on: no row is for train")
        return training, held_out


def train_segmentation(
    data: LabelledData, settings: SegmentSettings | None, request: TrainingRequest,
    tell: Callable[[TrainingReport], None], loading: Progress,
) -> Bundle | None:  # fmt: skip
    """Train a segmentation model and write its bundle.

    Parameters
    ----------
    data : labelled volumes that passed the check.
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
        See `crnn_cli.training.session`; UnsupportedDataError as `resolve_settings` and `LabelledData.split`.
    """
    with session(request) as (folder, processes, asked):
        settings = settings or earlier_settings(SegmentSettings, folder, asked) or SegmentSettings()
        training, held_out = data.split(asked.fold)
        task = resolve_settings(settings, data.grids, data.values, data.names)
        network = initial_network(asked, load_segmentation, task.config(len(task.sizes) - 1))
        files = [file for pair in [*training, *held_out] for file in (pair.image, pair.labels)]
        said: dict[str, Any] = {
            "training_volumes": [pair.name for pair in training], "held_out": [pair.name for pair in held_out],
            "labels": list(task.names), "sha256": digest_of_files(files),
            "begun_from": initial_weights_label(asked),
        }  # fmt: skip
        partly = {pair.name: list(pair.structures) for pair in [*training, *held_out] if pair.structures}
        if partly:
            said["partly_labelled"] = partly
        cases = load_cases(training, task, folder.folder / "cache", asked.cache, loading)
        job = SegmentJob(task, cases, held_out, asked.seed, network)
        config = task.bundle_config() | {
            "summary": f"{', '.join(task.names)}: trained by its user on {len(training)} volumes"
        }
        run = TrainingRun(job, task.stages(len(cases)), settings, settings.optimiser, config, said)
        return run_training(run, asked, folder, processes, tell)
