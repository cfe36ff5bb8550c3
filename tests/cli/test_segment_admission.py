"""What is no image for the model is refused, what may be none is a doubt, and no millilitres come of unknown sizes."""

import json

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage

from crnn_cli.bundles.store import write_bundle
from crnn_cli.data.geometry import slice_order
from crnn_cli.data.image import Image
from crnn_cli.errors import UnsupportedDataError, UsageError
from crnn_cli.workflows.segment.admission import require_image, view_doubt
from crnn_cli.workflows.segment.spacing import parse_spacing, with_spacing
from tests.cli.test_segment import CONFIG, save, volume, weights
from tests.support.data import data_file
from tests.support.dicom import values, write_series

CODES = (["SCT", "87878005", "Left ventricle"], ["SCT", "49848007", "Left Ventricle Myocardium"])
HEART = CONFIG | {
    "labels": [label | {"code": code} for label, code in zip(CONFIG["labels"], CODES, strict=True)],
    "modality": "MR", "keep_within_mm": 22,
    "quality": {"doubt_below": 0.7, "curves": [{"expected": [0.3, 0.9], "dice": [0.1, 0.5]}] * 2},
}  # fmt: skip
BASE_TO_APEX = np.array([-0.655, 0.605, -0.453])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("heart") / "tiny-heart", HEART, weights(), "# tiny\n").folder


def affine_across(normal, spacing=(1.4, 1.4, 8.0)):
    """Affine of slices across a direction (RAS+), its columns at right angles."""
    normal = np.asarray(normal, float) / np.linalg.norm(normal)
    row = np.cross(normal, [0.0, 0.0, 1.0] if abs(normal[2]) < 0.9 else [1.0, 0.0, 0.0])
    row /= np.linalg.norm(row)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([row, np.cross(normal, row), normal]) * spacing
    return affine


def turned(vector, degrees, seed):
    """A direction at an angle from another, to a random side."""
    vector = vector / np.linalg.norm(vector)
    aside = np.cross(vector, np.random.default_rng(seed).normal(size=3))
    aside /= np.linalg.norm(aside)
    return np.cos(np.radians(degrees)) * vector + np.sin(np.radians(degrees)) * aside


def codes_of(report):
    return {each["code"] for each in report["doubts"]}


def run(crnn, path, model, tmp_path, *more):
    """Label a file, and return its report."""
    ended = crnn("segment", path, "-o", tmp_path / "l.nii.gz", "--model", model, "--force", *more)
    assert ended.code == 0, ended.err
    return json.loads((tmp_path / "l.json").read_text()), ended.err


# Label maps


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 15), st.booleans(), st.sampled_from(["u1", "i2", "f4", "f8"]), st.integers(0, 99))
def test_whole_numbers_that_are_few_are_a_label_map_in_any_type(labels, series, kind, seed):
    rng = np.random.default_rng(seed)
    array = rng.integers(0, labels + 1, (6, 5, 4, *([3] if series else []))).astype(kind)
    array.flat[:2] = 0, labels
    with pytest.raises(UnsupportedDataError, match="a label map"):
        require_image(array, False, "x.nii")
    require_image(array * np.float32(1.5) + np.float32(0.1), False, "x.nii")
    require_image(array - 1.0 if labels > 1 else array * 300.0, False, "x.nii")
    require_image(np.full_like(array, 3), False, "x.nii")  # the same everywhere: nothing to label, but no label map


@settings(deadline=None, max_examples=20)
@given(st.integers(17, 255), st.integers(0, 99))
def test_an_image_of_few_grey_values_is_an_image(greys, seed):
    array = np.random.default_rng(seed).integers(0, greys + 1, (24, 20, 4)).astype(np.uint8)
    array.flat[: greys + 1] = np.arange(greys + 1)
    require_image(array, False, "x.nii")


def test_a_file_that_says_that_it_holds_labels_is_refused_whatever_they_are(crnn, model, tmp_path):
    image = nib.Nifti1Image(volume(), affine_across(BASE_TO_APEX))
    image.header.set_intent("label")
    nib.save(image, tmp_path / "v.nii.gz")
    ended = crnn("segment", tmp_path / "v.nii.gz", "-o", tmp_path / "l.nii.gz", "--model", model)
    assert ended.code == 4
    assert "label map" in ended.err
    assert not (tmp_path / "l.nii.gz").exists()


def test_its_own_labels_are_refused(crnn, model, tmp_path):
    save(tmp_path / "v.nii.gz", volume())
    run(crnn, tmp_path / "v.nii.gz", model, tmp_path)
    assert crnn("segment", tmp_path / "l.nii.gz", "-o", tmp_path / "m.nii.gz", "--model", model).code == 4


# Other modalities


def test_a_series_of_another_modality_is_refused(crnn, model, tmp_path):
    pixels = values(5, 1, 20, 24)
    write_series(tmp_path / "ct", pixels, Modality="CT", SOPClassUID=CTImageStorage)
    write_series(tmp_path / "mr", pixels)
    ended = crnn("segment", tmp_path / "ct", "-o", tmp_path / "l.nii.gz", "--model", model)
    assert ended.code == 4
    assert "of modality CT, and tiny-heart is for MR" in ended.err
    assert "--model" in ended.err
    run(crnn, tmp_path / "mr", model, tmp_path)


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0.06, 0.9), st.sampled_from([-1024, -1000, -2048]), st.integers(0, 9))
def test_hounsfield_units_are_refused_in_any_file(crnn, model, tmp_path, air, value, seed):
    array = np.random.default_rng(seed).normal(40, 60, (16, 16, 5)).astype(np.float32)
    array.reshape(-1)[: int(np.ceil(air * array.size))] = value
    save(tmp_path / "ct.nii.gz", array)
    ended = crnn("segment", tmp_path / "ct.nii.gz", "-o", tmp_path / "l.nii.gz", "--model", model)
    assert ended.code == 4
    assert "Hounsfield" in ended.err


def test_negative_values_are_a_doubt_unless_they_are_rare(crnn, model, tmp_path):
    array = volume()
    array[0, 0, :2] = -20  # as resampling leaves them
    save(tmp_path / "v.nii.gz", array)
    assert "not-a-magnitude" not in codes_of(run(crnn, tmp_path / "v.nii.gz", model, tmp_path)[0])
    save(tmp_path / "v.nii.gz", array - 100)
    report, err = run(crnn, tmp_path / "v.nii.gz", model, tmp_path)
    assert "not-a-magnitude" in codes_of(report)
    assert "negative" in err


def test_a_model_that_names_no_modality_takes_any(crnn, tmp_path):
    plain = write_bundle(tmp_path / "plain", CONFIG, weights(), "# tiny\n").folder
    save(tmp_path / "v.nii.gz", np.where(volume() > 300, 40, -1000).astype(np.float32) + volume() / 100)
    run(crnn, tmp_path / "v.nii.gz", plain, tmp_path)


def test_a_head_in_ct_is_refused(crnn, tmp_path):
    folder = data_file("dicom", "ct_3slice")
    ended = crnn("segment", folder, "-o", tmp_path / "l.nii.gz")
    assert ended.code == 4
    assert not list(tmp_path.iterdir())


# Views


def view(normal):
    from crnn_cli.bundles.config import _slice_input

    image = Image(np.zeros((8, 8, 5)), affine_across(normal))
    return view_doubt(slice_order(image, 2), image.affine, _slice_input("config.json", HEART | {"plane": "thickest"}))


@settings(deadline=None, max_examples=60)
@given(st.floats(0, 30), st.integers(0, 999), st.sampled_from([1, -1]))
def test_the_short_axis_of_any_heart_is_no_doubt(degrees, seed, sign):
    normal = sign * turned(BASE_TO_APEX, degrees, seed)
    doubt, along = view(normal)
    assert along == (np.abs(normal).max() >= 0.99)
    assert (doubt is None) == (not along)


@settings(deadline=None, max_examples=60)
@given(st.floats(65, 90), st.integers(0, 999))
def test_views_at_right_angles_to_it_are_doubted(degrees, seed):
    doubt, _ = view(turned(BASE_TO_APEX, degrees, seed))
    assert doubt is not None
    assert doubt.code == "not-short-axis"


@pytest.mark.parametrize(
    ("normal", "plane"), [((0, 0, 1), "axial"), ((0, 1, 0.05), "coronal"), ((-1, 0, 0), "sagittal")]
)
def test_slices_along_the_body_are_named(normal, plane):
    doubt, along = view(normal)
    assert along
    assert doubt is not None
    assert plane in doubt.text


def test_long_axis_slices_get_no_millilitres_anywhere(crnn, model, tmp_path):
    save(tmp_path / "v.nii.gz", volume(), affine=affine_across(turned(BASE_TO_APEX, 85, 3)))
    more = ("--statistics", tmp_path / "s.json", "--preview", tmp_path / "p.png")
    report, err = run(crnn, tmp_path / "v.nii.gz", model, tmp_path, *more)
    assert {"not-short-axis", "no-volumes"} <= codes_of(report)
    assert report["no_volumes"] == "these are not short-axis slices"
    assert all(label["volume_ml"] == [None] for label in report["labels"])
    assert " ml" not in err.replace("no volumes in millilitres", "")
    assert "voxels" in err
    assert all(row["volume_ml"] is None for row in json.loads((tmp_path / "s.json").read_text()))
    save(tmp_path / "v.nii.gz", volume(), affine=affine_across(BASE_TO_APEX))
    report, err = run(crnn, tmp_path / "v.nii.gz", model, tmp_path)
    assert not codes_of(report) & {"not-short-axis", "no-volumes"}
    assert " ml" in err


def test_an_axial_series_is_doubted_and_has_no_volumes_but_an_axial_file_may_have_lost_its_orientation(
    crnn, model, tmp_path
):
    write_series(tmp_path / "axial", values(5, 1, 20, 24))
    report, _ = run(crnn, tmp_path / "axial", model, tmp_path)
    assert {"not-short-axis", "no-volumes"} <= codes_of(report)
    save(tmp_path / "v.nii.gz", volume(), affine=np.diag([1.4, 1.4, 8, 1]))
    report, _ = run(crnn, tmp_path / "v.nii.gz", model, tmp_path)
    assert "not-short-axis" in codes_of(report)
    assert report["no_volumes"] is None


# Spacing


def test_a_lost_spacing_gives_no_millilitres_and_a_given_one_does(crnn, model, tmp_path):
    affine = affine_across(BASE_TO_APEX, (1.0, 1.0, 1.0))
    affine[:3, :3] = affine[:3, :3].round(12)
    source = save(tmp_path / "v.nii.gz", volume(), affine=np.eye(4))
    report, err = run(crnn, source, model, tmp_path, "--slices", "axial")
    assert report["no_volumes"] == "the size of the voxels is not known"
    assert " ml" not in err.replace("no volumes in millilitres", "")
    report, err = run(crnn, source, model, tmp_path, "--spacing", "1.5,1.25,8")
    assert report["no_volumes"] is None
    assert report["input"]["spacing_given"] == [1.5, 1.25, 8.0]
    assert not codes_of(report) & {"unit-spacing", "spacing-not-trained", "no-volumes"}
    assert [each["code"] for each in report["facts"]] == ["spacing-given"]
    for label in report["labels"]:
        assert label["volume_ml"][0] == pytest.approx(label["voxels"][0] * 15 / 1000, rel=1e-4, abs=1e-4)
    assert report["slices"]["spacing_mm"] == 8
    written = nib.load(tmp_path / "l.nii.gz")
    np.testing.assert_array_equal(written.affine, np.eye(4))  # it lies over the source
    assert written.header.get_zooms()[:3] == (1.5, 1.25, 8.0)


@settings(deadline=None, max_examples=30)
@given(st.tuples(*[st.floats(0.2, 20)] * 3), st.integers(0, 99), st.booleans())
def test_labels_with_a_given_spacing_are_those_of_a_file_that_has_it(spacing, seed, lost):
    normal = turned(BASE_TO_APEX, 20, seed)
    right = Image(np.zeros((4, 5, 3)), affine_across(normal, spacing))
    wrong = Image(right.array, np.eye(4) if lost else affine_across(normal, (2.0, 3.0, 4.0)))
    given = with_spacing(wrong, spacing, "x")
    np.testing.assert_allclose(given.spacing, spacing)
    np.testing.assert_allclose(given.affine, np.eye(4) if lost else right.affine, atol=1e-9)


def test_the_same_labels_with_a_given_spacing_as_in_a_file_that_has_it(crnn, model, tmp_path):
    save(tmp_path / "right.nii.gz", volume(), affine=np.diag([1.9, 1.7, 9, 1]))
    save(tmp_path / "lost.nii.gz", volume(), affine=np.eye(4))
    run(crnn, tmp_path / "right.nii.gz", model, tmp_path)
    right = np.asarray(nib.load(tmp_path / "l.nii.gz").dataobj).copy()
    run(crnn, tmp_path / "lost.nii.gz", model, tmp_path, "--spacing", "1.9,1.7,9")
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "l.nii.gz").dataobj), right)


def test_the_fourth_number_is_the_time_between_frames(crnn, model, tmp_path):
    image = nib.Nifti1Image(np.stack([volume(seed=s) for s in range(3)], axis=3), np.eye(4))
    nib.save(image, tmp_path / "v.nii.gz")
    arguments = ("--spacing", "1.5,1.5,8,0.04", "--statistics", tmp_path / "s.json")
    report, _ = run(crnn, tmp_path / "v.nii.gz", model, tmp_path, *arguments)
    assert "no-frame-time" not in codes_of(report)
    times = [row["time_s"] for row in json.loads((tmp_path / "s.json").read_text())]
    assert times[:3] == pytest.approx([0, 0.04, 0.08])
    report, _ = run(crnn, tmp_path / "v.nii.gz", model, tmp_path, "--spacing", "1.5,1.5,8")
    assert "no-frame-time" in codes_of(report)


@pytest.mark.parametrize(
    "text", ["", "1.4", "1.4,1.4", "a,b,c", "1,2,3,4,5", "0,1,1", "1,1,-8", "1,1,8,33", "nan,1,1", "1,1,inf"]
)
def test_a_spacing_that_is_none_is_wrong_usage(crnn, text, tmp_path):
    with pytest.raises(UsageError, match="spacing="):
        parse_spacing(text)
    ended = crnn("segment", tmp_path / "v.nii.gz", "--spacing", text)
    assert ended.code == 2
    assert "--spacing" in ended.err


def test_a_spacing_is_not_for_dicom_and_a_time_not_for_one_frame(crnn, model, tmp_path):
    write_series(tmp_path / "mr", values(5, 1, 20, 24))
    assert crnn("segment", tmp_path / "mr", "--spacing", "1,1,8", "-o", tmp_path / "l.nii", "--model", model).code == 2
    save(tmp_path / "v.nii.gz", volume())
    ended = crnn("segment", tmp_path / "v.nii.gz", "--spacing", "1,1,8,0.03", "--model", model)
    assert ended.code == 2
    assert "give x,y,z" in ended.err


# Predicted quality


def test_the_report_predicts_the_dice_and_a_threshold_ends_with_6(crnn, model, tmp_path):
    save(tmp_path / "v.nii.gz", volume(), affine=affine_across(BASE_TO_APEX))
    report, err = run(crnn, tmp_path / "v.nii.gz", model, tmp_path)
    predicted = {label["name"]: label["predicted_dice"] for label in report["labels"]}
    lowest = report["quality"]["lowest"]
    assert lowest["predicted_dice"] == min(min(values) for values in predicted.values())
    assert predicted[lowest["label"]][lowest["frame"]] == lowest["predicted_dice"]
    assert 0.1 <= lowest["predicted_dice"] <= 0.5  # within the curves
    assert "low-predicted-dice" in codes_of(report)
    assert f"predicted Dice {lowest['predicted_dice']:.2f}" in err
    for limit, code in ((lowest["predicted_dice"] - 0.01, 0), (lowest["predicted_dice"] + 0.01, 6)):
        ended = crnn("segment", tmp_path / "v.nii.gz", "-o", tmp_path / "l.nii.gz", "--model", model, "--force",
                     "--require-quality", f"{limit:.3f}")  # fmt: skip
        assert ended.code == code
        written = json.loads((tmp_path / "l.json").read_text())
        assert (written["passed"], written["required_quality"]) == (code == 0, pytest.approx(limit, abs=1e-3))
    assert "below --require-quality" in ended.err


def test_what_is_labelled_is_what_counts(crnn, model, tmp_path):
    save(tmp_path / "v.nii.gz", volume(), affine=affine_across(BASE_TO_APEX))
    whole, _ = run(crnn, tmp_path / "v.nii.gz", model, tmp_path)
    part, _ = run(crnn, tmp_path / "v.nii.gz", model, tmp_path, "--labels", "wall")
    assert part["quality"]["lowest"]["label"] == "wall"
    assert part["labels"][0]["predicted_dice"] == whole["labels"][1]["predicted_dice"]


def test_no_quality_is_promised_by_a_model_that_was_not_measured(crnn, tmp_path):
    plain = write_bundle(tmp_path / "plain", CONFIG, weights(), "# tiny\n").folder
    save(tmp_path / "v.nii.gz", volume())
    report, err = run(crnn, tmp_path / "v.nii.gz", plain, tmp_path)
    assert report["quality"] is None
    assert "predicted" not in err
    ended = crnn("segment", tmp_path / "v.nii.gz", "-o", tmp_path / "m.nii.gz", "--model", plain,
                 "--require-quality", "0.5")  # fmt: skip
    assert ended.code == 2
    assert "was not measured of plain" in ended.err
    assert not (tmp_path / "m.nii.gz").exists()
    assert crnn("segment", tmp_path / "v.nii.gz", "--model", plain, "--require-quality", "1.5").code == 2


def test_findings_are_doubts_and_strict_ends_before_anything_is_written(crnn, model, tmp_path):
    save(tmp_path / "v.nii.gz", volume(), affine=affine_across(BASE_TO_APEX))
    report, err = run(crnn, tmp_path / "v.nii.gz", model, tmp_path)
    assert report["findings"]
    for finding in report["findings"]:
        assert {"code": finding["code"], "text": finding["text"]} in report["doubts"]
        assert finding["text"] in " ".join(err.split())
    ended = crnn("segment", tmp_path / "v.nii.gz", "-o", tmp_path / "s.nii.gz", "--model", model, "--strict")
    assert ended.code == 4
    assert not (tmp_path / "s.nii.gz").exists()


def test_pieces_far_off_are_removed_by_the_model_that_says_so(crnn, tmp_path):
    """The same network with and without the rule: the labels differ by what the report says was removed."""
    array = np.pad(volume(), ((0, 60), (0, 0), (0, 0)))
    array[60:66, 8:14] = volume()[7:13, 9:15]
    save(tmp_path / "v.nii.gz", array, affine=affine_across(BASE_TO_APEX, (2.0, 2.0, 8.0)))
    found = {}
    for distance in (None, 10):
        config = CONFIG if distance is None else CONFIG | {"keep_within_mm": distance}
        folder = write_bundle(tmp_path / f"b{distance}", config, weights(2.0), "# tiny\n").folder
        report, _ = run(crnn, tmp_path / "v.nii.gz", folder, tmp_path)
        found[distance] = np.asarray(nib.load(tmp_path / "l.nii.gz").dataobj).copy()
    removed = {label["value"]: label["removed_voxels"] for label in report["labels"]}
    assert sum(removed.values()) > 0
    for value, count in removed.items():
        assert int(((found[None] == value) & (found[10] != value)).sum()) == count
    assert not ((found[10] > 0) & (found[10] != found[None])).any()


def test_the_default_model_names_its_licence_and_one_that_is_free(crnn, model, tmp_path):
    save(tmp_path / "v.nii.gz", volume(), affine=affine_across(BASE_TO_APEX))
    ended = crnn("segment", tmp_path / "v.nii.gz", "-o", tmp_path / "l.nii.gz", "--json")
    (fact,) = [each for each in json.loads(ended.out)["facts"] if each["code"] == "non-commercial-weights"]
    assert "CC-BY-NC-SA-4.0: no commercial use" in fact["text"]
    assert "cardiac-lv-clstm is CC0-1.0" in fact["text"]
    report, _ = run(crnn, tmp_path / "v.nii.gz", model, tmp_path)
    assert "non-commercial-weights" not in {each["code"] for each in report["facts"]}
