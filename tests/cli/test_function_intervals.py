"""Intervals in `crnn function`: of a cine, of its labels on disk and in a pipe, and none where labels are others."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

import crnn_cli
from tests.support.data import ROOT

SOURCE = ROOT / "sample_data/pig_stack.nii.gz"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Labels of a model that has limits."""
    return crnn_cli.segment(crnn_cli.load(SOURCE), slices="auto")


def ends(quantities):
    return {
        f"{side}.{name}": (each["low"], each["high"], each["level"])
        for side, values in quantities.items() for name, each in values.items() if "low" in each
    }  # fmt: skip


def test_cine_labels_and_pipe_have_the_same_intervals(crnn, tmp_path):
    labels = tmp_path / "labels.nii.gz"
    assert crnn("segment", SOURCE, "--slices", "-o", labels).code == 0
    piped = crnn("segment", SOURCE, "--slices", "-o", "-").out
    ended = [
        crnn("function", SOURCE, "--json"), crnn("function", labels, "--json"),
        crnn("function", "-", "--json", stdin=piped),
    ]  # fmt: skip
    reports = [json.loads(each.out) for each in ended]
    found = [ends(each["quantities"]) for each in reports]
    assert found[0] == found[1] == found[2]
    low, high, level = found[0]["left.edv"]
    value = reports[0]["quantities"]["left"]["edv"]["value"]
    assert 0 < low < value < high
    assert level == reports[0]["intervals"]["level"] == 0.9
    assert f"({low:.0f} to {high:.0f})" in crnn("function", labels).out.decode()


def test_a_folder_of_dicom_segs_has_the_intervals_of_its_report(crnn, tmp_path):
    segs = tmp_path / "segs"
    segs.mkdir()
    assert crnn("convert", SOURCE, tmp_path / "dicom").code == 0
    assert crnn("segment", tmp_path / "dicom", "--slices", "-o", segs / "seg.dcm").code == 0
    assert len(list(segs.glob("*.dcm"))) > 1
    found = [json.loads(crnn("function", place, "--json").out) for place in (tmp_path / "dicom", segs)]
    assert ends(found[0]["quantities"]) == ends(found[1]["quantities"]) != {}
    report = segs / "seg.json"
    report.write_text(report.read_text().replace('"voxels": [', '"voxels": [1', 1))
    assert json.loads(crnn("function", segs, "--json").out)["intervals"] is None


def test_labels_that_were_edited_have_none(crnn, tmp_path):
    labels = tmp_path / "labels.nii.gz"
    assert crnn("segment", SOURCE, "--slices", "-o", labels).code == 0
    image = nib.load(labels)
    array = np.asarray(image.dataobj).copy()
    array[tuple(np.argwhere(array == 3)[0])] = 0
    nib.save(nib.Nifti1Image(array, image.affine, image.header), labels)
    report = json.loads(crnn("function", labels, "--json").out)
    assert ends(report["quantities"]) == {}
    assert report["intervals"] is None


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"model": "gone"}, {"dice": {}}, {"dice": {3: (0.9,) * 7}}])
def test_labels_of_another_model_or_of_other_frames_have_none(made, change):
    whole, other = crnn_cli.function(made), crnn_cli.function(replace(made, origin=replace(made.origin, **change)))
    assert whole.quantities()["left"]["edv"].low is not None
    assert other.quantities()["left"]["edv"].low is None


def test_labels_that_look_worse_have_wider_intervals(made):
    dice = dict.fromkeys(made.origin.dice, (0.5,) * made.frames)
    worse = replace(made, origin=replace(made.origin, dice=dice))
    widths = [
        each.high - each.low
        for each in (crnn_cli.function(labels).quantities()["left"]["edv"] for labels in (made, worse))
    ]
    assert widths[1] > 2 * widths[0]


def test_a_damaged_origin_in_a_stream_is_passed_over(crnn, made, tmp_path):
    path = tmp_path / "labels.nii.gz"
    crnn_cli.save(replace(made, origin=replace(made.origin, dice={3: (float("nan"),)})), path)
    report = json.loads(crnn("function", path, "--json").out)
    assert report["intervals"] is None
    assert report["quantities"]["left"]["edv"]["value"] > 0
