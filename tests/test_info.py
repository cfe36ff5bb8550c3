"""``crnn info`` says what `crnn reconstruct` would do."""

import json

import numpy as np
import pytest

from tests.conftest import data_file, moving_cine, save


def info(crnn, *arguments, **options):
    ended = crnn("info", *arguments, "--json", **options)
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def test_an_undersampled_scan(crnn, scan):
    found = info(crnn, scan[2])
    lines = sorted({int(n) for n in scan[1][0, :, 0].sum(0)})
    assert found["sampling"]["undersampled_axis"] == "y"
    assert found["sampling"]["lines_per_frame"] == lines
    assert found["sampling"]["acceleration"] == pytest.approx(1 / scan[1][0].mean(), abs=1e-3)
    assert found["shape"] == [24, 20, 2, 6]
    assert found["frame_time_s"] == pytest.approx(0.03)
    assert found["doubts"] == []
    assert found["next_step"].startswith("crnn reconstruct")


def test_standard_input(crnn, scan):
    assert info(crnn, "-", stdin=scan[2].read_bytes())["shape"] == [24, 20, 2, 6]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: np.abs(moving_cine()), "--undersample 8"),
        (lambda s: moving_cine(), "fully sampled"),
        (lambda s: s[..., 0], "--axes x,y,t"),
        (lambda s: s[..., :1], "one frame"),
    ],
)
def test_the_next_step_fits_the_file(crnn, scan, tmp_path, change, words):
    found = info(crnn, save(tmp_path / "a.nii", change(scan[0])))
    assert words in found["next_step"]
    assert found["sampling"] is None


def test_nan_is_counted(crnn, scan, tmp_path):
    array = scan[0].copy()
    array[0, 0, 0, :2] = np.nan
    assert any("2 voxels" in doubt for doubt in info(crnn, save(tmp_path / "a.nii", array))["doubts"])


def test_table_for_people(crnn, scan):
    ended = crnn("info", scan[2])
    assert ended.out == b""
    assert "along y" in ended.err


def test_lost_spacing_of_real_files_is_noticed(crnn):
    assert any("1 x 1 x 1" in d for d in info(crnn, data_file("acdc_cine", "patient041_4d.nii.gz"))["doubts"])


def test_unreadable(crnn, tmp_path):
    (tmp_path / "a.nii").write_text("no")
    assert crnn("info", tmp_path / "a.nii").code == 3
    assert crnn("info", tmp_path / "b.nii").code == 3
