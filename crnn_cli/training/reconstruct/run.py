"""Training of a reconstruction model: from cines, or from simulation alone, to a bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from crnn_cli.bundles.store import Bundle, load_reconstruction
from crnn_cli.errors import Param, UnsupportedDataError, UsageError
from crnn_cli.networks.crnn_mri import CRNNMRI
from crnn_cli.networks.live_crnn import LiveCRNN, LiveCRNNConfig
from crnn_cli.training.datasets.names import stem, subject_of
from crnn_cli.training.grow_network import expand_network, from_causal, with_start
from crnn_cli.training.job import TrainingReport
from crnn_cli.training.reconstruct.cine import SamplingSettings
from crnn_cli.training.reconstruct.idle import doubt_idle_sets
from crnn_cli.training.reconstruct.job import ReconstructJob, load_cines
from crnn_cli.training.reconstruct.settings import ReconstructSettings
from crnn_cli.training.session import (
    TrainingRequest,
    TrainingRun,
    digest_of_files,
    earlier_settings,
    initial_weights_label,
    run_training,
    session,
)


def split_cines(files: Sequence[Path], fold: tuple[int, int] | None) -> tuple[list[Path], list[Path]]:
    """Split files into training and held-out ones, by subject: slices of one heart stay together.

    >>> split_cines([Path("a_slice1"), Path("a_slice2"), Path("b"), Path("c")], (0, 3))[1]
    [PosixPath('a_slice1'), PosixPath('a_slice2')]

    Parameters
    ----------
    files : in order.
    fold : (number, of sampling many): every n-th subject, from that number, is held out; None holds out nothing.

    Raises
    ------
    UnsupportedDataError
        If nothing is left to train on, or to hold out.
    """
    if fold is None or not files:
        return list(files), []
    folders = len({file.parent for file in files})
    whose = {file: (file.parent, subject_of(stem(file)) or ("" if folders > 1 else file.name)) for file in files}
    subjects = list(dict.fromkeys(whose.values()))
    test = set(subjects[fold[0] :: fold[1]])
    held_out = [file for file in files if whose[file] in test]
    training = [file for file in files if whose[file] not in test]
    if not held_out or not training:
        raise UnsupportedDataError(
            f"{len(files)} cine(s) of {len(subjects)} subject(s) cannot be divided into {fold[1]} folds",
            remedy=("add data, or validate on simulated items with ", Param("fold", "none")),
        )
    return training, held_out


def train_reconstruction(
    files: Sequence[Path], settings: ReconstructSettings | None, request: TrainingRequest,
    tell: Callable[[TrainingReport], None],
) -> Bundle | None:  # fmt: skip
    """Train a reconstruction model and write its bundle.

    Parameters
    ----------
    files : cines that passed the check; none for simulated scenes alone.
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
        settings = settings or earlier_settings(ReconstructSettings, folder, asked) or ReconstructSettings()
        training, held_out = split_cines(files, asked.fold)
        network = None if asked.start is None else _initial_network(asked.start, settings)
        said = {
            "simulated_scenes": f"{1 - settings.real_share if training else 1:.0%} of the items",
            "training_cines": [file.name for file in training], "held_out": [file.name for file in held_out],
            "sha256": digest_of_files([*training, *held_out]),
            "begun_from": initial_weights_label(asked),
        }  # fmt: skip
        if settings.sampling.several:
            said["coils"] = _coils(settings.sampling)
        job = ReconstructJob(settings, load_cines(training), load_cines(held_out), asked.seed, network, asked.device)
        config = {
            "task": "reconstruct", "network": "live-crnn" if settings.network.live else "crnn-mri",
            "settings": vars(settings.network.config()),
            "initial_image": settings.initial_image, "input_rms": 1.0,
            "summary": f"{'one- and multi-coil' if settings.sampling.several else 'single-channel'} Cartesian cine: "
            f"trained by its user on {len(training)} cines and simulation",
        }  # fmt: skip
        run = TrainingRun(job, settings.stages(), settings, settings.optimiser, config, said)
        bundle = run_training(run, asked, folder, processes, tell)
        if bundle is not None:
            doubt_idle_sets(job.changes_by_set(load_reconstruction(bundle, torch.device("cpu"))))
        return bundle


def _coils(sampling: SamplingSettings) -> str:
    """Description of the simulated coils, for the card."""
    return (
        f"{sampling.several:.0%} of the items with {sampling.coils} to {sampling.most_coils} coils of simulated "
        f"sensitivities, which the network was given with errors of up to {sampling.maps_error:.0%}"
    )


def _initial_network(start: Bundle, settings: ReconstructSettings) -> CRNNMRI | LiveCRNN:
    """Network of a bundle to start from, expanded to the sizes of the settings; UsageError if it cannot be."""
    network, wanted = load_reconstruction(start, torch.device("cpu")), settings.network.config()
    try:
        if isinstance(wanted, LiveCRNNConfig):
            return with_start(network, wanted)
        return from_causal(network, wanted) if isinstance(network, LiveCRNN) else expand_network(network, wanted)
    except ValueError as error:
        raise UsageError(
            f"{start.name} cannot be begun from: its network is {network.config}, the settings ask for {wanted}; "
            f"{error}"
        ) from None
