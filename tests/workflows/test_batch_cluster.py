"""``crnn batch --scheduler``: a cluster gives what one process gives, and survives the death of a worker."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from crnn_cli.workflows.batch.items import BatchItem
from crnn_cli.workflows.batch.run import BatchContext, BatchTask
from tests.support.cines import lines_mask, moving_cine, save, to_images, to_kspace
from tests.support.processes import free_port
from tests.workflows.test_batch_order import Fake

distributed = pytest.importorskip("distributed", reason="Dask is not installed (the extra `cluster`)")


@pytest.fixture(scope="module")
def cluster():
    before = dict(os.environ)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50,
    ) as made:  # fmt: skip
        yield made
    os.environ.clear()  # starting workers sets numbers of threads here, too
    os.environ.update(before)


@pytest.fixture
def folder(tmp_path):
    """Return a folder of four scans, one of them broken."""
    made = tmp_path / "in"
    made.mkdir()
    for seed, name in enumerate(("a.nii", "b.nii", "c.nii.gz")):
        save(made / name, to_images(to_kspace(moving_cine(seed=seed)) * lines_mask(24, 20, 6)).astype(np.complex64))
    (made / "bad.nii").write_text("no scan")
    return made


@pytest.fixture
def batch(crnn, bundle, folder, tmp_path):
    def run(out, *arguments, code=7, places=None):
        given, into = places or (folder, tmp_path / out)
        ended = crnn(
            "batch", "reconstruct", given, "-o", into, "--model", bundle, "--keep-going", "--json", *arguments
        )  # fmt: skip
        assert ended.code == code, ended.err
        assert "Traceback" not in ended.err
        lines = [json.loads(line) for line in ended.out.decode().splitlines()]
        return {Path(line["input"]).name: (line["status"], line["exit_code"]) for line in lines}

    return run


def images(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.nii.gz"))}


def test_a_cluster_gives_what_one_process_gives(batch, cluster, tmp_path, monkeypatch):
    address = cluster.scheduler_address
    expected = {"a.nii": ("done", 0), "b.nii": ("done", 0), "c.nii.gz": ("done", 0), "bad.nii": ("failed", 3)}
    assert batch("one") == expected
    assert batch("many", "--scheduler", address) == expected
    assert images(tmp_path / "many") == images(tmp_path / "one")
    assert len(images(tmp_path / "one")) == 3
    reports = [json.loads((tmp_path / out / "a_crnn.json").read_text()) for out in ("one", "many")]
    assert reports[0]["command"] == reports[1]["command"]
    assert reports[0]["batch"]["options"] == reports[1]["batch"]["options"]
    skipped = {name: ("skipped", 0) if code == 0 else (status, code) for name, (status, code) in expected.items()}
    assert batch("many", "--resume") == skipped
    assert batch("many", "--resume", "--scheduler", address) == skipped
    assert batch("many", "--force", "--scheduler", address) == expected
    monkeypatch.chdir(tmp_path)  # where no worker is
    assert batch("there", "--scheduler", address, places=("in", "there")) == expected
    assert images(tmp_path / "there") == images(tmp_path / "one")
    assert not list((tmp_path / "many").glob(".crnn-*"))


def test_an_input_of_a_worker_that_dies_is_done_by_another(batch, cluster, tmp_path):
    with distributed.Client(cluster) as client:
        client.run(_die_at_b, str(tmp_path / "died"))
        done = batch("many", "--scheduler", cluster.scheduler_address)
    assert (tmp_path / "died").exists()
    assert {name for name, (status, _) in done.items() if status == "done"} == {"a.nii", "b.nii", "c.nii.gz"}
    assert batch("one") == done
    assert images(tmp_path / "many") == images(tmp_path / "one")


def _die_at_b(mark):
    """Let the worker's process end, once, when it has computed b.nii; this runs in every worker."""
    from crnn_cli.workflows.reconstruct import steps as reconstruct_job

    save_it = reconstruct_job.save

    def dying(planned, made):
        if planned.request.scan.name == "b.nii" and not Path(mark).exists():
            Path(mark).touch()
            os._exit(1)
        return save_it(planned, made)

    reconstruct_job.save = dying


class Recorded(Fake):
    """A made-up command that leaves a report, as a batch does, and counts how often it writes."""

    weights = None

    def save(self, planned, made):
        report = super().save(planned, made)
        written = report | {"batch": report["batch"] | {"outputs": {planned.name: "no matter"}}}
        planned.with_suffix(".json").write_text(json.dumps(written))
        return report


def test_what_this_very_run_has_written_is_not_written_twice(tmp_path, monkeypatch):
    monkeypatch.setattr("crnn_cli.io.atomic_write.digest_tree", lambda place: "no matter")
    fake = Recorded()
    for run, times in (("one", 1), ("one", 1), ("two", 2)):  # the second: a worker died after it had written
        item = BatchItem(tmp_path / "in", tmp_path / "x.nii", plan=tmp_path / "x.nii")
        task = BatchTask(item, BatchContext(fake, fake, {"options": {}, "run": run})).read()
        task.compute()
        assert task.write().status == "done"
        assert fake.events.count(("save", tmp_path / "x.nii", "ends")) == times


def test_a_cluster_that_is_not_there_is_an_error(crnn, bundle, folder, tmp_path):
    ended = crnn(
        "batch", "reconstruct", folder, "-o", tmp_path / "o", "--model", bundle, "--scheduler",
        f"tcp://127.0.0.1:{free_port()}", "--keep-going",
    )  # fmt: skip
    assert ended.code == 5, ended.err
    assert "no Dask scheduler answers" in ended.err
