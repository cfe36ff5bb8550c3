"""`crnn segment --precision`: the report says which, other words are refused, and labels hardly change."""

import json

import nibabel as nib
import numpy as np
import pytest

from tests.cli.test_segment import AFFINE


@pytest.fixture
def heart(tmp_path):
    x, y = np.meshgrid(np.linspace(-1, 1, 40), np.linspace(-1, 1, 36), indexing="ij")
    array = (500 * (x**2 + y**2 < 0.2) + 200 * (x**2 + y**2 < 0.5))[..., None] * np.ones(4)
    nib.save(nib.Nifti1Image(array.astype(np.float32), AFFINE), tmp_path / "v.nii")
    return tmp_path / "v.nii"


def test_bf16_is_said_in_the_report_and_changes_little(crnn, heart, tmp_path, monkeypatch):
    monkeypatch.setattr("crnn_cli.compute.device.has_native_bfloat16", lambda device: False)
    found = {}
    for name, said in {"plain": [], "fp32": ["--precision", "fp32"], "bf16": ["--precision", "bf16"]}.items():
        out, p = tmp_path / f"{name}.nii", tmp_path / f"{name}_p.nii"
        ended = crnn("segment", heart, "--slices", "--device", "cpu", "-o", out, "--probabilities", p, *said)
        assert ended.code == 0, ended.err
        report = json.loads(out.with_suffix(".json").read_text())
        assert report["precision"] == ("bf16" if "bf16" in said else "fp32")
        emulated = [fact["code"] for fact in report["facts"] if fact["code"] == "bfloat16-emulated"]
        assert len(emulated) == ("bf16" in said)
        parts = sorted(tmp_path.glob(f"{name}_p_*.nii"))
        found[name] = np.stack([np.asarray(nib.load(part).dataobj) for part in parts])
    assert np.array_equal(found["plain"], found["fp32"])
    apart = np.abs(found["bf16"] - found["fp32"])
    assert apart.max() > 1e-6
    assert apart.mean() < 0.01


def test_other_precisions_are_refused(crnn, heart, tmp_path):
    ended = crnn("segment", heart, "--slices", "-o", tmp_path / "l.nii", "--precision", "fp8")
    assert ended.code == 2
    assert "fp32 or bf16" in ended.err
