"""Label maps with a scale in their header are label maps to every command that takes labels, with the values meant."""

import json
import struct

import nibabel as nib
import numpy as np
import pytest

from tests.cardiac.hearts import heart

LABELS = heart(frames=4, frame_time=0.1)


def stored(path, values, slope, offset=0.0, intent="none"):
    """Write integers with a scale in the header; the values of the file are integers times slope plus offset."""
    image = nib.Nifti1Image(values, LABELS.affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 0.1
    image.header.set_intent(intent)
    nib.save(image, path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<ff", content, 112, slope, offset)
    path.write_bytes(content)
    return path


def scaled_by_nibabel(path, dtype):
    """Write labels in floating point under the header of an image of integers: nibabel scales them to its range."""
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_xyzt_units("mm", "sec")
    header["pixdim"][4] = 0.1
    nib.save(nib.Nifti1Image(LABELS.array * (1.0 + (LABELS.array == 3) * 4 / 3), LABELS.affine, header), path)
    return path


def volumes(crnn, file):
    ended = crnn("labels", file, "--json")
    assert ended.code == 0, ended.err
    return {each["value"]: each["voxels"] for each in json.loads(ended.out)["labels"]}, ended.err


@pytest.fixture
def truth(tmp_path):
    return stored(tmp_path / "plain.nii", LABELS.array.astype(np.uint8), 1.0)


@pytest.mark.parametrize("scale", [(1 / 255, 0), (0.1, 0), (1 / 3, 0), (1.5, 0), (1 / 255, 0.5), (-0.25, 0)])
@pytest.mark.parametrize("intent", ["none", "label"])
def test_the_scale_of_an_image_is_left_off(crnn, tmp_path, truth, scale, intent):
    file = stored(tmp_path / "scaled.nii", LABELS.array.astype(np.int16), *scale, intent)
    found, said = volumes(crnn, file)
    assert found == volumes(crnn, truth)[0]
    assert "makes fractions of labels: it is left off" in said
    told = json.loads(crnn("info", file, "--json").out)
    assert [doubt["code"] for doubt in told["doubts"]] == ["label-scale"]
    assert told["next_commands"] == [f"crnn labels {file}"]
    numbers = [json.loads(crnn("function", each, "--labels", "acdc", "--json").out) for each in (truth, file)]
    assert numbers[0]["quantities"] == numbers[1]["quantities"]
    compared = crnn("evaluate", file, "--reference", truth, "--json")
    assert json.loads(compared.out)["mean"]["dice"] == 1
    assert "left off" in compared.err
    ended = crnn("segment", file, "-o", tmp_path / "x.nii.gz")
    assert ended.code == 4
    assert "label map; labels are made of an image" in ended.err


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
def test_labels_that_software_scaled_by_itself_are_rounded(crnn, tmp_path, truth, dtype):
    file = scaled_by_nibabel(tmp_path / "scaled.nii", dtype)
    assert (np.unique(nib.load(file).get_fdata()) % 1 != 0).any()
    found, said = volumes(crnn, file)
    expected = volumes(crnn, truth)[0]
    assert found == {1: expected[1], 2: expected[2], 7: expected[3]}
    assert "they are rounded" in said
    assert json.loads(crnn("info", file, "--json").out)["next_commands"] == [f"crnn labels {file}"]


def test_images_keep_their_scale(crnn, tmp_path):
    x = np.linspace(0, 255, 32).round().astype(np.uint8)
    ramp = np.broadcast_to(x[:, None, None, None], (32, 32, 2, 4)).copy()
    steps = np.array([0, 26, 77, 128, 255], np.uint8)[np.searchsorted([51, 102, 153, 204], ramp)]
    for name, values in (("ramp", ramp), ("steps", steps)):
        file = stored(tmp_path / f"{name}.nii", values, 1 / 255)
        told = json.loads(crnn("info", file, "--json").out)
        assert "label-scale" not in [doubt["code"] for doubt in told["doubts"]]
        assert told["maximum"] == pytest.approx(1)
        assert crnn("evaluate", file, "--reference", file).code == 0
    copied = tmp_path / "copied.nii"
    labels = stored(tmp_path / "labels.nii", LABELS.array.astype(np.uint8), 1 / 255)
    assert crnn("convert", labels, copied).code == 0
    assert np.allclose(nib.load(copied).get_fdata(), nib.load(labels).get_fdata()), "a copy keeps the values"
