"""Training of a forecaster: from cines, or from simulation alone, to a bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from crnn_cli.bundles.store import Bundle, load_forecaster
from crnn_cli.training.forecast.job import ForecastJob
from crnn_cli.training.forecast.settings import ForecastSettings
from crnn_cli.training.job import TrainingReport
from crnn_cli.training.reconstruct.job import load_cines
from crnn_cli.training.reconstruct.run import split_cines
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


def train_forecaster(
    files: Sequence[Path], settings: ForecastSettings | None, request: TrainingRequest,
    tell: Callable[[TrainingReport], None],
) -> Bundle | None:  # fmt: skip
    """Train a forecaster and write its bundle.

    Parameters
    ----------
    files : cines of one beat each that passed the check; none for simulated scenes alone.
    settings : None for the defaults, or for those of the run that is resumed.
    request : what was asked for.
    tell : called with reports.

    Returns
    -------
    The bundle; None in all processes but the first.

    Raises
    ------
    CrnnError
        See `crnn_cli.training.session`.
    """
    with session(request) as (folder, processes, asked):
        settings = settings or earlier_settings(ForecastSettings, folder, asked) or ForecastSettings()
        training, held_out = split_cines(files, asked.fold)
        network = initial_network(asked, load_forecaster, settings.network.config())
        said = {
            "simulated_scenes": f"{1 - settings.real_share if training else 1:.0%} of the items",
            "training_cines": [file.name for file in training], "held_out": [file.name for file in held_out],
            "sha256": digest_of_files([*training, *held_out]),
            "begun_from": initial_weights_label(asked),
        }  # fmt: skip
        cines, others = ([cine.abs() for cine in load_cines(part)] for part in (training, held_out))
        job = ForecastJob(settings, cines, others, asked.seed, network)
        config = {
            "task": "forecast", "network": "cine-forecaster", "settings": vars(settings.network.config()),
            "frames_ahead": settings.ahead,
            "summary": f"next frames of a cine: trained by its user on {len(training)} cines and simulation",
        }  # fmt: skip
        run = TrainingRun(job, settings.stages(), settings, settings.optimiser, config, said)
        return run_training(run, asked, folder, processes, tell)
