"""The expected PSNR on the command line: first in table and page, in JSON and Python, and ``--min-psnr`` as a gate."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

import crnn_cli
from crnn_cli.bundles.config import CONFIG
from tests.cli.test_raw_reconstruct import AXES, measured
from tests.support.cines import lines_mask, moving_cine, save, to_images, to_kspace
from tests.support.command_line import table_rows

LAW = {
    "intercept": -1.0, "noise_share": 0.3, "interval": [-2, 3], "accelerations": [1.5, 14], "missed_range": [-60, 20],
    "cases": 50,
}  # fmt: skip


def with_law(bundle, folder, **changed):
    shutil.copytree(bundle, folder)
    config = json.loads((bundle / CONFIG).read_text()) | {"expected_psnr": LAW | changed}
    (folder / CONFIG).write_text(json.dumps(config))
    return folder


@pytest.fixture
def wide(tmp_path):
    kspace = to_kspace(moving_cine(24, 40, 2, 6)) * lines_mask(24, 40, 6)
    return save(tmp_path / "wide.nii", to_images(kspace).astype(np.complex64))


@pytest.fixture
def run(crnn, wide, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def run(model, *more, code=0, scan=wide):
        ended = crnn("reconstruct", scan, "--model", model, "-o", tmp_path / "o.nii", "--force", *more)
        assert ended.code == code, ended.err
        assert "Traceback" not in ended.err
        return json.loads((tmp_path / "o.json").read_text()), ended

    return run


def test_it_stands_first_in_table_and_page_and_follows_the_law(run, bundle, tmp_path):
    model = with_law(bundle, tmp_path / "told")
    found, ended = run(model, "--report", tmp_path / "p.html")
    facts = found["expected_quality"]
    assert (facts["low_db"], facts["high_db"]) == pytest.approx((facts["psnr_db"] - 2, facts["psnr_db"] + 3), abs=0.11)
    magnitude = np.abs(np.asanyarray(nib.load(tmp_path / "o.nii").dataobj)).astype(float)
    contrast = 10 * np.log10(magnitude.max() ** 2 / (magnitude**2).mean())
    assert facts["psnr_db"] == pytest.approx(contrast - 10 * np.log10(facts["nmse"]), abs=0.1)
    table = table_rows(ended.err)
    said = f"{facts['psnr_db']:.0f} dB, {facts['low_db']:.0f} to {facts['high_db']:.0f}"
    assert next(iter(table)) == "expected PSNR"
    assert table["expected PSNR"][0] == said
    text = (tmp_path / "p.html").read_text()
    assert said in text
    assert text.index("expected PSNR") < text.index("residual at lines held out")
    result = crnn_cli.reconstruct(tmp_path / "wide.nii", model=model, device="cpu")
    expected = result.expected
    assert (expected.psnr, expected.low, expected.high) == (facts["psnr_db"], facts["low_db"], facts["high_db"])
    better, _ = run(with_law(bundle, tmp_path / "better", intercept=-4.0))
    assert better["expected_quality"]["psnr_db"] == pytest.approx(facts["psnr_db"] + 3, abs=0.11)


def test_of_a_model_without_a_law_or_a_classical_method_nothing_is_stated(crnn, run, bundle, wide, tmp_path):
    found, ended = run(bundle)
    assert "expected_quality" not in found
    assert "expected PSNR" not in ended.err
    assert crnn_cli.reconstruct(wide, model=bundle, device="cpu").expected is None
    for more in (["--iterations", 1], ["--adapt-steps", 1]):  # not what the law was fitted on
        found, _ = run(with_law(bundle, tmp_path / more[0]), *more)
        assert found.get("adapted", {"used": True})["used"] == ("expected_quality" not in found)


def test_the_gate_compares_the_expected_psnr_and_the_residual(run, bundle, tmp_path):
    model = with_law(bundle, tmp_path / "told")
    found, _ = run(model)
    value = found["expected_quality"]["psnr_db"]
    assert (found["min_psnr"], found["passed"]) == (None, None)
    found, _ = run(model, "--min-psnr", value - 0.5, "--max-residual", 100)
    assert (found["min_psnr"], found["passed"]) == (value - 0.5, True)
    found, ended = run(model, "--min-psnr", value + 0.5, "--max-residual", 100, "--report", tmp_path / "p.html", code=6)
    assert found["passed"] is False
    assert f"{value:.1f} dB" in ended.err.replace("\n", " ")
    assert "--min-psnr" in ended.err
    assert f"NOT passed: {found['reliability']['held_out']['overall']:.4g} at lines held out" in (
        (tmp_path / "p.html").read_text()
    )
    found, ended = run(model, "--min-psnr", value - 0.5, "--max-residual", 1e-6, code=6)
    assert "--max-residual" in ended.err.splitlines()[-1] + ended.err.splitlines()[-2]


def test_outside_the_fit_it_is_said_and_the_least_counts(run, bundle, tmp_path):
    model = with_law(bundle, tmp_path / "told", accelerations=[3, 14])
    found, ended = run(model)
    facts = found["expected_quality"]
    assert facts["high_db"] - facts["low_db"] == pytest.approx(10, abs=0.2)
    assert "outside what it was fitted on" in " ".join(table_rows(ended.err)["expected PSNR"])
    run(model, "--min-psnr", facts["low_db"] + 0.5, code=6)
    run(model, "--min-psnr", facts["low_db"] - 0.5)


def test_where_nothing_can_be_held_out_it_is_not_known_and_the_gate_is_shut(run, bundle, tmp_path):
    model, full = with_law(bundle, tmp_path / "told"), measured(acceleration=1, centre=0)[1][:, :1]
    thin = np.zeros_like(full)
    for frame in range(full.shape[2]):
        thin[:, :, frame, 3 * frame] = full[:, :, frame, 3 * frame]
    np.save(tmp_path / "k.npy", thin)
    more = ("--axes", AXES, "--min-psnr", 1)
    found, ended = run(model, *more, scan=tmp_path / "k.npy", code=6)
    assert found["expected_quality"]["psnr_db"] is None
    assert "too few lines" in found["expected_quality"]["reason"]
    assert "not known" in table_rows(ended.err)["expected PSNR"][0]


@pytest.mark.parametrize(
    ("law", "more", "said"),
    [
        (False, [], "benchmarks/expected_psnr.py"),
        (True, ["--hold-out-folds", 0], "needs lines held out"),
        (True, ["--adapt", "1m"], "--adapt"),
        (True, ["--iterations", 1], "--iterations"),
    ],
)
def test_a_gate_that_cannot_be_is_refused_before_the_work(crnn, wide, bundle, tmp_path, law, more, said):
    model = with_law(bundle, tmp_path / "told") if law else bundle
    ended = crnn("reconstruct", wide, "--model", model, "-o", tmp_path / "o.nii", "--min-psnr", 30, *more)
    assert (ended.code, said in " ".join(ended.err.split())) == (2, True), ended.err
    assert not (tmp_path / "o.nii").exists()


def test_classical_methods_have_no_such_gate(crnn, wide, tmp_path):
    ended = crnn("reconstruct", wide, "--method", "tv", "-o", tmp_path / "o.nii", "--min-psnr", 30)
    assert ended.code == 2
    assert "--max-residual" in ended.err


def test_it_is_a_gate_of_a_batch_too(crnn, wide, bundle, tmp_path):
    model = with_law(bundle, tmp_path / "told")
    arguments = ("batch", "reconstruct", wide, "--model", model, "--min-psnr")
    assert crnn(*arguments, 1, "-o", tmp_path / "good").code == 0
    ended = crnn(*arguments, 300, "-o", tmp_path / "bad", "--keep-going")
    assert ended.code == 7, ended.err
    report = json.loads(next((tmp_path / "bad").glob("wide*.json")).read_text())
    assert (report["min_psnr"], report["passed"]) == (300, False)
