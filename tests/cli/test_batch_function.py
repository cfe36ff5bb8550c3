"""``crnn batch function``: the numbers of single commands in one table, a true summary, and reviews that count."""

import csv
import json
import statistics
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from crnn_cli.errors import OutputError
from crnn_cli.report.page.review import KIND, ReviewForm, draw_review
from tests.cardiac.hearts import heart

BEATS = {"anna": 0.2, "bert": 0.3, "carl": 0.4}


@pytest.fixture(scope="module")
def hearts():
    """Label maps of three hearts that contract more and more; the second has lost the size of its voxels."""
    angle = np.pi * np.arange(8) / 8
    return {name: heart(frames=8, beat=1 - share * np.sin(angle) ** 2) for name, share in BEATS.items()}


@pytest.fixture
def folder(hearts, tmp_path):
    made = tmp_path / "in"
    made.mkdir()
    for name, labels in hearts.items():
        affine = np.diag([*np.linalg.norm(labels.affine[:3, :3], axis=0), 1])
        if name == "bert":
            affine = np.eye(4)
        image = nib.Nifti1Image(labels.array, affine)
        image.header.set_xyzt_units("mm", "sec")
        image.header["pixdim"][4] = 0.04
        nib.save(image, made / f"{name}_gt.nii.gz")
    nib.save(nib.Nifti1Image(np.random.default_rng(1).random((8, 8, 8), np.float32), np.eye(4)), made / "anna.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((8, 8, 8), np.uint8), np.eye(4)), made / "body_mask.nii.gz")
    return made


@pytest.fixture
def batch(crnn, tmp_path):
    def run(*arguments, code=0, out="out", as_json=True):
        more = ["--json"] if as_json else []
        ended = crnn("batch", "function", *arguments, "-o", tmp_path / out, "--labels", "acdc", *more)
        assert ended.code == code, ended.err
        assert "Traceback" not in ended.err
        return ended, [json.loads(line) for line in ended.out.decode().splitlines()] if as_json else []

    return run


def table(folder, name="cohort.csv"):
    with (folder / name).open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def summary(folder):
    return json.loads((folder / "cohort_summary.json").read_text())


def review(path, sha256, verdict, note="", date="2026-01-01T00:00:00.000Z", **model):
    content = {"kind": KIND, "format": 1, "case": path.name, "input_sha256": sha256, "verdict": verdict, "note": note,
               "date": date, **model}  # fmt: skip
    path.write_text(json.dumps(content))


def test_a_row_is_what_a_single_command_says_and_the_summary_is_of_all(crnn, batch, folder, tmp_path):
    ended, lines = batch(folder, "--page", "{name}.html")
    assert [Path(line["input"]).name for line in lines] == [f"{name}_gt.nii.gz" for name in BEATS]
    assert "anna.nii.gz" in ended.err and "body_mask.nii.gz" in ended.err  # noqa: PT018
    rows = table(tmp_path / "out")
    for line, name in zip(lines, BEATS, strict=True):
        single = tmp_path / f"{name}.csv"
        assert crnn("function", folder / f"{name}_gt.nii.gz", "--labels", "acdc", "--csv", single).code == 0
        (expected,) = csv.DictReader(single.open())
        row = rows[f"{name}_gt"]
        assert {key: row[key] for key in expected if key != "case"} == {
            k: v for k, v in expected.items() if k != "case"
        }
        assert line["case"]["left_ejection_fraction_percent"] == float(row["left_ejection_fraction_percent"])
        assert (tmp_path / "out" / f"{name}_gt.html").exists()
    assert rows["bert_gt"]["left_edv_ml"] == ""
    assert "the file has lost it" in rows["bert_gt"]["refused"]
    found = summary(tmp_path / "out")
    fractions = [float(row["left_ejection_fraction_percent"]) for row in rows.values()]
    stated = found["statistics"]["left_ejection_fraction"]
    assert (stated["n"], stated["unit"]) == (3, "%")
    assert stated["mean"] == pytest.approx(statistics.fmean(fractions), rel=1e-5)
    assert stated["sd"] == pytest.approx(statistics.stdev(fractions), rel=1e-5)
    assert found["statistics"]["left_edv"]["n"] == 2
    assert [each["cases"] for each in found["refused"]] == [["bert_gt"]]


def test_what_fails_has_its_reason_in_table_and_summary(batch, folder, tmp_path):
    (folder / "aaa_labels.nii.gz").write_bytes(b"junk")
    ended, _ = batch(folder, "--keep-going", code=7, as_json=False)
    row = table(tmp_path / "out")["aaa_labels"]
    assert (row["status"], row["in_summary"]) == ("failed", "no")
    assert "not a NIfTI" in row["error"]
    (failed,) = summary(tmp_path / "out")["failed"]
    assert (failed["case"], failed["exit_code"]) == ("aaa_labels", 3)
    printed = " ".join(ended.out.decode().split())
    assert "4, of them 3 in the summary" in printed
    assert "failed: aaa_labels" in printed
    stopped, _ = batch(folder, out="other", code=7)
    assert "nothing was begun after that" in stopped.err
    assert list(table(tmp_path / "other")) == ["aaa_labels"]
    assert (summary(tmp_path / "other")["not_finished"], summary(tmp_path / "out")["not_finished"]) == (3, 0)
    again, _ = batch(folder, "--force", out="other", code=7, as_json=False)
    assert "not finished 3 more" in " ".join(again.out.decode().split())


def test_resume_does_again_what_has_changed_and_the_table_is_of_all(batch, folder, tmp_path):
    batch(folder, "--plot", "{name}.png")
    first = table(tmp_path / "out")

    def resumed(*arguments):
        _, lines = batch(folder, "--plot", "{name}.png", "--resume", *arguments)
        return "".join(line["status"][0] for line in lines)

    assert resumed() == "sss"
    again = table(tmp_path / "out")
    assert {name: row | {"status": ""} for name, row in again.items()} == {
        name: row | {"status": ""} for name, row in first.items()
    }
    path = tmp_path / "out" / "anna_gt_function.json"
    path.write_text(path.read_text().replace('"end_systole": 5', '"end_systole": 6'))
    (tmp_path / "out" / "bert_gt.png").unlink()
    assert resumed() == "dds"
    assert table(tmp_path / "out")["anna_gt"]["end_systole"] == first["anna_gt"]["end_systole"]
    (folder / "carl_gt.nii.gz").write_bytes((folder / "anna_gt.nii.gz").read_bytes())
    assert resumed() == "ssd"
    assert resumed("--height", 180, "--weight", 80) == "ddd"


def test_a_case_that_a_reviewer_doubts_is_marked_and_left_out(batch, folder, tmp_path):
    _, lines = batch(folder)
    sha256 = {name: json.loads(Path(line["output"]).read_text())["input"]["sha256"]
              for name, line in zip(BEATS, lines, strict=True)}  # fmt: skip
    reviews = tmp_path / "reviews"
    reviews.mkdir()
    review(reviews / "anna_gt.review.json", sha256["anna"], "doubtful", "base")
    review(reviews / "carl_gt.review.json", sha256["carl"], "doubtful")
    review(reviews / "carl_gt.review (1).json", sha256["carl"], "good", "=1+1", date="2026-02-01T00:00:00.000Z")
    review(reviews / "bert_gt.review.json", "0" * 64, "doubtful")
    ended, _ = batch(folder, "--resume", "--reviewed", reviews)
    rows, found = table(tmp_path / "out"), summary(tmp_path / "out")
    assert [row["in_summary"] for row in rows.values()] == ["no", "yes", "yes"]
    assert [row["review"] for row in rows.values()] == ["doubtful", "", "good"]
    assert rows["carl_gt"]["review_note"] == "'=1+1"  # no formula
    assert found["doubtful"] == [{"case": "anna_gt", "note": "base"}]
    assert (found["in_summary"], found["statistics"]["left_ejection_fraction"]["n"]) == (2, 2)
    assert found["statistics"]["left_edv"]["mean"] == pytest.approx(float(rows["carl_gt"]["left_edv_ml"]))
    assert found["statistics"]["left_edv"]["sd"] is None
    assert "carl_gt.review (1).json" in ended.err
    assert found["reviews_of_no_case"] == ["bert_gt.review.json"]
    assert "bert_gt.review.json" in ended.err


@pytest.mark.parametrize("content", ["{}", "[1]", '{"kind": 3}', "no json", "[" * 10**5])
def test_a_review_that_is_none_ends_the_batch_before_it_begins(batch, folder, tmp_path, content):
    (tmp_path / "reviews").mkdir()
    (tmp_path / "reviews" / "anna.review.json").write_text(content)
    ended, _ = batch(folder, "--reviewed", tmp_path / "reviews", code=3)
    assert "no review of crnn" in ended.err
    assert not list((tmp_path / "out").iterdir())


def test_a_table_is_not_replaced_unasked_and_shares_have_their_own(batch, folder, tmp_path):
    for share in ("1/2", "2/2"):
        batch(folder, "--shard", share)
    names = [list(table(tmp_path / "out", f"cohort_{share}of2.csv")) for share in (1, 2)]
    assert names == [["anna_gt", "carl_gt"], ["bert_gt"]]
    batch(folder, "--resume")
    assert len(table(tmp_path / "out")) == 3
    ended, _ = batch(folder, code=1)
    assert "cohort.csv exists already" in ended.err
    assert "--resume" in ended.err
    assert "is no folder of reviews" in batch(folder, "--reviewed", tmp_path / "absent", out="other", code=3)[0].err


def test_numbers_are_said_though_their_tables_do_not_fit_on_the_disk(batch, folder, monkeypatch):
    def full(*arguments):
        raise OutputError("cannot write cohort.csv: the disk is full")

    monkeypatch.setattr("crnn_cli.workflows.function.cohort.cohort_outputs", full)
    ended, _ = batch(folder, code=1, as_json=False)
    assert "3, of them 3 in the summary" in ended.out.decode()
    assert "the disk is full: the reports of all cases are kept, and --resume makes the tables of them" in ended.err


@pytest.mark.parametrize(
    ("shard", "name"), [((), "cohort"), (("--shard", "1/2"), "cohort_1of2"), (("--shard", "2/2"), "cohort")]
)
def test_a_case_never_takes_the_name_of_the_table(batch, folder, tmp_path, shard, name):
    (folder / "bert_gt.nii.gz").rename(folder / f"{name}.nii.gz")
    ended, _ = batch(folder, "--csv", "{name}.csv", *shard, code=2)
    table = tmp_path / "out" / f"{name}.csv"
    assert f"the table of the batch and {folder / name}.nii.gz would both be written to {table}" in ended.err
    assert not (tmp_path / "out").exists()
    batch(folder, "--csv", "{name}_numbers.csv", *shard)


def test_label_maps_need_no_model_and_cines_load_it_once(crnn, batch, folder, tmp_path, monkeypatch):
    from crnn_cli.workflows.segment import engine

    loads, load = [], engine.prepare
    monkeypatch.setattr(engine, "prepare", lambda options: (loads.append(1), load(options))[1])
    batch(folder)
    assert loads == []
    from tests.support.data import ROOT

    stack = ROOT / "sample_data/pig_stack.nii.gz"
    for name in ("a", "b"):
        (tmp_path / f"{name}.nii.gz").write_bytes(stack.read_bytes())
    arguments = [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", "-o", tmp_path / "cines"]
    assert crnn("batch", "function", *arguments).code == 0
    assert loads == [1]
    assert crnn("batch", "function", *arguments, "--resume").code == 0
    assert [row["status"] for row in table(tmp_path / "cines").values()] == ["skipped", "skipped"]
    report = json.loads((tmp_path / "cines" / "a_function.json").read_text())
    reviews, sha256, model = tmp_path / "reviews", report["input"]["sha256"], report["model"]["sha256"]
    reviews.mkdir()
    review(reviews / "a.review.json", sha256, "good", model_sha256=model)
    review(reviews / "b.review.json", sha256, "doubtful", date="2026-02-01T00:00:00.000Z", model_sha256="0" * 64)
    ended = crnn("batch", "function", *arguments, "--resume", "--reviewed", reviews)
    assert [row["review"] for row in table(tmp_path / "cines").values()] == ["good", "good"]
    assert "labelled by another model: b.review.json" in ended.err
    assert model in draw_review(ReviewForm("a", sha256, model))
