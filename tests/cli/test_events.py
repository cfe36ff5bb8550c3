"""crnn events: a table, a report, a plot, and the series without what was not foreseen."""

import json

import nibabel as nib
import numpy as np
import pytest

import crnn_cli
from tests.support.beats import beating, small_bundle
from tests.support.cines import AFFINE, save

JUMP = 44


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("bundles") / "tiny-forecast")


@pytest.fixture
def series(tmp_path):
    steady = beating(frames=60)
    jumped = beating(frames=60, seed=1)
    jumped[..., JUMP] = np.roll(jumped[..., JUMP], 4, axis=0)
    return save(tmp_path / "series.nii.gz", np.stack([steady, jumped], axis=2))


def test_a_frame_that_jumps_is_found_in_its_slice_and_left_out_of_the_series(crnn, series, model, tmp_path):
    outputs = {"-o": "found.json", "--csv": "found.csv", "--plot": "found.png", "--exclude": "steady.nii.gz"}
    named = [part for option, name in outputs.items() for part in (option, tmp_path / name)]
    ended = crnn("events", series, "--model", model, "--json", *named)
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    steady, jumped = report["slices"]
    assert steady["events"] == []
    (event,) = jumped["events"]
    assert event["first_frame"] == event["peak_frame"] == JUMP
    assert event["first_s"] == pytest.approx(0.03 * JUMP)
    assert event["surprise"] > report["threshold"] == 4
    assert jumped["frames"]["error_db"][JUMP] > jumped["frames"]["limit_db"][JUMP]
    assert report["left_out_frames"] == list(range(JUMP, event["last_frame"] + 1))
    kept = nib.load(tmp_path / "steady.nii.gz")
    whole = nib.load(series).get_fdata()
    np.testing.assert_array_equal(kept.get_fdata(), whole[..., report["kept_frames"]])
    np.testing.assert_allclose(kept.affine, AFFINE, atol=1e-5)
    assert json.loads((tmp_path / "steady.json").read_text())["kept_frames"] == report["kept_frames"]
    assert json.loads((tmp_path / "found.json").read_text())["slices"] == report["slices"]
    rows = (tmp_path / "found.csv").read_text().splitlines()
    assert rows[1].split(",")[:2] == ["2", str(JUMP)]
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    assert [fact["code"] for fact in report["facts"]] == ["frames-left-out"]


def test_whole_beats_are_left_out_on_request(crnn, series, model, tmp_path):
    out = tmp_path / "steady.nii.gz"
    ended = crnn("events", series, "--model", model, "--json", "--exclude", out, "--whole-beats")
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    found = report["slices"][1]
    beats = set(found["events"][0]["beats"])
    assert report["left_out_frames"] == [t for t, beat in enumerate(found["frames"]["beat"]) if beat in beats]
    assert len(report["left_out_frames"]) >= 8


def test_the_table_says_where(crnn, series, model, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    ended = crnn("events", series, "--model", model)
    assert ended.code == 0, ended.err
    text = ended.out.decode()
    assert f"{JUMP + 1}" in text
    assert "slice 1" in text
    assert "0 events" in text


def test_from_python(series, model):
    report = crnn_cli.events(str(series), model=model)
    assert report["events"] == 1
    assert crnn_cli.events(crnn_cli.load(series), model=model, threshold=900)["events"] == 0


def test_a_series_of_one_beat_and_one_in_which_nothing_moves_are_refused(crnn, model, tmp_path):
    for name, array in (("one", beating(frames=9, period=20)), ("still", beating(phases=[0.1] * 20))):
        file = save(tmp_path / f"{name}.nii.gz", array[:, :, None])
        ended = crnn("events", file, "--model", model, "--plot", tmp_path / "p.png")
        assert ended.code == 4
        assert "two beats or more" in " ".join(ended.err.split())
        assert not (tmp_path / "p.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--threshold", "0"), "deviations"),
        (("--whole-beats",), "--exclude"),
        (("-o", "found.txt"), ".json"),
        (("--plot", "-"), "outputs are files"),
        (("--exclude", "series"), ".nii"),
        (("--exclude", "steady.nii", "-o", "steady.json"), "steady.json would be written twice"),
    ],
)
def test_options_that_cannot_be_are_refused(crnn, series, model, arguments, words):
    ended = crnn("events", series, "--model", model, *arguments)
    assert ended.code == 2, ended.err
    assert words in " ".join(ended.err.split())
