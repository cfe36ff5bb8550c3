"""`crnn reconstruct --adapt`: what is asked for, said, reported and written."""

import copy
import errno
import json
import os
import shutil
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from crnn_cli.bundles.store import load_reconstruction, read_bundle
from crnn_cli.data import write_set
from crnn_cli.errors import UsageError
from crnn_cli.reconstruction.reconstruct import NetworkReconstructor
from crnn_cli.reconstruction.settings import InferenceSettings
from crnn_cli.workflows.reconstruct.adapt import AdaptBudget, parse_budget, write_adapted
from tests.cli.test_raw_reconstruct import AXES, measured
from tests.support.cines import lines_mask, moving_cine, save, to_images, to_kspace


@pytest.fixture
def moving(tmp_path):
    """Return a scan of enough frames to be tuned on."""
    mask = lines_mask(12, 24, 8)
    mask[:, 9:15] = 1
    return save(tmp_path / "moving.nii.gz", to_images(to_kspace(moving_cine(12, 24, 2, 8)) * mask).astype(np.complex64))


@pytest.fixture
def run(crnn, bundle, moving, tmp_path):
    def run(*arguments, code=0, name="out", model=bundle, scan=moving):
        out = tmp_path / f"{name}.nii.gz"
        ended = crnn("reconstruct", scan, "-o", out, "--model", model, *arguments)
        assert ended.code == code, ended.err
        report = json.loads((tmp_path / f"{name}.json").read_text()) if code == 0 else None
        return ended, out, report

    return run


@pytest.mark.parametrize(("said", "seconds"), [("90s", 90), ("3m", 180), ("0.5h", 1800), ("auto", 180), ("2 M", 120)])
def test_times_have_units(said, seconds):
    assert parse_budget(said, None, None) == AdaptBudget(seconds, None)
    assert parse_budget(said, None, Path("tuned")) == AdaptBudget(seconds, None)
    assert parse_budget(said, None, None, generalise=True) == AdaptBudget(seconds, None, generalise=True)


@pytest.mark.parametrize("said", ["0s", "60", "0", "-3m", "3 weeks", "0.1s", "2d", "25h", "nan", "m"])
def test_other_times_are_refused_with_an_example(said):
    with pytest.raises(UsageError, match="such as 3m"):
        parse_budget(said, None, None)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--adapt", "3m", "--adapt-steps", 3],
        ["--save-adapted", "somewhere"],
        ["--generalise"],
        ["--adapt", "3m", "--iterations", 0],
        ["--adapt", "3"],
    ],
)
def test_options_that_contradict_each_other_are_refused(run, arguments):
    run(*arguments, code=2)


def test_a_classical_method_has_nothing_to_tune(crnn, moving, tmp_path):
    ended = crnn("reconstruct", moving, "-o", tmp_path / "o.nii.gz", "--method", "tv", "--adapt", "3m")
    assert ended.code == 2
    assert "--method crnn" in ended.err


def test_the_report_says_what_was_done_and_its_steps_repeat_it(run):
    ended, out, report = run("--adapt", "1s")
    found = report["adapted"]
    assert found["used"]
    assert found["why"] == "the time is spent"
    assert found["generalise"] is False
    residual = found["validation_residual"]
    assert residual["after"] < residual["before"]
    assert f"{residual['before']:.4f} -> " in ended.err
    assert "tuned to this scan" in ended.err
    _, again, repeated = run("--adapt-steps", found["steps"], name="again")
    assert repeated["adapted"]["validation_residual"] == residual
    assert again.read_bytes() == out.read_bytes()
    _, plain, untuned = run(name="plain")
    assert "adapted" not in untuned
    assert plain.read_bytes() != out.read_bytes()


def test_the_tuned_network_becomes_a_bundle_that_can_be_used_and_tuned_on(run, bundle, tmp_path):
    tuned, further = tmp_path / "tuned", tmp_path / "further"
    _, plain, _ = run(name="plain")
    _, out, report = run("--adapt-steps", 3, "--save-adapted", tuned, "--generalise")
    assert report["adapted"]["bundle"] == str(tuned)
    assert report["adapted"]["generalise"] is True
    _, again, _ = run(name="again", model=tuned)
    before, whole, way = (nib.load(file).get_fdata() for file in (plain, out, again))
    assert 0 < np.linalg.norm(way - whole) < np.linalg.norm(before - whole), "it goes most of the way"
    assert "tuned" in str(nib.load(again).header["descrip"])
    card = (tuned / "README.md").read_text()
    source = json.loads((bundle / "config.json").read_text())
    for said in (source["sha256"], report["input"]["sha256"], "3 steps", "moving.nii.gz"):
        assert said in card
    _, _, second = run("--adapt-steps", 3, "--generalise", "--save-adapted", further, name="further", model=tuned)
    residual = report["adapted"]["validation_residual"]
    assert residual["after"] < second["adapted"]["validation_residual"]["before"] < residual["before"]
    assert json.loads((further / "config.json").read_text())["summary"].count("Tuned") == 1
    run("--adapt-steps", 3, "--save-adapted", tuned, name="third", code=1)
    run("--adapt-steps", 2, "--save-adapted", tuned, "--force", name="third")
    assert "2 steps" in (tuned / "README.md").read_text()


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_cannot_be_written_is_found_before_the_tuning(run, bundle, tmp_path, monkeypatch, there):
    def read_only(*arguments, **named):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    tuned = tmp_path / "tuned"
    if there:
        shutil.copytree(bundle, tuned)
    before = {file.name: file.read_bytes() for file in tuned.iterdir()} if there else None
    monkeypatch.setattr(write_set, "_claim", read_only)
    ended, out, _ = run("--adapt-steps", 3, "--save-adapted", tuned, "--force", code=1)
    assert "the file system is read-only" in ended.err
    assert "adapting" not in ended.err
    assert not out.exists()
    assert tuned.exists() == there
    assert before is None or before == {file.name: file.read_bytes() for file in tuned.iterdir()}


@pytest.mark.parametrize(("generalise", "alpha"), [(True, 0.8), (False, 1.0)])
def test_what_is_saved_for_other_slices_lies_between_source_and_tuned_weights(bundle, tmp_path, generalise, alpha):
    """Away from the slice tuned to, fully tuned weights gain less."""
    source = load_reconstruction(read_bundle(bundle), torch.device("cpu"))
    moved = copy.deepcopy(source)
    for weight in moved.parameters():
        weight.data += 1
    report = {
        "adapted": {"steps": 3, "best_step": 2, "seconds": 1.0, "seed": 0, "precision": "fp32", "why": "", "used": True,
                    "validation_residual": {"before": 1.0, "after": 0.5}, "generalise": generalise},
        "input": {"file": "scan.nii", "sha256": "0"}, "tool": "crnn", "versions": {}, "command": [],
    }  # fmt: skip
    before = copy.deepcopy(report)
    facts = write_adapted(
        tmp_path / "tuned",
        str(bundle),
        NetworkReconstructor(moved, InferenceSettings("view-shared", 1.0, 2)),
        report,
        force=False,
    )
    saved = load_reconstruction(read_bundle(tmp_path / "tuned"), torch.device("cpu"))
    for was, now in zip(source.parameters(), saved.parameters(), strict=True):
        torch.testing.assert_close(now - was, torch.full_like(was, alpha))
    assert report == before
    assert facts["weight_interpolation"] == alpha
    assert ("0.2 original + 0.8 tuned" in (tmp_path / "tuned" / "README.md").read_text()) == generalise


def test_raw_kspace_of_several_coils_is_tuned_on(run, tmp_path):
    np.save(tmp_path / "k.npy", measured(noise=0)[1])
    _, _, report = run("--axes", AXES, "--adapt-steps", 4, scan=tmp_path / "k.npy")
    found = report["adapted"]
    assert found["steps"] == 4
    assert found["validation_residual"]["after"] <= found["validation_residual"]["before"]
    assert len(report["coils"]) == 2


def test_with_an_ensemble_the_network_is_tuned_for_its_copies(run, tmp_path):
    for name, more in (("one", ()), ("again", ("--ensemble", 1)), ("two", ("--ensemble", 2))):
        run("--adapt-steps", 3, "--save-adapted", tmp_path / f"tuned-{name}", *more, name=name)
    one, again, two = ((tmp_path / f"tuned-{n}" / "weights.safetensors").read_bytes() for n in ("one", "again", "two"))
    assert one == again != two


def test_a_fully_sampled_scan_is_said_to_be_and_reconstructed_as_ever(run, tmp_path):
    full = save(tmp_path / "full.nii.gz", moving_cine(12, 24, 1, 8))
    ended, out, report = run("--undersample", 1, "--adapt", "3m", scan=full)
    assert "fully sampled" in ended.err
    assert report["adapted"]["used"] is False
    assert report["adapted"]["validation_residual"] == {"before": None, "after": None}
    _, plain, _ = run("--undersample", 1, scan=full, name="plain")
    assert plain.read_bytes() == out.read_bytes()


def test_the_first_interruption_ends_the_tuning_and_the_second_all(run, monkeypatch):
    from crnn_cli.adaptation.adapt import EVERY
    from crnn_cli.workflows.reconstruct import adapt

    def interrupt(state):
        if state.step == EVERY:
            signal.raise_signal(signal.SIGINT)
        return ""

    monkeypatch.setattr(adapt, "format_progress", interrupt)
    ended, out, report = run("--adapt", "3m")
    assert "best so far" in ended.err
    assert (report["adapted"]["steps"], report["adapted"]["used"]) == (EVERY, True)
    _, again, _ = run("--adapt-steps", EVERY, name="again")
    assert again.read_bytes() == out.read_bytes()
    monkeypatch.setattr(adapt, "adaptation_facts", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    run("--adapt", "3m", name="second", code=130)


def test_each_input_of_a_batch_starts_again_from_the_model(crnn, run, bundle, moving, tmp_path):
    twin = tmp_path / "twin.nii.gz"
    twin.write_bytes(moving.read_bytes())
    ended = crnn(
        "batch", "reconstruct", moving, twin, "-o", tmp_path / "many", "--model", bundle, "--adapt-steps", 3,
        "--save-adapted", "{name}-tuned",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    first, second = ((tmp_path / "many" / f"{name}_crnn.nii.gz").read_bytes() for name in ("moving", "twin"))
    assert first == second == run("--adapt-steps", 3, "--save-adapted", tmp_path / "alone")[1].read_bytes()
    assert (tmp_path / "many" / "twin-tuned" / "config.json").is_file()
    assert "moving.nii.gz: adapting" in ended.err
