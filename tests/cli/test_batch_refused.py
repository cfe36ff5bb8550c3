"""What a batch refuses before anything is done, folders of DICOM, and outputs that lie beside inputs."""

import json
import sys

import numpy as np
import pytest

from crnn_cli.cli.batch.commands import batch_reconstruct
from crnn_cli.errors import UsageError
from tests.support.cines import lines_mask, moving_cine, save, to_images, to_kspace
from tests.support.dicom import oblique, values, write_series


@pytest.fixture
def folder(tmp_path):
    """Return a folder of two scans."""
    made = tmp_path / "in"
    made.mkdir()
    for seed, name in enumerate(("a.nii", "b.nii")):
        save(made / name, to_images(to_kspace(moving_cine(seed=seed)) * lines_mask(24, 20, 6)).astype(np.complex64))
    return made


@pytest.fixture
def batch(crnn, bundle):
    """Return a function that runs a batch and returns its error, or what became of the inputs."""

    def run(*arguments, code=0, command="reconstruct"):
        ended = crnn("batch", command, *arguments, "--model", bundle, "--json")
        assert ended.code == code, ended.err
        assert "Traceback" not in ended.err
        lines = [json.loads(line) for line in ended.out.decode().splitlines()]
        return [(line["input"].rpartition("/")[2], line["status"]) for line in lines] if code == 0 else ended.err

    return run


BOTH = [("a.nii", "done"), ("b.nii", "done")]


def test_one_file_twice_is_one_input_and_one_name_twice_is_refused(batch, folder, tmp_path, caplog):
    (folder / "link.nii").symlink_to(folder / "a.nii")
    assert batch(folder / "a.nii", folder, folder / "link.nii", "-o", tmp_path / "o") == BOTH
    assert "link.nii is left out: it is the same file as" in caplog.text
    assert "a.nii is left out" not in caplog.text  # a name that was given twice is no news
    save(tmp_path / "a.nii.gz", moving_cine())
    said = batch(folder, tmp_path / "a.nii.gz", "-o", tmp_path / "p", code=2)
    assert f"{folder / 'a.nii'} and {tmp_path / 'a.nii.gz'} would both be written to" in said
    assert not (tmp_path / "p").exists()


def test_no_output_of_one_input_is_that_of_another(batch, folder, tmp_path):
    """Neither the main one, nor its report, nor one that an option names."""
    (folder / "b.nii").rename(folder / "a_crnn.nii")
    for option in ("--uncertainty", "{name}.nii.gz"), ("--preview", "{name}.gif", "--uncertainty", "{name}.nii.gz"):
        said = batch(folder, "-o", tmp_path / "o", *option, code=2)
        assert f"{folder / 'a.nii'} and {folder / 'a_crnn.nii'} would both be written to" in said
    assert not (tmp_path / "o").exists()
    both = [("a.nii", "done"), ("a_crnn.nii", "done")]
    assert batch(folder, "-o", tmp_path / "o", "--preview", "{name}.png") == both


def test_outputs_that_exist_are_kept_without_force(batch, folder, tmp_path):
    assert batch(folder, "-o", tmp_path / "o") == BOTH
    (tmp_path / "o" / "a_crnn.nii.gz").unlink()
    before = (tmp_path / "o" / "b_crnn.nii.gz").stat().st_mtime_ns
    said = batch(folder, "-o", tmp_path / "o", code=1)
    assert "exists already" in said
    assert "--resume" in said
    assert not (tmp_path / "o" / "a_crnn.nii.gz").exists()
    assert batch(folder, "-o", tmp_path / "o", "--force") == BOTH
    assert (tmp_path / "o" / "b_crnn.nii.gz").stat().st_mtime_ns > before


def test_an_output_name_too_long_fails_its_input_alone(crnn, bundle, folder, tmp_path):
    long = folder / f"{'c' * 248}.nii"
    (folder / "b.nii").rename(long)
    ended = crnn("batch", "reconstruct", folder, "-o", tmp_path / "o", "--model", bundle, "--keep-going", "--json")
    assert ended.code == 7, ended.err
    lines = [json.loads(line) for line in ended.out.decode().splitlines()]
    assert {line["input"]: line["status"] for line in lines} == {str(folder / "a.nii"): "done", str(long): "failed"}
    assert "the name is too long (260 bytes): rename the input" in ended.err


def test_outputs_among_the_inputs_are_no_inputs(batch, folder):
    out = folder / "out"
    assert batch(folder, "-o", out) == BOTH
    skipped = [(name, "skipped") for name, _ in BOTH]
    assert batch(folder, "-o", out, "--resume") == skipped
    assert batch(*sorted(folder.iterdir()), "-o", out, "--resume") == skipped  # as a shell writes in/*
    assert "lies among the inputs" in batch(folder, "-o", folder, code=2)
    assert "lies among the inputs" in batch(out, "-o", out, code=2)


def test_folders_of_dicom_and_their_derived_series(batch, crnn, tmp_path):
    for seed, name in ((1, "ann"), (2, "ben")):
        write_series(tmp_path / "in" / name, values(2, 6, 24, 20, seed), oblique(seed), shuffle=seed)
    arguments = [tmp_path / "in", "-o", tmp_path / "in" / "out", "--undersample", 2, "--centre-lines", 4]
    arguments += ["--format", "dicom"]
    assert batch(*arguments) == [("ann", "done"), ("ben", "done")]
    assert {path.name for path in (tmp_path / "in" / "out").iterdir()} == {
        "ann_crnn", "ann_crnn.json", "ben_crnn", "ben_crnn.json", "crnn_batch.jsonl",
    }  # fmt: skip
    next((tmp_path / "in" / "out" / "ben_crnn").iterdir()).unlink()
    assert batch(*arguments, "--resume") == [("ann", "skipped"), ("ben", "done")]
    other = [tmp_path / "in", "-o", tmp_path / "other", *arguments[3:]]
    assert batch(*other) == [("ann", "done"), ("ben", "done")]  # nor are outputs of another batch
    ann = tmp_path / "in" / "ann"
    assert batch(ann, "-o", tmp_path / "one", *arguments[3:]) == [("ann", "done")]
    assert "lies among the inputs" in batch(ann, "-o", ann / "out", *arguments[3:], code=2)


def test_a_name_stands_for_the_input_in_files_that_go_with_it(batch, folder, tmp_path):
    (tmp_path / "masks").mkdir()
    for name in ("a", "b"):
        save(tmp_path / "masks" / f"{name}.nii", lines_mask(24, 20, 6))
    mask = tmp_path / "masks" / "{name}.nii"
    assert batch(folder, "-o", tmp_path / "o", "--mask", mask, "--preview", "{name}_heart.png") == BOTH
    assert (tmp_path / "o" / "b_heart.png").exists()
    for name in ("a", "b"):
        report = json.loads((tmp_path / "o" / f"{name}_crnn.json").read_text())
        assert report["input"]["mask"].endswith(f"masks/{name}.nii")
    mask.with_name("b.nii").unlink()
    said = batch(folder, "-o", tmp_path / "p", "--mask", mask, "--keep-going", code=7)
    assert "1 of 2 failed" in said


def test_warnings_say_which_input_they_are_about(crnn, bundle, tmp_path):
    rough = np.diag([1.3, 1.4, 8.0, 1.0])
    rough[:3, :3] *= 1000
    (tmp_path / "in").mkdir()
    scan = to_images(to_kspace(moving_cine()) * lines_mask(24, 20, 6)).astype(np.complex64)
    save(tmp_path / "in" / "huge.nii", scan, affine=rough)
    ended = crnn("batch", "reconstruct", tmp_path / "in", "-o", tmp_path / "o", "--model", bundle)
    assert ended.code == 0, ended.err
    assert "warning: huge.nii: " in ended.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["empty", "-o", "o"], 3, "holds no input: it is empty"),
        (["others", "-o", "o"], 3, "holds no input: none of the 2 names in it"),
        (["in", "empty", "-o", "o"], 3, "holds no input"),
        (["-", "-o", "o"], 2, "not standard input"),
        (["in", "-o", "no/o"], 1, "the folder no does not exist"),
        (["in", "-o", "others/x.txt"], 1, "it is a file"),
        (["in", "-o", "o", "--force", "--resume"], 2, "use one of them"),
        (["in", "-o", "o", "--preview", "p.png"], 2, "--preview p.png would be one file for all"),
        (["in", "-o", "o", "--preview", "{name}.txt"], 2, ".png"),
        (["in", "-o", "o", "--save-maps", "p.npy"], 2, "--save-maps p.npy would be one file"),
        (["in", "-o", "o", "--preview", "{name}_crnn.nii.gz"], 2, ""),
        (["in", "-o", "o", "--shard", "0/3"], 2, "--shard 0/3"),
        (["in", "-o", "o", "--seed", "3"], 2, "needs --undersample"),
        (["in", "-o", "o", "--regularisation", "3"], 2, "--regularisation belongs"),
        (["in", "-o", "o", "--format", "png"], 2, "--format png"),
        (["in", "-o", "o", "--device", "cuda:99"], 5, "cuda:99"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is(
    batch, folder, monkeypatch, tmp_path, arguments, code, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "others").mkdir()
    for name in ("x.txt", "y.json"):
        (tmp_path / "others" / name).write_text("{}")
    said = batch(*arguments, code=code)
    assert words in said
    assert said.count("\n") == 1
    assert not list(tmp_path.glob("o/*"))


def test_lines_that_can_go_nowhere_are_refused_at_once(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(UsageError, match="standard output is closed"):
        batch_reconstruct(
            inputs=[folder], out=tmp_path / "o", resume=False, keep_going=False, shard=None, scheduler=None,
            as_json=True, force=False,
        )  # fmt: skip
    assert not (tmp_path / "o").exists()


def test_a_share_of_nothing_is_done_at_once(batch, folder, tmp_path):
    assert batch(folder, "-o", tmp_path / "o", "--shard", "3/3") == []
