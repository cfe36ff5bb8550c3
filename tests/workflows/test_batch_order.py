"""In what order a batch does things, what it holds at once, and that an interruption leaves nothing half-written."""

import json
import os
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from crnn_cli.errors import UnreadableError
from crnn_cli.workflows.batch.items import BatchItem
from crnn_cli.workflows.batch.run import BatchContext, run
from tests.support.cines import lines_mask, moving_cine, save, to_images, to_kspace
from tests.support.data import ROOT


@dataclass(frozen=True, eq=False)
class Data:
    """What a made-up command reads and makes, to see when it is let go."""

    name: object
    report: dict = field(default_factory=dict)
    source: ClassVar = {"sha256": "1"}


class Fake:
    """A command whose steps take a while, note when they begin and end, and may fail."""

    def __init__(self, fails=()):
        self.events, self.alive, self.fails, self.most = [], weakref.WeakSet(), fails, 0

    def step(self, what, name, seconds=0.02):
        self.events.append((what, name, "begins"))
        time.sleep(seconds)
        self.events.append((what, name, "ends"))
        self.most = max(self.most, len(self.alive))
        if (what, name) in self.fails:
            raise UnreadableError("so it is")

    def read(self, planned, engine):
        self.step("read", planned)
        return self.new(planned)

    def new(self, name):
        made = Data(name)
        self.alive.add(made)
        return made

    def compute(self, planned, engine, data, progress):
        self.step("compute", planned)
        return self.new(planned)

    def save(self, planned, made):
        self.step("save", planned)
        return made.report | {"output": str(made.name), "input": made.source}

    def check_threshold(self, planned, report):
        pass

    def at(self, *event):
        return self.events.index(event)


def passed(fake, count=5, keep_going=False):
    told = []
    items = [BatchItem(Path(str(k)), Path(str(k)), plan=k) for k in range(count)]
    run(items, BatchContext(fake, None, {"options": {}}), lambda o: told.append((int(o.input), o.status)), keep_going)
    return told


def test_the_next_is_read_and_the_last_written_while_one_is_computed():
    fake, threads = Fake(), threading.active_count()
    assert passed(fake) == [(k, "done") for k in range(5)]
    for k in range(1, 4):
        assert fake.at("read", k + 1, "begins") < fake.at("compute", k, "ends")
        assert fake.at("save", k - 1, "ends") > fake.at("compute", k, "begins")
        assert fake.at("read", k + 1, "begins") > fake.at("compute", k - 1, "ends")  # one waits, not more
        assert fake.at("save", k, "begins") > fake.at("save", k - 1, "ends")
    assert fake.most <= 4  # read ahead, at work, made of it, being written
    assert len(fake.alive) == 0
    assert threading.active_count() == threads


@pytest.mark.parametrize("step", ["read", "compute", "save"])
def test_after_a_failure_nothing_is_begun_unless_asked(step):
    told = passed(Fake({(step, 1)}))
    assert told[:2] == [(0, "done"), (1, "failed")]
    assert told[2:] == ([] if step != "save" else [(2, "done")])  # computed meanwhile: it is kept
    expected = [(k, "failed" if k == 1 else "done") for k in range(5)]
    assert passed(Fake({(step, 1)}), keep_going=True) == expected


def test_a_failure_to_tell_ends_the_batch():
    def tell(outcome):
        raise BrokenPipeError

    fake = Fake()
    items = [BatchItem(Path(str(k)), Path(str(k)), plan=k) for k in range(5)]
    with pytest.raises(BrokenPipeError):
        run(items, BatchContext(fake, None, {"options": {}}), tell, True)
    assert ("compute", 4, "begins") not in fake.events


SCRIPT = """
import os, signal, sys, time
from crnn_cli.workflows.reconstruct import steps as job
from crnn_cli.cli.app import main
from tests.support.data import ROOT

number = sys.argv.pop()
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored

def hooked(step, name, seconds):
    do = getattr(job, step)
    def run(planned, *others):
        if planned.request.scan.name == name:
            os.kill(os.getpid(), getattr(signal, number))
            time.sleep(seconds)
        return do(planned, *others)
    setattr(job, step, run)

hooked(*{hook!r})
main()
"""


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "in"
    made.mkdir()
    for seed, name in enumerate(("a.nii", "b.nii", "c.nii")):
        save(made / name, to_images(to_kspace(moving_cine(seed=seed)) * lines_mask(24, 20, 6)).astype(np.complex64))
    return made


@pytest.mark.parametrize(
    ("step", "name", "number", "code", "left"),
    [
        ("compute", "b.nii", "SIGINT", 130, "a"),
        ("save", "a.nii", "SIGINT", 130, "a"),  # what is being written is finished
        ("read", "c.nii", "SIGTERM", 143, "a"),
    ],
)
def test_an_interruption_leaves_whole_files_a_summary_and_a_batch_to_go_on_with(
    crnn, folder, bundle, tmp_path, step, name, number, code, left
):
    script = SCRIPT.format(hook=(step, name, 0.3))
    arguments = ["batch", "reconstruct", str(folder), "-o", str(tmp_path / "out"), "--model", str(bundle)]
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments, "--json", number],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "not finished" in ended.stderr
    done = [json.loads(line)["output"] for line in ended.stdout.splitlines()]
    there = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert [f"{left}_crnn.nii.gz" in there, "c_crnn.nii.gz" in there] == [True, False]
    assert there == sorted(
        ["crnn_batch.jsonl", *(f"{Path(o).name[0]}_crnn{s}" for o in done for s in (".json", ".nii.gz"))]
    )
    again = crnn(*arguments, "--resume", "--json")
    assert again.code == 0
    status = [json.loads(line)["status"] for line in again.out.decode().splitlines()]
    assert status == ["skipped"] * len(done) + ["done"] * (3 - len(done))


def test_a_disk_that_takes_no_more_fails_each_and_leaves_nothing(folder, bundle, tmp_path):
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"
    script = f"import resource\n{limit}\nfrom crnn_cli.cli.app import main\nmain()"
    arguments = ["batch", "reconstruct", str(folder), "-o", str(tmp_path / "out"), "--model", str(bundle)]
    ended = subprocess.run(
        [sys.executable, "-B", "-c", script, *arguments, "--keep-going"],  # no bytecode that the limit cuts off
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 7, ended.stderr
    assert ended.stderr.count("failed: ") == 3
    assert "larger than the limit" in ended.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["crnn_batch.jsonl"]
