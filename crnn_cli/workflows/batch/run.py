"""Batch in one process: the next input is read and the last one written while one is computed."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from crnn_cli import notices
from crnn_cli.errors import Spelling
from crnn_cli.report.sidecar import DAMAGE
from crnn_cli.workflows.batch.items import BatchCommand, BatchItem
from crnn_cli.workflows.batch.outdated import set_aside
from crnn_cli.workflows.batch.resume import earlier_report, same_input
from crnn_cli.workflows.failures import describe_error

STEPS = ("reading", "computing", "writing")
Status = Literal["", "done", "skipped", "failed"]
"""State of an input; empty while it is at work."""


@dataclass
class Outcome:
    """Outcome of one input.

    Parameters
    ----------
    output : where it is written, or would be.
    error : why it failed, in one line.
    doubts : ``code`` and ``text`` of each.
    exit_code : that a single run would have had.
    seconds : that each of `STEPS` took.
    """

    input: str
    output: str | list[str]
    status: Status = ""
    error: str | None = None
    doubts: list[dict[str, str]] = field(default_factory=list)
    exit_code: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))

    def line(self) -> dict[str, Any]:
        """The outcome as one line of JSON."""
        return {
            "input": self.input, "output": self.output, "status": self.status, "error": self.error,
            "exit_code": self.exit_code, "doubts": self.doubts,
            "seconds": {step: round(taken, 3) for step, taken in self.seconds.items()},
        }  # fmt: skip


@dataclass(frozen=True)
class BatchContext:
    """Everything that the inputs of a batch share.

    Parameters
    ----------
    engine : loaded by the command's ``prepare``.
    stamp : added to every report: the ``options`` of the batch; on a cluster also the ``run``, so that an input that
        comes back after a worker died is not written twice.
    line : the command as it was typed.
    resume : skip what an earlier run has done.
    spell : how errors write parameters.
    strict : a doubt about an input is a failure.
    replace : outputs that exist may be replaced; those of inputs that fail are moved aside.
    """

    command: BatchCommand
    engine: Any
    stamp: dict[str, Any]
    line: tuple[str, ...] = ()
    resume: bool = False
    spell: Spelling = str
    strict: bool = False
    replace: bool = False

    def earlier(self, target: Path) -> dict[str, Any] | None:
        """Report of an earlier run, if it counts here (`earlier_report`).

        With ``resume`` any run counts; without it only this very one, on a cluster.
        """
        run = self.stamp.get("run")
        if not self.resume and run is None:
            return None
        report = earlier_report(target, self.stamp["options"], self.engine.weights)
        return report if report is not None and (self.resume or self.is_of_this_run(report)) else None

    def is_of_this_run(self, report: dict[str, Any]) -> bool:
        """Whether a report was written by this very run of a batch on a cluster."""
        run = self.stamp.get("run")
        return run is not None and report["batch"].get("run") == run


class BatchTask:
    """An input on its way through the steps read, compute, write.

    An error is kept in the outcome and not raised. After one, or where all is done already, the later steps do nothing.
    """

    def __init__(self, item: BatchItem, context: BatchContext) -> None:
        self.item, self.context = item, context
        self.outcome = Outcome(str(item.path), str(item.target))
        self._record = notices.Record(context.strict)
        self._data: Any = None
        self._run: Any = None
        self._is_valid = False
        """Whether the output that is there is of this input."""

    def read(self) -> BatchTask:
        """Read the input, and find out whether it is done already."""
        self._take("reading", self._read)
        return self

    def compute(self) -> None:
        """Compute the results; the data are let go."""
        self._take("computing", self._compute)

    def write(self) -> Outcome:
        """Write the results, and let go of them."""
        self._take("writing", self._write)
        self._data = self._run = None
        return self.outcome

    def _read(self) -> None:
        item, context = self.item, self.context
        if item.refusal is not None:
            raise item.refusal
        report = context.earlier(item.target)
        self._data = context.command.read(item.plan, context.engine)
        self._is_valid = report is not None and same_input(report, self._data.source)
        if report is not None and self._is_valid and self._passes(report):
            self._data = None
            self.outcome.status = "done" if context.is_of_this_run(report) else "skipped"

    def _passes(self, report: dict[str, Any]) -> bool:
        """Take over the output of an earlier run if the quality that its report states will do; False if it is damaged.

        Raises
        ------
        QualityError
            If a required quality is not met.
        """
        planned, output = self.outcome.output, report.get("output")
        if not isinstance(output, str | list) or not all(isinstance(each, str) for each in output):
            return False
        self.outcome.output = output
        try:
            self.context.command.check_threshold(self.item.plan, report)
        except DAMAGE:
            self.outcome.output = planned
            return False
        return True

    def _compute(self) -> None:
        context = self.context
        self._run = context.command.compute(self.item.plan, context.engine, self._data, lambda done, total: None)
        self._data = None

    def _write(self) -> None:
        context = self.context
        stamped = self._run.report | {"command": list(context.line), "batch": dict(context.stamp)}
        report = context.command.save(self.item.plan, replace(self._run, report=stamped))
        self.outcome.output, self._is_valid = report["output"], True
        context.command.check_threshold(self.item.plan, report)
        self.outcome.status = "done"

    def _take(self, step: str, do: Callable[[], None]) -> None:
        if self.outcome.status:
            return
        began = time.perf_counter()
        try:
            with notices.about(self.item.path.name), notices.recording(self._record):
                do()
        except Exception as error:
            self._fail(error)
        finally:
            self.outcome.seconds[step] = time.perf_counter() - began
            self.outcome.doubts = self._record.as_json()["doubts"]

    def _fail(self, error: Exception) -> None:
        described = describe_error(error, self.context.spell)
        if described is None:  # a defect here: shown whole, and the night goes on
            if sys.stderr is not None:
                traceback.print_exception(error)
            described = f"a defect of this program: {type(error).__name__}: {error}", 1
        text, exit_code = described
        self._data = self._run = None
        self.outcome.status, self.outcome.error, self.outcome.exit_code = "failed", " ".join(text.split()), exit_code
        if self.context.replace and not self._is_valid:
            self._set_earlier_aside()

    def _set_earlier_aside(self) -> None:
        """Let the output of an earlier run not pass for one of this input."""
        context, outcome = self.context, self.outcome
        done = set_aside(
            self.item.path, self.item.target, context.stamp["options"], context.engine.weights, outcome.exit_code
        )
        if done is not None:
            outcome.error = f"{outcome.error}; {done}"


def run(
    items: Sequence[BatchItem], context: BatchContext, report_outcome: Callable[[Outcome], None], keep_going: bool
) -> None:  # fmt: skip
    """Take every input through the steps; at most one waits read while one is computed and one is written.

    Parameters
    ----------
    report_outcome : called with each outcome, in order, from another thread.
    keep_going : go on after a failure; else nothing is begun after the first.
    """
    failed = False

    def finish(task: BatchTask) -> None:
        nonlocal failed
        outcome = task.write()
        failed = failed or outcome.status == "failed"
        report_outcome(outcome)

    waiting = iter(items)
    with ThreadPoolExecutor(1, "reader") as reader, ThreadPoolExecutor(1, "writer") as writer:
        for each in (reader, writer):  # an interruption while a thread starts would lose sight of it
            each.submit(int).result()

        def read_next() -> Future[BatchTask] | None:
            item = next(waiting, None)
            return None if item is None else reader.submit(BatchTask(item, context).read)

        ahead, behind = read_next(), None
        try:
            while ahead is not None and (keep_going or not failed):
                task = ahead.result()
                ahead = read_next()
                task.compute()
                if behind is not None:
                    behind.result()
                behind = writer.submit(finish, task)
                if task.outcome.status == "failed" and not keep_going:
                    break
            if behind is not None:
                behind.result()
        finally:
            reader.shutdown(wait=False, cancel_futures=True)
