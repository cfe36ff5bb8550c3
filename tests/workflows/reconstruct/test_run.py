"""A scan in memory is reconstructed as the command reconstructs its file, without a file or a word."""

import json

import nibabel as nib
import numpy as np
import pytest

from crnn_cli import notices
from crnn_cli.data.image import Image
from crnn_cli.errors import UsageError
from crnn_cli.workflows.reconstruct.adapt import parse_budget
from crnn_cli.workflows.reconstruct.methods import MethodRequest
from crnn_cli.workflows.reconstruct.quality import doubt_prediction
from crnn_cli.workflows.reconstruct.run import RunSettings, prepare_engine, reconstruct_scan
from crnn_cli.workflows.reconstruct.scan import (
    Simulation,
    raw_from_kspace,
    scan_from_image,
    scan_from_raw,
    select_slice,
)
from tests.cli.test_raw_reconstruct import AXES, measured
from tests.support.cines import AFFINE, moving_cine, save

NOT_IN_MEMORY = (
    "command", "date", "output", "output_sha256", "output_format", "input", "seconds", "memory", "doubts", "facts",
)  # fmt: skip


def common(report):
    return json.loads(json.dumps({key: value for key, value in report.items() if key not in NOT_IN_MEMORY}))


def test_images_in_memory_give_what_their_file_gives(crnn, bundle, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(notices.LOGGER, "handlers", [])  # of the command line of other tests
    array = moving_cine(24, 40, 2, 6)
    engine = prepare_engine(MethodRequest(model=str(bundle)), "cpu")
    scan = scan_from_image(Image(array, AFFINE, float(np.float32(0.03))), simulation=Simulation(4, seed=5))
    steps = []
    run = reconstruct_scan(scan, RunSettings(0, seed=5), engine, lambda done, total: steps.append((done, total)))
    assert capfd.readouterr() == ("", "")
    assert steps[-1][0] == steps[-1][1] > 0
    assert run.images.is_complex
    np.testing.assert_array_equal(run.images.affine, AFFINE)
    source = save(tmp_path / "full.nii", array)
    ended = crnn("reconstruct", source, "--model", bundle, "--undersample", 4, "--seed", 5, "--hold-out-folds", 0,
                 "-o", tmp_path / "o.nii")  # fmt: skip
    assert ended.code == 0, ended.err
    np.testing.assert_array_equal(np.abs(run.images.array), np.asanyarray(nib.load(tmp_path / "o.nii").dataobj))
    written = json.loads((tmp_path / "o.json").read_text())
    assert common(run.report) == common(written)
    assert written["format"] == 2
    assert written["simulated"] is True
    assert written["passed"] is None
    assert run.report["input"] == {}
    assert "command" not in run.report


def test_an_array_of_kspace_gives_what_its_file_gives(crnn, tmp_path):
    kspace = measured(acceleration=2)[1]
    np.save(tmp_path / "k.npy", kspace)
    scan = scan_from_raw(raw_from_kspace(kspace, AXES, affine=np.diag([2.0, 2, 8, 1]), frame_time=0.05), None, None, {})
    run = reconstruct_scan(scan, RunSettings(max_residual=9.0), prepare_engine(MethodRequest("sense"), "cpu"))
    assert run.images.spacing == (2, 2, 8)
    assert run.images.frame_time == 0.05
    assert run.report["passed"] is True
    assert [facts["maps"] for facts in run.report["coils"]] == ["ESPIRiT"] * 2
    ended = crnn("reconstruct", tmp_path / "k.npy", "--axes", AXES, "--method", "sense", "-o", tmp_path / "o.nii")
    assert ended.code == 0, ended.err
    np.testing.assert_array_equal(np.abs(run.images.array), np.asanyarray(nib.load(tmp_path / "o.nii").dataobj))
    with pytest.raises(UsageError):
        raw_from_kspace(kspace, "coil,t")


def test_a_run_leaves_scan_engine_and_earlier_results_as_they_were(bundle):
    scan = scan_from_image(Image(moving_cine(24, 40, 2, 8), AFFINE), simulation=Simulation(4))
    engine = prepare_engine(MethodRequest(model=str(bundle)), "cpu")
    first = reconstruct_scan(scan, RunSettings(uncertainty_runs=2), engine)
    facts, report = dict(engine.method.facts), json.dumps(first.report)
    tuned = reconstruct_scan(select_slice(scan, 2), RunSettings(adapt=parse_budget(None, 2)), engine)
    assert tuned.report["adapted"]["steps"] == 2
    again = reconstruct_scan(scan, RunSettings(uncertainty_runs=2), engine)
    assert engine.method.facts == facts
    assert json.dumps(first.report) == report
    np.testing.assert_array_equal(first.images.array, again.images.array)
    np.testing.assert_array_equal(first.uncertainty.array, again.uncertainty.array)
    assert first.uncertainty.shape == first.images.shape == first.zero_filled.shape


@pytest.mark.parametrize(("share", "doubted"), [(1e-12, False), (0.2, True), (None, True)])
def test_lines_held_out_are_no_doubt_of_a_method_that_fills_nothing_in(share, doubted):
    reliability = {"held_out": {"overall": 1.0}, "null_space_energy_fraction": {"overall": share}}
    with notices.recording() as record:
        doubt_prediction(reliability)
    assert [each.code for each in record.remarks] == ["held-out-not-predicted"] * doubted


@pytest.mark.parametrize("estimate", [None, "too high"])
def test_noise_that_was_estimated_too_high_is_a_doubt(estimate):
    held = {"held_out": {"overall": 0.3}, "null_space_energy_fraction": {"overall": 0.1}, "noise_estimate": estimate}
    with notices.recording() as record:
        doubt_prediction(held)
    assert [each.code for each in record.remarks] == ["noise-estimate-too-high"] * (estimate is not None)
