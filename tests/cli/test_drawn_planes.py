"""``crnn segment --from`` with a plane that the slices were not drawn in, and remarks about many frames."""

import json

import pytest

from tests.support.cines import save as save_with
from tests.support.drawn import AFFINE, beating, drawn_in, image_of, truth


@pytest.fixture
def scan(tmp_path):
    return save_with(tmp_path / "scan.nii.gz", image_of(truth()).array, affine=AFFINE)


def save(path, labels):
    return save_with(path, labels, affine=AFFINE)


def test_a_plane_across_the_drawn_one_is_refused(crnn, scan, tmp_path):
    drawn, out = save(tmp_path / "drawn.nii", drawn_in(truth(), [1, 4, 7])), tmp_path / "all.nii"
    ended = crnn("segment", scan, "--from", drawn, "--slices", "coronal", "--fill", "distances", "-o", out)
    assert ended.code == 4
    assert "drawn across the axis z of the array, and --slices asks for slices across y" in ended.err
    assert not out.exists()
    assert crnn("segment", scan, "--from", drawn, "--slices", "axial", "--fill", "distances", "-o", out).code == 0


def test_a_result_is_corrected_in_its_own_plane(crnn, scan, tmp_path):
    drawn, first, second = (
        save(tmp_path / "drawn.nii", drawn_in(truth(), [1, 4, 7])),
        tmp_path / "a.nii",
        tmp_path / "b.nii",
    )
    options = ("--fill", "distances", "-o")
    assert crnn("segment", scan, "--from", drawn, *options, first).code == 0
    ended = crnn("segment", scan, "--from", first, "--slices", "sagittal", *options, second)
    assert ended.code == 4
    assert "made in slices across the axis z of the array, as its report says" in ended.err


def test_one_line_tells_of_all_frames_that_are_taken_as_whole(crnn, tmp_path):
    cine = save(tmp_path / "cine.nii.gz", image_of(beating()).array)
    labels = beating()
    labels[..., [0, 1, 8], :] = 0
    labels[..., 3:] = 0
    drawn, out = save(tmp_path / "drawn.nii", labels), tmp_path / "all.nii"
    ended = crnn("segment", cine, "--from", drawn, "--fill", "distances", "-o", out)
    assert ended.code == 0, ended.err
    lines = [line for line in ended.err.splitlines() if "taken for empty" in line]
    assert len(lines) == 1
    assert "frames 1-3: at least half of the slices are drawn" in lines[0]
    codes = [each["code"] for each in json.loads((tmp_path / "all.json").read_text())["facts"]]
    assert codes.count("frame-taken-as-whole") == 1
