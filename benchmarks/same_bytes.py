"""Do two installs of crnn compute the same bytes: images, labels, probabilities, maps, statistics, weights?

python benchmarks/same_bytes.py --before OLD/bin/python --after NEW/bin/python [--data DATA] [--only segment,train]
    [--keep FOLDER] [--after-path SOURCE_TREE] [--pictures] [--json FILE] [--list]

Both run the same jobs (`same_bytes_jobs.py`) as `python -m crnn_cli` on one thread without a GPU, and their outputs are
compared (`same_bytes_files.py`). Results of ``--before`` are kept in ``--keep`` and taken from there the next time, as
long as command lines, interpreter and small inputs are the same. What one job makes and another reads is always that
of ``--before``, so that one difference does not become many.

Options and settings go by their newest name in the jobs; ``EARLIER`` says how an install called them that does not list
the newest name in its help. Exits with 1 if anything differs, or if a job does not end as it should.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from same_bytes_files import Comparison, compare_folders, same_tensors
from same_bytes_inputs import make_inputs
from same_bytes_jobs import JOBS, Job, Step

ROOT = Path(__file__).resolve().parents[1]
GROUPED = ("train", "batch", "models")  # commands of two words
EARLIER: dict[str, str | None] = {  # newest name -> the name before; None: there was none, and it is left out
    "--slice-tolerance": "--uneven",
    "--noise-ratio": "--noise",
    "--hold-out-folds": "--held-out",
    "--hold-out-share": "--held-out",
    "--regularisation": "--weight",
    "--reference-dicom": "--like",
    "--generalise": None,  # implied by --save-adapted
    "--as-labels": "--labels",
    "--as-images": "--images",
}
INTENDED: dict[str, tuple[list[int], list[int]]] = {"refused-no-model": ([3, 3], [2, 2])}
"""Exit codes that were changed on purpose, before and after: an unknown model is wrong usage."""
EARLIER_SETTINGS: dict[str, str] = {}  # the same of the keys in settings of crnn train
TIMEOUT = 900.0  # seconds for one command


class Install:
    """One install of crnn: an interpreter, and perhaps a source tree that comes before what is installed."""

    def __init__(self, python: Path, source: Path | None = None) -> None:
        self.python, self.source = python, source
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        fixed = {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONHASHSEED": "0", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"}
        terminal = {"NO_COLOR": "1", "TERM": "dumb", "PYTHONDONTWRITEBYTECODE": "1"}
        self.environment = kept | threads | fixed | terminal
        if source is not None:
            self.environment["PYTHONPATH"] = str(source.resolve())

    def describe(self) -> str:
        """Tell this install from others."""
        return f"{self.python}" + (f" with {self.source.resolve()}" if self.source else "")

    def command(self, arguments: tuple[str, ...]) -> list[str]:
        """Build the command line, its options by the names that this install knows."""
        words = arguments[:2] if arguments[0] in GROUPED else arguments[:1]
        known = self._options(words)
        named = []
        for argument in arguments:
            name: str | None = argument
            if argument in EARLIER and argument not in known:
                name = EARLIER[argument]
            if name is not None:
                named.append(name)
        return [str(self.python), "-m", "crnn_cli", "-q", *named]

    def setting(self, key: str) -> str:
        """Name a key of the settings of ``crnn train`` as this install does."""
        if key not in EARLIER_SETTINGS or re.search(rf"^{key} = ", self._settings, re.MULTILINE):
            return key
        return EARLIER_SETTINGS[key]

    @functools.cache  # noqa: B019 - an install lives as long as the script
    def _options(self, words: tuple[str, ...]) -> frozenset[str]:
        return frozenset(re.findall(r"(?<![\w-])--[a-z][a-z-]*", self._output(*words, "--help")))

    @functools.cached_property
    def _settings(self) -> str:
        return self._output("train", "reconstruct", "--print-config") + self._output(
            "train", "segment", "--print-config"
        )

    def _output(self, *arguments: str) -> str:
        command = [str(self.python), "-m", "crnn_cli", *arguments]
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                command, env=self.environment, cwd=folder, capture_output=True, text=True, check=False, timeout=TIMEOUT
            )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr.strip()}")
        return done.stdout


@dataclasses.dataclass(frozen=True)
class Result:
    """How the commands of a job ended."""

    exits: list[int | str]
    seconds: float
    errors: list[str]  # last line of each command that failed


def run_step(install: Install, step: Step, folder: Path) -> tuple[int | str, str]:
    """Run one command in a folder; return its exit code and the last line of what it said."""
    output = folder / step.stdout if step.stdout else Path(os.devnull)
    source = folder / step.stdin if step.stdin else Path(os.devnull)
    with output.open("wb") as out, source.open("rb") as read, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            install.command(step.arguments), env=install.environment, cwd=folder, stdin=read, stdout=out, stderr=said
        )
        try:
            if step.kill_at is not None:
                _kill_at(process, folder, step.kill_at)
            code: int | str = process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return "timeout", ""
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
    return ("killed" if step.kill_at is not None and code in (0, -9) else code), (lines[-1] if lines and code else "")


def _kill_at(process: subprocess.Popen[bytes], folder: Path, pattern: str) -> None:
    """Kill a command outright once a file is there, whatever its step: no difference may come of where."""
    began = time.monotonic()
    while process.poll() is None and not list(folder.glob(pattern)):
        if time.monotonic() - began > TIMEOUT:
            raise subprocess.TimeoutExpired(process.args, TIMEOUT)
        time.sleep(0.02)
    process.kill()


def run_job(install: Install, job: Job, folder: Path, links: dict[str, Path]) -> Result:
    """Run the commands of a job in a new folder, where links lead to the inputs while they run."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, target in links.items():
        (folder / name).symlink_to(target, target_is_directory=True)
    began = time.monotonic()
    ended = [run_step(install, step, folder) for step in job.steps]
    seconds = time.monotonic() - began
    for name in links:
        (folder / name).unlink()
    return Result([code for code, _ in ended], round(seconds, 1), [line for _, line in ended])


def identity(install: Install, job: Job, links: dict[str, Path]) -> dict[str, Any]:
    """Describe what the results of a job depend on: install, command lines, and small inputs by sha256."""
    inputs = hashlib.sha256()
    for name in sorted(
        {word for step in job.steps for word in step.arguments if word.startswith(("made/", "sample/"))}
    ):
        root, _, rest = name.partition("/")
        path = links[root] / rest
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            inputs.update(file.read_bytes() if file.is_file() else b"")
    return {"install": install.describe(), "steps": job.steps_as_json(), "inputs": inputs.hexdigest()}


def run_before(jobs: list[Job], install: Install, kept: Path, links: dict[str, Path]) -> dict[str, Result]:
    """Run jobs, or take what is kept of them: if it is of the same job, and what it was made from is kept as well."""
    results: dict[str, Result] = {}
    anew: set[str] = set()
    for job in jobs:
        file = kept / f"{job.name}.json"
        described = identity(install, job, links)
        found = json.loads(file.read_text()) if file.is_file() else {}
        result = found.pop("result", None)
        if result is None or found != described or anew & set(job.sources):
            anew.add(job.name)
            file.unlink(missing_ok=True)
            results[job.name] = run_job(install, job, kept / job.name, links)
            file.write_text(json.dumps(described | {"result": dataclasses.asdict(results[job.name])}, indent=1))
            print(f"before: {job.name}: {results[job.name].seconds:.1f} s", file=sys.stderr, flush=True)
        else:
            results[job.name] = Result(**result)
    return results


def judge(job: Job, before: Result, after: Result, comparison: Comparison, folders: tuple[Path, Path]) -> list[str]:
    """List what is wrong with a job; empty: nothing."""
    problems = list(comparison.differences)
    if (before.exits, after.exits) == INTENDED.get(job.name):
        return problems
    if before.exits != after.exits:
        said = "; ".join(filter(None, after.errors)) or "nothing said"
        problems.append(f"exit codes {before.exits} became {after.exits} ({said})")
    elif before.exits != job.exits:
        said = "; ".join(filter(None, before.errors)) or "nothing said"
        problems.append(f"the job is wrong: exit codes {before.exits}, not {job.exits} ({said})")
    elif not comparison.files and not any(job.exits):
        problems.append("the job is wrong: no files to compare")
    for first, second in job.twins:
        for side, folder in zip(("before", "after"), folders, strict=True):
            files = (folder / first, folder / second)
            if not all(file.is_file() for file in files) or not same_tensors(*files):
                problems.append(f"{side}: {first} and {second} differ")
    return problems


def chosen_jobs(only: str, data: Path | None) -> list[Job]:
    """Select jobs by group or name."""
    names = {name.strip() for name in only.split(",") if name.strip()}
    unknown = names - {job.name for job in JOBS} - {job.group for job in JOBS}
    if unknown:
        raise SystemExit(f"--only: no job or group is called {', '.join(sorted(unknown))}; see --list")
    wanted = [job for job in JOBS if not names or job.name in names or job.group in names]
    return [job for job in wanted if data is not None or not job.needs_data]


def with_sources(jobs: list[Job]) -> list[Job]:
    """Add the jobs whose outputs these read, before them."""
    by_name = {job.name: job for job in JOBS}
    needed: dict[str, Job] = {}

    def add(job: Job) -> None:
        for name in job.sources:
            add(by_name[name])
        needed.setdefault(job.name, job)

    for job in jobs:
        add(job)
    return list(needed.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="interpreter of the install to compare with")
    parser.add_argument("--after", type=Path, help="interpreter of the other install")
    parser.add_argument("--before-path", type=Path, help="source tree that --before runs")
    parser.add_argument("--after-path", type=Path, help="source tree that --after runs")
    parser.add_argument("--data", type=Path, help="folder of real data; jobs on it are left out otherwise")
    parser.add_argument("--only", default="", help="groups or names of jobs, with commas between them")
    parser.add_argument("--keep", type=Path, help="folder for results of --before, which are used again")
    parser.add_argument("--keep-after", type=Path, help="folder for results of --after, to look at")
    parser.add_argument("--pictures", action="store_true", help="previews that differ count, too")
    parser.add_argument("--json", type=Path, help="write the table to this file")
    parser.add_argument("--list", action="store_true", help="list the jobs and do nothing")
    arguments = parser.parse_args()
    jobs = chosen_jobs(arguments.only, arguments.data)
    if arguments.list:
        for job in JOBS:
            print(f"{job.group:12} {job.name}")
        return
    if arguments.before is None or arguments.after is None:
        parser.error("--before and --after are needed")
    with tempfile.TemporaryDirectory(prefix="same_bytes_") as name:
        rows = compare_installs(arguments, jobs, Path(name))
    bad = [row for row in rows if row["problems"] or (arguments.pictures and row["pictures"])]
    total = {side: sum(row["seconds"][side] for row in rows) for side in ("before", "after")}
    print(
        f"\n{len(rows)} jobs, {sum(row['files'] for row in rows)} files, {len(bad)} jobs differ; "
        f"{total['before']:.0f} s before, {total['after']:.0f} s after"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps({"same": not bad, "jobs": rows}, indent=1) + "\n")
    sys.exit(1 if bad else 0)


def compare_installs(arguments: argparse.Namespace, jobs: list[Job], scratch: Path) -> list[dict]:
    """Run all jobs with both installs; print and return the rows of the table."""
    before = Install(arguments.before.absolute(), arguments.before_path)
    after = Install(arguments.after.absolute(), arguments.after_path)
    kept = (arguments.keep or scratch / "before").absolute()
    work = (arguments.keep_after or scratch / "after").absolute()
    links = {"sample": ROOT / "sample_data", "jobs": kept}
    if arguments.data is not None:
        links["data"] = arguments.data.absolute()
    for install, folder in ((before, scratch / "made_before"), (after, scratch / "made_after")):
        make_inputs(folder, ROOT / "sample_data", install.setting)
    results = run_before(with_sources(jobs), before, kept, links | {"made": scratch / "made_before"})
    print("| group | job | exit codes | files | result | pictures | before | after |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for job in jobs:
        result = run_job(after, job, work / job.name, links | {"made": scratch / "made_after"})
        comparison = compare_folders(kept / job.name, work / job.name, job.new)
        problems = judge(job, results[job.name], result, comparison, (kept / job.name, work / job.name))
        seconds = {"before": results[job.name].seconds, "after": result.seconds}
        row = {
            "group": job.group, "job": job.name, "exits": result.exits, "files": comparison.files,
            "problems": problems, "pictures": comparison.pictures, "seconds": seconds,
        }  # fmt: skip
        rows.append(row)
        shown = "DIFFERENT: " + "; ".join(problems) if problems else "same"
        pictures = "; ".join(comparison.pictures) or ("same" if comparison.picture_files else "-")
        codes = ", ".join(map(str, result.exits))
        cells = (job.group, job.name, codes, comparison.files, shown.replace("|", "/"), pictures)
        times = f"{seconds['before']:.1f} s | {seconds['after']:.1f} s"
        print(f"| {' | '.join(map(str, cells))} | {times} |", flush=True)
        if arguments.keep_after is None:
            shutil.rmtree(work / job.name)
    return rows


if __name__ == "__main__":
    main()
