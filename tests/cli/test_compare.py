"""``crnn compare``: several methods, one table, one picture."""

import json
from itertools import pairwise

import nibabel as nib
import numpy as np
import pytest

from tests.cli.test_raw_reconstruct import AXES, measured
from tests.support.cines import AFFINE, moving_cine, save
from tests.support.command_line import table_rows
from tests.support.ismrmrd import Options, write_scan


@pytest.fixture
def raw(tmp_path):
    np.save(tmp_path / "k.npy", measured()[1])
    return tmp_path / "k.npy"


def compared(crnn, *arguments):
    ended = crnn("compare", *arguments, "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def test_methods_are_judged_by_truth_and_by_what_is_held_out(crnn, raw, tmp_path, bundle):
    truth = save(tmp_path / "t.nii", 7 * np.abs(measured()[0]).astype(np.float32))
    found = compared(
        crnn, raw, "--axes", AXES, "--methods", "zero-filled, sense,tv,crnn,tv", "--model", bundle,
        "--reference", truth, "--preview", tmp_path / "p.png",
    )  # fmt: skip
    rows = {row["method"]: row for row in found["methods"]}
    assert list(rows) == ["zero-filled", "sense", "tv", "crnn"]
    for row in rows.values():
        assert 0 <= row["ssim"] <= 1
        assert row["seconds"] >= 0
    assert rows["zero-filled"]["residual_held_out"] > rows["sense"]["residual_held_out"] + 0.05
    assert rows["sense"]["psnr_db"] > rows["zero-filled"]["psnr_db"] + 10
    assert found["acceleration"] == pytest.approx(120 / 84, abs=0.01)
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


def test_a_simulation_needs_no_reference_and_one_slice_is_enough(crnn, tmp_path, bundle):
    file = save(tmp_path / "cine.nii", np.abs(moving_cine()).astype(np.float32))
    asked = (file, "--undersample", 3, "--methods", "sliding-window,crnn", "--model", bundle, "--hold-out-share", 0)
    whole, one = compared(crnn, *asked), compared(crnn, *asked, "--slice", 2)
    for rows in (whole["methods"], one["methods"]):
        assert all("residual_held_out" not in row for row in rows)
        assert all(row["residual"] < 1e-5 and row["psnr_db"] > 10 for row in rows)
    assert whole["methods"][0]["psnr_db"] != one["methods"][0]["psnr_db"]
    table = table_rows(crnn("compare", *asked).out.decode())
    assert len(table["sliding-window"]) == 4


def test_a_seed_repeats_and_another_holds_out_other_lines(crnn, raw):
    asked = (raw, "--axes", AXES, "--methods", "zero-filled,sense")
    first, again, other = (compared(crnn, *asked, "--seed", seed)["methods"] for seed in (1, 1, 2))
    for a, b, c in zip(first, again, other, strict=True):
        assert a["residual_held_out"] == b["residual_held_out"] != c["residual_held_out"]
        assert a["residual"] == c["residual"]


def test_a_method_that_cannot_is_named_and_the_others_go_on(crnn, tmp_path, bundle):
    np.save(tmp_path / "one.npy", measured()[1][:, :, :1])
    asked = ("compare", tmp_path / "one.npy", "--axes", AXES, "--model", bundle, "--hold-out-share", 0)
    ended = crnn(*asked, "--methods", "crnn,sense", "--preview", tmp_path / "p.png")
    assert ended.code == 0, ended.err
    assert "one frame" in ended.err
    assert table_rows(ended.out.decode())["crnn"][0] == "-"
    assert (tmp_path / "p.png").exists()
    ended = crnn(*asked, "--methods", "crnn", "--preview", tmp_path / "q.png")
    assert (ended.code, (tmp_path / "q.png").exists()) == (4, False)


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--methods", "median"], 2, "median is not known"),
        (["--methods", ","], 2, "names none"),
        (["--slice", 3], 2, "the scan has 2"),
        (["--preview", "p.jpg"], 2, "preview"),
        (["--hold-out-share", 0.7], 2, "0.5"),
        (["--reference", "other.nii"], 4, "(5, 5, 1, 1)"),
        (["--reference", "other.nii", "--undersample", 2], 2, "needs no --reference"),
    ],
)
def test_what_cannot_be_meant_is_refused(crnn, raw, monkeypatch, more, code, said):
    monkeypatch.chdir(raw.parent)
    nib.save(nib.Nifti1Image(np.ones((5, 5, 1, 1), np.float32), AFFINE), "other.nii")
    ended = crnn("compare", raw, "--axes", AXES, *more)
    assert (ended.code, said in ended.err) == (code, True), ended.err


def test_a_reference_counts_where_it_lies(crnn, tmp_path):
    write_scan(tmp_path / "raw.h5", Options(samples=16, lines=12, frames=3, coils=1, tilt=1))
    asked = ("compare", tmp_path / "raw.h5", "--methods", "zero-filled", "--hold-out-share", 0, "--json", "--reference")
    done = crnn("reconstruct", tmp_path / "raw.h5", "--method", "zero-filled", "-o", tmp_path / "o.nii")
    assert done.code == 0, done.err
    image = nib.load(tmp_path / "o.nii")
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = 15
    turned = nib.Nifti1Image(image.get_fdata(dtype=np.float32)[::-1], image.affine @ flip, image.header)
    nib.save(turned, tmp_path / "turned.nii")
    row = json.loads(crnn(*asked, tmp_path / "turned.nii").out)["methods"][0]
    assert row["psnr_db"] is None or row["psnr_db"] > 80
    moved = image.affine.copy()
    moved[0, 3] += 40
    nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32), moved), tmp_path / "moved.nii")
    ended = crnn(*asked, tmp_path / "moved.nii")
    assert (ended.code, "does not lie where" in ended.err) == (4, True), ended.err


def test_a_reference_without_a_place_or_of_three_axes_counts_as_stored(crnn, tmp_path):
    write_scan(tmp_path / "raw.h5", Options(samples=16, lines=12, frames=1, coils=1))
    asked = ("compare", tmp_path / "raw.h5", "--methods", "zero-filled", "--hold-out-share", 0, "--json", "--reference")
    done = crnn("reconstruct", tmp_path / "raw.h5", "--method", "zero-filled", "-o", tmp_path / "o.nii")
    assert done.code == 0, done.err
    image = nib.load(tmp_path / "o.nii")
    values = image.get_fdata(dtype=np.float32)
    nib.save(nib.Nifti1Image(values[..., 0], image.affine, image.header), tmp_path / "three.nii")
    nowhere = nib.Nifti1Image(values, None)
    nowhere.header.set_zooms(image.header.get_zooms())
    nib.save(nowhere, tmp_path / "nowhere.nii")
    for name, doubted in (("three.nii", False), ("nowhere.nii", True)):
        ended = crnn(*asked, tmp_path / name)
        row = json.loads(ended.out)["methods"][0]
        assert row["psnr_db"] is None or row["psnr_db"] > 80
        assert ("does not say where it lies" in ended.err) == doubted, ended.err
        assert "agrees much better" not in ended.err
    nib.save(nib.Nifti1Image(values[::-1], image.affine, image.header), tmp_path / "flipped.nii")
    assert "with the reference flipped along x" in crnn(*asked, tmp_path / "flipped.nii").err


def test_names_are_all_methods_and_in_order(crnn, raw, bundle):
    found = compared(
        crnn, raw, "--axes", AXES, "--methods", "all", "--model", bundle, "--hold-out-share", 0, "--slice", 1
    )
    names = [row["method"] for row in found["methods"]]
    assert names == ["crnn", "zero-filled", "sliding-window", "sense", "tv", "llr", "l+s"]
    assert all(a["title"] != b["title"] for a, b in pairwise(found["methods"]))
