"""``crnn labels`` measures label maps that exist: drawn by hand, of crnn segment, or of others."""

import csv
import json

import nibabel as nib
import numpy as np
import PIL.Image
import pytest

from tests.support.cines import save
from tests.support.command_line import table_rows

AFFINE = np.diag([-1.5, -1.5, 8.0, 1])
VOXEL = 1.5 * 1.5 * 8 / 1000


@pytest.fixture
def drawn(tmp_path):
    """Return a label map of three frames, its file, and the file of an image on the same grid."""
    labels = np.zeros((20, 24, 3, 3), np.uint8)
    for frame in range(3):
        labels[4 : 10 + frame, 5:9, 1, frame] = 1
        labels[12:15, 5:9, 1:, frame] = 3
    image = np.random.default_rng(0).random(labels.shape).astype(np.float32)
    return (
        labels,
        save(tmp_path / "drawn.nii", labels, affine=AFFINE),
        save(tmp_path / "i.nii", image, affine=AFFINE),
        image,
    )


def measured(crnn, *arguments):
    ended = crnn("labels", *arguments, "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def test_volumes_are_what_counting_gives(crnn, drawn):
    labels, file, _, _ = drawn
    found = measured(crnn, file)
    assert [each["value"] for each in found["labels"]] == [1, 3]
    for each in found["labels"]:
        voxels = (labels == each["value"]).sum(axis=(0, 1, 2))
        assert each["voxels"] == voxels.tolist()
        assert each["volume_ml"] == pytest.approx(voxels * VOXEL, abs=1e-4)
        assert each["name"] == f"label {each['value']}"
    table = table_rows(crnn("labels", file).out)
    assert table["1"][-2:] == ["24 to 32", f"{24 * VOXEL:.4g} to {32 * VOXEL:.4g}"]


def test_no_volumes_are_stated_where_voxels_have_no_size(crnn, drawn, tmp_path):
    file = save(tmp_path / "metres.nii", drawn[0], affine=AFFINE @ np.diag([1e-3, 1e-3, 1e-3, 1]))
    found = measured(crnn, file)
    assert [each["volume_ml"] for each in found["labels"]] == [[None] * 3] * 2
    assert table_rows(crnn("labels", file).out)["1"][-1] == "not known"


def test_names_are_those_of_a_model_or_of_the_report_beside(crnn, drawn):
    _, file, _, _ = drawn
    of_model = measured(crnn, file, "--model", "cardiac-sax-clstm")["labels"]
    assert [each["name"] for each in of_model] == ["right ventricle", "myocardium", "left ventricle"]
    assert of_model[1]["voxels"] == [0, 0, 0]
    listed = [{"value": 3, "name": "septum", "colour": [1, 2, 3]}, {"value": "x"}, 5]
    file.with_suffix(".json").write_text(json.dumps({"labels": listed[:1]}))
    assert [each["name"] for each in measured(crnn, file)["labels"]] == ["label 1", "septum"]
    file.with_suffix(".json").write_text(json.dumps({"labels": listed}))
    assert [each["name"] for each in measured(crnn, file)["labels"]] == ["label 1", "label 3"]


def test_intensities_are_those_of_the_image_that_is_given(crnn, drawn, tmp_path):
    labels, file, other, image = drawn
    measured(crnn, file, "--statistics", tmp_path / "none.csv")
    measured(crnn, file, "--image", other, "--statistics", tmp_path / "some.csv")
    rows = {name: list(csv.DictReader((tmp_path / f"{name}.csv").open())) for name in ("none", "some")}
    assert [row["mean_intensity"] for row in rows["none"]] == [""] * 6
    for row in rows["some"]:
        inside = image[..., int(row["frame"])][labels[..., int(row["frame"])] == int(row["label"])]
        assert float(row["mean_intensity"]) == pytest.approx(inside.mean(), rel=1e-5)
        assert row["volume_ml"] == next(
            r["volume_ml"] for r in rows["none"] if r["label"] == row["label"] and r["frame"] == row["frame"]
        )


def test_outlines_are_those_that_segment_draws(crnn, tmp_path):
    from tests.support.data import ROOT

    stack = ROOT / "sample_data" / "pig_stack.nii.gz"
    ended = crnn("segment", stack, "--slices", "-o", tmp_path / "l.nii.gz", "--preview", tmp_path / "a.png")
    assert ended.code == 0, ended.err
    measured(crnn, tmp_path / "l.nii.gz", "--image", stack, "--preview", tmp_path / "b.png")
    measured(crnn, tmp_path / "l.nii.gz", "--preview", tmp_path / "c.png")
    first, second, black = (np.array(PIL.Image.open(tmp_path / f"{name}.png")).astype(int) for name in "abc")
    np.testing.assert_array_equal(first[14:], second[14:])  # the title has another name
    coloured = np.ptp(second, axis=2) > 0
    np.testing.assert_array_equal(second[coloured], black[coloured])
    below = np.zeros(coloured.shape, bool)
    below[70:] = True
    assert black[~coloured & below].max() <= 220  # titles of slices, no image
    assert black[~coloured & below].mean() < 5


@pytest.mark.parametrize(("change", "code", "said"), [
    (lambda labels: labels + 0.5, 4, "is 0.5, and labels"), (lambda labels: labels - 1.0, 4, "is -1, and labels"),
    (lambda labels: labels.astype(np.int32) * 100, 4, "up to 300"), (lambda labels: labels * 1j, 4, "complex"),
])  # fmt: skip
def test_what_is_no_label_map_is_refused(crnn, drawn, tmp_path, change, code, said):
    file = tmp_path / "other.nii"
    changed = change(drawn[0])
    nib.save(
        nib.Nifti1Image(
            changed.astype(np.complex64) if np.iscomplexobj(changed) else changed.astype(np.float32), AFFINE
        ),
        file,
    )
    ended = crnn("labels", file)
    assert (ended.code, said in ended.err) == (code, True), ended.err


def test_an_image_elsewhere_is_refused_and_nothing_is_written(crnn, drawn, tmp_path):
    other = save(tmp_path / "o.nii", drawn[3][:, :, :2], affine=AFFINE)
    ended = crnn("labels", drawn[1], "--image", other, "--statistics", tmp_path / "s.csv")
    assert (ended.code, "differ" in ended.err, (tmp_path / "s.csv").exists()) == (4, True, False)
    for option, name in (("--statistics", "s.txt"), ("--preview", "p.jpg"), ("--slices", "sideways")):
        assert crnn("labels", drawn[1], option, name).code == 2
