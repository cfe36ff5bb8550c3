"""Many inputs, one after the other: the next is read and the last one written while one is computed."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crnn_cli import notices
from crnn_cli.errors import Spelling
from crnn_cli.workflows.batch.items import BatchCommand, BatchItem
from crnn_cli.workflows.batch.resume import earlier_report, same_input
from crnn_cli.workflows.failures import describe_error

STEPS = ("reading", "computing", "writing")


@dataclass
class Outcome:
    """What became of an input.

    output : where it is written, or would be. status : done, skipped or failed; empty on the way. exit_code : that a
    single run would have had.
    """

    input: str
    output: str | list[str]
    status: str = ""
    error: str | None = None
    exit_code: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))

    def line(self) -> dict[str, Any]:
        """Return it as a line of JSON says it."""
        return {
            "input": self.input, "output": self.output, "status": self.status, "error": self.error,
            "exit_code": self.exit_code, "seconds": {step: round(taken, 3) for step, taken in self.seconds.items()},
        }  # fmt: skip


@dataclass(frozen=True)
class BatchContext:
    """What is done with every input.

    stamp : what reports say of the batch: its options; on a cluster, also the ``run``, so that an input that comes back
    after a worker died is not written twice. line : the command as it was typed. resume : skip what is done.
    spell : how errors write parameters.
    """

    command: BatchCommand
    engine: Any
    stamp: dict[str, Any]
    line: tuple[str, ...] = ()
    resume: bool = False
    spell: Spelling = str

    def earlier(self, target: Path) -> dict[str, Any] | None:
        """Return the report of what is done already, if that counts here."""
        run = self.stamp.get("run")
        if not self.resume and run is None:
            return None
        report = earlier_report(target, self.stamp["options"], self.engine.weights)
        return report if report is not None and (self.resume or report["batch"].get("run") == run) else None


class BatchTask:
    """An input on its way through the steps; after a failure, or where all is done already, the others do nothing."""

    def __init__(self, item: BatchItem, work: BatchContext) -> None:
        self.item, self.work = item, work
        self.outcome = Outcome(str(item.place), str(item.target))
        self._data: Any = None
        self._made: Any = None

    def read(self) -> BatchTask:
        """Read it, and find out whether it is done already."""
        self._take("reading", self._read)
        return self

    def compute(self) -> None:
        """Compute."""
        self._take("computing", self._compute)

    def write(self) -> Outcome:
        """Write what was made, and let go of all data."""
        self._take("writing", self._write)
        self._data = self._made = None
        return self.outcome

    def _read(self) -> None:
        item, work = self.item, self.work
        if item.refused is not None:
            raise item.refused
        report = work.earlier(item.target)
        self._data = work.command.read(item.planned, work.engine)
        if report is not None and same_input(report, self._data.source):
            self._data = None
            self.outcome.output = report["output"]
            work.command.check_threshold(item.planned, report)
            now = "run" in work.stamp and report["batch"].get("run") == work.stamp["run"]
            self.outcome.status = "done" if now else "skipped"

    def _compute(self) -> None:
        work = self.work
        self._made = work.command.compute(self.item.planned, work.engine, self._data, lambda done, total: None)
        self._data = None

    def _write(self) -> None:
        command, made = self.work.command, self._made
        stamped = made.report | {"command": list(self.work.line), "batch": dict(self.work.stamp)}
        report = command.save(self.item.planned, replace(made, report=stamped))
        self.outcome.output = report["output"]
        command.check_threshold(self.item.planned, report)
        self.outcome.status = "done"

    def _take(self, step: str, do: Callable[[], None]) -> None:
        if self.outcome.status:
            return
        began = time.perf_counter()
        try:
            with notices.about(self.item.place.name):
                do()
        except Exception as error:
            self._fail(error)
        finally:
            self.outcome.seconds[step] = time.perf_counter() - began

    def _fail(self, error: Exception) -> None:
        found = describe_error(error, self.work.spell)
        if found is None:  # a defect here: shown whole, and the night goes on
            if sys.stderr is not None:
                traceback.print_exception(error)
            found = f"a defect of this program: {type(error).__name__}: {error}", 1
        self._data = self._made = None
        self.outcome.status, self.outcome.error, self.outcome.exit_code = "failed", " ".join(found[0].split()), found[1]


def run(items: Sequence[BatchItem], work: BatchContext, tell: Callable[[Outcome], None], keep_going: bool) -> None:
    """Take every input through the steps; at most one waits read while one is computed and one is written.

    Parameters
    ----------
    tell : called with what became of each, in order, from another thread. keep_going : or else nothing is begun after
    the first failure.
    """
    failed = False

    def finish(passage: BatchTask) -> None:
        nonlocal failed
        outcome = passage.write()
        failed = failed or outcome.status == "failed"
        tell(outcome)

    waiting = iter(items)
    with ThreadPoolExecutor(1, "reader") as reader, ThreadPoolExecutor(1, "writer") as writer:
        for each in (reader, writer):  # an interruption while a thread starts would lose sight of it
            each.submit(int).result()

        def read_next() -> Future[BatchTask] | None:
            item = next(waiting, None)
            return None if item is None else reader.submit(BatchTask(item, work).read)

        ahead, behind = read_next(), None
        try:
            while ahead is not None and (keep_going or not failed):
                passage = ahead.result()
                ahead = read_next()
                passage.compute()
                if behind is not None:
                    behind.result()
                behind = writer.submit(finish, passage)
                if passage.outcome.status == "failed" and not keep_going:
                    break
            if behind is not None:
                behind.result()
        finally:
            reader.shutdown(wait=False, cancel_futures=True)
