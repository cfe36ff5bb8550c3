"""``crnn batch`` over earlier outputs: that of an input which fails now never passes for one of this run."""

import json
import shutil

import pytest

from crnn_cli.io.discover import OUTDATED, find_inputs
from tests.cli.test_batch import undersampled


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "in"
    made.mkdir()
    for seed, name in enumerate("ab"):
        undersampled(made / f"{name}.nii", seed)
    return made


@pytest.fixture
def batch(crnn, tmp_path):
    def run(*arguments, code=0):
        more = () if "--method" in arguments else ("--method", "zero-filled")
        ended = crnn(
            "batch", "reconstruct", *arguments, "-o", tmp_path / "out", *more, "--preview", "{name}.png", "--json"
        )
        assert ended.code == code, ended.err
        assert "Traceback" not in ended.err
        return [json.loads(line) for line in ended.out.decode().splitlines()]

    return run


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".jsonl"))


OF_A, OF_B = ["a.png", "a_crnn.json", "a_crnn.nii.gz"], ["b.png", "b_crnn.json", "b_crnn.nii.gz"]


@pytest.mark.parametrize("again", ["--resume", "--force"])
def test_the_output_of_an_input_that_fails_now_is_moved_aside(batch, folder, tmp_path, again):
    out = tmp_path / "out"
    batch(folder)
    before = (out / "a_crnn.nii.gz").read_bytes()
    for number, place in ((100, OUTDATED), (200, f"{OUTDATED}_2")):
        whole = (folder / "a.nii").read_bytes()
        (folder / "a.nii").write_bytes(whole[:-number])
        lines = batch(folder, again, "--keep-going", code=7)
        assert [line["status"] for line in lines] == ["failed", "done" if again == "--force" else "skipped"]
        assert lines[0]["error"].endswith(f"; its output of an earlier run was moved to {out / place}")
        assert names(out / place) == OF_A
        assert (out / place / "a_crnn.nii.gz").read_bytes() == before
        assert [path.name for path in find_inputs(out)] == ["b_crnn.nii.gz"]
        assert [name for name in names(out) if not name.startswith(OUTDATED)] == OF_B
        lines = batch(folder, again, "--keep-going", code=7)
        assert "earlier run" not in lines[0]["error"]
        (folder / "a.nii").write_bytes(whole)
        batch(folder, "--resume")


def test_an_output_that_may_be_right_stays_and_is_named(batch, folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    batch(folder)
    shutil.move(folder / "a.nii", tmp_path / "unmounted.nii")
    (folder / "a.nii").symlink_to(tmp_path / "mnt" / "a.nii")
    lines = batch(folder, "--resume", "--keep-going", code=7)
    assert lines[0]["error"].endswith(f"; {out / 'a_crnn.nii.gz'} is of an earlier run")
    (folder / "a.nii").unlink()
    shutil.move(tmp_path / "unmounted.nii", folder / "a.nii")
    assert [line["status"] for line in batch(folder, "--resume")] == ["skipped", "skipped"]
    from crnn_cli.errors import UnsupportedDataError
    from crnn_cli.workflows.reconstruct import steps

    def refuse(*_):
        raise UnsupportedDataError("another version refuses it")

    with monkeypatch.context() as patched:
        patched.setattr(steps, "read", refuse)
        lines = batch(folder, "--resume", "--keep-going", code=7)
        assert all(line["error"].endswith("is of an earlier run") for line in lines)
        lines = batch(folder, "--resume", "--keep-going", "--method", "tv", code=7)
        assert all("was moved to" in line["error"] for line in lines), "they are of other options"
    assert names(out) == [OUTDATED]


def test_files_of_others_are_never_moved(batch, folder, tmp_path):
    out = tmp_path / "out"
    batch(folder)
    (out / "a.png").write_bytes(b"drawn over by hand")
    (out / "b_crnn.json").write_text('{"RepetitionTime": 3}')
    for name in "ab":
        (folder / f"{name}.nii").write_bytes(b"damaged")
    lines = batch(folder / "a.nii", "--resume", code=7)
    assert "was moved to" in lines[0]["error"]
    assert names(out / OUTDATED) == OF_A[1:]
    assert names(out) == ["a.png", *OF_B, OUTDATED]
    batch(folder / "b.nii", "--resume", code=1)
    assert names(out) == ["a.png", *OF_B, OUTDATED]
