"""``crnn reconstruct --save-runs``: the images of the runs that a map of the uncertainty is made of."""

import json
from hashlib import sha256

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import uniform_filter

import crnn_cli
from tests.support.cines import AFFINE, lines_mask, moving_cine, save, to_images, to_kspace

METHOD = ("--method", "sliding-window")


def undersampled(path, seed=0, empty=None):
    kspace = to_kspace(moving_cine(24, 40, 2, 6, seed=seed)) * lines_mask(24, 40, 6)
    images = to_images(kspace).astype(np.complex64)
    if empty is not None:
        images[:, :, empty] = 0
    return save(path, images)


@pytest.fixture
def scan(tmp_path):
    return undersampled(tmp_path / "scan.nii")


@pytest.fixture
def run(crnn, scan, tmp_path):
    def run(*more, code=0, source=None):
        asked = ("-o", tmp_path / "o.nii.gz", "--uncertainty", tmp_path / "sd.nii.gz", "--save-runs", tmp_path / "runs")
        ended = crnn("reconstruct", source or scan, *METHOD, *asked, *more)
        assert ended.code == code, ended.err
        return ended

    return run


def loaded(path):
    return np.asanyarray(nib.load(path).dataobj)


def around(values):
    """Mean over 5 x 5 pixels and 3 frames, as far as they lie inside."""
    total, count = (uniform_filter(each, (5, 5, 3), mode="constant") for each in (values, np.ones_like(values)))
    return total / count


def test_the_map_is_made_of_these_runs(run, tmp_path):
    """The variance is the mean square change around a pixel, times one factor for each slice."""
    run()
    paths = sorted((tmp_path / "runs").glob("run_*"))
    assert [path.name for path in paths] == [f"run_{number:02d}.nii.gz" for number in range(1, 5)]
    images, deviation = loaded(tmp_path / "o.nii.gz").astype(float), loaded(tmp_path / "sd.nii.gz").astype(float)
    changes = np.mean([np.square(loaded(path) - images) for path in paths], axis=0)
    for z in range(2):
        ratio = np.square(deviation[:, :, z]) / around(changes[:, :, z])
        assert ratio.std() < 1e-3 * ratio.mean()
    for path in paths:
        written = nib.load(path)
        assert written.get_data_dtype() == np.float32
        np.testing.assert_allclose(written.affine, AFFINE, atol=1e-5)
        assert written.header["pixdim"][4] == nib.load(tmp_path / "o.nii.gz").header["pixdim"][4]
    facts, report = (json.loads((tmp_path / name).read_text()) for name in ("runs/runs.json", "o.json"))
    assert facts["images_sha256"] == report["output_sha256"] == sha256((tmp_path / "o.nii.gz").read_bytes()).hexdigest()
    assert (facts["runs"], facts["left_out"]) == (4, report["uncertainty"]["left_out"])
    assert report["uncertainty"]["saved_runs"] == str(tmp_path / "runs")


def test_they_change_nothing_else_and_python_has_the_same(run, crnn, scan, tmp_path):
    run("--complex")
    plain = ("-o", tmp_path / "p.nii.gz", "--uncertainty", tmp_path / "psd.nii.gz", "--complex")
    assert crnn("reconstruct", scan, *METHOD, *plain).code == 0
    assert (tmp_path / "p.nii.gz").read_bytes() == (tmp_path / "o.nii.gz").read_bytes()
    assert (tmp_path / "psd.nii.gz").read_bytes() == (tmp_path / "sd.nii.gz").read_bytes()
    result = crnn_cli.reconstruct(scan, method="sliding-window", uncertainty_runs=4, keep_runs=True)
    assert len(result.runs) == 4
    for number, image in enumerate(result.runs, start=1):
        np.testing.assert_array_equal(image.array, loaded(tmp_path / f"runs/run_{number:02d}.nii.gz"))
    assert crnn_cli.reconstruct(scan, method="sliding-window", uncertainty_runs=2).runs == ()
    with pytest.raises(crnn_cli.CrnnError, match="keep_runs needs uncertainty_runs"):
        crnn_cli.reconstruct(scan, method="sliding-window", keep_runs=True)


@pytest.mark.parametrize("empty", [0, 1])
def test_an_empty_slice_is_empty_in_every_run(run, tmp_path, empty):
    run(source=undersampled(tmp_path / "part.nii", empty=empty))
    for path in (tmp_path / "runs").glob("run_*"):
        assert loaded(path).shape == (24, 40, 2, 6)
        assert [bool(loaded(path)[:, :, z].any()) for z in (empty, 1 - empty)] == [False, True]


def test_a_folder_is_replaced_as_a_whole_or_kept(run, tmp_path):
    run()
    before = {path: path.read_bytes() for path in (tmp_path / "runs").iterdir()}
    for name in ("o.nii.gz", "o.json", "sd.nii.gz"):
        (tmp_path / name).unlink()
    assert "runs exists already" in run(code=1).err
    assert {path: path.read_bytes() for path in (tmp_path / "runs").iterdir()} == before
    run("--uncertainty-runs", 2, "--force")
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"run_01.nii.gz", "run_02.nii.gz", "runs.json"}
    (tmp_path / "runs" / "mine.txt").write_text("mine")
    assert "holds more than run_*.nii.gz and runs.json files" in run("--force", code=1).err
    assert (tmp_path / "runs" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--save-runs", "runs"], 2, "needs --uncertainty"),
        (["--uncertainty", "sd.nii", "--save-runs", "scan.nii"], 2, "is the input"),
        (["--uncertainty", "sd.nii", "--save-runs", "sd.nii"], 2, "twice"),
        (["--uncertainty", "sd.nii", "--save-runs", "taken"], 1, "written to a folder"),
        (["--uncertainty", "sd.nii", "--save-runs", "no/runs"], 1, "does not exist"),
    ],
)
def test_what_cannot_be_meant_leaves_nothing(crnn, scan, tmp_path, monkeypatch, more, code, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    ended = crnn("reconstruct", "scan.nii", *METHOD, "-o", "o.nii", *more)
    assert (ended.code, said in ended.err) == (code, True), ended.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_leaves_nothing(run, tmp_path, monkeypatch):
    from crnn_cli.io import atomic_write

    def full(files, output):
        files.add_folder(output.target)
        raise crnn_cli.CrnnError("the disk is full")

    monkeypatch.setattr(atomic_write, "_add_folder", full)
    run(code=1)
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii"]


def test_images_to_standard_output_may_have_runs(crnn, scan, tmp_path):
    asked = ("-o", "-", "--uncertainty", tmp_path / "sd.nii.gz", "--save-runs", tmp_path / "runs")
    assert crnn("reconstruct", scan, *METHOD, *asked).code == 0
    assert json.loads((tmp_path / "runs/runs.json").read_text())["images_sha256"] is None
    assert len(list((tmp_path / "runs").iterdir())) == 5


def test_a_batch_has_a_folder_for_each_and_sees_that_one_was_changed(crnn, tmp_path):
    (tmp_path / "in").mkdir()
    for seed, name in enumerate("ab"):
        undersampled(tmp_path / "in" / f"{name}.nii", seed)
    named = ("--uncertainty", "{name}_sd.nii", "--save-runs", "{name}_runs")
    arguments = ("batch", "reconstruct", tmp_path / "in", "-o", tmp_path / "out", *METHOD, *named)
    assert crnn(*arguments).code == 0

    def again():
        lines = crnn(*arguments, "--resume", "--json").out.decode().splitlines()
        return sorted(json.loads(line)["status"] for line in lines)

    assert again() == ["skipped"] * 2
    (tmp_path / "out" / "b_runs" / "run_03.nii.gz").unlink()
    assert again() == ["done", "skipped"]
    assert len(list((tmp_path / "out" / "b_runs").iterdir())) == 5
