"""``crnn reconstruct --uncertainty`` and ``crnn evaluate --uncertainty``: a map beside images, and how true it is."""

import hashlib
import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from crnn_cli.bundles.store import read_bundle
from crnn_cli.errors import UnreadableError
from crnn_cli.mri.coverage import DARK
from crnn_cli.workflows.reconstruct.adapt import write_adapted
from tests.cli.test_raw_reconstruct import AXES, measured
from tests.report.test_page import parsed
from tests.support.cines import AFFINE, lines_mask, moving_cine, save, to_images, to_kspace
from tests.support.command_line import table_rows


def undersampled(path, seed=0):
    truth, mask = moving_cine(24, 40, 2, 6, seed=seed), lines_mask(24, 40, 6)
    return save(path, to_images(to_kspace(truth) * mask).astype(np.complex64))


@pytest.fixture
def wide(tmp_path):
    """Return a scan with lines to spare outside the centre."""
    return undersampled(tmp_path / "wide.nii")


@pytest.mark.parametrize("shape", [(1, 40, 1, 2), (24, 40, 1, 2), (2, 40, 1, 5)])
def test_two_frames_and_narrow_images_get_a_map(crnn, bundle, tmp_path, shape):
    x, y, z, t = shape
    cine = moving_cine(x, y, z, t)
    scan = save(tmp_path / "s.nii", to_images(to_kspace(cine) * lines_mask(x, y, t)).astype(np.complex64))
    ended = crnn("reconstruct", scan, "--model", bundle, "-o", tmp_path / "o.nii", "--uncertainty", tmp_path / "sd.nii")
    assert ended.code == 0, ended.err
    assert nib.load(tmp_path / "sd.nii").shape == shape
    assert np.isfinite(nib.load(tmp_path / "sd.nii").get_fdata()).all()


@pytest.fixture
def run(crnn, bundle, tmp_path, monkeypatch):
    """Return a function that reconstructs into o.nii, with a map sd.nii, and gives its report."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(scan, *more, code=0, model=bundle, mapped=True):
        asked = ["--uncertainty", tmp_path / "sd.nii"] if mapped else []
        network = ["--model", model] if model else []
        ended = crnn("reconstruct", scan, *network, "-o", tmp_path / "o.nii", "--force", *asked, *more)
        assert ended.code == code, ended.err
        assert "Traceback" not in ended.err
        return json.loads((tmp_path / "o.json").read_text()), ended

    return run


def loaded(path):
    return np.asanyarray(nib.load(path).dataobj)


def calibrated(bundle, folder, **uncertainty):
    shutil.copytree(bundle, folder)
    config = json.loads((folder / "config.json").read_text()) | {"uncertainty": uncertainty}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_the_map_lies_where_the_images_do_and_they_stay_as_they_are(run, wide, tmp_path):
    run(wide, mapped=False)
    before = (tmp_path / "o.nii").read_bytes()
    found, ended = run(wide, "--report", tmp_path / "p.html")
    assert (tmp_path / "o.nii").read_bytes() == before
    images, map_of = nib.load(tmp_path / "o.nii"), nib.load(tmp_path / "sd.nii")
    assert map_of.shape == images.shape == (24, 40, 2, 6)
    np.testing.assert_array_equal(map_of.affine, images.affine)
    assert map_of.header["pixdim"][4] == images.header["pixdim"][4]
    assert map_of.get_data_dtype() == np.float32
    sd, facts = loaded(tmp_path / "sd.nii"), found["uncertainty"]
    assert np.isfinite(sd).all()
    assert sd.min() >= 0
    assert (sd.max((0, 1)) > 0).all()
    assert facts["sha256"] == hashlib.sha256((tmp_path / "sd.nii").read_bytes()).hexdigest()
    assert (facts["file"], facts["runs"], facts["scale"], facts["calibrated"]) == (
        str(tmp_path / "sd.nii"), 4, 1.0, False,
    )  # fmt: skip
    shown = abs(loaded(tmp_path / "o.nii"))
    mean = shown.mean(-1)
    bright = mean >= DARK * np.sort(mean.ravel())[int(0.99 * mean.size)]
    assert facts["mean_in_bright_parts"] == pytest.approx(sd[bright].mean(), rel=1e-3)
    assert facts["relative"] == pytest.approx(sd[bright].mean() / shown[bright].mean(), rel=1e-3)
    row = table_rows(ended.err)["uncertainty"][0]
    assert f"{facts['mean_in_bright_parts']:.3g} in the bright parts" in row
    assert "4 runs, scale 1, not calibrated" in row
    assert found["reliability"]["held_out"]["folds"] == 4
    page = parsed((tmp_path / "p.html").read_text(), scripts=1)
    assert len(list(page.iter("img"))) == 3
    text = "".join(page.itertext())
    assert "standard deviation, " in text
    assert "no measured line shows" in text


def test_the_scale_of_the_bundle_counts_and_is_said(run, wide, bundle, tmp_path):
    run(wide)
    plain = loaded(tmp_path / "sd.nii")
    twice = calibrated(bundle, tmp_path / "twice", scale=2)
    found, ended = run(wide, model=twice)
    np.testing.assert_allclose(loaded(tmp_path / "sd.nii"), 2 * plain, rtol=1e-6)
    assert found["uncertainty"]["calibrated"]
    assert "4 runs, scale 2" in table_rows(ended.err)["uncertainty"][0]
    assert "not calibrated" not in ended.err


def test_more_runs_are_more_runs(run, wide, tmp_path):
    maps = []
    for runs in (2, 3):
        found, _ = run(wide, "--uncertainty-runs", runs, "--method", "sliding-window", model=None)
        assert found["uncertainty"]["runs"] == found["reliability"]["held_out"]["folds"] == runs
        maps.append(loaded(tmp_path / "sd.nii"))
    assert np.abs(maps[1] - maps[0]).max() > 0.01 * maps[0].max()


@pytest.mark.parametrize("axis", ["x", "y"])
def test_of_a_simulation_the_report_and_evaluate_say_the_same(run, report, axis, tmp_path):
    truth = save(tmp_path / "full.nii", moving_cine(40, 36, 2, 6))
    arguments = ("--undersample", 3, "--phase-axis", axis, "--method", "sliding-window")
    found, ended = run(truth, *arguments, model=None)
    told = found["uncertainty"]["against_truth"]
    judged = report(tmp_path / "o.nii", "-r", truth, "--uncertainty", tmp_path / "sd.nii")["uncertainty"]
    assert judged == {"file": str(tmp_path / "sd.nii"), **told}
    images, sd, full = (abs(loaded(tmp_path / name)) for name in ("o.nii", "sd.nii", "full.nii"))
    mean = full.mean(-1)
    body = mean >= DARK * np.sort(mean.ravel())[int(0.99 * mean.size)]
    within = (abs(images - full) <= 1.64 * sd)[body]
    assert told["within_1.64"] == pytest.approx(within.mean(), abs=2e-3)
    assert told["body_share"] == pytest.approx(body.mean(), abs=1e-5)
    first = told["frames"][0]  # two of six frames
    assert first["within_1.64"] == pytest.approx(within[:, first["first"] : first["last"] + 1].mean(), abs=2e-3)
    assert f"{100 * told['within_1.64']:.1f} % within 1.64" in ended.err


@pytest.mark.parametrize(("coils", "method"), [(4, "sense"), (1, "sliding-window")])
def test_raw_k_space_of_one_coil_or_several_has_a_map_too(run, tmp_path, coils, method):
    kspace = measured(acceleration=3, noise=1e-2)[1][:, :coils]
    if coils == 1:
        kspace[1] = 0
    np.save(tmp_path / "k.npy", kspace)
    found, _ = run(tmp_path / "k.npy", "--axes", AXES, "--method", method, model=None)
    sd = loaded(tmp_path / "sd.nii")
    assert sd.shape == (24, 20, 2, 6)
    assert sd[:, :, 0].min() > 0
    assert (found["uncertainty"]["noise_floor"] > 0) == (coils > 1)  # one coil of so few samples does not tell it
    if coils == 1:  # the second is empty, and so are its images
        assert not sd[:, :, 1].any()
        assert not loaded(tmp_path / "o.nii")[:, :, 1].any()


def test_images_to_standard_output_may_have_a_map(crnn, wide, bundle, tmp_path):
    ended = crnn("reconstruct", wide, "--model", bundle, "-o", "-", "--uncertainty", tmp_path / "s.nii.gz")
    assert ended.code == 0, ended.err
    assert loaded(tmp_path / "s.nii.gz").shape == (24, 40, 2, 6)


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--uncertainty", "sd.png"], 2, ".nii"),
        (["--uncertainty", "-"], 2, ".nii"),
        (["--uncertainty", "no/sd.nii"], 1, "does not exist"),
        (["--uncertainty", "taken.nii"], 1, "--force"),
        (["--uncertainty", "o.nii"], 2, "twice"),
        (["--uncertainty", "wide.nii", "--force"], 2, "is the input"),
        (["--uncertainty", "sd.nii", "--hold-out-folds", 1], 2, "--hold-out-folds"),
        (["--uncertainty", "sd.nii", "--uncertainty-runs", 1], 2, "2"),
        (["--uncertainty", "sd.nii", "--uncertainty-runs", 17], 2, "16"),
        (["--uncertainty-runs", 3], 2, "needs --uncertainty"),
    ],
)
def test_what_cannot_be_meant_leaves_nothing(crnn, wide, bundle, tmp_path, monkeypatch, more, code, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.nii").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    ended = crnn("reconstruct", "wide.nii", "--model", bundle, "-o", "o.nii", *more)
    assert (ended.code, said in ended.err) == (code, True), ended.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("centre", "acceleration", "said"), [(0, 1, "everything was measured"), (9, 20, "too few")])
def test_data_with_nothing_to_leave_out_is_refused_and_nothing_written(crnn, tmp_path, centre, acceleration, said):
    kspace = measured(acceleration=acceleration, centre=centre)[1][:, :1]
    if centre:
        kspace[:, :, :, :6] = kspace[:, :, :, 15:] = 0
    np.save(tmp_path / "k.npy", kspace)
    arguments = (
        "reconstruct",
        tmp_path / "k.npy",
        "--axes",
        AXES,
        "--method",
        "sliding-window",
        "-o",
        tmp_path / "o.nii",
    )
    ended = crnn(*arguments, "--uncertainty", tmp_path / "sd.nii")
    assert (ended.code, said in ended.err, "--uncertainty" in ended.err) == (4, True, True), ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["k.npy"]


def test_a_batch_names_a_map_for_each(crnn, bundle, tmp_path):
    (tmp_path / "in").mkdir()
    for seed, name in enumerate("ab"):
        undersampled(tmp_path / "in" / f"{name}.nii", seed)
    arguments = ("batch", "reconstruct", tmp_path / "in", "-o", tmp_path / "out", "--model", bundle)
    ended = crnn(*arguments, "--uncertainty", "sd.nii")
    assert (ended.code, "{name}" in ended.err) == (2, True)
    assert crnn(*arguments, "--uncertainty", "{name}_sd.nii", "--uncertainty-runs", 2).code == 0
    assert crnn("reconstruct", tmp_path / "in" / "b.nii", "--model", bundle, "-o", tmp_path / "b.nii.gz",
                "--uncertainty", tmp_path / "sd.nii", "--uncertainty-runs", 2).code == 0  # fmt: skip
    np.testing.assert_array_equal(loaded(tmp_path / "out" / "b_sd.nii"), loaded(tmp_path / "sd.nii"))
    again = crnn(*arguments, "--uncertainty", "{name}_sd.nii", "--uncertainty-runs", 2, "--resume", "--json")
    assert [json.loads(line)["status"] for line in again.out.decode().splitlines()] == ["skipped"] * 2


@pytest.fixture
def pair(tmp_path):
    """Return an image, its reference and a map of its uncertainty, 16 x 20 x 2 x 5."""
    rng = np.random.default_rng(0)
    truth = 50 + 10 * rng.random((16, 20, 2, 5)).astype(np.float32)
    sd = (0.5 + rng.random(truth.shape)).astype(np.float32)
    image = (truth + sd * rng.normal(size=truth.shape)).astype(np.float32)
    return [save(tmp_path / f"{name}.nii", array) for name, array in (("i", image), ("r", truth), ("s", sd))]


def test_an_uncertainty_that_is_true_covers_as_a_normal_distribution_does(evaluate, report, pair):
    found = report(pair[0], "-r", pair[1], "--uncertainty", pair[2])["uncertainty"]
    for width in ("within_1", "within_1.64", "within_2"):
        assert found[width] == pytest.approx(found["normal"][width], abs=0.03)
    rows = table_rows(evaluate(pair[0], "-r", pair[1], "--uncertainty", pair[2]).out.decode())
    assert rows["all"][1] == f"{100 * found['within_1.64']:.1f} %"
    assert "1 to 1" in rows
    assert "uncertainty" not in report(pair[0], "-r", pair[1])


def test_axes_and_scale_of_the_image_are_those_of_its_uncertainty(report, pair, tmp_path):
    plain = report(pair[0], "-r", pair[1], "--uncertainty", pair[2])["uncertainty"]
    flip = AFFINE.copy()
    flip[:, 3] += AFFINE[:, 0] * 15
    flip[:, 0] *= -1
    turned = [save(tmp_path / f"t{n}.nii", loaded(pair[n])[::-1].copy(), affine=flip) for n in (0, 2)]
    for image, sd in ((turned[0], pair[2]), (pair[0], turned[1]), turned):
        found = report(image, "-r", pair[1], "--uncertainty", sd)["uncertainty"]
        assert found == {**plain, "file": str(sd)}
    tenfold = [save(tmp_path / f"x{n}.nii", 10 * loaded(pair[n])) for n in (0, 2)]
    found = report(tenfold[0], "-r", pair[1], "--uncertainty", tenfold[1], "--fit-scale")["uncertainty"]
    assert found["within_1.64"] == pytest.approx(plain["within_1.64"], abs=0.01)


def bad(kind, sd):
    sd = sd.copy()
    if kind == "negative":
        sd[3, 4, 1, 2] = -1
    if kind == "not finite":
        sd[3, 4, 1, 2] = np.nan
    return {"shape": sd[..., :4], "complex": sd.astype(np.complex64)}.get(kind, sd)


@pytest.mark.parametrize(
    ("kind", "code", "said"),
    [("shape", 4, "16 x 20 x 2 x 4"), ("negative", 4, "negative"), ("not finite", 4, "NaN"), ("complex", 4, "complex"),
     ("elsewhere", 4, "lies elsewhere"), ("missing", 3, "does not exist")],
)  # fmt: skip
def test_a_map_that_is_none_of_the_image_is_refused(evaluate, pair, tmp_path, kind, code, said):
    place = tmp_path / "bad.nii"
    if kind != "missing":
        shift = np.eye(4)
        shift[:3, 3] = 5 * (kind == "elsewhere")
        save(place, bad(kind, loaded(pair[2])), affine=shift @ AFFINE)
    assert said in evaluate(pair[0], "-r", pair[1], "--uncertainty", place, code=code).err.splitlines()[-1]


def test_maps_do_not_belong_to_labels_nor_twice_to_standard_input(evaluate, pair):
    assert "is for images" in evaluate(*pair[:1], "-r", pair[1], "--uncertainty", pair[2], "--as-labels", code=2).err
    assert "standard input" in evaluate("-", "-r", pair[1], "--uncertainty", "-", stdin=b"", code=2).err


@pytest.mark.parametrize(
    ("given", "said"),
    [({"scale": 0}, "positive"), ({"scale": "2"}, "type"), ({"scale": 1, "runs": 2}, "unknown"), ({}, "lacks"),
     ({"scale": float("nan")}, "positive"), ({"scale": True}, "type")],
)  # fmt: skip
def test_a_scale_that_is_none_is_refused(bundle, tmp_path, given, said):
    with pytest.raises(UnreadableError, match=said):
        read_bundle(calibrated(bundle, tmp_path / "bad", **given))


def test_a_bundle_may_say_nothing_and_a_tuned_one_says_what_its_source_said(bundle, tmp_path):
    assert read_bundle(bundle).uncertainty_scale is None
    source = calibrated(bundle, tmp_path / "source", scale=1.5)
    assert read_bundle(source).uncertainty_scale == 1.5
    from crnn_cli.bundles.store import load_reconstruction
    from crnn_cli.reconstruction.reconstruct import NetworkReconstructor
    from crnn_cli.reconstruction.settings import InferenceSettings
    from tests.bundles.test_store import CPU

    method = NetworkReconstructor(
        load_reconstruction(read_bundle(source), CPU), InferenceSettings("view-shared", 1.0, 2)
    )
    said = {"before": 1, "after": 1}
    adapted = {"used": True, "steps": 1, "seconds": 1.0, "seed": 0, "precision": "fp32", "best_step": 1, "why": "",
               "validation_residual": said, "generalise": False}  # fmt: skip
    report = {"adapted": adapted, "input": {"file": "x", "sha256": "y"}, "tool": "t", "versions": {}, "command": ["c"]}
    write_adapted(tmp_path / "tuned", str(source), method, report, False)
    assert read_bundle(tmp_path / "tuned").uncertainty_scale == 1.5
