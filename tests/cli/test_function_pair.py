"""``crnn function --strict`` of end diastole and end systole alone, as they are often drawn."""

import json

import nibabel as nib
import numpy as np
import pytest

from tests.cardiac.hearts import heart


def written(path, array, affine, frame_time):
    image = nib.Nifti1Image(array.astype(np.uint8), affine)
    image.header.set_xyzt_units("mm", "sec" if frame_time else "unknown")
    image.header["pixdim"][4] = frame_time
    nib.save(image, path)
    return path


@pytest.mark.parametrize("frame_time", [0, 0.3, 1])
def test_what_two_frames_cannot_carry_is_not_missed(crnn, tmp_path, frame_time):
    whole = heart(frames=8, frame_time=0.1)
    pair = written(tmp_path / "pair.nii", whole.array[..., [0, 4]], whole.affine, frame_time)
    sparse = np.where(np.isin(np.arange(8), (0, 4)), whole.array, 0)
    for file in (pair, written(tmp_path / "sparse.nii", sparse, whole.affine, 0.1)):
        ended = crnn("function", file, "--labels", "acdc", "--strict", "--json")
        assert ended.code == 0, ended.err
        quantities = json.loads(ended.out)["quantities"]
        assert quantities["left"]["ejection_fraction"]["value"] > 0
        assert quantities["heart"]["heart_rate"]["value"] is None


def test_other_numbers_are_missed_still(crnn, tmp_path):
    whole = heart(frames=8, frame_time=0.1)
    three = written(tmp_path / "three.nii", whole.array[..., [0, 2, 4]], whole.affine, 0.1)
    ended = crnn("function", three, "--labels", "3=LV", "--strict")
    assert ended.code == 6, ended.err
    assert "3 frames are too few to follow the cycle" in ended.err
    one = written(tmp_path / "one.nii", whole.array[..., 0], whole.affine, 0)
    assert crnn("function", one, "--labels", "acdc", "--ed", 1, "--strict").code == 6
