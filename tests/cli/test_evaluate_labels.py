"""``crnn evaluate`` of label maps: what is measured, which files are label maps, and how each refusal ends."""

import json
import re
import sys

import nibabel as nib
import numpy as np
import pytest

from crnn_cli.io.nifti.intent import LABELS, intent_code
from tests.support.command_line import table_rows
from tests.support.data import data_file

AFFINE = np.diag([-1.5, 2, 8, 1.0])
ENTRY = {
    "value", "name", "dice", "jaccard", "hd95_mm", "mean_surface_distance_mm", "volume_ml", "reference_volume_ml",
    "volume_difference_ml", "volume_difference_percent", "voxels", "reference_voxels", "common_voxels",
    "frames_with_distances",
}  # fmt: skip


def truth(shape=(20, 18, 6)):
    array = np.zeros(shape, np.uint8)
    array[4:10, 4:10, 1:5] = 1
    array[12:16, 4:12, 1:5] = 3
    return array


def moved(array, steps=2):
    return np.roll(array, steps, axis=0)


def save(path, array, affine=AFFINE, intent=0, slope=None, kind=nib.Nifti1Image):
    nifti = kind(array, affine)
    nifti.header.set_xyzt_units("mm", "sec")
    nifti.header.set_intent(intent, allow_unknown=True)
    if slope:
        nifti.header.set_slope_inter(slope, 0)
    nib.save(nifti, path)
    return path


@pytest.fixture
def reference(tmp_path):
    return save(tmp_path / "reference.nii.gz", truth())


@pytest.fixture
def labels(tmp_path):
    return save(tmp_path / "labels.nii.gz", moved(truth()))


@pytest.fixture
def fails(evaluate):
    def run(code, words, *arguments, stdin=None):
        ended = evaluate(*arguments, stdin=stdin, code=code)
        last = ended.err.splitlines()[-1]
        assert last.startswith("error: ")
        assert words in last
        assert ended.err.count("error:") == 1
        return ended

    return run


def by_value(entries):
    return {one["value"]: one for one in entries}


def test_json_by_hand(report, labels, reference):
    found = report(labels, "-r", reference)
    assert (found["image"], found["reference"], found["compared"]) == (str(labels), str(reference), "labels")
    assert (found["geometry_ignored"], found["distances_refused"]) == (False, None)
    first, third = found["labels"]
    assert set(first) == ENTRY
    assert (first["value"], first["name"], third["value"]) == (1, None, 3)
    assert (first["voxels"], first["reference_voxels"], first["common_voxels"]) == (144, 144, 96)
    assert (first["dice"], first["jaccard"]) == pytest.approx((2 / 3, 1 / 2))
    assert (third["dice"], third["jaccard"]) == pytest.approx((1 / 2, 1 / 3))
    assert first["hd95_mm"] == third["hd95_mm"] == pytest.approx(3)
    assert 0 < first["mean_surface_distance_mm"] < 3
    assert first["volume_ml"] == first["reference_volume_ml"] == pytest.approx(144 * 24 / 1000)
    assert (first["volume_difference_ml"], first["volume_difference_percent"]) == (0, 0)
    assert found["mean"]["dice"] == pytest.approx(7 / 12)
    assert found["mean"]["hd95_mm"] == pytest.approx(3)
    assert (found["mean"]["labels"], found["mean"]["labels_with_distances"]) == (2, 2)
    assert (found["format"], found["required"], found["passed"]) == (2, {"dice": None}, None)
    assert found["frames"] == [{"frame": 0, "labels": found["labels"], "mean": found["mean"]}]


def test_differences_are_image_minus_reference(report, tmp_path, reference):
    half = truth()
    half[:, :7] = 0
    [first, third] = report(save(tmp_path / "half.nii", half), "-r", reference)["labels"]
    assert first["volume_difference_ml"] == pytest.approx(-72 * 24 / 1000)
    assert first["volume_difference_percent"] == pytest.approx(-50)
    assert third["volume_difference_percent"] == pytest.approx(-37.5)


def test_identical_maps(report, reference):
    found = report(reference, "-r", reference, "--require-dice", "1")
    assert [found["mean"][name] for name in ("dice", "jaccard", "hd95_mm", "mean_surface_distance_mm")] == [1, 1, 0, 0]
    assert (found["required"], found["passed"]) == ({"dice": 1}, True)


def test_the_table_goes_to_standard_output(evaluate, labels, reference):
    ended = evaluate(labels, "-r", reference)
    assert ended.err == ""
    rows = table_rows(ended.out.decode())
    assert rows["1"][:3] == ["0.6667", "0.5000", "3.00"]
    assert rows["1"][4:] == ["3.456", "+0", "+0.0"]
    assert rows["mean"][:3] == ["0.5833", "0.4167", "3.00"]
    assert b"labels of" in ended.out
    assert b"per frame" not in ended.out
    assert b"per frame" in evaluate(labels, "-r", reference, "--per-frame").out


def test_a_label_in_one_map_only(report, evaluate, tmp_path, reference):
    other = truth()
    other[other == 3] = 5
    image = save(tmp_path / "other.nii", other)
    found = report(image, "-r", reference)
    entries = by_value(found["labels"])
    assert list(entries) == [1, 3, 5]
    for value, percent in ((3, -100), (5, None)):
        one = entries[value]
        assert (one["dice"], one["jaccard"], one["volume_difference_percent"]) == (0, 0, percent)
        assert (one["hd95_mm"], one["mean_surface_distance_mm"], one["frames_with_distances"]) == (None, None, 0)
    assert found["mean"]["dice"] == pytest.approx(1 / 3)
    assert found["mean"]["hd95_mm"] == 0
    assert (found["mean"]["labels"], found["mean"]["labels_with_distances"]) == (3, 1)
    rows = table_rows(evaluate(image, "-r", reference).out.decode())
    assert rows["5"][:4] == ["0.0000", "0.0000", "undefined", "undefined"]
    assert rows["5"][6] == "undefined"


def write_names(image, content):
    image.with_name("labels.json").write_text(content if isinstance(content, str) else json.dumps(content))


def test_names_come_from_the_report_beside_the_image(report, evaluate, labels, reference):
    listed = [{"value": 1, "name": "left [red] ventricle", "colour": [1, 2, 3]}, {"value": 9, "name": "absent"}]
    write_names(labels, {"labels": listed})
    found = report(labels, "-r", reference)
    assert [(one["value"], one["name"]) for one in found["labels"]] == [
        (1, "left [red] ventricle"), (3, None), (9, "absent"),
    ]  # fmt: skip
    rows = table_rows(evaluate(labels, "-r", reference).out.decode())
    assert "1 left [red] ventricle" in rows
    assert rows["9 absent"] == ["absent in both"]


def test_a_label_in_neither_map_is_undefined_and_not_averaged(report, labels, reference):
    before = report(labels, "-r", reference)["mean"]
    write_names(labels, {"labels": [{"value": 9, "name": "absent"}]})
    found = report(labels, "-r", reference, "--require-dice", "0.4")
    absent = by_value(found["labels"])[9]
    undefined = ("dice", "jaccard", "hd95_mm", "mean_surface_distance_mm", "volume_difference_percent")
    assert [absent[name] for name in undefined] == [None] * 5
    assert (absent["voxels"], absent["volume_ml"], absent["volume_difference_ml"]) == (0, 0, 0)
    assert found["mean"] == before
    assert found["passed"]


@pytest.mark.parametrize(
    "content",
    [
        "no json", "[]", "null", "{}", '{"labels": null}', '{"labels": 3}', '{"labels": "abc"}', "[" * 100000,
        '{"labels": [3, null, {"value": 1}, {"name": "x"}, {"value": true, "name": "x"}, {"value": "1", "name": "x"}]}',
        '{"labels": [{"value": 1, "name": 7}, {"value": 1, "name": " "}, {"value": 0, "name": "x"}]}',
        '{"labels": [{"value": -1, "name": "x"}, {"value": 65536, "name": "x"}, {"value": 1.0, "name": "x"}]}',
    ],
)  # fmt: skip
def test_malformed_names_are_ignored(report, labels, reference, content):
    write_names(labels, content)
    assert [(one["value"], one["name"]) for one in report(labels, "-r", reference)["labels"]] == [(1, None), (3, None)]


def test_names_that_are_no_text_are_ignored(report, labels, reference):
    labels.with_name("labels.json").write_bytes(b"\xff\xfe\x00")
    assert report(labels, "-r", reference)["labels"][0]["name"] is None


def test_standard_input_has_no_report_beside_it(report, monkeypatch, labels, reference):
    monkeypatch.chdir(labels.parent)
    labels.with_name("-.json").write_text(json.dumps({"labels": [{"value": 1, "name": "wrong"}]}))
    assert report("-", "-r", reference, stdin=labels.read_bytes())["labels"][0]["name"] is None


def series():
    """Return image and reference of three frames: the same, moved, and a label missing in the image."""
    volume = truth()
    missing = volume.copy()
    missing[missing == 3] = 0
    return np.stack([volume, moved(volume), missing], -1), np.stack([volume, volume, volume], -1)


def test_a_series_is_measured_frame_by_frame_and_together(report, evaluate, tmp_path):
    files = [save(tmp_path / f"{name}.nii.gz", one) for name, one in zip("ab", series(), strict=True)]
    found = report(files[0], "-r", files[1])
    first, third = found["labels"]
    assert [frame["frame"] for frame in found["frames"]] == [0, 1, 2]
    frames = [by_value(frame["labels"]) for frame in found["frames"]]
    assert [one[1]["dice"] for one in frames] == pytest.approx([1, 2 / 3, 1])
    assert [one[3]["dice"] for one in frames] == pytest.approx([1, 1 / 2, 0])
    assert frames[2][3]["hd95_mm"] is None
    assert [frame["mean"]["labels_with_distances"] for frame in found["frames"]] == [2, 2, 1]
    assert third["voxels"] == 2 * third["reference_voxels"] / 3 == 2 * 128
    assert third["dice"] == pytest.approx(2 * (128 + 64) / (5 * 128))
    assert third["volume_ml"] == pytest.approx(2 / 3 * 128 * 24 / 1000)
    assert third["reference_volume_ml"] == pytest.approx(128 * 24 / 1000)
    assert third["volume_difference_percent"] == pytest.approx(-100 / 3)
    assert (first["frames_with_distances"], third["frames_with_distances"]) == (3, 2)
    assert first["hd95_mm"] == pytest.approx((0 + 3 + 0) / 3)
    assert third["hd95_mm"] == pytest.approx((0 + 3) / 2)
    assert third["mean_surface_distance_mm"] == pytest.approx(frames[1][3]["mean_surface_distance_mm"] / 2)
    ended = evaluate(files[0], "-r", files[1])
    assert b"3 frames together" in ended.out
    rows = table_rows(ended.out.decode())
    assert (rows["1"][2], rows["3"][2]) == ("1.00", "1.50 (2/3)")
    shown = evaluate(files[0], "-r", files[1], "--per-frame").out.decode().partition("per frame")[2]
    cells = [line.split() for line in shown.splitlines()[3:]]
    assert [row[:3] for row in cells] == [
        ["1", "1", "1.0000"], ["1", "3", "1.0000"], ["2", "1", "0.6667"], ["2", "3", "0.5000"], ["3", "1", "1.0000"],
        ["3", "3", "0.0000"],
    ]  # fmt: skip


def test_frames_are_volumes_on_their_own(report, tmp_path):
    both = series()
    files = [save(tmp_path / f"{name}.nii", one) for name, one in zip("ab", both, strict=True)]
    frames = report(files[0], "-r", files[1])["frames"]
    for index, frame in enumerate(frames):
        alone = [save(tmp_path / f"{name}{index}.nii", one[..., index]) for name, one in zip("ab", both, strict=True)]
        found = report(alone[0], "-r", alone[1])
        assert (frame["labels"], frame["mean"]) == (found["labels"], found["mean"])


def test_a_label_absent_from_one_frame_of_both_is_said(evaluate, report, tmp_path):
    both = np.stack([truth(), np.where(truth() == 3, 0, truth())], -1).astype(np.uint8)
    file = save(tmp_path / "both.nii", both)
    assert by_value(report(file, "-r", file)["frames"][1]["labels"])[3]["dice"] is None
    assert report(file, "-r", file)["labels"][1]["dice"] == 1
    assert evaluate(file, "-r", file, "--per-frame").out.count(b"absent in both") == 1


def test_a_required_dice_counts_for_each_label_of_the_reference(evaluate, fails, report, tmp_path, labels, reference):
    ended = fails(6, "Dice 0.6 was required, label 3 has 0.5", labels, "-r", reference, "--require-dice", "0.6")
    assert b"0.6667" in ended.out
    fails(6, "label 1 has 0.6667, 3 has 0.5", labels, "-r", reference, "--require-dice", "0.7")
    found = json.loads(evaluate(labels, "-r", reference, "--require-dice", "0.6", "--json", code=6).out)
    assert (found["required"], found["passed"]) == ({"dice": 0.6}, False)
    evaluate(labels, "-r", reference, "--require-dice", "0.5")
    lone, extra = truth(), truth()
    lone[lone == 3] = 0
    extra[0, 0, 0] = 5
    fails(6, "label 3 has 0", save(tmp_path / "lone.nii", lone), "-r", reference, "--require-dice", "0.1")
    assert report(save(tmp_path / "extra.nii", extra), "-r", reference, "--require-dice", "1")["passed"]


def test_a_dice_cannot_be_required_of_nothing(fails, evaluate, tmp_path, reference):
    empty = save(tmp_path / "empty.nii", 0 * truth())
    fails(4, "the reference has no label", reference, "-r", empty, "--require-dice", "0.5")
    ended = evaluate(empty, "-r", empty)
    assert "neither map has a label" in ended.err
    found = json.loads(evaluate(empty, "-r", empty, "--json").out)
    assert (found["labels"], found["mean"]["dice"], found["mean"]["labels"]) == ([], None, 0)


@pytest.mark.parametrize("value", ["1.01", "-0.1", "85", "nan"])
def test_a_dice_lies_between_0_and_1(fails, labels, reference, value):
    fails(2, "between 0 and 1", labels, "-r", reference, "--require-dice", value)


def test_options_for_the_other_kind_are_refused(fails, tmp_path, labels, reference):
    for options in (["--fit-scale"], ["--require-psnr", "3"], ["--require-ssim", "0.3"]):
        fails(2, f"{options[0]} is for images", labels, "-r", reference, *options)
    picture = save(tmp_path / "picture.nii", np.random.default_rng(0).random((12, 12, 3)).astype(np.float32))
    fails(2, "--require-dice is for label maps", picture, "-r", picture, "--require-dice", "0.5")
    fails(2, "--require-dice is for label maps", labels, "-r", reference, "--require-dice", "0.5", "--as-images")
    fails(2, "exclude each other", labels, "-r", reference, "--as-labels", "--as-images")


def test_a_label_map_against_an_image_is_refused(fails, evaluate, tmp_path, labels):
    picture = save(tmp_path / "picture.nii", np.random.default_rng(0).random((20, 18, 6)).astype(np.float32))
    fails(4, "labels.nii.gz (uint8) looks like a label map", labels, "-r", picture)
    fails(4, "picture.nii (float32) like an image", picture, "-r", labels)
    fails(4, "picture.nii is no label map: its value at (0, 0, 0) is", labels, "-r", picture, "--as-labels")
    assert b"PSNR" in evaluate(labels, "-r", picture, "--as-images").out


def test_values_that_mean_other_structures_are_doubted(evaluate, report, tmp_path, reference):
    """Data sets number structures differently; every Dice is then 0, and nothing but the values is wrong."""
    other = truth()
    other[truth() == 1], other[truth() == 3] = 3, 1
    swapped = save(tmp_path / "swapped.nii.gz", other)
    assert [each["code"] for each in report(swapped, "--reference", reference)["doubts"]] == ["labels-differ"]
    for array in (truth(), moved(truth()), moved(truth(), 4), np.where(truth() == 1, 1, 0).astype(np.uint8)):
        assert report(save(tmp_path / "a.nii.gz", array), "-r", reference)["doubts"] == []
        (tmp_path / "a.nii.gz").unlink()
    for file, names in ((swapped, ("LV", "RV")), (reference, ("RV", "LV"))):
        listed = [{"value": value, "name": name} for value, name in zip((1, 3), names, strict=True)]
        file.with_name(file.name.replace(".nii.gz", ".json")).write_text(json.dumps({"labels": listed}))
    told = report(swapped, "--reference", reference)["doubts"]
    assert "label 1 LV of" in told[0]["text"]
    assert "has the value 3" in told[0]["text"]


def test_what_is_taken_for_a_label_map(report, evaluate, tmp_path, reference):
    def compared(array, **options):
        file = save(tmp_path / "tried.nii", array, **options)
        return report(file, "-r", file)["compared"]

    many = np.arange(20 * 18 * 6).reshape(20, 18, 6)
    assert compared(truth().astype(np.int32)) == "labels"
    assert compared((many % 64).astype(np.int16)) == "labels"
    assert compared((many % 65).astype(np.int16)) == "images"
    assert compared((many % 64 - 1).astype(np.int16)) == "images"
    assert compared(truth(), slope=0.5) == "labels", "the scale is left off"
    assert compared(truth(), slope=2) == "labels"
    assert compared(truth().astype(np.float32)) == "images"
    assert compared(truth().astype(np.float32), intent=LABELS) == "labels"
    assert compared((many % 65).astype(np.int16), intent=LABELS) == "labels"
    assert b"PSNR" in evaluate(reference, "-r", reference, "--as-images").out


def test_labels_in_floating_point(report, evaluate, fails, tmp_path, labels, reference):
    floats = save(tmp_path / "floats.nii", truth().astype(np.float64))
    expected = report(labels, "-r", reference)["labels"]
    assert report(labels, "-r", floats)["labels"] == expected
    assert report(floats, "-r", reference)["mean"]["dice"] == 1
    assert report(floats, "-r", floats, "--as-labels")["compared"] == "labels"
    ended = evaluate(floats, "-r", floats)
    assert b"PSNR" in ended.out
    assert "compared as images, not as label maps" in ended.err
    assert "label maps" not in evaluate(floats, "-r", floats, "--as-images").err
    half = save(tmp_path / "half.nii", truth() / 2)
    fails(4, "half.nii (float64) like an image", half, "-r", reference)
    assert "label maps" not in evaluate(half, "-r", half).err


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("name", ["intent.nii", "intent.nii.gz"])
@pytest.mark.parametrize("code", [0, LABELS, 1001])
def test_intent_codes(tmp_path, kind, name, code):
    content = save(tmp_path / name, truth(), intent=code, kind=kind).read_bytes()
    assert intent_code(content) == code
    big = kind(truth(), AFFINE, kind.header_class(endianness=">"))
    big.header.set_intent(code, allow_unknown=True)
    assert intent_code(big.to_bytes()) == code


@pytest.mark.parametrize(("value", "words"), [(0.5, "is 0.5"), (-2, "is -2"), (np.nan, "is nan"), (70000, "is 70000")])
def test_forced_or_meant_label_maps_must_be_whole_numbers(fails, tmp_path, reference, value, words):
    broken = truth().astype(np.float32)
    broken[3, 2, 1] = value
    forced, meant = save(tmp_path / "f.nii", broken), save(tmp_path / "m.nii", broken, intent=LABELS)
    fails(4, f"f.nii is no label map: its value at (3, 2, 1) {words}", forced, "-r", reference, "--as-labels")
    fails(4, f"f.nii is no label map: its value at (3, 2, 1) {words}", reference, "-r", forced, "--as-labels")
    fails(4, "m.nii is no label map", meant, "-r", reference)


def test_complex_is_no_label_map(fails, tmp_path, reference):
    image = save(tmp_path / "c.nii", truth().astype(np.complex64))
    fails(4, "its values are complex", image, "-r", reference, "--as-labels")


def test_geometry_must_agree(fails, evaluate, report, tmp_path, labels, reference):
    shifted, wide = AFFINE.copy(), AFFINE.copy()
    shifted[0, 3] += 0.01
    wide[0, 0] *= 2
    image = save(tmp_path / "shifted.nii", moved(truth()), shifted)
    fails(4, "corners lie up to 0.01 mm apart", image, "-r", reference)
    found = report(image, "-r", reference, "--ignore-geometry")
    assert found["geometry_ignored"]
    assert found["labels"] == report(labels, "-r", reference)["labels"]
    assert "ignored as asked" in evaluate(image, "-r", reference, "--ignore-geometry").err
    scaled = report(save(tmp_path / "wide.nii", moved(truth()), wide), "-r", reference, "--ignore-geometry")
    assert scaled["labels"] == found["labels"]
    short = save(tmp_path / "short.nii", truth((20, 18, 5)))
    for option in ([], ["--ignore-geometry"], ["--as-labels"]):
        fails(4, "short.nii is 20 x 18 x 5 x 1", short, "-r", reference, *option)


def test_a_sheared_grid_has_overlap_and_volume_but_no_distances(report, evaluate, tmp_path):
    sheared = AFFINE.copy()
    sheared[0, 2] = 1
    files = [save(tmp_path / f"{i}.nii", one, sheared) for i, one in enumerate((moved(truth()), truth()))]
    found = report(files[0], "-r", files[1])
    assert "sheared" in found["distances_refused"]
    first = found["labels"][0]
    assert (first["dice"], first["hd95_mm"], first["mean_surface_distance_mm"]) == (pytest.approx(2 / 3), None, None)
    assert first["volume_ml"] == pytest.approx(144 * 24 / 1000)
    ended = evaluate(files[0], "-r", files[1])
    assert "warning: no surface distances: the voxel grid is sheared" in ended.err
    assert table_rows(ended.out.decode())["1"][2] == "undefined"


def test_the_voxel_size_beside_an_affine_that_lost_it_counts(report, evaluate, tmp_path, labels, reference):
    files = []
    for name, array in (("image", moved(truth())), ("reference", truth())):
        nifti = nib.Nifti1Image(array, np.eye(4))
        nifti.header["pixdim"][1:4] = (1.5, 2, 8)
        files.append(tmp_path / f"lost_{name}.nii")
        files[-1].write_bytes(nifti.to_bytes())
    found, expected = report(files[0], "-r", files[1])["labels"], report(labels, "-r", reference)["labels"]
    for one, other in zip(found, expected, strict=True):
        assert one == {**other, **{name: pytest.approx(v) for name, v in other.items() if isinstance(v, float)}}
    assert "sizes go by the 1.5 x 2 x 8 mm" in evaluate(files[0], "-r", files[1]).err
    assert "lost" not in evaluate(labels, "-r", reference).err


def test_bad_files(fails, tmp_path, labels, reference):
    fails(3, "missing.nii does not exist", tmp_path / "missing.nii", "-r", reference)
    fails(3, "missing.nii does not exist", labels, "-r", tmp_path / "missing.nii", "--as-labels")
    colours = np.zeros((20, 18, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    fails(4, "RGB", save(tmp_path / "rgb.nii", colours), "-r", reference, "--as-labels")
    fails(4, "5-D", save(tmp_path / "five.nii", truth().reshape(20, 18, 6, 1, 1).repeat(2, 4)), "-r", reference)
    content = reference.read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(content[: len(content) // 2])
    fails(3, "truncated", tmp_path / "cut.nii.gz", "-r", reference)


def test_either_file_may_be_standard_input(report, fails, labels, reference):
    expected = report(labels, "-r", reference)["labels"]
    piped = report("-", "-r", reference, stdin=labels.read_bytes())
    assert (piped["image"], piped["labels"]) == ("standard input", expected)
    assert report(labels, "-r", "-", stdin=reference.read_bytes())["labels"] == expected
    fails(2, "cannot both be standard input", "-", "-r", "-", stdin=labels.read_bytes())


def test_axes(report, tmp_path):
    volume, stored = truth()[:, :, 2:3], truth()[:, :, 2].T[:, :, None].repeat(3, 2)
    ordered = save(tmp_path / "ordered.nii", moved(volume[..., None].repeat(3, 3)))
    raw = save(tmp_path / "raw.nii", stored, AFFINE[:, [1, 0, 2, 3]])
    found = report(ordered, "-r", raw, "--reference-axes", "y,x,t")
    assert len(found["frames"]) == 3
    assert found["labels"][0]["hd95_mm"] == pytest.approx(3)


def test_json_comes_alone(crnn, labels, reference):
    for options in (["-q"], []):
        ended = crnn(*options, "evaluate", labels, "-r", reference, "--json")
        assert ended.err == ""
        json.loads(ended.out)


def test_help_states_the_rules(evaluate):
    text = re.sub(r"[│\s]+", " ", evaluate("--help").out.decode())
    for words in (
        "crnn evaluate labels.nii.gz --reference manual.nii.gz --require-dice 0.85", "at most 64 distinct values",
        "Dice and Jaccard are 0 and its distances undefined", "in neither, all four are undefined",
        "the larger of the 95th percentiles", "voxels are added up before Dice", "image minus reference",
        "--as-labels", "--as-images", "--require-dice",
    ):  # fmt: skip
        assert words in text


def test_help_loads_nothing_heavy():
    import subprocess

    code = (
        "import sys\nfrom crnn_cli.cli.app import main\nsys.argv = ['crnn', 'evaluate', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'nibabel', 'numpy', 'SimpleITK'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_labels_need_no_torch(labels, reference):
    import subprocess

    code = (
        "import sys\nfrom crnn_cli.cli.app import main\n"
        f"sys.argv = ['crnn', 'evaluate', {str(labels)!r}, '-r', {str(reference)!r}]\n"
        "try: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_real_label_maps(report, fails):
    folder = ("acdc_labelled", "patient001")
    first, second = (data_file(*folder, f"patient001_frame{n}_gt.nii.gz") for n in ("01", "12"))
    found = report(first, "-r", second)
    assert [one["value"] for one in found["labels"]] == [1, 2, 3]
    left = by_value(found["labels"])[3]
    assert 0.5 < left["dice"] < 1
    assert left["volume_difference_ml"] > 0
    fails(4, "looks like a label map", first, "-r", data_file(*folder, "patient001_frame01.nii.gz"))


def test_real_hippocampus_labels(report):
    folder = data_file("hippocampus", "labels")
    integers, floats = (folder / f"hippocampus_{number}.nii.gz" for number in ("001", "003"))
    for file, option in ((integers, []), (floats, ["--as-labels"])):
        found = report(file, "-r", file, "--require-dice", "1", *option)
        assert found["compared"] == "labels"
        assert found["mean"]["hd95_mm"] == 0
        assert 1 < found["labels"][0]["volume_ml"] < 10
