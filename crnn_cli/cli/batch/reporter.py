"""Progress of a batch: a line as each input is finished, a journal beside the outputs, a summary at the end."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from crnn_cli.cli import console
from crnn_cli.report.provenance import command_line
from crnn_cli.workflows.batch.run import STEPS, Outcome


class BatchReporter:
    """Prints the outcome of each input, and keeps it for the summary.

    The journal, crnn_batch.jsonl in the folder of the outputs (crnn_batch_2of8.jsonl of a share), has a line for each
    run and then the lines of --json; it is a record for people, and marks the folder as one of outputs.

    began : when the command started, by `time.perf_counter`; the reporter is made once the model is loaded.
    """

    def __init__(self, out: Path, shard: tuple[int, int], total: int, as_json: bool, began: float) -> None:
        from crnn_cli.io.discover import JOURNAL

        share = "" if shard[1] == 1 else f"_{shard[0]}of{shard[1]}"
        self.total, self.as_json = total, as_json
        self.outcomes: list[Outcome] = []
        self._began, self._ready = began, time.perf_counter()
        self._journal: TextIO | None = None
        with suppress(OSError):
            self._journal = (out / f"{JOURNAL}{share}.jsonl").open("a", encoding="utf-8")
        self._note({"command": command_line(), "began": time.strftime("%Y-%m-%dT%H:%M:%S%z")})

    def tell(self, outcome: Outcome) -> None:
        """Print and note the outcome of an input."""
        self.outcomes.append(outcome)
        words = outcome.error if outcome.status == "failed" else f"{sum(outcome.seconds.values()):.1f} s"
        console.say(f"{len(self.outcomes)} of {self.total}: {_named(outcome)}: {outcome.status}, {words}")
        line = self.line_of(outcome)
        self._note(line)
        if self.as_json:
            console.print_json(line, indent=None)

    def line_of(self, outcome: Outcome) -> dict[str, Any]:
        """The outcome as a line of JSON."""
        return outcome.line()

    def count(self, status: str) -> int:
        """Number of inputs that ended with a status."""
        return sum(outcome.status == status for outcome in self.outcomes)

    def summary(self) -> None:
        """Print how many were done, how long it took, and what failed."""
        ended = time.perf_counter()
        whole, start = ended - self._began, self._ready - self._began
        spent = {step: sum(outcome.seconds[step] for outcome in self.outcomes) for step in STEPS}
        share, later = spent["computing"] / whole, spent["computing"] / max(whole - start, 1e-9)
        begun = len(self.outcomes)
        rows = [["inputs", str(self.total)], *([s, str(self.count(s))] for s in ("done", "skipped", "failed"))]
        rows += [["not finished", str(self.total - begun)]] if begun < self.total else []
        rows += [
            ["time", f"{whole:.1f} s, of it {start:.1f} s to start"],
            ["computing", f"{spent['computing']:.1f} s"],
            ["share of time", f"{share:.0%}, after the start {later:.0%}"],
            ["reading and writing, meanwhile", f"{spent['reading']:.1f} s and {spent['writing']:.1f} s"],
        ]
        console.table("crnn batch", ["", ""], rows)
        for outcome in self.outcomes:
            if outcome.status == "failed":
                console.say(f"failed: {_named(outcome)} ({outcome.exit_code}): {outcome.error}", 0)
        figures = {"seconds": whole, "seconds_to_start": start, "share_computing": share, "later_share": later}
        ended_at = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self._note({"ended": ended_at, **{name: round(value, 3) for name, value in figures.items()}})
        if self._journal is not None:
            with suppress(OSError):
                self._journal.close()
            self._journal = None

    def _note(self, value: object) -> None:
        """Write a line of the journal; a full disk takes no more than the journal."""
        if self._journal is None:
            return
        with suppress(OSError):
            self._journal.write(json.dumps(value) + "\n")
            self._journal.flush()


def _named(outcome: Outcome) -> str:
    """Path of the input: in nested folders names alone are the same."""
    return outcome.input
