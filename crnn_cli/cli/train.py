"""``crnn train``: labelled volumes, or cines, become a model bundle."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crnn_cli import notices
from crnn_cli.cli import console, values
from crnn_cli.cli.options import INPUT, NETWORK, OUTPUT, DeviceName
from crnn_cli.errors import OutputError, OutputExistsError, UsageError

if TYPE_CHECKING:
    from crnn_cli.bundles.store import Bundle
    from crnn_cli.training.datasets.checks import CheckedVolume
    from crnn_cli.training.job import TrainingReport
    from crnn_cli.training.segment.run import LabelledData
    from crnn_cli.training.session import TrainingRequest

RUN = "Training"
_PRECISIONS = {"auto": "bf16 on a GPU that has it", "fp32": "", "bf16": ""}
_LISTED = 40  # problems in the table

Volumes = Annotated[
    Path | None,
    typer.Argument(metavar="DATA", help="Folder of labelled volumes, NIfTI or DICOM, or a CSV manifest."),
]
Cines = Annotated[
    Path | None,
    typer.Argument(metavar="DATA", help="Folder of fully sampled 4-D cines, NIfTI or DICOM, or one of them."),
]
Simulated = Annotated[
    bool, typer.Option("--simulated", rich_help_panel=INPUT, help="Train on simulated scenes alone; no DATA needed.")
]
Fold = Annotated[
    str,
    typer.Option(
        metavar="I/N|none", rich_help_panel=INPUT,
        help="Part of the data to hold out: 0/5 is the first of 5 parts; none holds out nothing.",
    ),
]  # fmt: skip
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", rich_help_panel=INPUT, help="Train on what is good where some data are not.")
]
Cache = Annotated[
    float,
    typer.Option(
        min=0, metavar="GIB", rich_help_panel=INPUT,
        help="Memory for decoded volumes; the others are mapped from disk.",
    ),
]  # fmt: skip
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", rich_help_panel=RUN, help="Settings, TOML; what it does not mention keeps its default."
    ),
]  # fmt: skip
PrintConfig = Annotated[
    bool, typer.Option("--print-config", rich_help_panel=RUN, help="Print all settings as TOML, with comments.")
]
Epochs = Annotated[
    int | None,
    typer.Option(min=1, metavar="INTEGER", rich_help_panel=RUN, help="Epochs, in place of those of the settings."),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        metavar="MINUTES", rich_help_panel=RUN, help="Time budget in place of epochs; the steps are timed first."
    ),
]  # fmt: skip
Seed = Annotated[
    int,
    typer.Option(
        min=0, max=2**31 - 1, metavar="INTEGER", rich_help_panel=RUN,
        help="Of weights and items; same seed, same model on a CPU.",
    ),
]  # fmt: skip
Resume = Annotated[
    bool, typer.Option("--resume", rich_help_panel=RUN, help="Go on from the last checkpoint in OUT.run.")
]
InitFrom = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|DIR", rich_help_panel=NETWORK, autocompletion=values.complete_model,
        help="Begin from the weights of a published model or bundle folder of the same sizes.",
    ),
]  # fmt: skip
Precision = Annotated[
    str,
    typer.Option(
        metavar="NAME", rich_help_panel=NETWORK, callback=values.one_of("--precision", _PRECISIONS),
        autocompletion=values.complete(_PRECISIONS), help="fp32, bf16 or auto: bf16 on a GPU that has it.",
    ),
]  # fmt: skip
Workers = Annotated[
    int | None,
    typer.Option(
        min=0, max=64, metavar="INTEGER 0-64", rich_help_panel=NETWORK,
        help="Processes that prepare items. Default: by the machine.",
    ),
]  # fmt: skip
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "--output", "-o", metavar="DIR", rich_help_panel=OUTPUT,
        help="The bundle to make; the run is kept in OUT.run.",
    ),
]  # fmt: skip
Licence = Annotated[
    str,
    typer.Option(
        metavar="TEXT", rich_help_panel=OUTPUT, help="Licence of the weights, for the card; mind that of the data."
    ),
]  # fmt: skip
TrainJson = Annotated[
    bool, typer.Option("--json", rich_help_panel=OUTPUT, help="Print the outcome as JSON to standard output.")
]


def train_segment(
    data: Volumes = None,
    fold: Fold = "0/5",
    skip_bad: SkipBad = False,
    cache: Cache = 4.0,
    config: Config = None,
    print_config: PrintConfig = False,
    epochs: Epochs = None,
    minutes: Minutes = None,
    seed: Seed = 0,
    resume: Resume = False,
    init_from: InitFrom = None,
    precision: Precision = "auto",
    device: DeviceName = "auto",
    workers: Workers = None,
    out: Out = None,
    licence: Licence = "not stated",
    as_json: TrainJson = False,
) -> None:
    """Train a segmentation model: a slice CNN, then a ConvLSTM attached to it.

    DATA holds imagesTr/ and labelsTr/ (Decathlon, nnU-Net; dataset.json is honoured), images/ and labels/, pairs of
    NAME.nii.gz and NAME_gt.nii.gz, or is a CSV with the columns image, label and perhaps split (train, val, test),
    subject, and structures (the names of all that is labelled, where that is not everything). Images may be folders of
    one DICOM series each, in a CSV zips or files as well; labels are NIfTI, and turned if their axes are not those of
    the image. All of it is checked first, and every problem is listed before anything is trained.

    Examples: crnn train segment Task04_Hippocampus -o my-model --minutes 90 --licence CC-BY-SA-4.0;
    crnn train segment --print-config > settings.toml; crnn train segment data.csv -o my-model --config settings.toml;
    then crnn segment volume.nii --slices --model my-model
    """
    from crnn_cli.training import start

    _silence_later_processes()
    from crnn_cli.training.segment.settings import SegmentSettings

    settings = start.load_settings(SegmentSettings, config, epochs)
    if print_config:
        _print_settings(settings)
        return
    start.require_monai()
    request = start.make_request(
        "segment", out, epochs=epochs, minutes=minutes, fold=fold, device=device, precision=precision, seed=seed,
        resume=resume, init_from=init_from, workers=workers, cache=cache, licence=licence, command=sys.argv[1:],
    )  # fmt: skip
    if data is None:
        raise UsageError("DATA is missing: a folder of labelled volumes, or a CSV manifest")
    from crnn_cli.training.segment.run import train_segmentation

    volumes = _labelled_data(data, skip_bad)
    own = None if resume and not (config or epochs) else settings
    with _training(request.out) as bar:
        bundle = train_segmentation(volumes, own, request, TrainingProgress(bar), bar)
    _print_outcome(request, bundle, as_json)


def train_drawn(
    data: Volumes = None,
    fold: Fold = "0/5",
    skip_bad: SkipBad = False,
    config: Config = None,
    print_config: PrintConfig = False,
    minutes: Minutes = None,
    seed: Seed = 0,
    resume: Resume = False,
    init_from: InitFrom = None,
    precision: Precision = "auto",
    device: DeviceName = "auto",
    workers: Workers = None,
    out: Out = None,
    licence: Licence = "not stated",
    as_json: TrainJson = False,
) -> None:
    """Train a network that labels a whole scan from a few drawn slices, whatever the structure.

    DATA is as for crnn train segment: labelled volumes of any structures, the more kinds the better. Structures that
    nobody labelled are learned from as well: regions of the same images, and random shapes.

    Examples: crnn train drawn labelled.csv -o my-drawn --minutes 120 --licence CC0-1.0;
    crnn train drawn --print-config > settings.toml;
    then crnn segment volume.nii --from drawn.nii --model my-drawn
    """
    from crnn_cli.training import start
    from crnn_cli.training.drawn.settings import DrawnSettings

    _silence_later_processes()
    settings = start.load_settings(DrawnSettings, config, None)
    if print_config:
        _print_settings(settings)
        return
    request = start.make_request(
        "segment-drawn", out, epochs=None, minutes=minutes, fold=fold, device=device, precision=precision, seed=seed,
        resume=resume, init_from=init_from, workers=workers, cache=0.0, licence=licence, command=sys.argv[1:],
    )  # fmt: skip
    if data is None:
        raise UsageError("DATA is missing: a folder of labelled volumes, or a CSV manifest")
    from crnn_cli.training.drawn.run import train_drawn as train

    volumes = _labelled_data(data, skip_bad)
    own = None if resume and not config else settings
    with _training(request.out) as bar:
        bundle = train(volumes, own, request, TrainingProgress(bar), bar)
    _print_outcome(request, bundle, as_json)


def train_reconstruct(
    data: Cines = None,
    simulated: Simulated = False,
    fold: Fold = "0/5",
    skip_bad: SkipBad = False,
    config: Config = None,
    print_config: PrintConfig = False,
    epochs: Epochs = None,
    minutes: Minutes = None,
    seed: Seed = 0,
    resume: Resume = False,
    init_from: InitFrom = None,
    precision: Precision = "auto",
    device: DeviceName = "auto",
    workers: Workers = None,
    out: Out = None,
    licence: Licence = "not stated",
    as_json: TrainJson = False,
) -> None:
    """Train a reconstruction model (CRNN-MRI) on cines, simulated scenes, or both.

    DATA are fully sampled 4-D NIfTI files, or folders of one DICOM series each (x the readout, y the undersampled
    axis), complex or magnitude; magnitudes get a simulated phase. Sampling, noise and motion are random, anew for every
    item. All files are checked first.

    Examples: crnn train reconstruct cines/ -o my-model --minutes 120 --licence CC0-1.0;
    crnn train reconstruct --simulated -o my-model --epochs 5; crnn train reconstruct --print-config > settings.toml;
    then crnn reconstruct scan.nii --model my-model
    """
    from crnn_cli.training import start
    from crnn_cli.training.reconstruct.settings import ReconstructSettings

    _silence_later_processes()
    settings = start.load_settings(ReconstructSettings, config, epochs)
    if print_config:
        _print_settings(settings)
        return
    request = start.make_request(
        "reconstruct", out, epochs=epochs, minutes=minutes, fold=fold, device=device, precision=precision, seed=seed,
        resume=resume, init_from=init_from, workers=workers, cache=0.0, licence=licence, command=sys.argv[1:],
    )  # fmt: skip
    from crnn_cli.training.reconstruct.run import train_reconstruction

    cines = _checked_cines(data, simulated, skip_bad)
    own = None if resume and not (config or epochs) else settings
    with _training(request.out) as bar:
        bundle = train_reconstruction(cines, own, request, TrainingProgress(bar))
    _print_outcome(request, bundle, as_json)


def train_forecast(
    data: Cines = None,
    simulated: Simulated = False,
    fold: Fold = "0/5",
    skip_bad: SkipBad = False,
    config: Config = None,
    print_config: PrintConfig = False,
    epochs: Epochs = None,
    minutes: Minutes = None,
    seed: Seed = 0,
    resume: Resume = False,
    init_from: InitFrom = None,
    precision: Precision = "auto",
    device: DeviceName = "auto",
    workers: Workers = None,
    out: Out = None,
    licence: Licence = "not stated",
    as_json: TrainJson = False,
) -> None:
    """Train a forecaster of cines (ConvLSTM encoder and forecaster) on cines, simulated scenes, or both.

    DATA are 4-D NIfTI files, or folders of one DICOM series each, of one beat each; of complex ones the magnitude. They
    are played again and again, each beat at a rate of its own, with sway, turning and noise. All files are checked
    first.

    Examples: crnn train forecast cines/ -o my-model --minutes 120 --licence CC0-1.0;
    crnn train forecast --simulated -o my-model --epochs 2; crnn train forecast --print-config > settings.toml;
    then crnn forecast cine.nii.gz --model my-model
    """
    from crnn_cli.training import start
    from crnn_cli.training.forecast.settings import ForecastSettings

    _silence_later_processes()
    settings = start.load_settings(ForecastSettings, config, epochs)
    if print_config:
        _print_settings(settings)
        return
    request = start.make_request(
        "forecast", out, epochs=epochs, minutes=minutes, fold=fold, device=device, precision=precision, seed=seed,
        resume=resume, init_from=init_from, workers=workers, cache=0.0, licence=licence, command=sys.argv[1:],
    )  # fmt: skip
    from crnn_cli.training.forecast.run import train_forecaster

    cines = _checked_cines(data, simulated, skip_bad)
    own = None if resume and not (config or epochs) else settings
    with _training(request.out) as bar:
        bundle = train_forecaster(cines, own, request, TrainingProgress(bar))
    _print_outcome(request, bundle, as_json)


def _checked_cines(data: Path | None, simulated: bool, skip_bad: bool) -> list[Path]:
    """Find cines and check them; none where only simulated scenes are asked for."""
    if (data is None) != simulated:
        raise UsageError("give DATA, a folder of cines, or --simulated, and not both")
    from crnn_cli.training.datasets.checks import check_cines
    from crnn_cli.training.datasets.sets import find_cines

    files = [] if data is None else find_cines(data)
    with console.progress_bar("checking") as progress:
        checked = check_cines(files, progress=progress)
    good = _usable_items(checked, [], skip_bad)
    return [file for file, each in zip(files, checked, strict=True) if each in good]


class TrainingProgress:
    """Moves the bar, and tells where a run stands: at every validation, and once a minute between them."""

    def __init__(self, bar: notices.Progress) -> None:
        self._bar, self._last = bar, 0.0

    def __call__(self, report: TrainingReport) -> None:
        """Take a report of the run."""
        self._bar(report.step, report.steps)
        if report.validation is None and time.monotonic() - self._last < 60:
            return
        self._last = time.monotonic()
        share = f"{report.stage}, step {report.step} of {report.steps}"
        left = f"about {_minutes(report.seconds_left)} left"
        if report.validation is None:
            console.say(f"{share}: loss {report.loss:.4f}, {report.items_per_second:.1f} items/s, {left}")
        else:
            console.say(f"{share}: validation {_figures_in_words(report.validation)}, {left}")


def _silence_later_processes() -> None:
    """Let only the first of several processes speak."""
    from crnn_cli.training.start import is_main_process

    if not is_main_process():
        console.Verbosity.level = 0


def _print_settings(settings: Any) -> None:
    from crnn_cli.training.settings import to_toml

    sys.stdout.write(to_toml(settings))


def _labelled_data(data: Path, skip_bad: bool) -> LabelledData:
    """Find and check labelled volumes, and print what is wrong with them."""
    from crnn_cli.training.datasets.checks import check_labelled
    from crnn_cli.training.datasets.sets import find_labelled
    from crnn_cli.training.segment.run import LabelledData

    volumes = find_labelled(data)
    for note in volumes.notes:
        notices.detail(f"{note.name}: {note.text}")
    with console.progress_bar("checking") as progress:
        checked = check_labelled(volumes, progress=progress)
    good = _usable_items(checked, [(problem.name, problem.text) for problem in volumes.problems], skip_bad)
    return LabelledData.from_checked(volumes, good)


def _usable_items(
    checked: Sequence[CheckedVolume], others: Sequence[tuple[str, str]], skip_bad: bool
) -> list[CheckedVolume]:
    """Print all problems of the data at once, and go on with the rest if that was asked for."""
    from crnn_cli.training import start

    problems = start.list_problems(checked, others)
    if problems:
        console.table("Problems", ("data", "problem"), problems[:_LISTED], prose=["problem"])
        if len(problems) > _LISTED:
            console.say(f"... and {len(problems) - _LISTED} more")
    return start.usable_items(checked, problems, skip_bad)


@contextmanager
def _training(out: Path) -> Iterator[notices.Progress]:
    """Yield the bar; an interruption, and an output that cannot be written, tell how to go on."""
    try:
        with console.progress_bar("training") as bar:
            yield bar
    except (KeyboardInterrupt, SystemExit, OutputError) as error:
        from crnn_cli.training.run import CHECKPOINT

        interrupted = not isinstance(error, OutputError)
        begun = not isinstance(error, OutputExistsError) and Path(f"{out}.run", CHECKPOINT).exists()
        if interrupted or begun:
            console.say(f"the run is kept in {out}.run: the same command with --resume goes on with it")
        raise


def _print_outcome(request: TrainingRequest, bundle: Bundle | None, as_json: bool) -> None:
    """Print the bundle and its figures; nothing in later processes, which have none."""
    from crnn_cli.training.run import RunFolder

    if bundle is None:
        return
    figures = RunFolder(request.folder).figures()
    console.say(
        f"{request.out}: {_figures_in_words(figures) or 'nothing was held out'}; the run is in {request.folder}"
    )
    if as_json:
        console.print_json({"bundle": str(request.out), "sha256": bundle.sha256, "figures": figures})


def _figures_in_words(figures: dict[str, Any]) -> str:
    """Validation figures in a line."""
    parts = []
    for name, value in figures.items():
        if isinstance(value, dict):
            parts.append(f"{name.replace('_', ' ')} {', '.join(f'{k}: {v}' for k, v in value.items())}")
    return "; ".join(parts)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
