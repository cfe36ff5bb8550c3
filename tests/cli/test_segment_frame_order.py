"""``crnn segment``: frames of a heart that do not follow each other are a doubt; one beat and long series are none."""

import numpy as np
import pytest

from tests.cli.test_segment_admission import BASE_TO_APEX, affine_across, codes_of, model, run  # noqa: F401 a fixture
from tests.support.cines import moving_cine
from tests.support.cines import save as save_with

MIXED = [0, 4, 1, 5, 2, 6, 3]


def cine(frames=7):
    return np.abs(moving_cine(32, 32, 4, frames)).astype(np.float32)


def labelled(crnn, array, model, tmp_path, frame_time=0.1, *more):  # noqa: F811
    path = save_with(tmp_path / "cine.nii.gz", array, frame_time, affine_across(BASE_TO_APEX))
    return run(crnn, path, model, tmp_path, *more)


def test_frames_in_order_are_no_doubt(crnn, model, tmp_path):  # noqa: F811
    assert "frames-out-of-order" not in codes_of(labelled(crnn, cine(), model, tmp_path)[0])


def test_shuffled_frames_are_a_doubt(crnn, model, tmp_path):  # noqa: F811
    report, text = labelled(crnn, cine()[..., MIXED], model, tmp_path)
    assert "frames-out-of-order" in codes_of(report)
    assert "the frames do not follow each other as in a heart beat" in text


def test_one_slice_with_shuffled_frames_is_named(crnn, model, tmp_path):  # noqa: F811
    array = cine()
    array[:, :, 3] = array[:, :, 3][..., MIXED]
    report, text = labelled(crnn, array, model, tmp_path)
    assert "frames-out-of-order" in codes_of(report)
    assert "the frames of slice 4 do not follow" in text
    assert "frames-out-of-order" not in codes_of(labelled(crnn, array, model, tmp_path, 0.1, "--slices", "auto:1-3")[0])


@pytest.mark.parametrize(("frames", "frame_time"), [(7, 0.3), (42, 0.0)])
def test_series_that_may_show_several_beats_are_not_looked_at(crnn, model, tmp_path, frames, frame_time):  # noqa: F811
    array = cine()[..., [MIXED[t % 7] for t in range(frames)]]
    assert "frames-out-of-order" not in codes_of(labelled(crnn, array, model, tmp_path, frame_time)[0])
