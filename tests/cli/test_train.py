"""``crnn train``: folders become bundles that work at once, killed runs go on, bad data are all told at once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from crnn_cli.bundles.store import find_bundle
from crnn_cli.cli.train import _training
from crnn_cli.errors import OutputError, OutputExistsError
from crnn_cli.training.run import RunFolder
from tests.support.cines import moving_cine, save
from tests.support.processes import free_port
from tests.training.datasets.test_sets import AFFINE, arrays

pytest.importorskip("monai", reason="training of segmentation needs the extra train")

SMALL = """
[network]
width = 2
scales = 2
hidden = 2
[cnn]
slices = 3
[recurrent]
slices = 3
"""
SMALL_CINE = """
items = 8
pixels = 2000
[network]
features = 4
iterations = 2
[sampling]
lines = 24
most_lines = 32
frames = 3
most_frames = 4
cycle = 5
most_cycle = 6
"""


@pytest.fixture
def volumes(tmp_path):
    """Return a folder in the layout of the Decathlon: five volumes of two structures, named in dataset.json."""
    folder = tmp_path / "Task99"
    for k in range(5):
        image, labels = arrays(k)
        for name, array in (("imagesTr", image), ("labelsTr", labels)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            save(folder / name / f"v{k}.nii.gz", array, affine=AFFINE)
    (folder / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "core", "2": "rim"}}))
    return folder


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(SMALL)
    return file


@pytest.fixture
def cine_config(tmp_path):
    file = tmp_path / "cine.toml"
    file.write_text(SMALL_CINE)
    return file


def nothing_left(folder, *but):
    return sorted(f.name for f in folder.iterdir() if f.name not in but)


def test_labelled_volumes_become_a_model_that_works_at_once(crnn, tmp_path, volumes, config):
    ended = crnn(
        "train", "segment", volumes, "-o", tmp_path / "mine", "--config", config, "--epochs", 2, "--licence",
        "CC-BY-4.0", "--json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "5 of 5 can be trained on" in ended.err
    assert "validation dice core" in ended.err
    said = json.loads(ended.out)
    assert set(said["figures"]["dice"]) == {"core", "rim"}
    bundle = find_bundle(str(tmp_path / "mine"), "segment")
    assert bundle.slices is not None
    assert [label.name for label in bundle.slices.labels] == ["core", "rim"]
    assert (bundle.licence, bundle.sha256) == ("CC-BY-4.0", said["sha256"])
    card = (tmp_path / "mine" / "README.md").read_text()
    for words in ("Not for diagnostic use", "CC-BY-4.0", "training volumes: 4: v1, v2, v3, v4", "held out: 1: v0",
                  "| dice, core |", "width = 2", "torch"):  # fmt: skip
        assert words in card
    run = tmp_path / "mine.run"
    assert nothing_left(run, "tensorboard") == [
        "best.json", "best.safetensors", "checkpoint.before.pt", "checkpoint.pt", "curves.png", "held-out-given.png",
        "held-out-made.png", "log.jsonl", "run.json", "weights.safetensors",
    ]  # fmt: skip
    volume = volumes / "imagesTr" / "v0.nii.gz"
    ended = crnn("segment", volume, "--slices", "--model", tmp_path / "mine", "-o", tmp_path / "labels.nii.gz")
    assert ended.code == 0, ended.err
    assert nib.load(tmp_path / "labels.nii.gz").shape == (16, 12, 5)


def test_cines_become_a_model_that_works_at_once(crnn, tmp_path, cine_config, scan):
    for k in range(3):
        (tmp_path / "cines").mkdir(exist_ok=True)
        save(tmp_path / "cines" / f"{k}.nii.gz", moving_cine(40, 36, 2, 6, seed=k))
    ended = crnn(
        "train", "reconstruct", tmp_path / "cines", "-o", tmp_path / "mine", "--config", cine_config, "--epochs", 1,
        "--fold", "2/3",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "3 of 3 can be trained on" in ended.err
    card = (tmp_path / "mine" / "README.md").read_text()
    assert "held out: 1: 2.nii.gz" in card
    assert "| held_out, reconstructed_db |" in card
    assert (tmp_path / "mine.run" / "validation.png").stat().st_size > 1000
    ended = crnn("reconstruct", scan[2], "--model", tmp_path / "mine", "-o", tmp_path / "out.nii.gz")
    assert ended.code == 0, ended.err


def test_simulation_alone_needs_no_data(crnn, tmp_path, cine_config):
    arguments = ("-o", tmp_path / "mine", "--config", cine_config, "--epochs", 1)
    ended = crnn("train", "reconstruct", "--simulated", *arguments)
    assert ended.code == 0, ended.err
    assert "100% of the items" in (tmp_path / "mine" / "README.md").read_text()
    other = ("-o", tmp_path / "other", "--config", cine_config)
    assert crnn("train", "reconstruct", *other).code == 2
    assert crnn("train", "reconstruct", tmp_path, "--simulated", *other).code == 2


def command(*arguments):
    return [sys.executable, "-m", "crnn_cli", *map(str, arguments)]


def weights(bundle):
    return (Path(bundle) / "weights.safetensors").read_bytes()


KILLED = """
import os, signal
from crnn_cli.cli.app import main
from crnn_cli.training.loop import TrainingLoop

step = TrainingLoop._train_step

def killing(loop, *arguments):
    if loop.done == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(loop, *arguments)

TrainingLoop._train_step = killing
main()
"""


def test_a_run_killed_outright_goes_on_to_the_same_bytes(crnn, tmp_path, volumes, config):
    """It is killed two steps after its first checkpoint, and goes on on another number of cores."""
    asked = ("train", "segment", volumes, "--config", config, "--epochs", 16, "--seed", 7)
    assert crnn(*asked, "-o", tmp_path / "whole").code == 0
    threads = torch.get_num_threads()
    process = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, asked), "-o", tmp_path / "killed"],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)}, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert (RunFolder(tmp_path / "killed.run").state() or {}).get("step") == 11
    assert not (tmp_path / "killed").exists()
    again = crnn("train", "segment", volumes, "-o", tmp_path / "killed")
    assert again.code == 1
    assert "--resume" in again.err
    torch.set_num_threads(3 - min(threads, 2))
    try:
        resumed = crnn("train", "segment", volumes, "-o", tmp_path / "killed", "--resume")
    finally:
        torch.set_num_threads(threads)
    assert resumed.code == 0, resumed.err
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    # and not with other data
    (tmp_path / "whole.run").rename(tmp_path / "other.run")
    save(volumes / "imagesTr" / "v3.nii.gz", arrays(9)[0], affine=AFFINE)
    other = crnn("train", "segment", volumes, "-o", tmp_path / "other", "--resume")
    assert other.code == 2
    assert "data differ" in other.err


def test_two_processes_make_one_bundle(tmp_path, volumes, config):
    asked = ("train", "segment", volumes, "--config", config, "--epochs", 2, "-o", tmp_path / "two")
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2",
    }  # fmt: skip
    started = [
        subprocess.Popen(
            command(*asked), env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=180)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert "5 of 5 can be trained on" in said[0]
    assert "good" not in said[1]
    find_bundle(str(tmp_path / "two"), "segment")


def test_a_time_budget_becomes_a_number_of_steps(crnn, tmp_path, volumes, config):
    began = time.monotonic()
    ended = crnn("train", "segment", volumes, "-o", tmp_path / "mine", "--config", config, "--minutes", 0.02)
    assert ended.code == 0, ended.err
    assert time.monotonic() - began < 60
    run = json.loads((tmp_path / "mine.run" / "run.json").read_text())
    assert [stage["steps"] for stage in run["stages"]] != [80, 80]  # what 80 epochs of 4 volumes would be


def test_training_begins_from_a_bundle(crnn, tmp_path, volumes, config):
    asked = ("train", "segment", volumes, "--config", config, "--epochs", 1)
    assert crnn(*asked, "-o", tmp_path / "first").code == 0
    ended = crnn(*asked, "-o", tmp_path / "second", "--init-from", tmp_path / "first")
    assert ended.code == 0, ended.err
    assert "begun from: first" in (tmp_path / "second" / "README.md").read_text()
    wide = tmp_path / "wide.toml"
    wide.write_text(SMALL.replace("width = 2", "width = 3"))
    ended = crnn(
        "train", "segment", volumes, "-o", tmp_path / "third", "--config", wide, "--init-from", tmp_path / "first"
    )
    assert ended.code == 2
    assert "width=2" in ended.err
    assert "width=3" in ended.err


def test_every_problem_is_told_before_anything_is_trained(crnn, tmp_path, volumes, config):
    image, labels = arrays()
    image[0, 0, 0] = np.nan
    save(volumes / "imagesTr" / "v0.nii.gz", image, affine=AFFINE)
    (volumes / "imagesTr" / "v1.nii.gz").write_bytes(b"no volume")
    labels[0, 0, 0] = 7
    save(volumes / "labelsTr" / "v2.nii.gz", labels, affine=AFFINE)
    (volumes / "labelsTr" / "v9.nii.gz").write_bytes(b"")
    asked = ("train", "segment", volumes, "-o", tmp_path / "mine", "--config", config, "--epochs", 1, "--fold", "0/2")
    ended = crnn(*asked)
    assert ended.code == 4
    table = " ".join(ended.err.split())
    for name in ("v0", "v1", "v2", "v9"):
        assert name in table
    assert "2 of 5 can be trained on" in table
    assert "--skip-bad" in table
    assert nothing_left(tmp_path, "Task99", "small.toml") == []
    ended = crnn(*asked, "--skip-bad")
    assert ended.code == 0, ended.err
    assert "training volumes: 1: v4" in (tmp_path / "mine" / "README.md").read_text()


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (lambda f: [file.unlink() for file in f.glob("*Tr/*")], 3, "holds none of the layouts"),
        (lambda f: [file.unlink() for file in f.glob("*Tr/v[1-4]*")], 4, "1 subject(s) cannot be divided into 5 folds"),
        (
            lambda f: [file.unlink() for file in f.glob("imagesTr/*")],
            3,
            "holds none of the layouts of labelled volumes",
        ),
        (lambda f: [file.unlink() for file in f.glob("labelsTr/v[3-4]*")], 4, "v3"),
    ],
)
def test_data_that_cannot_be_trained_on(crnn, tmp_path, volumes, config, change, code, message):
    change(volumes)
    ended = crnn("train", "segment", volumes, "-o", tmp_path / "mine", "--config", config)
    assert ended.code == code
    assert message in " ".join(ended.err.split())
    assert nothing_left(tmp_path, "Task99", "small.toml") == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "-o is missing"),
        (("-o", "mine", "--fold", "5/5"), 2, "--fold 5/5 is not understood"),
        (("-o", "mine", "--fold", "first"), 2, "--fold first"),
        (("-o", "mine", "--epochs", "3", "--minutes", "4"), 2, "exclude each other"),
        (("-o", "mine", "--minutes", "0"), 2, "--minutes 0"),
        (("-o", "mine", "--precision", "fp8"), 2, "--precision fp8"),
        (("-o", "mine", "--device", "cuda:77"), 5, "cuda:77"),
        (("-o", "mine", "--resume"), 2, "nothing to resume"),
        (("-o", "mine", "--init-from", "cine-crnn"), 4, "not to segment"),
        (("-o", "mine", "--init-from", "nowhere"), 2, "no model nowhere"),
        (("-o", "mine", "--config", "missing.toml"), 3, "missing.toml"),
        (("-o", "no/such/mine"), 1, "does not exist; create it"),
        (("-o", "."), 1, "exists already"),
    ],
)
def test_wrong_usage_is_refused_at_once(crnn, tmp_path, monkeypatch, volumes, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    ended = crnn("train", "segment", volumes, *arguments)
    assert ended.code == code, ended.err
    assert message in ended.err
    assert nothing_left(tmp_path, "Task99") == []


def test_unknown_settings_are_refused_with_the_nearest_known(crnn, tmp_path, volumes):
    file = tmp_path / "a.toml"
    file.write_text("[cnn]\nsequence = 3\n")
    ended = crnn("train", "segment", volumes, "-o", tmp_path / "mine", "--config", file)
    assert ended.code == 3
    assert "unknown setting 'sequence'; the nearest known is 'sequences'" in ended.err


@pytest.mark.parametrize("task", ["segment", "reconstruct"])
def test_printed_settings_are_a_config(crnn, tmp_path, task):
    ended = crnn("train", task, "--print-config", "--epochs", 5)
    assert ended.code == 0
    file = tmp_path / "all.toml"
    file.write_bytes(ended.out)
    again = crnn("train", task, "--print-config", "--config", file)
    assert again.out == ended.out
    assert ended.out.startswith(b"epochs = 5")


def test_without_the_extra_it_says_what_to_install(crnn, tmp_path, volumes, monkeypatch):
    monkeypatch.setattr("crnn_cli.training.start.find_spec", lambda name: None)
    ended = crnn("train", "segment", volumes, "-o", tmp_path / "mine")
    assert ended.code == 2
    assert "pip install monai" in ended.err


def test_settings_are_printed_and_reconstruction_is_trained_without_the_extra():
    """Neither MONAI nor Matplotlib is imported on the way."""
    code = (
        "import sys\nsys.modules['monai'] = sys.modules['matplotlib'] = None\n"
        "import crnn_cli.training.reconstruct.run, crnn_cli.training.datasets.checks\n"
        "sys.argv = ['crnn', 'train', 'segment', '--print-config']\nfrom crnn_cli.cli.app import main\nmain()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("epochs = ")


@pytest.mark.parametrize(("begun", "error"), [(True, OutputError), (False, OutputError), (True, OutputExistsError)])
def test_a_disk_that_gets_full_keeps_the_run_and_says_so(tmp_path, capsys, begun, error):
    if begun:
        RunFolder(tmp_path / "model.run").folder.joinpath("checkpoint.pt").touch()
    with pytest.raises(error), _training(tmp_path / "model"):
        raise error("the disk is full")
    assert ("--resume goes on with it" in capsys.readouterr().err) == (begun and error is OutputError)
