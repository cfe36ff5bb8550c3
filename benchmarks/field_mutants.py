"""What becomes of files that were damaged, or made to do harm: no traceback, no hang, no growth, documented exit codes.

    python benchmarks/field_mutants.py --count 5000 [--seed 0] [--kind NAME] [--number N] [--json FILE]

Files of all formats that are read are changed at random, and read by a random command. One process takes many; after a
crash a fresh one goes on. A command fails the test if it ends with another error than those of the package, or prints a
traceback; if it ends with an exit code that `crnn --help` does not list; if the process dies; if it takes more than
10 s of processor time, or 60 s in all; if memory grows by more than 1 GiB.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import gc
import io
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import typer

from crnn_cli.cli.app import EXIT_CODES, app
from tests.support.mutant_inputs import KINDS, Kind, draw_mutant, make_inputs

MOST_SECONDS, MOST_WAITING, MOST_GROWTH = 10.0, 60.0, 2**30


@dataclass(frozen=True)
class Outcome:
    """How a command on a mutant ended.

    Attributes
    ----------
    kind, number : which mutant.
    words : the command.
    code : exit code; None where it ended by a defect, or not at all.
    seconds : of processor time.
    growth : of the largest resident memory, in bytes.
    fault : what is wrong; empty if nothing is.
    """

    kind: str
    number: int
    words: list[str]
    code: int | None
    seconds: float
    growth: int
    fault: str


def run_mutant(kind: Kind, seed: int, number: int, inputs: Path) -> Outcome:
    """Make a mutant and run a command on it, in this process."""
    with tempfile.TemporaryDirectory(prefix="mutant-", dir=inputs.parent) as name:
        words = draw_mutant(kind, seed, number, inputs, Path(name) / "it")
        if number % 50 == 0:
            gc.collect()
        before, began = _memory(reset=True), time.process_time()
        code, said, error = _ended(words)
        seconds, growth = time.process_time() - began, _memory() - before
    fault = ""
    if error is not None:
        last = traceback.extract_tb(error.__traceback__)[-1]
        fault = f"{type(error).__name__}: {str(error)[:200]} ({Path(last.filename).name}:{last.lineno})"
    elif "Traceback" in said or "defect of this program" in said:
        fault = f"a traceback was printed: {said[-300:]}"
    elif code not in EXIT_CODES:
        fault = f"exit code {code}"
    elif seconds > MOST_SECONDS:
        fault = f"took {seconds:.0f} s"
    elif growth > MOST_GROWTH:
        fault = f"grew by {growth / 2**30:.1f} GiB"
    return Outcome(kind.name, number, words, code, round(seconds, 3), growth, fault)


@functools.cache
def _command() -> Any:
    """The command line, made once: that takes longer than most commands on a small file."""
    return typer.main.get_command(app)


def _ended(words: list[str]) -> tuple[int | None, str, Exception | None]:
    """Exit code of a command, what it printed, and the error that it did not handle."""
    out, said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
            _command()(args=words, prog_name="crnn")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None), said.getvalue(), None
    except Exception as error:
        return None, said.getvalue(), error
    return 0, said.getvalue(), None


def _memory(reset: bool = False) -> int:
    """Largest resident memory of this process since it was reset, in bytes."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _work(pipe: Connection, seed: int, inputs: Path) -> None:
    """Worker: take (kind, number) from the pipe, and send outcomes back."""
    kinds = {kind.name: kind for kind in KINDS}
    while (job := pipe.recv()) is not None:
        pipe.send(run_mutant(kinds[job[0]], seed, job[1], inputs))


def outcomes(jobs: list[tuple[str, int]], seed: int, inputs: Path) -> Iterator[Outcome]:
    """Yield the outcomes of mutants; a worker that dies or hangs is replaced."""
    context = multiprocessing.get_context("spawn")
    worker = None
    for kind, number in jobs:
        if worker is None:
            mine, its = context.Pipe()
            worker = context.Process(target=_work, args=(its, seed, inputs), daemon=True)
            worker.start()
            its.close()
        mine.send((kind, number))
        fault = ""
        try:
            if mine.poll(MOST_WAITING + 60):  # a new worker imports all first
                yield mine.recv()
                continue
            fault = f"did not end within {MOST_WAITING:.0f} s"
        except EOFError:
            worker.join()
            fault = f"the process died with {worker.exitcode}"
        worker.kill()
        worker = None
        yield Outcome(kind, number, [], None, 0.0, 0, fault)
    if worker is not None:
        mine.send(None)
        worker.join()


def drawn(count: int, only: str | None, number: int | None) -> list[tuple[str, int]]:
    """Mutants to be run: each kind by its share of ``count``, or those of one kind, or a single one."""
    kinds = [kind for kind in KINDS if only in (None, kind.name)]
    whole = sum(kind.share for kind in kinds)
    if number is not None:
        return [(kind.name, number) for kind in kinds]
    return [(kind.name, n) for kind in kinds for n in range(round(kind.share * count / whole))]


def main() -> int:
    """Run the mutants, and print counts by kind and exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=[kind.name for kind in KINDS])
    parser.add_argument("--number", type=int)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    in_memory = Path("/dev/shm")  # thousands of files are written and put on the disk
    inputs = Path(tempfile.mkdtemp(prefix="mutant-inputs-", dir=in_memory if in_memory.is_dir() else None))
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    slowest, largest, wrong, began = 0.0, 0, [], time.perf_counter()
    spent: collections.Counter[str] = collections.Counter()
    try:
        make_inputs(inputs)
        for outcome in outcomes(drawn(given.count, given.kind, given.number), given.seed, inputs):
            counts[outcome.kind, "wrong" if outcome.fault else str(outcome.code)] += 1
            spent[outcome.kind] += outcome.seconds  # type: ignore[assignment]
            slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.growth)
            if outcome.fault:
                wrong.append(outcome)
                print(f"{outcome.kind} {outcome.number}: {outcome.fault}\n  crnn {' '.join(outcome.words)}", flush=True)
    finally:
        shutil.rmtree(inputs)
    codes = sorted({code for _, code in counts}, key=lambda code: (len(code), code))
    print(f"{sum(counts.values())} mutants in {time.perf_counter() - began:.0f} s")
    print(f"{'kind':18}" + "".join(f"{code:>7}" for code in codes))
    for kind in KINDS:
        row = "".join(f"{counts[kind.name, code]:7}" for code in codes)
        print(f"{kind.name:18}{row}{spent[kind.name]:9.0f} s")
    print(f"slowest {slowest:.1f} s, largest growth {largest / 2**20:.0f} MiB, {len(wrong)} wrong")
    if given.json:
        table = {kind.name: {code: counts[kind.name, code] for code in codes} for kind in KINDS}
        figures = {"seed": given.seed, "counts": table, "slowest_s": slowest, "largest_growth_bytes": largest,
                   "wrong": [asdict(outcome) for outcome in wrong]}  # fmt: skip
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
