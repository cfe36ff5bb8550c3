"""Batch on a Dask cluster: each worker reads, computes and writes whole inputs.

The workers see the same files under the same names. When one dies, Dask gives its inputs to others; a file appears by a
rename, and an input whose outputs this very run has finished is not done again.
"""

from __future__ import annotations

import functools
import logging
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.errors import CrnnError, DeviceError, Param, Spelling, UsageError
from crnn_cli.version import __version__
from crnn_cli.workflows.batch.items import BatchItem, command_of
from crnn_cli.workflows.batch.run import BatchContext, BatchTask, Outcome

if TYPE_CHECKING:
    from distributed import Client

_COMPUTING = threading.Lock()
"""Of a worker with several threads one computes, while others read and write."""


@dataclass(frozen=True)
class ClusterJob:
    """A batch as it is sent to the workers.

    Parameters
    ----------
    name : of the command, "reconstruct" or "segment".
    options : of the command, with absolute paths (`absolute_paths`).
    stamp, line, resume, spell, strict, replace : as in `BatchContext`.
    """

    name: str
    options: Any
    stamp: dict[str, Any]
    line: tuple[str, ...]
    resume: bool
    spell: Spelling = str
    strict: bool = False
    replace: bool = False


def absolute_paths(options: Any) -> Any:
    """Copy of the options with absolute paths: workers may run in another folder.

    A relative path would name another file there, without an error.
    """
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    return replace(options, **{name: path.absolute() for name, path in values.items() if isinstance(path, Path)})


def connect(address: str, out: Path) -> Client:
    """Connect to the cluster at an address, and check that every worker can do the work.

    Parameters
    ----------
    out : folder of the outputs, which every worker must see.

    Raises
    ------
    UsageError
        If Dask is not installed, or a worker has another version of this program or does not see the outputs' folder.
    DeviceError
        If nobody answers.
    """
    try:
        from distributed import Client
    except ImportError:
        remedy = ("python3 -m pip install distributed",)
        raise UsageError(Param("scheduler"), " needs Dask", remedy=remedy) from None
    try:
        client = Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        reason = str(error).partition("\n")[0]
        raise DeviceError(f"no Dask scheduler answers at {address}: {reason}") from None
    try:
        workers = client.run(_version_and_sight, str(out.absolute()))
    except Exception as error:
        client.close()
        raise UsageError(f"the workers at {address} cannot run this program: {type(error).__name__}: {error}") from None
    for worker, (version, sees) in workers.items():
        if version != __version__ or not sees:
            client.close()
            reason = f"runs crnn {version}, not {__version__}" if sees else f"does not see the folder {out.absolute()}"
            raise UsageError(f"the worker {worker} {reason}: all must have the same program and the same files")
    return client


def _version_and_sight(out: str) -> tuple[str, bool]:
    """Version of the program in a worker, and whether the worker sees the folder of the outputs."""
    return __version__, Path(out).is_dir()


def run_on(
    client: Client, items: Sequence[BatchItem], job: ClusterJob, report_outcome: Callable[[Outcome], None],
    keep_going: bool,
) -> None:  # fmt: skip
    """Let the cluster do every input.

    After a failure, unless ``keep_going``, and after an interruption, inputs that no worker has begun are not begun.

    Parameters
    ----------
    report_outcome : called with each outcome as it is finished, in any order.
    """
    from distributed import as_completed

    run = job.stamp["run"]
    items_by_future = {
        client.submit(do_item, job, _replacing(item), key=f"crnn-{run}-{number}", pure=False): item
        for number, item in enumerate(items)
    }
    try:
        for future in as_completed(list(items_by_future), loop=client.loop):
            error = future.exception()
            outcome = future.result() if error is None else _lost(items_by_future[future], error)
            report_outcome(outcome)
            if outcome.status == "failed" and not keep_going:
                break
    finally:
        client.cancel(list(items_by_future))


def _replacing(item: BatchItem) -> BatchItem:
    """Let an input replace its outputs: what was there was refused before, what is there now is our own."""
    if item.refusal is not None:
        return item
    options = replace(item.plan.options, force=True)
    return replace(item, plan=replace(item.plan, options=options))


def _lost(item: BatchItem, error: BaseException) -> Outcome:
    reason = f"no worker finished it: {type(error).__name__}: {error}"
    return Outcome(str(item.path), str(item.target), "failed", " ".join(reason.split()), exit_code=CrnnError.exit_code)


def do_item(job: ClusterJob, item: BatchItem) -> Outcome:
    """Take an input through all steps; this runs in a worker.

    The engine is loaded at the first input and kept. One input at a time is computed, while others are read and
    written.
    """
    engine = _load_engine(job.name, job.options)
    context = BatchContext(
        command_of(job.name), engine, job.stamp, job.line, job.resume, job.spell, job.strict, job.replace
    )  # fmt: skip
    task = BatchTask(item, context)
    task.read()
    with _COMPUTING:
        task.compute()
    return task.write()


@functools.lru_cache(maxsize=1)
def _load_engine(name: str, options: Any) -> Any:
    """Load the engine once in a worker.

    Warnings of pydicom, which may quote a person's name, are silenced for good: its threads would end each other's
    silence.
    """
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"(pydicom|highdicom|crnn_cli)")
    return command_of(name).prepare(options)
