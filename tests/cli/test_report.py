"""``crnn reconstruct --report --hold-out-folds --max-residual`` and ``crnn report``: true numbers, honest pages."""

import hashlib
import json

import nibabel as nib
import numpy as np
import pytest

from crnn_cli.assessment.reliability import SMALL
from crnn_cli.data.geometry import displayed_slice
from crnn_cli.data.image import Image
from crnn_cli.report import montage as preview
from crnn_cli.workflows.reconstruct import pictures
from crnn_cli.workflows.reconstruct.result import decide_folds
from tests.cli.test_raw_reconstruct import AXES, measured
from tests.report.test_page import parsed
from tests.support.cines import AFFINE, lines_mask, moving_cine, save, to_images, to_kspace
from tests.support.command_line import table_rows
from tests.support.dicom import write_series


@pytest.fixture
def wide(tmp_path):
    """Return a scan with lines to spare outside the centre: its k-space, its mask, and the file."""
    truth, mask = moving_cine(24, 40, 2, 6), lines_mask(24, 40, 6)
    kspace = to_kspace(truth) * mask
    return kspace, mask, save(tmp_path / "wide.nii", to_images(kspace).astype(np.complex64))


@pytest.fixture
def run(crnn, bundle, tmp_path):
    """Return a function that reconstructs into o.nii and gives its report."""

    def run(scan, *more, code=0, out="o.nii", model=True):
        network = ["--model", bundle] if model else []
        ended = crnn("reconstruct", scan, *network, "-o", tmp_path / out, *more)
        assert ended.code == code, ended.err
        assert "Traceback" not in ended.err
        return json.loads((tmp_path / "o.json").read_text()), ended

    return run


def rows(tree):
    return {row[0].text: row[1].text for row in tree.iter("tr")}


def test_the_report_says_what_numpy_says(run, wide, tmp_path):
    _, mask, file = wide
    found, ended = run(file, "--complex")
    made = to_kspace(np.asanyarray(nib.load(tmp_path / "o.nii").dataobj))
    reliability = found["reliability"]
    energy = (abs(made) ** 2).sum((0, 1, 2))
    free = (abs(made * (1 - mask)) ** 2).sum((0, 1, 2))
    assert reliability["null_space_energy_fraction"]["overall"] == pytest.approx(free.sum() / energy.sum(), rel=1e-4)
    assert reliability["null_space_energy_fraction"]["per_frame"] == pytest.approx(list(free / energy), rel=1e-4)
    assert reliability["residual"]["overall"] < 1e-3
    assert reliability["residual"]["samples"] == 2 * mask.sum()
    held = reliability["held_out"]
    assert held["folds"] == 1
    assert 0.05 < held["overall"] < 1.5
    assert len(held["per_frame"]) == 6
    assert held["samples"] % 24 == 0
    assert found["output_sha256"] == hashlib.sha256((tmp_path / "o.nii").read_bytes()).hexdigest()
    assert "of 40 lines a frame" in found["pattern"]
    table = table_rows(ended.err)
    share = reliability["null_space_energy_fraction"]["overall"]
    assert table["not determined by the data"][0].startswith(f"{100 * share:.3g} %")
    assert table["residual at lines held out"][0].startswith(f"{held['overall']:.3f}")


@pytest.mark.parametrize(("limit", "code", "verdict"), [(5, 0, "passed: "), (1e-6, 6, "NOT passed: ")])
def test_the_page_says_when_what_and_whether_it_passed_with_every_doubt_by_its_code(
    run, wide, tmp_path, limit, code, verdict
):
    timeless = nib.load(wide[2])
    timeless.header["pixdim"][4] = 0
    nib.save(timeless, tmp_path / "timeless.nii")
    page = tmp_path / "o.html"
    found, _ = run(tmp_path / "timeless.nii", "--max-residual", limit, "--report", page, code=code)
    tree = parsed(page.read_text(), scripts=1)
    shown = rows(tree)
    assert shown["verdict"].startswith(verdict)
    assert f"{found['reliability']['held_out']['overall']:.4g} at lines held out" in shown["verdict"]
    assert shown["date"] == found["date"]
    assert shown["images"].startswith("24 x 40 x 2 x 6 (x, y, z, t)")
    assert "frame time not known" in shown["images"]
    assert "8.0256 mm" in shown["images"]
    assert "axes run to RAS" in shown["images"]
    notes = [p.text for p in tree.iter("p")]
    assert any(verdict.strip(": ") in note for note in notes) == (code == 6)
    assert found["doubts"]
    for doubt in found["doubts"]:
        assert f"{doubt['text']} ({doubt['code']})" in notes


def test_folds_cost_runs_and_change_no_voxel(run, wide, tmp_path):
    found = {}
    for folds in (0, 1, 2):
        found[folds], _ = run(wide[2], "--hold-out-folds", folds, "--force")
        found[folds]["bytes"] = (tmp_path / "o.nii").read_bytes()
    assert found[0]["bytes"] == found[1]["bytes"] == found[2]["bytes"]
    one, two = (found[folds]["reliability"]["held_out"] for folds in (1, 2))
    assert found[0]["reliability"]["held_out"] == {"folds": 0, "share": 0.1, "reason": "not asked for"}
    assert one["samples"] < two["samples"] <= 2 * one["samples"]


def test_a_scan_that_is_large_is_judged_when_asked_for():
    small, large = (SMALL // 2, 2), (SMALL // 2 + 1, 2)
    assert [decide_folds(asked, small, False) for asked in (None, 0, 2)] == [1, 0, 2]
    assert [decide_folds(asked, large, False) for asked in (None, 0, 2)] == [0, 0, 2]
    assert [decide_folds(asked, large, True) for asked in (None, 0)] == [1, 0]


@pytest.mark.parametrize(("folds", "doubted"), [((), True), (("--hold-out-folds", 0), False)])
def test_a_threshold_that_no_lines_held_out_can_judge_is_doubted_unless_none_were_wanted(run, tmp_path, folds, doubted):
    mask = np.zeros((1, 40, 1, 6), bool)
    mask[:, 16:24] = mask[:, 4, :, 0] = mask[:, 36, :, 1] = True  # central lines, and two others
    kspace = to_kspace(moving_cine(24, 40, 2, 6)) * mask
    central = save(tmp_path / "central.nii", to_images(kspace).astype(np.complex64))
    found, _ = run(central, "--max-residual", 0.5, *folds)
    assert found["reliability"]["held_out"].get("overall") is None
    assert ("threshold-of-samples" in [doubt["code"] for doubt in found["doubts"]]) == doubted


@pytest.mark.parametrize("folds", [0, 1])
def test_a_threshold_ends_with_6_after_the_images_were_written(run, wide, folds):
    found, _ = run(wide[2], "--hold-out-folds", folds, "--noise-ratio", 0.5)
    value = found["reliability"]["held_out" if folds else "residual"]["overall"]
    how = (wide[2], "--hold-out-folds", folds, "--noise-ratio", 0.5, "--force", "--max-residual")
    run(*how, 1.01 * value)
    found, ended = run(*how, 0.99 * value, code=6)
    assert (found["max_residual"], found["passed"]) == (0.99 * value, False)
    assert f"{value:.4g}" in ended.err
    assert f"{0.99 * value:g}" in ended.err
    assert ("held out" in ended.err.splitlines()[-1]) == bool(folds)


def test_the_page_holds_the_numbers_pictures_and_provenance(run, wide, tmp_path, bundle):
    found, _ = run(wide[2], "--report", tmp_path / "p.html")
    text = (tmp_path / "p.html").read_text("utf-8")
    tree = parsed(text, scripts=1)
    table = rows(tree)
    assert table["data"] == found["origin"]
    assert table["residual at lines held out"].startswith(f"{found['reliability']['held_out']['overall']:.3f}")
    assert table["sha256 of the weights"] == found["model"]["sha256"]
    assert table["sha256 of the input"] == hashlib.sha256(wide[2].read_bytes()).hexdigest()
    assert table["made by"] == found["tool"]
    assert len(list(tree.iter("img"))) == 2
    assert sum(e.tag.endswith("svg") for e in tree.iter()) == 2
    assert "Not for diagnostic use." in text
    assert "SIMULATED" not in text


def test_the_map_shows_where_the_data_are_silent(run, wide, tmp_path, monkeypatch):
    """The map of the page is the root mean square over time of what lies outside the mask."""
    seen, still = [], preview.still_picture
    monkeypatch.setattr(
        preview, "still_picture", lambda panels, *a, **k: (seen.append(panels), still(panels, *a, **k))[1]
    )
    run(wide[2], "--report", tmp_path / "p.html", "--complex")
    made = np.asanyarray(nib.load(tmp_path / "o.nii").dataobj)
    free = to_images(to_kspace(made) * (1 - wide[1]))
    expected = np.sqrt((abs(free) ** 2).mean(-1, keepdims=True))
    shown = seen[1][1]
    np.testing.assert_allclose(shown.frames_TYX, displayed_slice(Image(expected, AFFINE), 1), atol=1e-5)
    assert shown.gain in pictures.GAINS
    assert shown.label == f"not determined x {shown.gain}"


def test_raw_k_space_of_several_coils_has_a_page_too(crnn, tmp_path):
    np.save(tmp_path / "k.npy", measured(acceleration=3)[1])
    ended = crnn(
        "reconstruct", tmp_path / "k.npy", "--axes", AXES, "--method", "sense", "-o", tmp_path / "o.nii",
        "--report", tmp_path / "p.html",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    found = json.loads((tmp_path / "o.json").read_text())["reliability"]
    assert 0 < found["null_space_energy_fraction"]["overall"] < 0.1  # the coils tell most of it
    assert 0 < found["held_out"]["overall"] < 1
    assert rows(parsed((tmp_path / "p.html").read_text(), scripts=1))["method"] == "CG-SENSE"


def test_images_to_standard_output_may_have_a_page(crnn, wide, bundle, tmp_path):
    ended = crnn("reconstruct", wide[2], "--model", bundle, "-o", "-", "--report", tmp_path / "p.html")
    assert ended.code == 0, ended.err
    assert len(ended.out) > 1000
    assert "standard output" in (tmp_path / "p.html").read_text()


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--report", "no/p.html"], 1, "does not exist"),
        (["--report", "p.pdf"], 2, ".html"),
        (["--report", "-"], 2, ".html"),
        (["--report", "o.nii"], 2, ".html"),
        (["--report", "p.html", "--preview", "p.png", "--save-maps", "p.png"], 2, "twice"),
        (["--report", "taken.html"], 1, "--force"),
        (["--hold-out-folds", 3], 2, "2"),
        (["--max-residual", -1], 2, "0"),
    ],
)
def test_what_cannot_be_meant_leaves_nothing(crnn, wide, bundle, tmp_path, monkeypatch, more, code, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.html").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    ended = crnn("reconstruct", wide[2], "--model", bundle, "-o", "o.nii", *more)
    assert (ended.code, said in ended.err) == (code, True), ended.err
    assert sorted(tmp_path.rglob("*")) == before


def test_odd_data_is_judged_or_said_not_to_be(crnn, tmp_path):
    full = measured(acceleration=1, centre=0)[1]
    thin = np.zeros_like(full)
    for t in range(full.shape[2]):
        thin[:, :, t, 3 * t] = full[:, :, t, 3 * t]
    hollow = measured(acceleration=2, centre=0)[1]
    hollow[1] = 0
    found = {}
    for name, kspace in {"full": full, "thin": thin, "hollow": hollow}.items():
        np.save(tmp_path / "k.npy", kspace[:, :1])
        arguments = ("--axes", AXES, "--method", "sliding-window", "-o", tmp_path / "o.nii", "--force")
        ended = crnn("reconstruct", tmp_path / "k.npy", *arguments, "--report", tmp_path / "p.html")
        assert ended.code == 0, ended.err
        found[name] = json.loads((tmp_path / "o.json").read_text())["reliability"]
        parsed((tmp_path / "p.html").read_text(), scripts=1)
    assert "fully sampled" in found["full"]["held_out"]["reason"]
    assert found["full"]["null_space_energy_fraction"]["overall"] < 1e-9
    assert "too few lines" in found["thin"]["held_out"]["reason"]
    assert found["hollow"]["held_out"]["overall"] > 0  # and the empty slice does no harm


def test_noise_alone_is_told_by_its_floor(run, tmp_path):
    rng, mask = np.random.default_rng(0), lines_mask(24, 40, 6)
    noise = mask * (rng.normal(size=(24, 40, 2, 6)) + 1j * rng.normal(size=(24, 40, 2, 6)))
    found, _ = run(save(tmp_path / "s.nii", to_images(noise).astype(np.complex64)), "--report", tmp_path / "p.html")
    assert found["reliability"]["residual"]["noise_floor"] == pytest.approx(1, rel=0.15)
    assert found["reliability"]["held_out"]["overall"] > 0.9
    parsed((tmp_path / "p.html").read_text(), scripts=1)


def test_no_text_about_the_patient_reaches_the_page(crnn, bundle, tmp_path, run):
    write_series(tmp_path / "dicom", np.abs(moving_cine(z=2)).transpose(2, 3, 1, 0) * 500 // 1)
    run(tmp_path / "dicom", "--undersample", 3, "--report", tmp_path / "p.html")
    ended = crnn("report", tmp_path / "o.nii", "-o", tmp_path / "q.html")
    assert ended.code == 0, ended.err
    for name in ("p.html", "q.html"):
        text = (tmp_path / name).read_text()
        assert "SIMULATED" in text
        for secret in ("Secret", "4711", "cine sax"):
            assert secret not in text.replace(str(tmp_path), "")


def test_the_page_of_an_earlier_run_is_made_again(crnn, run, wide, tmp_path):
    run(wide[2], "--report", tmp_path / "p.html")
    ended = crnn("report", tmp_path / "o.nii")
    assert ended.code == 0, ended.err
    assert "warning" not in ended.err
    first, again = (parsed((tmp_path / name).read_text(), scripts=1) for name in ("p.html", "o.html"))
    assert rows(first) == rows(again)
    assert len(list(again.iter("img"))) == 1
    assert "left out" in "".join(again.itertext())
    assert crnn("report", tmp_path / "o.nii").code == 1
    assert crnn("report", tmp_path / "o.nii", "--force").code == 0


def test_a_derived_series_has_a_page_too(crnn, bundle, tmp_path):
    write_series(tmp_path / "dicom", np.abs(moving_cine(z=2)).transpose(2, 3, 1, 0) * 500 // 1)
    arguments = ("--model", bundle, "--undersample", 3, "--format", "dicom", "-o", tmp_path / "made")
    ended = crnn("reconstruct", tmp_path / "dicom", *arguments, "--report", tmp_path / "p.html")
    assert ended.code == 0, ended.err
    ended = crnn("report", tmp_path / "made")
    assert ended.code == 0, ended.err
    assert rows(parsed((tmp_path / "made.html").read_text(), scripts=1)) == rows(
        parsed((tmp_path / "p.html").read_text(), scripts=1)
    )
    next((tmp_path / "made").iterdir()).unlink()
    assert crnn("report", tmp_path / "made", "--force").code in (3, 4)


def test_an_input_that_moved_or_changed_is_noted(crnn, run, wide, tmp_path):
    run(wide[2])
    kept = wide[2].read_bytes()
    wide[2].write_bytes(kept + b"\0")
    assert "has changed" in crnn("report", tmp_path / "o.nii").err
    wide[2].unlink()
    ended = crnn("report", tmp_path / "o.nii", "--force")
    assert (ended.code, "is not there any more" in ended.err) == (0, True)
    assert "is not there any more" in (tmp_path / "o.html").read_text()


def changed(report, **more):
    return json.dumps({**report, **more})


@pytest.mark.parametrize(
    ("make", "code", "said"),
    [
        (lambda r: None, 3, "does not exist"),
        (lambda r: "{", 3, "not JSON"),
        (lambda r: "[" * 100_000, 3, "not JSON"),
        (lambda r: "[1]", 3, "no report of crnn"),
        (lambda r: json.dumps({"tool": "crnn 0.1", "labels": []}), 3, "no report of crnn reconstruct"),
        (lambda r: changed(r, output="/x/other.nii"), 3, "report of other.nii"),
        (lambda r: changed(r, output_sha256="0" * 64), 3, "was changed or replaced"),
        (lambda r: changed(r, reliability={"residual": 3}), 3, "does not say"),
        (lambda r: changed(r, reliability=[]), 3, "does not say"),
        (lambda r: changed(r, acceleration="fast"), 3, "does not say"),
        (lambda r: changed(r, command=3), 3, "does not say"),
        (lambda r: changed(r, input="there"), 3, "does not say"),
        (lambda r: json.dumps({k: v for k, v in r.items() if k not in ("output_sha256", "pattern")}), 0,
         "older version"),
    ],
)  # fmt: skip
def test_a_report_that_is_not_one_is_refused_and_an_older_one_is_not(crnn, run, wide, tmp_path, make, code, said):
    found, _ = run(wide[2], "--hold-out-folds", 0)
    text = make(found)
    (tmp_path / "o.json").unlink()
    if text is not None:
        (tmp_path / "o.json").write_text(text)
    ended = crnn("report", tmp_path / "o.nii")
    assert (ended.code, said in ended.err) == (code, True), ended.err
    assert (tmp_path / "o.html").exists() == (code == 0)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["-"], 2), (["none.nii"], 3), (["o.nii", "-o", "o.pdf"], 2), (["o.nii", "-o", "no/o.html"], 1)],
)
def test_what_has_no_page(crnn, run, wide, tmp_path, monkeypatch, arguments, code):
    run(wide[2], "--hold-out-folds", 0)
    monkeypatch.chdir(tmp_path)
    ended = crnn("report", *arguments)
    assert ended.code == code, ended.err
    assert not list(tmp_path.glob("*.html"))
