"""A training run from start to bundle: what all tasks share.

The run keeps its files in a folder OUT.run, beside the bundle OUT that it ends in; see `crnn_cli.training.run`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from crnn_cli.bundles.store import Bundle, write_bundle
from crnn_cli.compute.memory import free_bytes
from crnn_cli.data.host_memory import bytes_in_words
from crnn_cli.errors import DeviceError, OutputError, OutputExistsError, Param, UsageError
from crnn_cli.networks.drawn_clstm import DrawnCLSTM
from crnn_cli.networks.forecaster import CineForecaster
from crnn_cli.networks.slice_clstm import SliceCLSTM
from crnn_cli.training.card import model_card
from crnn_cli.training.curves import draw_curves
from crnn_cli.training.events import with_events
from crnn_cli.training.job import OptimiserSettings, Stage, TrainingJob, TrainingPlan, TrainingReport
from crnn_cli.training.loop import TrainingLoop, backward_pass
from crnn_cli.training.memory import step_bytes
from crnn_cli.training.processes import Processes
from crnn_cli.training.run import RunFolder
from crnn_cli.training.settings import former_table, from_table, to_toml
from crnn_cli.version import __version__

Settings = TypeVar("Settings")
Network = TypeVar("Network", SliceCLSTM, DrawnCLSTM, CineForecaster)
_TIMED_STEPS = 3
_LEAST_STEPS = 10
"""Steps from one validation to the next, at least."""
_MEASURED_ITEMS = 64
"""Items of a batch at most whose memory is measured; that of more is in proportion."""


@dataclass(frozen=True)
class TrainingRequest:
    """A training run as it was asked for, apart from the settings of the task.

    Attributes
    ----------
    out : the bundle to be written.
    device, precision : where and how it is computed; "fp32" or "bf16".
    seed : of weights and items.
    minutes : time budget that replaces the epochs of the settings; None for none.
    resume : whether to continue the run in the folder.
    workers : processes that draw items.
    cache : GiB of memory for decoded volumes.
    licence : of the weights.
    command : as it was typed, for the card.
    fold : (number, of how many) that is held out; None for nothing.
    start : bundle to start from; None for random weights.
    """

    out: Path
    device: torch.device
    precision: str = "fp32"
    seed: int = 0
    minutes: float | None = None
    resume: bool = False
    workers: int = 0
    cache: float = 4.0
    licence: str = "not stated"
    command: Sequence[str] = ()
    fold: tuple[int, int] | None = (0, 5)
    start: Bundle | None = None

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.out.parent / f"{self.out.name}.run"


@dataclass(frozen=True)
class TrainingRun:
    """What a task hands over to be trained.

    Attributes
    ----------
    job, stages, optimiser : see `crnn_cli.training.job`.
    settings : of the task, for the card and for a resumed run.
    config : of the bundle, with its summary.
    data : about the data, for the card.
    """

    job: TrainingJob
    stages: tuple[Stage, ...]
    settings: Any
    optimiser: OptimiserSettings
    config: dict[str, Any]
    data: dict[str, Any]


def initial_weights_label(request: TrainingRequest) -> str:
    """Name of the weights that a run starts with, for the card."""
    start = request.start
    return "random weights" if start is None else f"{start.name} ({start.sha256[:12]})"


def initial_network(
    request: TrainingRequest, load: Callable[[Bundle, torch.device], Network], wanted: object
) -> Network | None:
    """Network to begin from, where one was asked for.

    Parameters
    ----------
    request : what was asked for.
    load : loads the network of a bundle.
    wanted : its configuration by the settings.

    Raises
    ------
    UsageError
        If its sizes are not those of the settings.
    """
    if request.start is None:
        return None
    network = load(request.start, torch.device("cpu"))
    if network.config != wanted:
        raise UsageError(
            f"{request.start.name} cannot be begun from: its network is {network.config}, the settings ask for {wanted}"
        )
    return network


@contextmanager
def session(request: TrainingRequest) -> Iterator[tuple[RunFolder, Processes, TrainingRequest]]:
    """Context of a run: its folder, its processes, and the request as it was when the run began.

    A resumed run gets the number of threads that it began with: sums over pixels are divided among threads, and rounded
    accordingly. A folder in which no run began is removed.

    Raises
    ------
    OutputExistsError
        If the bundle exists, or a run is there already and is not to be resumed.
    OutputError
        If the folder cannot be made.
    UsageError
        If there is nothing to resume.
    """
    processes = Processes(request.device)
    made = processes.first and not request.folder.exists()
    threads = torch.get_num_threads()
    try:
        if processes.first:
            require_startable(request)
            _make(request.folder)
        processes.wait()
        folder = RunFolder(request.folder)
        before = folder.earlier() if request.resume else None
        if before is not None:
            torch.set_num_threads(before["threads"])
            request = replace(request, seed=before["seed"], precision=before["precision"], licence=before["licence"])
        yield folder, processes, request
    finally:
        torch.set_num_threads(threads)
        if made and not (request.folder / "run.json").exists():  # it never began
            shutil.rmtree(request.folder, ignore_errors=True)
        processes.close()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}") from None


def require_startable(request: TrainingRequest) -> None:
    """Check that a run can start or be resumed; errors as of `session`."""
    finished = request.out.exists() and (request.folder / "run.json").exists()
    if request.resume and finished:
        raise OutputExistsError(
            f"the run is finished, and {request.out} is its bundle; its steps were fixed when it began",
            remedy=(
                "to train longer, begin another run from it with ", Param("init_from", str(request.out)),
                " and another name",
            ),
        )  # fmt: skip
    if request.out.exists() or not request.out.name:
        raise OutputExistsError(
            f"{request.out} exists already", remedy=("give another name with ", Param("out"), ", or remove it")
        )
    if not request.out.parent.is_dir():
        raise OutputError(
            f"cannot write {request.out}: the folder {request.out.parent} does not exist; create it first"
        )
    folder = request.folder
    begun = (folder / "run.json").exists()
    if request.resume and not begun:
        raise UsageError(f"there is nothing to resume: {folder} holds no run")
    if begun and not request.resume:
        raise OutputExistsError(
            f"{folder} holds a run already",
            remedy=("go on with ", Param("resume"), ", give another name, or remove it"),
        )


def earlier_settings(kind: type[Settings], folder: RunFolder, request: TrainingRequest) -> Settings | None:
    """Settings of the run that is resumed; None for a new run."""
    before = folder.earlier() if request.resume else None
    return None if before is None else from_table(kind, before["settings"], "run.json")


def run_training(
    run: TrainingRun,
    request: TrainingRequest,
    folder: RunFolder,
    processes: Processes,
    tell: Callable[[TrainingReport], None],
) -> Bundle | None:
    """Train from the start or the last checkpoint, draw the curves, and write the bundle.

    With a time budget, steps are timed first and the stages scaled to fit it. From then on the number of steps is
    fixed, so that a resumed run does the same.

    Parameters
    ----------
    run, request : what is trained, and what was asked for.
    folder, processes : of the `session`.
    tell : called with reports.

    Returns
    -------
    The bundle; None in all processes but the first.

    Raises
    ------
    DeviceError
        If a step needs more memory than there is.
    CrnnError
        See `crnn_cli.training.loop.TrainingLoop`.
    """
    before = folder.earlier() if request.resume else None
    require_memory(run, processes)
    stages = run.stages
    if before is not None:
        stages = tuple(Stage(**stage) for stage in before["stages"])
    elif request.minutes is not None:
        stages = scale_stages_to_budget(
            stages, seconds_of_steps(run.job, stages, request, processes), request.minutes * 60, processes
        )
    now = _described(run, request, stages)
    described = before or now
    if processes.first and before is None:
        folder.describe(described)
    compared = now | {"settings": former_table(run.settings)}
    fingerprint = {name: _digest(compared[name]) for name in _MUST_AGREE}
    steps = sum(stage.steps for stage in stages)
    plan = TrainingPlan(
        stages,
        run.optimiser,
        request.seed,
        request.precision,
        request.workers,
        validations=max(1, min(TrainingPlan.validations, steps // _LEAST_STEPS)),
        log_every=max(1, min(50, steps // 100)),
        fingerprint=fingerprint,
    )
    try:
        loop = TrainingLoop(run.job, plan, folder, processes, tell)
        if processes.first:
            loop.tell = with_events(tell, folder.folder / "tensorboard", loop.done)
        loop.run()
    finally:
        if processes.first:
            with suppress(OutputError):  # a picture less is no reason to stop, and must not hide one
                draw_curves(folder.log_lines(), folder.folder / "curves.png")
    bundle = _publish(run, request, folder, described) if processes.first else None
    processes.wait()
    return bundle


_MUST_AGREE = ("settings", "data", "stages", "seed", "precision")


def _described(run: TrainingRun, request: TrainingRequest, stages: tuple[Stage, ...]) -> dict[str, Any]:
    return {
        "command": list(request.command), "versions": {"crnn": __version__, "torch": torch.__version__},
        "device": str(request.device), "precision": request.precision, "seed": request.seed,
        "threads": torch.get_num_threads(), "licence": request.licence, "data": run.data,
        "stages": [asdict(stage) for stage in stages],
        "settings": asdict(run.settings), "settings_toml": to_toml(run.settings), "bundle": run.config,
    }  # fmt: skip


def require_memory(run: TrainingRun, processes: Processes) -> None:
    """Check that a step of every stage fits into memory.

    Raises
    ------
    DeviceError
        If one does not; the message names a setting with which it would.
    """
    free = free_bytes(processes.device)
    for number, stage in enumerate(run.stages):
        share = processes.share(stage.batch)
        count = min(share, _MEASURED_ITEMS)
        items, factor = run.job.miniature(number, count)
        factor *= share / count if len(items) == count else 1.0  # else they are computed one after the other
        network = run.job.network(number, None)
        run.job.set_mode(number, network)

        def forward(number: int = number, network: Any = network, items: Any = items) -> Tensor:
            return next(run.job.losses(number, network, items, torch.device("cpu")))

        needed = sum(
            round(times * step_bytes(forward, factor)) for times in run.job.memory_multipliers(number, network)
        )
        if free is not None and needed > free:
            raise DeviceError(
                f"a step of stage {stage.name} needs about {bytes_in_words(needed)}, and {bytes_in_words(free)} are "
                f"free: {run.job.suggest_smaller(number, free / needed)}"
            )


def seconds_of_steps(
    job: TrainingJob, stages: tuple[Stage, ...], request: TrainingRequest, processes: Processes
) -> list[float]:
    """Time a step of each stage, on networks that are thrown away.

    Returns
    -------
    Seconds per step, one number for each stage.
    """
    times = []
    for number, stage in enumerate(stages):
        network = job.network(number, None).to(processes.device)
        job.set_mode(number, network)
        count = processes.share(stage.batch)
        last = stage.steps * stage.batch - 1  # late items: those of a reconstruction have the most iterations then
        drawing, learning = 0.0, 0.0
        for step in range(_TIMED_STEPS):
            began = time.monotonic()
            items = [job.item(number, last - k) for k in range(count)]
            drawn = time.monotonic()
            backward_pass(job, number, network, items, processes.device, request.precision)
            if step > 0:
                drawing, learning = drawing + drawn - began, learning + time.monotonic() - drawn
        beside = max(learning, drawing / max(1, request.workers))  # workers draw while the network learns
        times.append((beside if request.workers else drawing + learning) / (_TIMED_STEPS - 1))
    return times


def scale_stages_to_budget(
    stages: tuple[Stage, ...], seconds: Sequence[float], budget: float, processes: Processes
) -> tuple[Stage, ...]:
    """Scale the steps of all stages by one factor, so that together they take a time budget.

    Parameters
    ----------
    stages : with their steps.
    seconds : per step of each stage.
    budget : in s.
    processes : the first one's numbers hold for all.
    """
    needed = sum(stage.steps * each for stage, each in zip(stages, seconds, strict=True))
    factor = budget / needed
    return tuple(replace(s, steps=processes.broadcast(max(1, round(s.steps * factor)))) for s in stages)


def _publish(run: TrainingRun, request: TrainingRequest, folder: RunFolder, described: dict[str, Any]) -> Bundle:
    """Write the bundle of a finished run, whole or not at all: the best weights, and the card."""
    weights, figures = folder.best()
    if run.config["task"] != "reconstruct":
        weights = {name: to_half(name, tensor) for name, tensor in weights.items()}
    config = run.config | {"licence": request.licence}
    written = write_bundle(
        request.out, config, weights, model_card(request.out.name, config, described, figures, folder.log_lines())
    )
    shutil.rmtree(folder.folder / "cache", ignore_errors=True)
    return written


def to_half(name: str, tensor: Tensor) -> Tensor:
    """Convert a weight to half precision; running statistics and counters stay as they are.

    >>> import torch
    >>> to_half("norm.running_var", torch.ones(1)).dtype, to_half("norm.weight", torch.ones(1)).dtype
    (torch.float32, torch.float16)
    """
    stays = "running_" in name or not tensor.is_floating_point()
    return tensor if stays else tensor.half()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def digest_of_files(files: Sequence[Path]) -> str:
    """Digest the names and contents of files, in their order; for a folder, those of the files below it.

    Returns
    -------
    One sha256, hexadecimal.
    """
    whole = hashlib.sha256()
    below = (sorted(path.rglob("*")) if path.is_dir() else [path] for path in files)
    for file in (each for paths in below for each in paths if each.is_file()):
        with file.open("rb") as opened:
            whole.update(f"{file.name} {hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()
