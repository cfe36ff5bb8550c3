"""``crnn batch``: many inputs in one go, with the options of the command for one.

It is a command of its own, because a folder given to `crnn reconstruct` is one DICOM study, and stays one. Each option
of the command for one input is taken over from its declaration, so there is no second list of them.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_type_hints
from uuid import uuid4

import typer

from crnn_cli import notices
from crnn_cli.cli import console
from crnn_cli.cli.batch.reporter import BatchReporter
from crnn_cli.cli.function import function
from crnn_cli.cli.options import BATCH, OUTPUT, PANELS, Force
from crnn_cli.cli.reconstruct import reconstruct
from crnn_cli.cli.remedies import spell_option
from crnn_cli.cli.segment import segment
from crnn_cli.errors import BatchError, OutputError, UsageError
from crnn_cli.report.provenance import command_line
from crnn_cli.workflows.batch.cluster import ClusterJob, absolute_paths, connect, run_on
from crnn_cli.workflows.batch.items import BatchItem, assign_outputs, collect_inputs, command_of, parse_shard, plan_item
from crnn_cli.workflows.batch.resume import batch_stamp
from crnn_cli.workflows.batch.run import BatchContext, Outcome, run

Inputs = Annotated[list[Path], typer.Argument(metavar="INPUTS", help="Files, DICOM folders, or folders of them.")]
Out = Annotated[
    Path,
    typer.Option(
        "--out", "--output", "-o", metavar="DIR", rich_help_panel=OUTPUT,
        help="Folder of the outputs; made if it is not there.",
    ),
]  # fmt: skip
Resume = Annotated[
    bool,
    typer.Option("--resume", rich_help_panel=BATCH, help="Skip what is done; do again what is not, or has changed."),
]
KeepGoing = Annotated[
    bool, typer.Option("--keep-going", rich_help_panel=BATCH, help="Go on after a failure; exit with 7 in the end.")
]
Shard = Annotated[
    str | None,
    typer.Option(metavar="I/N", rich_help_panel=BATCH, help="Share I of N only, from 1, by sorted name."),
]
BatchJson = Annotated[bool, typer.Option("--json", rich_help_panel=OUTPUT, help="Print a line of JSON for each input.")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", rich_help_panel=BATCH, help="Dask cluster to run on, such as tcp://host:8786."
    ),
]  # fmt: skip

Reviewed = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", rich_help_panel=BATCH,
        help="Folder of the reviews that were saved on pages: doubtful cases are marked, and left out of the summary.",
    ),
]  # fmt: skip

_OF_ONE = ("stream", "renew_frames", "pace", "listen")
"""Options of the command for one that have no meaning for many."""
_OWN = ("inputs", "out", "resume", "keep_going", "shard", "scheduler", "as_json", "force")


def _run(
    name: str, given: dict[str, Any], inputs: Inputs, out: Out, resume: Resume = False, keep_going: KeepGoing = False,
    shard: Shard = None, scheduler: Scheduler = None, as_json: BatchJson = False, force: Force = False,
    reviewed: Reviewed = None,
) -> None:  # fmt: skip
    """Do a share of the inputs. given : the options of the command for one."""
    began = time.perf_counter()
    if force and resume:
        raise UsageError("--force does all again and --resume only what is not done: use one of them")
    if as_json:
        console.require_stdout()
    part = parse_shard(shard)
    command = command_of(name)
    options = _options(name, given)
    known = batch_stamp(options)
    if scheduler is not None:
        inputs, out, options = [place.absolute() for place in inputs], out.absolute(), absolute_paths(options)
    names = collect_inputs(inputs, out, command.READS_RAW, command.READS_LABELS)
    tables = _tables(name, out, part)
    items = assign_outputs(names, out, command, options, tables)[part[0] - 1 :: part[1]]
    _make_folder(out)
    reporter_of = _reporter(tables[:2], reviewed, force or resume)
    items = [plan_item(item, command, options, force or resume) for item in items]
    refused = [item for item in items if item.refusal is not None]
    todo = items if keep_going or not refused else refused[:1]
    if scheduler is None:
        work = BatchContext(
            command, command.prepare(options), {"options": known}, tuple(command_line()), resume, spell_option,
            notices.is_strict(), force or resume,
        )  # fmt: skip
        do = partial(_here, todo, work)
    else:
        job = ClusterJob(
            name, options, {"options": known, "run": uuid4().hex}, tuple(command_line()), resume, spell_option,
            notices.is_strict(), force or resume,
        )  # fmt: skip
        do = partial(_on, scheduler, out, todo, job)
    reporter = reporter_of(out, part, len(items), as_json, began)
    try:
        do(reporter.tell, keep_going)
    finally:
        reporter.summary()
    if failed := reporter.count("failed"):
        begun = len(reporter.outcomes)
        left = "; the others are done" if failed < begun else ""
        left = left if begun == len(items) else "; nothing was begun after that: --keep-going does the others"
        raise BatchError(f"{failed} of {len(items)} failed{left}")


def _tables(name: str, out: Path, part: tuple[int, int]) -> tuple[Path, ...]:
    """Table and summary that a batch writes itself, then those of all shares together; none of most commands."""
    if name != "function":
        return ()
    from crnn_cli.workflows.function.cohort import table_names

    share = "" if part[1] == 1 else f"_{part[0]}of{part[1]}"
    return (*table_names(out, share), *table_names(out))


def _reporter(tables: tuple[Path, ...], reviewed: Path | None, replace: bool) -> Callable[..., BatchReporter]:
    """The reporter of a command; what it reads and writes at the end is checked before the work."""
    if not tables:
        return BatchReporter
    from crnn_cli.cli.batch.cohort import CohortReporter
    from crnn_cli.workflows.function.cohort import read_reviews, require_tables

    table, summary = tables
    return partial(
        CohortReporter, tables=require_tables((table, summary), replace), reviews=read_reviews(reviewed)
    )  # fmt: skip


def _here(items: Sequence[BatchItem], work: BatchContext, tell: Callable[[Outcome], None], keep_going: bool) -> None:
    """Do the inputs in this process."""
    with _silence(items):
        run(items, work, tell, keep_going)


def _on(
    address: str, out: Path, items: Sequence[BatchItem], job: ClusterJob, tell: Callable[[Outcome], None],
    keep_going: bool,
) -> None:  # fmt: skip
    """Do the inputs on a cluster."""
    with connect(address, out) as client:
        run_on(client, items, job, tell, keep_going)


def _silence(items: Sequence[BatchItem]) -> AbstractContextManager[None]:
    """Keep pydicom silent for all threads at once, where there is DICOM: each would end the silence of the others."""
    from crnn_cli.io.formats import is_dicom

    if not any(is_dicom(item.path) for item in items):
        return nullcontext()
    from crnn_cli.io.dicom.headers import silence_pydicom

    return silence_pydicom()


def _options(name: str, given: dict[str, Any]) -> Any:
    from crnn_cli.workflows.function.options import FunctionOptions
    from crnn_cli.workflows.reconstruct.options import ReconstructOptions
    from crnn_cli.workflows.segment.options import SegmentOptions

    kind = {"reconstruct": ReconstructOptions, "segment": SegmentOptions, "function": FunctionOptions}[name]
    known = {field.name for field in fields(kind)}
    return kind(**{option: value for option, value in given.items() if option in known and value is not None})


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(exist_ok=True)
    except FileNotFoundError:
        raise OutputError(f"cannot write {out}: the folder {out.parent} does not exist; create it first") from None
    except FileExistsError:
        raise OutputError(f"cannot write {out}: it is a file; give a folder, for the outputs of all inputs") from None
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}") from None


def _many(
    name: str, single: Callable[..., None], description: str, own_options: Sequence[str] = _OWN
) -> Callable[..., None]:
    """Make the command for many inputs: its own options, and those of the command for one but for the same names."""

    def command(**given: Any) -> None:
        own = {option: given.pop(option) for option in own_options}
        _run(name, given, **own)

    def declared(function: Callable[..., None]) -> list[inspect.Parameter]:
        hints = get_type_hints(function, include_extras=True)
        return [each.replace(annotation=hints[each.name]) for each in inspect.signature(function).parameters.values()]

    def panel(parameter: inspect.Parameter) -> int:
        title = getattr(parameter.annotation.__metadata__[0], "rich_help_panel", None)
        return PANELS.index(title) if title in PANELS else -1

    own = [each for each in declared(_run) if each.name in own_options]
    others = [each for each in declared(single)[1:] if each.name not in (*own_options, *_OF_ONE)]
    command.__name__, command.__doc__ = f"batch_{name}", description
    keyword = inspect.Parameter.KEYWORD_ONLY
    ordered = [each.replace(kind=keyword) for each in sorted([*own, *others], key=panel)]
    vars(command)["__signature__"] = inspect.Signature(ordered)
    return command


_LEFT_OUT = "Label maps and masks (NAME_gt, _seg, _labels, _mask ...) are left out of folders, and named."
_TAKEN = "Label maps (NAME_gt, _seg, _labels ...) are inputs, and stand for the image NAME beside them."
_RULES = """A file is an input, and so is a folder in which DICOM files lie directly; any other folder stands for what
    is in it: NIfTI, zips, raw k-space, folders with DICOM in them, and the files in other folders, of subjects for
    instance, whose outputs are called SUBJECT_NAME. {labels} All else is as for one input; the model is loaded once,
    and the next input is read and the last one written while one is computed.

    In names of files, {{name}} stands for the name of each input: --preview '{{name}}.png' is written beside the
    output, --mask 'masks/{{name}}.nii' read. --resume skips an output whose report, OUT.json, names the same input,
    weights and options (sha256), and whose files have the sha256 that it says. A share, such as --shard 2/8, is for one
    task of an array job; together they do all, each input once. The folder also keeps a journal, crnn_batch.jsonl."""

batch_reconstruct = _many(
    "reconstruct", reconstruct,
    f"""Reconstruct many scans into a folder, NAME_crnn.nii.gz each.

    {_RULES.format(labels=_LEFT_OUT)}

    With --adapt, every input has the time given for itself, and starts again from the weights of the model; Ctrl-C ends
    the tuning to the input at hand only, a second one all.

    Examples: crnn batch reconstruct STUDIES -o RESULTS --resume --keep-going;
    crnn batch reconstruct a.nii b.h5 -o RESULTS --method tv --json;
    crnn batch reconstruct STUDIES -o RESULTS --shard $SLURM_ARRAY_TASK_ID/8 --resume
    """,
)  # fmt: skip
batch_segment = _many(
    "segment", segment,
    f"""Label many volumes or series into a folder, NAME_labels.nii.gz each.

    {_RULES.format(labels=_LEFT_OUT)}

    Examples: crnn batch segment RESULTS -o LABELS --slices --keep-going;
    crnn batch segment STUDIES -o LABELS --slices axial --format dicom --statistics '{{name}}.csv'
    """,
)  # fmt: skip
batch_function = _many(
    "function", function,
    f"""Measure many hearts into a folder, NAME_function.json each, with a table of all and a summary.

    {_RULES.format(labels=_TAKEN)}

    The table, cohort.csv,
    has a row for each case, also for those that failed, with the reason; cohort_summary.json and the table that is
    printed have mean and standard deviation (n - 1) of ejection fractions, volumes and mass. Cases that a review calls
    doubtful are marked in the table, and left out of the summary. A share has tables of its own, cohort_2of8.csv;
    --resume without a share makes those of all.

    Examples: crnn batch function LABELS -o FUNCTION --labels acdc --page '{{name}}.html' --keep-going;
    crnn batch function LABELS -o FUNCTION --labels acdc --page '{{name}}.html' --resume --reviewed REVIEWS
    """,
    (*_OWN, "reviewed"),
)  # fmt: skip
