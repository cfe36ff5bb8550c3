"""``crnn batch`` of DICOM: labels of many cines as SEG, each in a folder of its own, and hearts measured from these."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest

from crnn_cli.data.image import Image
from crnn_cli.io import discover
from tests.support.cardiac_dicom import write_cine
from tests.support.data import ROOT

FRAMES = {"anna": 3, "bert": 2, "carl": 1}


@pytest.fixture
def studies(tmp_path):
    """Return a folder of three patients, with the pig's heart in a few frames each."""
    stack = nib.load(ROOT / "sample_data/pig_stack.nii.gz")
    pixels = np.asarray(stack.dataobj)
    for name, frames in FRAMES.items():
        image = Image(pixels[..., :frames], stack.affine, 0.22)
        write_study(tmp_path / "in" / name, image)
    return tmp_path / "in"


def write_study(folder, image):
    write_cine(folder, image, PatientName=folder.name, PatientID=folder.name)


@pytest.fixture
def batch(crnn):
    def run(command, *arguments, code=0):
        ended = crnn("batch", command, *arguments, "--json")
        assert ended.code == code, ended.err
        assert "Traceback" not in ended.err
        return [json.loads(line) for line in ended.out.decode().splitlines()], ended.err

    return run


def contents(folder, pattern="**/*"):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.glob(pattern)) if p.is_file()}


def test_labels_as_seg_of_many_cines_are_measured(batch, studies, tmp_path):
    lines, _ = batch("segment", studies, "-o", tmp_path / "labels", "--format", "dicom", "--preview", "{name}.png")
    assert [line["status"] for line in lines] == ["done"] * 3
    assert {p.name for p in (tmp_path / "labels").iterdir() if p.is_dir()} == {f"{name}_labels" for name in FRAMES}
    assert [len(contents(tmp_path / "labels", f"{name}_labels/*.dcm")) for name in FRAMES] == [3, 2, 1]
    assert set(contents(tmp_path / "labels", "*.*")) == {"crnn_batch.jsonl"} | {
        f"{name}{end}" for name in FRAMES for end in (".png", "_labels.json")
    }
    lines, _ = batch("function", tmp_path / "labels", "-o", tmp_path / "hearts", "--sr", "{name}.dcm")
    assert [(line["input"].rpartition("/")[2], line["status"]) for line in lines] == [
        (f"{name}_labels", "done") for name in FRAMES
    ]
    with (tmp_path / "hearts" / "cohort.csv").open(newline="") as file:
        assert [row["case"] for row in csv.DictReader(file)] == [f"{name}_labels" for name in FRAMES]
    numbers = json.loads((tmp_path / "hearts" / "anna_labels_function.json").read_text())
    assert len(numbers["curves_ml"]["left ventricle"]) == 3
    assert numbers["quantities"]["left"]["edv"]["low"] is not None, "the report beside the folder gives the intervals"


def test_seg_folders_are_resumed_and_replaced_as_a_whole(batch, studies, tmp_path):
    arguments = ("segment", studies, "-o", tmp_path / "labels", "--format", "dicom")
    batch(*arguments)
    before = contents(tmp_path / "labels")
    lines, _ = batch(*arguments, "--resume")
    assert [line["status"] for line in lines] == ["skipped"] * 3
    (tmp_path / "labels/bert_labels/bert_labels_02.dcm").unlink()
    lines, _ = batch(*arguments, "--resume")
    assert [line["status"] for line in lines] == ["skipped", "done", "skipped"]
    assert set(contents(tmp_path / "labels")) == set(before)
    for file in (studies / "anna").iterdir():
        file.unlink()
    stack = nib.load(ROOT / "sample_data/pig_stack.nii.gz")
    write_study(studies / "anna", Image(np.asarray(stack.dataobj)[..., :2], stack.affine, 0.22))
    lines, _ = batch(*arguments, "--resume")
    assert [line["status"] for line in lines] == ["done", "skipped", "skipped"]
    assert len(contents(tmp_path / "labels", "anna_labels/*.dcm")) == 2, "no frame of the longer series is left"
    _, said = batch(*arguments, code=1)
    assert "anna_labels.json exists already" in said
    assert "--resume" in said


def test_seg_folders_stand_for_the_images_beside_them(batch, studies, tmp_path):
    batch("segment", studies / "anna", "-o", studies, "--format", "dicom")
    (studies / "crnn_batch.jsonl").unlink()
    found = [path.name for path in discover.find_inputs(studies, labels=True)]
    assert found == ["anna_labels", "bert", "carl"]
    assert [path.name for path in discover.find_inputs(studies)] == ["anna", "bert", "carl"]


def test_one_cine_becomes_a_folder_of_seg_too(crnn, studies, tmp_path):
    for name in ("segs", "segs.v2"):
        ended = crnn("segment", studies / "bert", "--format", "dicom", "-o", tmp_path / name)
        assert ended.code == 0, ended.err
        assert set(contents(tmp_path / name)) == {f"{name}_01.dcm", f"{name}_02.dcm"}
        assert (tmp_path / f"{name}.json").is_file()
    again = ("segment", studies / "carl", "--format", "dicom", "-o", tmp_path / "segs")
    assert "exists already" in crnn(*again).err
    (tmp_path / "segs/notes.txt").write_text("mine")
    ended = crnn(*again, "--force")
    assert ended.code == 1
    assert "holds more than .dcm files" in ended.err
    ended = crnn("segment", studies / "bert", "--format", "dicom", "-o", tmp_path / ("x" * 250))
    assert "is too long" in ended.err, "said before the work"
