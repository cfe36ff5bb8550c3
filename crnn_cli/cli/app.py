"""The command line: which commands there are, and how each kind of failure ends."""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from crnn_cli.cli import console
from crnn_cli.cli.batch import batch_reconstruct, batch_segment
from crnn_cli.cli.compare import compare
from crnn_cli.cli.convert import convert
from crnn_cli.cli.evaluate import evaluate
from crnn_cli.cli.info import info
from crnn_cli.cli.models import models_import, models_list, models_show
from crnn_cli.cli.reconstruct import reconstruct
from crnn_cli.cli.remedies import spell_option
from crnn_cli.cli.report import report
from crnn_cli.cli.segment import SegmentCommand, segment
from crnn_cli.cli.simulate import simulate
from crnn_cli.cli.train import train_reconstruct, train_segment
from crnn_cli.cli.verify import verify
from crnn_cli.errors import EXIT_INTERRUPTED
from crnn_cli.version import __version__
from crnn_cli.workflows.failures import describe_error

EXIT_CODES = (
    "Exit codes: 0 done; 1 failed; 2 wrong usage; 3 input unreadable or not what it claims; 4 ambiguous or "
    "unsupported data (refused, not guessed); 5 device or memory; 6 a quality threshold was not met; 7 some of a "
    "batch failed; 130 interrupted."
)

EXAMPLES = (
    "crnn reconstruct scan.nii -o images.nii.gz --preview heart.gif",
    "crnn segment images.nii.gz --slices -o labels.nii.gz --preview labels.gif",
    "crnn simulate -o phantom --undersample 8",
    "crnn evaluate images.nii.gz --reference truth.nii.gz",
    "crnn info scan.nii",
    "crnn convert DICOM_FOLDER cine.nii.gz",
    "crnn verify DICOM_FOLDER cine.nii.gz",
    "crnn compare raw.h5 --slice 4 --preview methods.png",
    "crnn batch reconstruct STUDIES -o RESULTS --resume --keep-going",
    "crnn report images.nii.gz -o images.html",
    "crnn models list",
    "crnn train segment DATA -o my-model --minutes 90",
)

app = typer.Typer(
    name="crnn",
    help="Dynamic MR reconstruction and segmentation with recurrent convolutional networks. Not for diagnostic use.",
    epilog="\n\n".join(["Examples:", *EXAMPLES, EXIT_CODES]),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
train = typer.Typer(help="Make your own models: from labelled volumes, or from cines.", no_args_is_help=True)
batch = typer.Typer(help="Reconstruct or segment many inputs, in one go or in shares.", no_args_is_help=True)
models = typer.Typer(help="List, show and import model bundles.", no_args_is_help=True)


def handle_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn failures into one clear line and the exit code of their kind."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt:
            raise console.stop("interrupted; nothing half-written was left", EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            console.close_stdout()
            raise console.stop("the program that read the output closed the pipe", 1) from None
        except Exception as error:
            found = describe_error(error, spell_option)
            if found is None:
                raise
            if isinstance(error, OSError):
                console.close_stdout()
            raise console.stop(*found) from None

    return run


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"crnn {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    del version
    console.listen()
    console.Verbosity.level = 0 if quiet else 2 if verbose else 1


app.command()(handle_errors(reconstruct))
app.command(cls=SegmentCommand)(handle_errors(segment))
app.command()(handle_errors(simulate))
app.command()(handle_errors(evaluate))
app.command()(handle_errors(info))
app.command()(handle_errors(convert))
app.command()(handle_errors(verify))
app.command()(handle_errors(compare))
batch.command("reconstruct")(handle_errors(batch_reconstruct))
batch.command("segment", cls=SegmentCommand)(handle_errors(batch_segment))
app.command()(handle_errors(report))
models.command("list")(handle_errors(models_list))
models.command("show")(handle_errors(models_show))
models.command("import")(handle_errors(models_import))
train.command("reconstruct")(handle_errors(train_reconstruct))
train.command("segment")(handle_errors(train_segment))
app.add_typer(batch, name="batch")
app.add_typer(train, name="train")
app.add_typer(models, name="models")


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """End as an exception, so that temporary files are removed."""
    del frame
    raise SystemExit(128 + number)


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(prog_name="crnn")
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except OSError as error:
        console.close_stdout()
        sys.exit(f"error: reading or writing failed: {error}")
