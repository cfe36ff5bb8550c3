"""The command line: which commands there are, and how each kind of failure ends."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, MutableMapping
from types import FrameType
from typing import Annotated, NoReturn

import typer

from crnn_cli.cli import console
from crnn_cli.cli.batch.commands import batch_function, batch_reconstruct, batch_segment
from crnn_cli.cli.command import EXIT_PIPE, Command, Group, JsonBefore, Quiet, Verbose, common_options, declared
from crnn_cli.cli.compare import compare
from crnn_cli.cli.convert import convert
from crnn_cli.cli.doctor import doctor
from crnn_cli.cli.evaluate import evaluate
from crnn_cli.cli.function import function
from crnn_cli.cli.info import info
from crnn_cli.cli.labels import labels
from crnn_cli.cli.models import models_export, models_import, models_list, models_show
from crnn_cli.cli.reconstruct import reconstruct
from crnn_cli.cli.report import report
from crnn_cli.cli.segment import SegmentCommand, segment
from crnn_cli.cli.series.events import events
from crnn_cli.cli.series.forecast import forecast
from crnn_cli.cli.simulate import simulate
from crnn_cli.cli.train import train_drawn, train_forecast, train_reconstruct, train_segment
from crnn_cli.cli.verify import verify
from crnn_cli.errors import EXIT_HANGUP, EXIT_INTERRUPTED, EXIT_TERMINATED
from crnn_cli.version import __version__

_FEWEST_COLUMNS = 76  # in which the longest options fit into the help
EXIT_CODES = {
    0: "done",
    1: "failed",
    2: "wrong usage",
    3: "input unreadable or not what it claims",
    4: "ambiguous or unsupported data (refused, not guessed)",
    5: "device or memory",
    6: "a quality threshold was not met",
    7: "some of a batch failed",
    EXIT_HANGUP: "the terminal was closed",
    EXIT_INTERRUPTED: "interrupted",
    EXIT_PIPE: "the reader closed the pipe",
    EXIT_TERMINATED: "terminated",
}
"""What the exit code of a command means; docs/reference/exit-codes.md says the same."""

EXAMPLES = (
    "crnn reconstruct scan.nii -o images.nii.gz --preview heart.gif",
    "crnn segment images.nii.gz --slices -o labels.nii.gz --preview labels.gif",
    "crnn function labels.nii.gz --plot curves.png",
    "crnn forecast images.nii.gz --frames 4 -o next.nii.gz",
    "crnn events realtime.nii.gz --plot events.png",
    "crnn simulate -o phantom --undersample 8",
    "crnn evaluate images.nii.gz --reference truth.nii.gz",
    "crnn info scan.nii",
    "crnn labels labels.nii.gz --image images.nii.gz --statistics volumes.csv",
    "crnn convert DICOM_FOLDER cine.nii.gz",
    "crnn verify DICOM_FOLDER cine.nii.gz",
    "crnn compare raw.h5 --slice 4 --preview methods.png",
    "crnn batch reconstruct STUDIES -o RESULTS --resume --keep-going",
    "crnn report images.nii.gz -o images.html",
    "crnn models list",
    "crnn doctor",
    "crnn train segment DATA -o my-model --minutes 90",
)

_HELP = {"help_option_names": ["-h", "--help"]}
_CODES = [f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items()]

app = typer.Typer(
    name="crnn",
    cls=Group,
    help="Dynamic MR reconstruction and segmentation with recurrent convolutional networks. Not for diagnostic use.",
    epilog="\n".join(["Examples:", *(f"  {each}" for each in EXAMPLES), "", "Exit codes:", *_CODES]),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=_HELP,
)
train = typer.Typer(
    cls=Group,
    callback=common_options,
    help="Make your own models: from labelled volumes, or from cines.",
    no_args_is_help=True,
)
batch = typer.Typer(
    cls=Group,
    callback=common_options,
    help="Reconstruct, segment or measure many inputs, in one go or in shares.",
    no_args_is_help=True,
)
models = typer.Typer(
    cls=Group, callback=common_options, help="List, show, import and export model bundles.", no_args_is_help=True
)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"crnn {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: JsonBefore = False,
) -> None:
    del version
    console.listen()
    console.Verbosity.level = 1
    common_options(ctx, quiet, verbose, as_json)


_COMMANDS: tuple[Callable[..., None], ...] = (
    reconstruct, segment, function, forecast, events, simulate, evaluate, info, labels, convert, verify, compare,
    report, doctor,
)  # fmt: skip
_IN_GROUPS: tuple[tuple[typer.Typer, str, Callable[..., None]], ...] = (
    (batch, "reconstruct", batch_reconstruct),
    (batch, "segment", batch_segment),
    (batch, "function", batch_function),
    (models, "list", models_list),
    (models, "show", models_show),
    (models, "import", models_import),
    (models, "export", models_export),
    (train, "reconstruct", train_reconstruct),
    (train, "segment", train_segment),
    (train, "drawn", train_drawn),
    (train, "forecast", train_forecast),
)
for _command in _COMMANDS:
    app.command(cls=SegmentCommand if _command is segment else Command)(declared(_command))
for _group, _name, _command in _IN_GROUPS:
    _group.command(_name, cls=SegmentCommand if _command is batch_segment else Command)(declared(_command))
app.add_typer(batch, name="batch")
app.add_typer(train, name="train")
app.add_typer(models, name="models")


def bound_spinning(environment: MutableMapping[str, str]) -> None:
    """Let idle threads of OpenMP wait without spinning for long, unless the user said otherwise.

    Where other programs keep the cores busy, threads that spin take the time that the work needs. Read by the runtime
    when torch is loaded, so this comes first.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", "10000")


def leave_no_cache(environment: MutableMapping[str, str]) -> None:
    """Keep torch from making a folder for its compiler, which is not used, among the temporary files."""
    environment.setdefault("TORCHINDUCTOR_CACHE_DIR", tempfile.gettempdir())


def keep_help_whole(environment: MutableMapping[str, str]) -> None:
    """Print help as for a terminal of `_FEWEST_COLUMNS` on narrower ones, which cut names of options."""
    if shutil.get_terminal_size().columns < _FEWEST_COLUMNS:
        environment.setdefault("TERMINAL_WIDTH", str(_FEWEST_COLUMNS))


def listen_to_signals() -> None:
    """End by SIGTERM and SIGHUP as by an error, with 128 + their number; a signal that is ignored stays so (nohup)."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminate)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """End as an exception, so that temporary files are removed."""
    del frame
    raise SystemExit(128 + number)


def main() -> None:
    """Run the command line."""
    listen_to_signals()
    console.buffer_stdout()
    console.spare_stderr()
    bound_spinning(os.environ)
    leave_no_cache(os.environ)
    keep_help_whole(os.environ)
    try:
        try:
            app(prog_name="crnn")
        except SystemExit as end:
            if isinstance(end.__context__, BrokenPipeError):  # typer and rich end with 1 by it
                raise end.__context__ from None
            raise
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        console.close_stdout()
        sys.exit(EXIT_PIPE)
    except OSError as error:
        console.close_stdout()
        sys.exit(f"error: reading or writing failed: {error}")
