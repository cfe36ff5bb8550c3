"""``crnn evaluate``: what goes where, which inputs are refused, and with which exit code."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from skimage.metrics import structural_similarity
from typer.testing import CliRunner

from crnn_cli.cli.app import app

AFFINE = np.diag([-1.5, -1.5, 8, 1.0])
AFFINE[:3, 3] = [90, 126, -72]


def scene(shape=(16, 14, 2, 3), noise=0.0):
    generator = np.random.default_rng(0)
    return np.abs(100 * generator.random(shape) + noise * generator.standard_normal(shape)).astype(np.float32)


def save(path, array, affine=AFFINE, frame_time=0.04):
    nifti = nib.Nifti1Image(array, affine)
    nifti.header.set_xyzt_units("mm", "sec")
    if array.ndim == 4:
        nifti.header["pixdim"][4] = frame_time
    nib.save(nifti, path)
    return str(path)


@pytest.fixture
def reference(tmp_path):
    return save(tmp_path / "reference.nii.gz", scene())


@pytest.fixture
def noisy(tmp_path):
    return save(tmp_path / "noisy.nii", scene(noise=5))


def run(*arguments, stdin=None, code=0):
    result = CliRunner().invoke(app, ["evaluate", *arguments], input=stdin, env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr
    return result


def fails(code, words, *arguments, stdin=None):
    result = run(*arguments, stdin=stdin, code=code)
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert words in last
    assert result.stderr.count("error:") == 1
    return result


def test_the_table_goes_to_standard_output_and_nothing_to_standard_error(noisy, reference):
    result = run(noisy, "--reference", reference)
    assert result.stderr == ""
    assert "PSNR" in result.stdout
    assert "data range" in result.stdout
    assert "per frame" not in result.stdout
    assert "per frame" in run(noisy, "-r", reference, "--per-frame").stdout


def test_json_agrees_with_the_arrays(noisy, reference):
    report = json.loads(run(noisy, "-r", reference, "--json").stdout)
    image, truth = scene(noise=5), scene()
    peak, error = truth.max(), np.square(image.astype(float) - truth)
    assert report["data_range"] == pytest.approx(peak)
    assert report["psnr_db"] == pytest.approx(10 * np.log10(float(peak) ** 2 / error.mean()), abs=1e-4)
    assert report["nmse"] == pytest.approx(error.sum() / np.square(truth.astype(float)).sum(), rel=1e-5)
    assert [(f["slice"], f["frame"]) for f in report["frames"]] == [(z, t) for z in range(2) for t in range(3)]
    for frame in report["frames"]:
        x, r = (a[:, :, frame["slice"], frame["frame"]].astype(float) for a in (image, truth))
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": peak}
        assert frame["ssim"] == pytest.approx(structural_similarity(x, r, **options), abs=1e-5)
    assert report["scale"] is None
    assert (report["format"], report["required"], report["passed"]) == (2, {"psnr_db": None, "ssim": None}, None)


def test_identical_images_are_null_and_identical_in_json(reference):
    result = run(reference, "-r", reference, "--json", "--require-psnr", "200", "--require-ssim", "1")
    report = json.loads(result.stdout)
    assert (report["psnr_db"], report["identical"], report["ssim"]) == (None, True, 1)
    assert report["frames"][0]["identical"] is True
    assert "identical" in run(reference, "-r", reference).stdout


def test_thresholds_end_with_6_after_the_result(noisy, reference):
    result = fails(6, "60 dB or more was required", noisy, "-r", reference, "--require-psnr", "60")
    assert "HFEN" in result.stdout
    result = fails(6, "SSIM is", noisy, "-r", reference, "--require-ssim", "0.9999", "--json")
    assert json.loads(result.stdout)["passed"] is False
    run(noisy, "-r", reference, "--require-psnr", "20", "--require-ssim", "0.5")
    fails(6, "PSNR", noisy, "-r", reference, "--require-psnr", "nan")


def test_brightness_is_fitted_only_when_asked_for(tmp_path, reference):
    brighter = save(tmp_path / "brighter.nii", 4 * scene())
    plain, fitted = run(brighter, "-r", reference), run(brighter, "-r", reference, "--fit-scale")
    assert "multiplied" not in plain.stdout
    assert "0.25" in fitted.stdout
    report = json.loads(run(brighter, "-r", reference, "--fit-scale", "--json").stdout)
    assert report["scale"] == pytest.approx(0.25)
    assert report["nmse"] == pytest.approx(0, abs=1e-10)


def test_either_file_may_be_standard_input(tmp_path, noisy, reference):
    expected = json.loads(run(noisy, "-r", reference, "--json").stdout)["ssim"]
    content = (tmp_path / "noisy.nii").read_bytes(), (tmp_path / "reference.nii.gz").read_bytes()
    piped = json.loads(run("-", "-r", reference, "--json", stdin=content[0]).stdout)
    assert (piped["image"], piped["ssim"]) == ("standard input", expected)
    assert json.loads(run(noisy, "-r", "-", "--json", stdin=content[1]).stdout)["ssim"] == expected
    fails(2, "cannot both be standard input", "-", "-r", "-", stdin=content[0])


def test_complex_is_compared_by_magnitude(tmp_path, noisy, reference):
    turned = save(tmp_path / "complex.nii", (scene() * np.exp(1j * scene(noise=9))).astype(np.complex64))
    result = run(turned, "-r", reference, "--json")
    assert json.loads(result.stdout)["nmse"] < 1e-12
    assert "complex.nii is complex: its magnitude is compared" in result.stderr
    assert "its magnitude" not in run(noisy, "-r", reference).stderr


def test_negative_values_are_kept_with_a_warning(tmp_path, reference):
    result = run(save(tmp_path / "negative.nii", -scene()), "-r", reference, "--json")
    assert "negative values" in result.stderr
    assert json.loads(result.stdout)["nmse"] == pytest.approx(4)


def test_geometry_must_agree(tmp_path, noisy, reference):
    moved, rounded, turned = AFFINE.copy(), AFFINE.copy(), AFFINE.copy()
    moved[0, 3] += 0.01
    rounded[0, 3] += 5e-4
    turned[:, 0] *= -1
    shifted = save(tmp_path / "moved.nii", scene(noise=5), moved)
    fails(4, "corners lie up to 0.01 mm apart", shifted, "-r", reference)
    fails(4, "running to RPS", save(tmp_path / "turned.nii", scene(), turned), "-r", reference)
    run(save(tmp_path / "rounded.nii", scene(), rounded), "-r", reference)
    ignored = run(shifted, "-r", reference, "--ignore-geometry", "--json")
    assert "0.01 mm apart; ignored" in ignored.stderr
    same = json.loads(run(noisy, "-r", reference, "--json").stdout)
    assert json.loads(ignored.stdout)["frames"] == same["frames"]


def test_small_voxel_differences_add_up_to_the_far_corner(tmp_path, reference):
    stretched = AFFINE.copy()
    stretched[0, 0] *= 1 + 4e-4
    fails(4, "mm apart", save(tmp_path / "stretched.nii", scene(), stretched), "-r", reference)


def test_shapes_must_agree_whatever_is_ignored(tmp_path, reference):
    short = save(tmp_path / "short.nii", scene((16, 14, 2, 2)))
    for option in ([], ["--ignore-geometry"]):
        fails(4, "short.nii is 16 x 14 x 2 x 2", short, "-r", reference, *option)


def test_a_volume_is_frames_along_its_third_axis(tmp_path):
    image, truth = save(tmp_path / "a.nii", scene((16, 14, 5), 5)), save(tmp_path / "b.nii", scene((16, 14, 5)))
    result = run(image, "-r", truth, "--json")
    assert "b.nii is 3-D: each of its 5 slices" in result.stderr
    frames = json.loads(result.stdout)["frames"]
    assert [(f["slice"], f["frame"]) for f in frames] == [(z, 0) for z in range(5)]
    as_series = run(image, "-r", truth, "--json", "--axes", "x,y,t")
    assert "3-D" not in as_series.stderr
    series = json.loads(as_series.stdout)["frames"]
    assert [(f["slice"], f["frame"]) for f in series] == [(0, t) for t in range(5)]
    assert [f["ssim"] for f in series] == [f["ssim"] for f in frames]


def test_a_series_of_one_frame_is_a_volume(tmp_path):
    one = save(tmp_path / "one.nii", scene((16, 14, 5, 1)))
    assert "identical" in run(one, "-r", save(tmp_path / "volume.nii", scene((16, 14, 5)))).stdout


def test_a_raw_series_as_reference_of_an_ordered_one(tmp_path):
    ordered = save(tmp_path / "ordered.nii", scene((16, 14, 1, 5)))
    raw = save(tmp_path / "raw.nii", scene((16, 14, 1, 5))[:, :, 0].transpose(1, 0, 2), AFFINE[:, [1, 0, 2, 3]])
    fails(4, "--reference-axes", ordered, "-r", raw)
    assert "identical" in run(ordered, "-r", raw, "--reference-axes", "y,x,t").stdout


def test_different_frame_times_are_said(tmp_path, reference):
    result = run(save(tmp_path / "slow.nii", scene(), frame_time=0.06), "-r", reference)
    assert "frame times differ, 0.06 s and 0.04 s" in result.stderr
    assert "frame times" not in run(reference, "-r", reference).stderr


def test_unusable_images_are_refused(tmp_path, reference):
    broken = scene()
    broken[3, 2, 1, 0] = np.nan
    fails(4, "first at (3, 2, 1, 0)", save(tmp_path / "nan.nii", broken), "-r", reference)
    fails(4, "first at (3, 2, 1, 0)", reference, "-r", str(tmp_path / "nan.nii"))
    fails(4, "zero everywhere", reference, "-r", save(tmp_path / "zero.nii", 0 * scene()))
    narrow = save(tmp_path / "narrow.nii", scene((10, 14, 2, 3)))
    fails(4, "10 x 14 pixels", narrow, "-r", narrow)


def test_unreadable_files_end_with_3(tmp_path, reference):
    fails(3, "missing.nii does not exist", str(tmp_path / "missing.nii"), "-r", reference)
    (tmp_path / "text.nii").write_text("this is no image")
    fails(3, "not a NIfTI file", reference, "-r", str(tmp_path / "text.nii"))


def test_a_reference_is_needed(noisy):
    assert "--reference" in run(noisy, code=2).stderr


def test_help_defines_the_measures():
    text = " ".join(run("--help").output.split())
    for words in ("largest magnitude in the reference", "Example: crnn evaluate", "11 x 11 pixels", "--fit-scale"):
        assert words in text


def test_as_a_program(tmp_path, reference):
    command = [sys.executable, "-m", "crnn_cli", "evaluate", "-", "-r", reference, "--require-psnr", "90", "--json"]
    content = nib.Nifti1Image(scene(noise=5), AFFINE).to_bytes()
    done = subprocess.run(command, input=content, capture_output=True, check=False)
    assert done.returncode == 6
    assert json.loads(done.stdout)["identical"] is False
    assert done.stderr.decode().startswith("error: standard input against")
    assert len(done.stderr.decode().splitlines()) == 1


@pytest.mark.parametrize("option", ["--require-psnr", "--require-ssim"])
@pytest.mark.parametrize("threshold", ["nan", "inf"])
def test_a_threshold_that_nothing_reaches_is_missed_in_json_too(noisy, reference, option, threshold):
    result = fails(6, "was required", noisy, "-r", reference, option, threshold, "--json")
    report = json.loads(result.stdout)
    assert (report["required"], report["passed"]) == ({"psnr_db": None, "ssim": None}, False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a, None),
        (lambda a: scene(a.shape, noise=30), None),  # poor, and not by an exchange
        (lambda a: a / 1000, "the image would have a PSNR higher by"),
        (lambda a: -a, "negative values"),
        (lambda a: a[::-1], "with the reference flipped along x:"),
        (lambda a: 3 * a[:, ::-1, ::-1], "with the reference flipped along y and z:"),
        (lambda a: a.transpose(1, 0, 2, 3), "with x and y exchanged:"),
        (lambda a: np.roll(a, (7, 7), (0, 1)), "rolled by half a field of view along x and y:"),
        (lambda a: np.roll(a, 2, 3), "with the reference 2 frames earlier:"),
        (lambda a: a[..., ::-1], "in the reversed order of time:"),
    ],
)
def test_a_pair_that_would_agree_much_better_otherwise_is_a_doubt(tmp_path, change, said):
    reference, tested = scene((14, 14, 2, 7)), change(scene((14, 14, 2, 7), noise=5))
    first, second = (save(tmp_path / f"{n}.nii", np.ascontiguousarray(a)) for n, a in enumerate((tested, reference)))
    err = run(first, "--reference", second).stderr
    if said is None:
        assert err == ""
    else:
        assert said in err
