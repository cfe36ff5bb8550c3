"""``crnn segment --from``: files in, files out, the report, correction, tuning, and a batch."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from crnn_cli.adaptation.drawn_trials import LEAST_GAIN
from crnn_cli.bundles.store import find_bundle
from tests.support.cines import save as save_with
from tests.support.command_line import table_rows
from tests.support.drawn import AFFINE, beating, drawn_in, image_of, small_bundle, truth


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    curve = {"doubt_below": 0.7, "curves": [{"expected": [0.1, 0.9], "dice": [0.2, 0.8]}]}
    measured = {"cases": 20, "dice": 0.88, "nearest": 0.7, "distances": 0.75}
    return small_bundle(tmp_path_factory.mktemp("drawn") / "small", quality=curve, measured=measured)


@pytest.fixture
def scan(tmp_path):
    return save_with(tmp_path / "scan.nii.gz", image_of(truth()).array, affine=AFFINE)


def save(path, labels):
    return save_with(path, labels, affine=AFFINE)


def values_in(path):
    return np.asanyarray(nib.load(path).dataobj)


def test_files_in_files_out(crnn, scan, model, tmp_path):
    drawn, out = save(tmp_path / "drawn.nii", drawn_in(truth(), [1, 4])), tmp_path / "all.nii.gz"
    ended = crnn(
        "segment",
        scan,
        "--from",
        drawn,
        "-o",
        out,
        "--model",
        model,
        "--preview",
        tmp_path / "p.png",
        "--statistics",
        tmp_path / "s.csv",
        "--probabilities",
        tmp_path / "q.nii.gz",
        "--empty",
        9,
    )
    assert ended.code == 0, ended.err
    assert ended.out == b""
    made = values_in(out)
    np.testing.assert_array_equal(made[..., [1, 4]], truth()[..., [1, 4]])
    assert not made[..., 8].any()
    p = values_in(tmp_path / "q_label-2.nii.gz") + values_in(tmp_path / "q_label-5.nii.gz")
    assert (p <= 1 + 1e-5).all()
    np.testing.assert_array_equal((p >= 0.5)[..., [0, 2, 3]], (made > 0)[..., [0, 2, 3]])
    assert {"p.png", "s.csv", "all.json"} <= {file.name for file in tmp_path.iterdir()}
    rows = table_rows(ended.err)
    assert rows["drawn"] == ["slice 2, 5, 9 of 9, axial"]
    assert "small (CC0-1.0)" in rows["method"]
    assert "+0.13 over interpolated distances, +0.18 over" in " ".join(rows["expected gain"])


def test_the_report_says_how_sure_each_slice_is_and_what_to_draw_next(crnn, scan, model, tmp_path):
    drawn, out = save(tmp_path / "drawn.nii", drawn_in(truth(), [2, 6])), tmp_path / "all.nii.gz"
    assert crnn("segment", scan, "--from", drawn, "-o", out, "--model", model).code == 0
    report = json.loads((tmp_path / "all.json").read_text())
    facts = report["drawn"]
    assert [each["slice"] for each in facts["slices"]] == list(range(1, 10))
    assert [each["drawn"] for each in facts["slices"]] == [k in (2, 6) for k in range(9)]
    assert [each["slices_to_drawn"] for each in facts["slices"]] == [2, 1, 0, 1, 2, 1, 0, 1, 2]
    assert facts["slices"][0]["mm_to_drawn"] == 12.0
    predicted = [each["predicted_dice"] for each in facts["slices"]]
    assert all((dice is None) == each["drawn"] for dice, each in zip(predicted, facts["slices"], strict=True))
    assert all(0.2 <= dice <= 0.8 for dice in predicted if dice is not None)
    assert facts["next"]["slice"] not in (3, 7)
    few = tmp_path / "few.nii.gz"
    assert crnn("segment", scan, "--from", drawn, "-o", few, "--model", model, "--slices", "auto:2-4").code == 0
    assert json.loads((tmp_path / "few.json").read_text())["drawn"]["next"]["slice"] in (2, 4)
    assert facts["expected_gain"] == {"dice_over": {"nearest": 0.18, "distances": 0.13}, "cases": 20}
    assert facts["method"] == "network"
    assert [(each["value"], each["name"]) for each in report["labels"]] == [(2, "label 2"), (5, "label 5")]
    assert report["input"]["drawn_file"] == str(drawn)
    assert len(report["input"]["drawn_sha256"]) == 64
    assert report["slices"]["in_stack"] == 9


def test_a_corrected_result_is_known_by_its_report(crnn, scan, tmp_path):
    drawn, out = save(tmp_path / "drawn.nii", drawn_in(truth(), [2])), tmp_path / "all.nii.gz"
    assert crnn("segment", scan, "--from", drawn, "-o", out, "--fill", "nearest").code == 0
    made = nib.load(out)
    corrected = values_in(out).copy()
    corrected[..., [5, 8]] = truth()[..., [5, 8]]
    nib.save(nib.Nifti1Image(corrected, made.affine, made.header), out)
    ended = crnn("segment", scan, "--from", out, "-o", tmp_path / "second.nii.gz", "--fill", "nearest")
    assert ended.code == 0, ended.err
    assert "slices changed since the last result: 6, 9" in ended.err
    assert table_rows(ended.err)["drawn"] == ["slice 3, 6, 9 of 9, axial"]
    second = values_in(tmp_path / "second.nii.gz")
    np.testing.assert_array_equal(second[..., [2, 5, 8]], truth()[..., [2, 5, 8]])
    np.testing.assert_array_equal(second[..., 6], truth()[..., 5])
    wrong = [(values != truth()).sum() for values in (values_in(out), second)]
    assert wrong[1] < wrong[0]


def test_names_of_labels_are_kept(crnn, scan, tmp_path):
    drawn = save(tmp_path / "drawn.nii", drawn_in(truth(), [2]))
    named = {"labels": [{"value": 5, "name": "shell", "colour": [1, 2, 3]}]}
    (tmp_path / "drawn.json").write_text(json.dumps(named))
    assert crnn("segment", scan, "--from", drawn, "-o", tmp_path / "all.nii.gz", "--fill", "nearest").code == 0
    listed = json.loads((tmp_path / "all.json").read_text())["labels"]
    assert [(each["name"], each["colour"]) for each in listed] == [("label 2", [255, 180, 0]), ("shell", [1, 2, 3])]


def test_a_frame_is_followed(crnn, model, tmp_path):
    labels = beating(slices=4)
    cine = save_with(tmp_path / "cine.nii.gz", image_of(labels).array, affine=AFFINE)
    frame = save(tmp_path / "ed.nii.gz", labels[..., 0])
    refused = crnn("segment", cine, "--from", frame, "-o", tmp_path / "f.nii.gz", "--model", model)
    assert refused.code == 4
    assert "--frames 1" in refused.err
    ended = crnn("segment", cine, "--from", frame, "--frames", "1", "-o", tmp_path / "f.nii.gz", "--model", model,
                 "--preview", tmp_path / "f.gif")  # fmt: skip
    assert ended.code == 0, ended.err
    made = values_in(tmp_path / "f.nii.gz")
    assert made.shape == labels.shape
    np.testing.assert_array_equal(made[..., 0], labels[..., 0])
    assert table_rows(ended.err)["drawn"] == ["slice 1-4 of 4, axial, in frame 1 of 8"]
    report = json.loads((tmp_path / "f.json").read_text())
    assert report["closed_cycle"] is True
    assert report["drawn"]["next"]["frame"] in range(2, 7)


def test_tuning_is_judged_repeats_and_is_saved(crnn, scan, model, tmp_path):
    drawn = save(tmp_path / "drawn.nii", drawn_in(truth(), [1, 3, 5, 7]))
    facts = {}
    for name in ("a", "b"):
        ended = crnn("segment", scan, "--from", drawn, "-o", tmp_path / f"{name}.nii.gz", "--model", model,
                     "--steps", 2, "--seed", 3, "--save-adapted", tmp_path / f"bundle_{name}")  # fmt: skip
        assert ended.code == 0, ended.err
        report = json.loads((tmp_path / f"{name}.json").read_text())
        facts[name] = report["drawn"] | {"labels": [label["tuned"] for label in report["labels"]]}
    assert facts["a"]["labels"] == facts["b"]["labels"]
    for label in facts["a"]["labels"]:
        gain = label["left_out_dice"]["after"] - label["left_out_dice"]["before"]
        assert label["used"] == (facts["a"]["tuning"]["used"] and gain >= LEAST_GAIN)
    assert facts["a"]["tuning"]["steps"] == 2
    assert facts["a"]["tuning"]["left_out_dice"]["slices"] == 4
    for each in facts.values():
        each["tuning"].pop("seconds")
    assert facts["a"]["tuning"] == facts["b"]["tuning"]
    np.testing.assert_array_equal(values_in(tmp_path / "a.nii.gz"), values_in(tmp_path / "b.nii.gz"))
    bundles = [find_bundle(str(tmp_path / f"bundle_{name}"), "segment-drawn") for name in ("a", "b")]
    assert bundles[0].sha256 == bundles[1].sha256 == facts["a"]["adapted"]["bundle_sha256"]
    assert bundles[0].drawn.quality is None
    again = crnn("segment", scan, "--from", drawn, "-o", tmp_path / "c.nii.gz", "--model", tmp_path / "bundle_a")
    assert again.code == 0, again.err
    if len({label["used"] for label in facts["a"]["labels"]}) == 1:  # a bundle has one network for all labels
        np.testing.assert_array_equal(values_in(tmp_path / "a.nii.gz"), values_in(tmp_path / "c.nii.gz"))


def test_two_slices_cannot_judge_and_one_cannot_tune(crnn, scan, model, tmp_path):
    two, one = (save(tmp_path / f"{n}.nii", drawn_in(truth(), slices)) for n, slices in ((2, [2, 6]), (1, [4])))
    arguments = ("--model", model, "--steps", 1)
    ended = crnn("segment", scan, "--from", two, "-o", tmp_path / "a.nii.gz", *arguments)
    assert ended.code == 0, ended.err
    assert "nobody knows whether the tuning helped" in ended.err
    ended = crnn("segment", scan, "--from", one, "-o", tmp_path / "b.nii.gz", *arguments)
    assert ended.code == 4
    assert "no frame has two drawn slices" in ended.err


def test_a_model_is_for_its_own_task(crnn, scan, model, tmp_path):
    drawn = save(tmp_path / "drawn.nii", drawn_in(truth(), [2]))
    ended = crnn("segment", scan, "--model", model, "-o", tmp_path / "a.nii.gz")
    assert ended.code == 4
    assert "to label a scan from drawn slices, not to segment" in ended.err
    assert "give drawn slices with --from" in ended.err
    ended = crnn("segment", scan, "--from", drawn, "--model", "hippocampus-clstm", "-o", tmp_path / "a.nii.gz")
    assert ended.code == 4
    assert "is to segment, not to label a scan from drawn slices" in ended.err


def test_what_is_written_is_not_what_is_read(crnn, scan, tmp_path):
    drawn = save(tmp_path / "drawn.nii.gz", drawn_in(truth(), [2]))
    ended = crnn("segment", scan, "--from", drawn, "-o", drawn, "--fill", "nearest", "--force")
    assert ended.code == 2
    assert crnn("segment", "-", "--from", "-", "--fill", "nearest", stdin=scan.read_bytes()).code == 2
    assert crnn("segment", scan, "--from", tmp_path / "none.nii", "--fill", "nearest").code == 3
    np.testing.assert_array_equal(values_in(drawn), drawn_in(truth(), [2]))


def test_labels_go_through_pipes(crnn, scan, tmp_path):
    drawn = save(tmp_path / "drawn.nii.gz", drawn_in(truth(), [2, 6]))
    ended = crnn("segment", scan, "--from", "-", "--fill", "distances", "-o", "-", stdin=drawn.read_bytes())
    assert ended.code == 0, ended.err
    piped = np.asanyarray(nib.Nifti1Image.from_bytes(ended.out).dataobj)
    np.testing.assert_array_equal(piped[..., [2, 6]], truth()[..., [2, 6]])


def test_a_batch_has_drawn_labels_for_each(crnn, scan, tmp_path):
    for name in ("scan", "other"):
        save(tmp_path / f"{name}_drawn.nii", drawn_in(truth(), [2, 6]))
    shutil.copy(scan, tmp_path / "other.nii.gz")
    arguments = ("batch", "segment", scan, tmp_path / "other.nii.gz", "-o", tmp_path / "out", "--fill", "nearest",
                 "--from", tmp_path / "{name}_drawn.nii")  # fmt: skip
    ended = crnn(*arguments)
    assert ended.code == 0, ended.err
    assert {file.name for file in (tmp_path / "out").glob("*.nii.gz")} == {"scan_labels.nii.gz", "other_labels.nii.gz"}
    assert crnn(*arguments, "--resume").code == 0
    save(tmp_path / "other_drawn.nii", drawn_in(truth(), [2, 5]))
    again = crnn(*arguments, "--resume", "--json")
    made = values_in(tmp_path / "out" / "other_labels.nii.gz")
    assert again.code == 0, again.err
    np.testing.assert_array_equal(made[..., 5], truth()[..., 5])
