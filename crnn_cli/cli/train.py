"""``crnn train``: labelled volumes, or cines, become a model bundle."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from crnn_cli.cli import console
from crnn_cli.cli.train_report import (
    TrainingProgress,
    finish,
    is_main_process,
    silence_later_processes,
    training,
    usable_items,
)
from crnn_cli.errors import UsageError

if TYPE_CHECKING:
    import torch

    from crnn_cli.training.session import TrainingRequest

Settings = TypeVar("Settings")
_FOLD = re.compile(r"(\d{1,4})/(\d{1,4})")

Volumes = Annotated[Path | None, typer.Argument(help="Folder of labelled volumes, NIfTI or DICOM, or a CSV manifest.")]
Cines = Annotated[
    Path | None, typer.Argument(help="Folder of fully sampled 4-D cines, NIfTI or DICOM, or one of them.")
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="The bundle to make; the run is kept in OUT.run.")]
Config = Annotated[Path | None, typer.Option(help="Settings, TOML; what it does not mention keeps its default.")]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print all settings as TOML, with comments.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="In place of the settings' epochs.")]
Minutes = Annotated[float | None, typer.Option(help="Time budget in place of epochs; the steps are timed first.")]
Fold = Annotated[str, typer.Option(help="What is held out: 0/5 is the first of 5 parts; none holds out nothing.")]
DeviceName = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N; torchrun gives each process its own.")]
Precision = Annotated[str, typer.Option(help="fp32, bf16 or auto: bf16 on a GPU that has it.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of weights and items; same seed, same model on a CPU.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in OUT.run.")]
InitFrom = Annotated[str | None, typer.Option(help="Begin from a published model or bundle folder of the same sizes.")]
Workers = Annotated[int | None, typer.Option(min=0, max=64, help="Processes that prepare items; by the machine.")]
Cache = Annotated[float, typer.Option(min=0, help="GiB of memory for decoded volumes; others are mapped from disk.")]
Licence = Annotated[str, typer.Option(help="Licence of the weights, for the card; mind that of the data.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Train on what is good where some data are not.")]
Simulated = Annotated[bool, typer.Option("--simulated", help="Train on simulated scenes alone; no DATA needed.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print what the run came to as JSON.")]


def train_segment(
    data: Volumes = None,
    out: Out = None,
    config: Config = None,
    print_config: PrintConfig = False,
    epochs: Epochs = None,
    minutes: Minutes = None,
    fold: Fold = "0/5",
    device: DeviceName = "auto",
    precision: Precision = "auto",
    seed: Seed = 0,
    resume: Resume = False,
    init_from: InitFrom = None,
    workers: Workers = None,
    cache: Cache = 4.0,
    licence: Licence = "not stated",
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Train a segmentation model: a slice CNN, then a ConvLSTM attached to it.

    DATA holds imagesTr/ and labelsTr/ (Decathlon, nnU-Net; dataset.json is honoured), images/ and labels/, pairs of
    NAME.nii.gz and NAME_gt.nii.gz, or is a CSV with the columns image, label and perhaps split (train, val, test) and
    subject. Images may be folders of one DICOM series each, in a CSV zips or files as well; labels are NIfTI, and
    turned if their axes are not those of the image. All of it is checked first, and every problem is listed before
    anything is trained.

    Examples: crnn train segment Task04_Hippocampus -o my-model --minutes 90 --licence CC-BY-SA-4.0;
    crnn train segment --print-config > settings.toml; crnn train segment data.csv -o my-model --config settings.toml;
    then crnn segment volume.nii --slices --model my-model
    """
    silence_later_processes()
    require_monai()
    from crnn_cli.training.segment.settings import SegmentSettings

    settings = _settings(SegmentSettings, config, epochs)
    if print_config:
        _print_settings(settings)
        return
    request = _request(
        out=out, minutes=minutes, epochs=epochs, fold=fold, device=device, precision=precision, seed=seed,
        resume=resume, init_from=init_from, task="segment", workers=workers, cache=cache, licence=licence,
    )  # fmt: skip
    if data is None:
        raise UsageError("DATA is missing: a folder of labelled volumes, or a CSV manifest")
    from crnn_cli.training.datasets.checks import check_labelled
    from crnn_cli.training.datasets.sets import find_labelled
    from crnn_cli.training.segment.run import LabelledData, train_segmentation

    found = find_labelled(data)
    for note in found.notes:
        console.say(f"{note.name}: {note.text}", 2)
    with console.progress_bar("checking") as progress:
        checked = check_labelled(found, progress=progress)
    good = usable_items(checked, [(problem.name, problem.text) for problem in found.problems], skip_bad)
    labelled = LabelledData.from_checked(found, good)
    own = None if resume and not (config or epochs) else settings
    with training(request.out) as bar:
        bundle = train_segmentation(labelled, own, request, TrainingProgress(bar), bar)
    finish(request, bundle, as_json)


def train_reconstruct(
    data: Cines = None,
    out: Out = None,
    config: Config = None,
    print_config: PrintConfig = False,
    simulated: Simulated = False,
    epochs: Epochs = None,
    minutes: Minutes = None,
    fold: Fold = "0/5",
    device: DeviceName = "auto",
    precision: Precision = "auto",
    seed: Seed = 0,
    resume: Resume = False,
    init_from: InitFrom = None,
    workers: Workers = None,
    licence: Licence = "not stated",
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Train a reconstruction model (CRNN-MRI) on cines, simulated scenes, or both.

    DATA are fully sampled 4-D NIfTI files, or folders of one DICOM series each (x the readout, y the undersampled
    axis), complex or magnitude; magnitudes get a simulated phase. Sampling, noise and motion are random, anew for every
    item. All files are checked first.

    Examples: crnn train reconstruct cines/ -o my-model --minutes 120 --licence CC0-1.0;
    crnn train reconstruct --simulated -o my-model --epochs 5; crnn train reconstruct --print-config > settings.toml;
    then crnn reconstruct scan.nii --model my-model
    """
    silence_later_processes()
    from crnn_cli.training.reconstruct.settings import ReconstructSettings

    settings = _settings(ReconstructSettings, config, epochs)
    if print_config:
        _print_settings(settings)
        return
    request = _request(
        out=out, minutes=minutes, epochs=epochs, fold=fold, device=device, precision=precision, seed=seed,
        resume=resume, init_from=init_from, task="reconstruct", workers=workers, cache=0.0, licence=licence,
    )  # fmt: skip
    if (data is None) != simulated:
        raise UsageError("give DATA, a folder of cines, or --simulated, and not both")
    from crnn_cli.training.datasets.checks import check_cines
    from crnn_cli.training.datasets.sets import find_cines
    from crnn_cli.training.reconstruct.run import train_reconstruction

    files = [] if data is None else find_cines(data)
    with console.progress_bar("checking") as progress:
        checked = check_cines(files, progress=progress)
    good = usable_items(checked, [], skip_bad)
    kept = [file for file, each in zip(files, checked, strict=True) if each in good]
    own = None if resume and not (config or epochs) else settings
    with training(request.out) as bar:
        bundle = train_reconstruction(kept, own, request, TrainingProgress(bar))
    finish(request, bundle, as_json)


def parse_fold(text: str) -> tuple[int, int] | None:
    """Return (number, of how many), None for ``none``; UsageError otherwise."""
    if text == "none":
        return None
    match = _FOLD.fullmatch(text)
    if match is None or not int(match[1]) < int(match[2]) or int(match[2]) < 2:
        raise UsageError(
            f"--fold {text} is not understood: 0/5 holds out the first of 5 parts, 4/5 the last, none none"
        )
    return int(match[1]), int(match[2])


def require_monai() -> None:
    """Raise UsageError where the extra for training is not installed."""
    from importlib.util import find_spec

    if find_spec("monai") is None:
        raise UsageError('training of segmentation needs MONAI: python3 -m pip install "crnn[train]"')


def _settings(kind: type[Settings], config: Path | None, epochs: int | None) -> Settings:
    from dataclasses import replace

    from crnn_cli.training.settings import read_toml

    settings = kind() if config is None else read_toml(kind, config)
    return settings if epochs is None else replace(settings, epochs=epochs)  # type: ignore[type-var]


def _print_settings(settings: Any) -> None:
    from crnn_cli.training.settings import to_toml

    sys.stdout.write(to_toml(settings))


def _request(
    *, out: Path | None, minutes: float | None, epochs: int | None, fold: str, device: str, precision: str, seed: int,
    resume: bool, init_from: str | None, task: str, workers: int | None, cache: float, licence: str,
) -> TrainingRequest:  # fmt: skip
    """Return what was asked for, checked."""
    from crnn_cli.bundles.store import find_bundle
    from crnn_cli.compute.device import choose_device
    from crnn_cli.training.session import TrainingRequest, require_startable

    if out is None:
        raise UsageError("-o is missing: the name of the bundle to make")
    if epochs is not None and minutes is not None:
        raise UsageError("--epochs and --minutes exclude each other")
    if minutes is not None and not 0 < minutes < 1e6:
        raise UsageError(f"--minutes {minutes:g}: a time budget above 0")
    place = choose_device(device)
    request = TrainingRequest(
        out, place, _precision(precision, place), seed, minutes, resume, _workers(workers, place), cache, licence,
        sys.argv[1:], parse_fold(fold), None if init_from is None else find_bundle(init_from, task),
    )  # fmt: skip
    if is_main_process():
        require_startable(request)
    return request


def _precision(name: str, place: torch.device) -> str:
    import torch

    if name not in ("auto", "fp32", "bf16"):
        raise UsageError(f"--precision {name}: auto, fp32 or bf16")
    if name != "auto":
        return name
    return "bf16" if place.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"


def _workers(asked: int | None, place: torch.device) -> int:
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if asked is not None:
        return asked
    return min(8, cores - 1) if place.type == "cuda" else 0  # on a CPU the training itself keeps all cores busy
