"""Doubts are data: in the report, in the lines of a batch, and with --strict an exit code."""

import json

import nibabel as nib
import numpy as np
import pytest

import crnn_cli
from crnn_cli import notices
from crnn_cli.errors import UnsupportedDataError
from tests.support.data import ROOT


@pytest.fixture
def cine(tmp_path):
    """Six frames of a stack whose header has lost its spacing and its frame time."""
    source = nib.load(ROOT / "sample_data/pig_cine.nii.gz")
    array = np.asarray(source.dataobj, np.float32)[::2, ::2, :, :6]
    image = nib.Nifti1Image(array, np.eye(4))
    image.set_qform(None, 0)
    image.set_sform(np.diag([2, 2, 8, 1.0]), 1)
    path = tmp_path / "cine.nii.gz"
    nib.save(image, path)
    return path


RUN = ("--undersample", "4", "--method", "sliding-window", "--hold-out-folds", "0")


def test_the_report_has_every_doubt_with_its_code_whatever_is_said(crnn, cine, tmp_path):
    for quiet in ((), ("-q",)):
        ended = crnn("reconstruct", str(cine), *RUN, *quiet, "-o", str(tmp_path / "out.nii.gz"), "--force")
        assert ended.code == 0, ended.err
        assert ("no frame time" in ended.err) == (not quiet)
        report = json.loads((tmp_path / "out.json").read_text())
        assert [each["code"] for each in report["doubts"]] == ["no-frame-time"]
        assert "no frame time" in report["doubts"][0]["text"]


@pytest.mark.parametrize("command", ["reconstruct", "convert"])
def test_strict_ends_at_the_first_doubt_and_writes_nothing(crnn, cine, tmp_path, command):
    out = tmp_path / "out.nii.gz"
    arguments = ("reconstruct", str(cine), *RUN, "-o") if command == "reconstruct" else ("convert", str(cine))
    ended = crnn(*arguments, str(out), "--strict")
    assert ended.code == 4
    assert "(no-frame-time)" in ended.err
    assert "--strict" in ended.err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["cine.nii.gz"]
    assert crnn(*arguments, str(out)).code == 0


def test_a_batch_has_doubts_in_its_lines_and_strict_fails_only_those(crnn, cine, tmp_path):
    good = tmp_path / "good.nii.gz"
    image = nib.load(cine)
    image.header["pixdim"][4] = 0.03
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, good)
    both = (str(cine), str(good))
    ended = crnn("batch", "reconstruct", *both, *RUN, "-o", str(tmp_path / "a"), "--json")
    assert ended.code == 0, ended.err
    lines = {line["input"]: line for line in map(json.loads, ended.out.splitlines())}
    assert [each["code"] for each in lines[str(cine)]["doubts"]] == ["no-frame-time"]
    assert lines[str(good)]["doubts"] == []
    strict = crnn("batch", "reconstruct", *both, *RUN, "-o", str(tmp_path / "b"), "--json", "--strict", "--keep-going")
    assert strict.code == 7
    lines = {line["input"]: line for line in map(json.loads, strict.out.splitlines())}
    assert (lines[str(cine)]["exit_code"], lines[str(good)]["exit_code"]) == (4, 0)


def test_python_finds_the_doubts_in_the_report(cine):
    result = crnn_cli.reconstruct(cine, undersample=4, method="sliding-window", hold_out_folds=0)
    assert [each["code"] for each in result.report["doubts"]] == ["no-frame-time"]


def test_a_record_keeps_each_remark_once_and_only_of_its_context():
    doubt = notices.Doubt("a-code", "text")
    with notices.recording() as outer:
        notices.tell(doubt, doubt)
        with notices.recording() as inner:
            notices.note("another", "fact")
        notices.tell(doubt)
    notices.tell(doubt)
    assert outer.as_json() == {"doubts": [{"code": "a-code", "text": "text"}], "facts": []}
    assert inner.as_json() == {"doubts": [], "facts": [{"code": "another", "text": "fact"}]}
    assert notices.recorded() == {}
    with notices.recording(strict=True), pytest.raises(UnsupportedDataError, match="a-code"):
        notices.tell(notices.Fact("another", "a fact never ends anything"), doubt)
