"""A study whose stack is one series for each slice is one input for every command."""

import json
import shutil
import zipfile

import nibabel as nib
import numpy as np
import pydicom
import pytest

from tests.cli.test_info_proposals import SHORT_AXIS, require_to_run
from tests.cli.test_segment import CONFIG, weights
from tests.support.command_line import table_rows
from tests.support.dicom import affine_of, oblique, values, write_series

SLICES, FRAMES = 4, 4
STUDY = {"study": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5", "ScanningSequence": "GR", "SequenceVariant": "SS"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from crnn_cli.bundles.store import write_bundle

    return write_bundle(tmp_path_factory.mktemp("segment") / "tiny", CONFIG, weights(), "# tiny\n").folder


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Return a study with a stack, a repeated slice, a long-axis view and a localiser; the values and the affine."""
    folder = tmp_path_factory.mktemp("studies") / "study"
    normal, gap = np.cross(*SHORT_AXIS), 9.0
    blurred = values(SLICES + 1, FRAMES, 24, 20, seed=5, high=900)
    x, y = np.meshgrid(np.linspace(-1, 1, 20), np.linspace(-1, 1, 24))
    stored = blurred // 4 + 600 * (x**2 + y**2 < 0.4)
    corner = np.array([-40.0, -30, 10])
    for n, z in enumerate((0, 1, 2, 3, 1)):
        place = {"directions": SHORT_AXIS, "gap": gap, "origin": corner + normal * gap * z, "step_ms": 30 + z}
        which = SLICES if n == 1 else z  # the first try of slice 1 is another image
        write_series(folder / f"sax{n}", stored[which : which + 1], **place, **STUDY, SeriesNumber=5 + n,
                     SeriesDescription=f"cine_sax_{n}", shuffle=n)  # fmt: skip
    write_series(folder / "long", blurred[:1], oblique(3), **STUDY, SeriesNumber=20, SeriesDescription="4ch")
    write_series(folder / "scout", blurred[:1, :1], oblique(4), **STUDY, SeriesNumber=1, SeriesDescription="scout")
    affine = affine_of(SHORT_AXIS, (1.5, 1.25), gap, corner)
    return folder, stored[:SLICES].transpose(3, 2, 0, 1), affine


def test_info_shows_one_row_for_the_stack_and_what_is_none_of_it(crnn, study, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    ended = crnn("info", study[0])
    assert ended.code == 0
    rows = table_rows(ended.out)
    assert rows["8"][:3] == ["cine_sax (series 2,4-6)", "MR cine, 20 x 24", f"{SLICES} x {FRAMES}"]
    assert {"1", "3", "7"} < rows.keys()
    assert not {"2", "4", "5", "6"} & rows.keys()
    assert "not in the stack: series 1,7 (another direction); 3 (measured again later, as series 6)" in ended.err
    found = json.loads(crnn("info", study[0], "--json").out)
    assert found["stack"] == 8
    assert found["unjoined"] == []
    stack = found["series"][-1]
    assert stack["uid"] is None
    assert [each["series_number"] for each in stack["members"]] == [5, 9, 7, 8]
    assert [each["frame_time_s"] for each in stack["members"]] == pytest.approx([0.03, 0.031, 0.032, 0.033])
    assert [each["not_in_stack"] for each in found["series"]] == [
        "another direction", "measured again later, as series 6", "another direction", "",
    ]  # fmt: skip


def test_what_info_proposes_runs_without_a_choice(crnn, study, bundle, tmp_path):
    assert require_to_run(crnn, bundle, tmp_path, study[0]) == ["reconstruct", "segment"]
    commands = json.loads(crnn("info", study[0], "--json").out)["next_commands"]
    assert not any("--series" in command for command in commands)


def as_zip(folder, target):
    with zipfile.ZipFile(target, "w") as archive:
        for file in folder.rglob("*.dcm"):
            archive.write(file, file.relative_to(folder))
    return target


@pytest.mark.parametrize("form", ["folder", "zip", "DICOMDIR"])
def test_convert_verify_and_evaluate_see_the_stack(crnn, study, tmp_path, form):
    source, out = study[0], tmp_path / "out.nii.gz"
    if form == "zip":
        source = as_zip(source, tmp_path / "study.zip")
    if form == "DICOMDIR":
        source = shutil.copytree(source, tmp_path / "study") / "DICOMDIR"
        source.write_bytes(b"")
    ended = crnn("convert", source, out)
    assert ended.code == 0, ended.err
    nifti = nib.load(out)
    np.testing.assert_array_equal(np.asanyarray(nifti.dataobj), study[1])
    np.testing.assert_allclose(nifti.affine, study[2], atol=1e-3)
    assert nifti.header["pixdim"][4] == pytest.approx(0.0315)
    ended = crnn("verify", source, out, "-v")
    assert ended.code == 0
    assert "series 8 was taken, the only stack; left out were 1,7 (another direction)" in ended.err
    measured = json.loads(crnn("evaluate", out, "--reference", source, "--json").out)
    assert {"stack-joined", "stack-taken", "stack-slices-repeated"} <= {each["code"] for each in measured["facts"]}


def test_reconstruct_takes_the_stack_and_writes_a_derived_series(crnn, study, tmp_path):
    run = ("reconstruct", study[0], "--undersample", 2, "--method", "sliding-window", "--hold-out-folds", 0)
    ended = crnn(*run, "--format", "dicom", "-o", tmp_path / "out", "-v")
    assert ended.code == 0, ended.err
    assert "series 2,4-6 were joined to a stack of 4 slices" in ended.err
    written = list(map(pydicom.dcmread, (tmp_path / "out").glob("*.dcm")))
    assert len(written) == SLICES * FRAMES
    uids = {each.SOPInstanceUID for each in map(pydicom.dcmread, study[0].rglob("*.dcm"))}
    named = {each.SourceImageSequence[0].ReferencedSOPInstanceUID for each in written}
    assert len(named) == SLICES * FRAMES
    assert named < uids
    ended = crnn(*run, "--slice", 2, "-o", tmp_path / "one.nii.gz")
    assert ended.code == 0, ended.err
    assert nib.load(tmp_path / "one.nii.gz").shape == (20, 24, 1, FRAMES)


def test_segment_batch_and_labels_take_the_stack(crnn, study, model, tmp_path):
    more = ("--slices", "--model", model)
    ended = crnn("segment", study[0], *more, "-o", tmp_path / "l.nii.gz")
    assert ended.code == 0, ended.err
    labels = nib.load(tmp_path / "l.nii.gz")
    assert labels.shape == study[1].shape
    np.testing.assert_allclose(labels.affine, study[2], atol=1e-3)
    report = json.loads((tmp_path / "l.json").read_text())
    assert "stack-frame-times" in {each["code"] for each in report["facts"]}
    ended = crnn("labels", tmp_path / "l.nii.gz", "--image", study[0], "--json")
    assert ended.code == 0, ended.err
    ended = crnn("batch", "segment", study[0].parent, *more, "-o", tmp_path / "out", "--json")
    assert ended.code == 0, ended.err
    batch = nib.load(tmp_path / "out/study_labels.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(batch.dataobj), np.asanyarray(labels.dataobj))
    ended = crnn("segment", study[0], *more, "-o", tmp_path / "seg.dcm")
    assert ended.code == 0, ended.err
    written = list(map(pydicom.dcmread, tmp_path.glob("seg_*.dcm")))
    assert [len(each.ReferencedSeriesSequence) for each in written] == [SLICES] * FRAMES


def test_two_stacks_are_listed_and_nothing_is_written(crnn, study, tmp_path):
    folder = shutil.copytree(study[0], tmp_path / "study")
    for z in range(3):
        write_series(folder / f"again{z}", values(1, FRAMES, 24, 20, z), oblique(9), **STUDY, SeriesNumber=40 + z,
                     origin=np.cross(*oblique(9)) * 8 * z)  # fmt: skip
    ended = crnn("convert", folder, tmp_path / "out.nii.gz")
    assert ended.code == 4
    assert "choose one with --series" in ended.err
    assert "cine_sax (series 2,4-6)" in ended.err
    assert not (tmp_path / "out.nii.gz").exists()
    assert crnn("convert", folder, tmp_path / "out.nii.gz", "--series", 11).code == 0
    assert nib.load(tmp_path / "out.nii.gz").shape == study[1].shape


def test_a_gap_is_refused_with_a_part_that_can_be_had_and_no_patient(crnn, study, tmp_path):
    folder = shutil.copytree(study[0], tmp_path / "study")
    normal = np.cross(*SHORT_AXIS)
    corner = np.array([-40.0, -30, 10]) + normal * 9 * 5
    write_series(folder / "far", values(1, FRAMES, 24, 20), SHORT_AXIS, origin=corner, **STUDY, SeriesNumber=15)
    ended = crnn("convert", folder, tmp_path / "out.nii.gz")
    assert ended.code == 4
    assert "18.00 mm after slice 4 (slices missing or doubled?)" in ended.err
    assert "join a part of them with --series 2,4-6" in ended.err
    assert "Secret" not in ended.err
    assert crnn("convert", folder, tmp_path / "out.nii.gz", "--series", "2,4-6").code == 0
    np.testing.assert_array_equal(np.asanyarray(nib.load(tmp_path / "out.nii.gz").dataobj), study[1])
