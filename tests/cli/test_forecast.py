"""crnn forecast: frames on the grid of the series, errors that hold, and one line for what cannot be forecast."""

import json

import nibabel as nib
import numpy as np
import pytest

import crnn_cli
from tests.support.beats import beating, small_bundle
from tests.support.cines import AFFINE, save


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("bundles") / "tiny-forecast")


@pytest.fixture
def series(tmp_path):
    both = np.stack([beating(frames=34), 0.5 * beating(frames=34, period=9)], axis=2)
    return save(tmp_path / "series.nii.gz", both)


def test_the_frames_lie_on_the_grid_of_the_series_and_the_report_beside_them(crnn, series, model, tmp_path):
    ended = crnn("forecast", series, "--model", model, "--frames", "3", "-o", tmp_path / "next.nii.gz", "--json")
    assert ended.code == 0, ended.err
    image = nib.load(tmp_path / "next.nii.gz")
    assert image.shape == (24, 20, 2, 3)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
    assert image.header.get_zooms()[3] == pytest.approx(0.03)
    report = json.loads(ended.out)
    written = json.loads((tmp_path / "next.json").read_text())
    assert report == written
    assert [frame["frame"] for frame in report["frames"]] == [34, 35, 36]
    assert [frame["measured_on"] for frame in report["frames"]] == [66, 64, 62]
    assert report["recalled_frames_before"][0] % 10 == report["recalled_frames_before"][1] % 9 == 0
    assert report["doubts"] == []


def test_in_a_later_beat_it_is_nearer_than_the_last_frame(crnn, series, model, tmp_path):
    out = tmp_path / "next.nii.gz"
    ended = crnn("forecast", series, "--model", model, "--from-frame", "27", "--reference", "-o", out, "--json",
                 "--preview", tmp_path / "next.png")  # fmt: skip
    assert ended.code == 0, ended.err
    made, truth = nib.load(out).get_fdata(), nib.load(series).get_fdata()[..., 27:31]
    last = nib.load(series).get_fdata()[..., 26:27]
    for k, frame in enumerate(json.loads(ended.out)["frames"]):
        for name, image in (("psnr_db", made[..., k]), ("psnr_last_frame_db", last[..., 0])):
            error = np.mean((image - truth[..., k]) ** 2)
            assert frame[name] == pytest.approx(10 * np.log10(truth.max() ** 2 / error), abs=0.01)
        assert frame["psnr_db"] > frame["psnr_last_frame_db"]
    assert (tmp_path / "next.png").read_bytes().startswith(b"\x89PNG")


def test_frames_after_the_one_named_are_not_read(crnn, series, model, tmp_path):
    array = nib.load(series).get_fdata(dtype=np.float32)
    array[..., 20:] = 7.0
    save(tmp_path / "other.nii.gz", array)
    made = []
    for name in ("series", "other"):
        out = tmp_path / f"{name}_next.nii.gz"
        ended = crnn("forecast", tmp_path / f"{name}.nii.gz", "--model", model, "--from-frame", "20", "-o", out)
        assert ended.code == 0, ended.err
        made.append(nib.load(out).get_fdata())
    np.testing.assert_array_equal(*made)


def test_through_a_pipe_and_from_python(crnn, model, tmp_path):
    series = save(tmp_path / "series.nii.gz", beating(frames=12)[:, :, None])
    out = tmp_path / "next.nii.gz"
    assert crnn("forecast", series, "--model", model, "-o", out).code == 0
    piped = crnn("forecast", "-", "--model", model, "-o", "-", stdin=series.read_bytes())
    assert piped.code == 0, piped.err
    expected = nib.load(out).get_fdata()
    np.testing.assert_array_equal(nib.Nifti1Image.from_bytes(piped.out).get_fdata(), expected)
    result = crnn_cli.forecast(crnn_cli.load(series), model=model)
    np.testing.assert_array_equal(result.images.array, expected)
    assert len(result.expected_rms) == 4
    assert all(error > 0 for error in result.expected_rms)


def test_a_first_beat_and_frames_beyond_the_training_are_doubts(crnn, model, tmp_path):
    short = save(tmp_path / "short.nii.gz", beating(frames=2)[:, :, None])
    ended = crnn("forecast", short, "--model", model, "--frames", "5", "-o", tmp_path / "a.nii.gz", "--json")
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert [doubt["code"] for doubt in report["doubts"]] == ["nothing-recalled", "beyond-training"]
    assert [frame["measured_on"] for frame in report["frames"]] == [1, 0, 0, 0, 0]
    assert report["frames"][1]["expected_rms"] is None
    assert crnn("forecast", short, "--model", model, "--strict", "-o", tmp_path / "b.nii.gz").code == 4


def broken(kind):
    series = beating(frames=6)[:, :, None]
    if kind == "nan":
        series[3, 4, 0, 2] = np.nan
    return {
        "one frame": series[..., :1], "3-D": series[..., 0], "nan": series, "constant": np.full_like(series, 5),
        "zero": np.zeros_like(series),
    }[kind]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("one frame", "one frame"), ("3-D", "no time axis"), ("nan", "NaN"), ("constant", "all voxels"),
        ("zero", "all voxels"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["forecast", "events"])
def test_what_is_no_series_is_refused_in_a_line(crnn, model, tmp_path, kind, words, command):
    file = save(tmp_path / "in.nii.gz", broken(kind))
    ended = crnn(command, file, "--model", model)
    assert ended.code == 4
    assert words in " ".join(ended.err.split())
    assert "Traceback" not in ended.err
    assert [each.name for each in tmp_path.iterdir()] == ["in.nii.gz"]


def test_colours_text_labels_and_kspace_are_refused(crnn, model, tmp_path):
    colours = np.zeros((4, 4, 1, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, np.eye(4)), tmp_path / "colours.nii")
    (tmp_path / "text.nii").write_text("no image")
    np.save(tmp_path / "kspace.npy", np.zeros((4, 4), np.complex64))
    labels = nib.Nifti1Image(np.ones((4, 4, 1, 3), np.uint8), np.eye(4))
    labels.header.set_intent("label")
    nib.save(labels, tmp_path / "labels.nii")
    for name, code in (("colours.nii", 4), ("text.nii", 3), ("kspace.npy", 4), ("labels.nii", 4), ("none.nii", 3)):
        for command in ("forecast", "events"):
            ended = crnn(command, tmp_path / name, "--model", model)
            assert ended.code == code, (name, ended.err)
            assert "Traceback" not in ended.err


def test_of_complex_images_the_magnitude_is_forecast(crnn, model, tmp_path):
    array = beating(frames=12)[:, :, None]
    plain = save(tmp_path / "plain.nii.gz", array)
    turned = save(tmp_path / "complex.nii.gz", (array * np.exp(0.7j)).astype(np.complex64))
    made = []
    for name, file in (("a", plain), ("b", turned)):
        assert crnn("forecast", file, "--model", model, "-o", tmp_path / f"{name}.nii.gz").code == 0
        made.append(nib.load(tmp_path / f"{name}.nii.gz").get_fdata())
    np.testing.assert_allclose(*made, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--reference",), "--from-frame"),
        (("--from-frame", "35"), "beyond the end"),
        (("--from-frame", "33", "--reference"), "fewer than the 4"),
        (("-o", "next.png"), "must end in .nii"),
        (("-o", "-", "--json"), "standard output"),
        (("--model", "cine-crnn"), "not to forecast"),
    ],
)
def test_options_that_cannot_be_are_refused(crnn, series, model, arguments, words):
    ended = crnn("forecast", series, *(() if "--model" in arguments else ("--model", model)), *arguments)
    assert ended.code == (4 if "--model" in arguments else 2), ended.err
    assert words in " ".join(ended.err.split())
