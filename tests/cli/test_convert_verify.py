"""The commands convert and verify, and DICOM as an input of the others."""

import json

import nibabel as nib
import numpy as np
import pytest

from crnn_cli.data.alignment import compare_images
from crnn_cli.data.image import Image
from crnn_cli.io.nifti.image import read_image
from tests.support.cines import AFFINE, moving_cine
from tests.support.dicom import oblique, values, write_series


def test_convert_and_verify_there(crnn, tmp_path):
    pixels = values(3, 4, 10, 12)
    affine = write_series(tmp_path / "d", pixels, oblique(2))
    ended = crnn("convert", tmp_path / "d", tmp_path / "a.nii.gz")
    assert ended.code == 0, ended.err
    image = read_image(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(image.affine, affine, atol=1e-4)
    assert image.frame_time == pytest.approx(0.03)
    assert nib.load(tmp_path / "a.nii.gz").get_data_dtype() == np.int16
    ended = crnn("verify", tmp_path / "d", tmp_path / "a.nii.gz", "--json")
    assert ended.code == 0
    found = json.loads(ended.out)
    assert found["same"]
    assert found["voxels"] == 0
    assert found["distance_mm"] < 1e-4
    assert crnn("convert", tmp_path / "d", tmp_path / "a.nii.gz").code == 1  # it exists
    assert crnn("convert", tmp_path / "d", tmp_path / "a.nii.gz", "--force").code == 0
    streamed = crnn("convert", tmp_path / "d", "-")
    assert nib.Nifti1Image.from_bytes(streamed.out).shape == (12, 10, 3, 4)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda a, m: (a + (a == a.max()), m), "1 values differ, by up to 1"),
        (lambda a, m: (a, m + np.eye(4)[:, [3, 3, 3, 0]] * 0.5), "voxels lie up to 0.5 mm apart"),
        (lambda a, m: (a[:-1], m), "do not fit"),
    ],
)
def test_verify_finds_what_differs(crnn, tmp_path, change, why):
    pixels = values(3, 1, 10, 12)
    pixels[0, 0, 0, 0] = 9000
    write_series(tmp_path / "d", pixels)
    crnn("convert", tmp_path / "d", tmp_path / "a.nii")
    image = read_image(tmp_path / "a.nii")
    array, affine = change(image.array.astype(np.int32), image.affine)
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "b.nii")
    ended = crnn("verify", tmp_path / "d", tmp_path / "b.nii")
    assert ended.code == 6
    assert why in ended.err.replace("\n", " ")


def test_turned_and_mirrored_storage_is_the_same_thing():
    rng = np.random.default_rng(0)
    image = Image(rng.normal(size=(4, 5, 6, 2)), AFFINE)
    affine = AFFINE[:, [2, 0, 1, 3]].copy()
    turned = image.array.transpose(2, 0, 1, 3)[::-1]
    affine[:, 3] += affine[:, 0] * 5
    affine[:, 0] *= -1
    assert compare_images(image, Image(turned, affine)).differs(1e-9, 0) == []
    assert compare_images(image, Image(turned[::-1], affine)).voxels > 200
    assert compare_images(image, Image(np.where(image.array > 1, np.nan, image.array), AFFINE)).difference != 0


def test_a_cine_folder_is_reconstructed_in_its_place(crnn, tmp_path, bundle):
    truth = np.abs(moving_cine(24, 20, 2, 6)).transpose(2, 3, 1, 0)  # slice, frame, row, column
    affine = write_series(tmp_path / "d", truth / truth.max() * 4000, oblique(4), PatientName="Secret^Person")
    arguments = ("--model", bundle, "--undersample", 3, "--device", "cpu")
    ended = crnn("reconstruct", tmp_path / "d", "-o", tmp_path / "out.nii.gz", *arguments)
    assert ended.code == 0, ended.err
    image = read_image(tmp_path / "out.nii.gz")
    assert image.shape == (24, 20, 2, 6)
    np.testing.assert_allclose(image.affine, affine, atol=1e-3)
    assert image.frame_time == pytest.approx(0.03)
    report = (tmp_path / "out.json").read_text()
    assert json.loads(report)["input"]["format"] == "DICOM"
    assert "Secret" not in report
    ended = crnn("reconstruct", tmp_path / "d", *arguments)  # the name of the output follows the folder's
    assert ended.code == 0, ended.err
    assert (tmp_path / "d_crnn.nii.gz").exists()


def test_info_lists_a_folder(crnn, tmp_path):
    write_series(tmp_path / "d", values(3, 4, 10, 12), SeriesDescription="[red]heart")
    write_series(tmp_path / "d", values(3, 4, 10, 12), skip={(1, 1)}, SeriesNumber=7)
    ended = crnn("info", tmp_path / "d", "--json")
    one, two = json.loads(ended.out)["series"]
    assert (one["kind"], one["slices"], one["frames"], one["columns"]) == ("cine", 3, 4, 12)
    assert one["frame_time_s"] == pytest.approx(0.03)
    assert two["problems"]
    ended = crnn("info", tmp_path / "d")
    assert ended.code == 0
    assert b"[red]heart" in ended.out
    assert "series 2 cannot be read" in ended.err
    assert json.loads(crnn("info", tmp_path / "d", "--series", 1, "--json").out)["shape"] == [12, 10, 3, 4]
    assert crnn("info", tmp_path / "d", "--series", 2).code == 4
    (tmp_path / "empty").mkdir()
    assert crnn("info", tmp_path / "empty").code == 3


@pytest.mark.parametrize(
    ("flipped", "other_placed", "code", "said"),
    [
        (False, True, 6, "a.nii does not say where it lies, so its place cannot be compared"),
        (True, True, 6, "values differ"),
        (False, False, 0, "in the same voxels; neither file says where it lies"),
        (True, False, 6, "values differ"),
    ],
)
def test_an_image_without_a_place_is_compared_as_stored(crnn, tmp_path, flipped, other_placed, code, said):
    """The affine that a reader makes of voxel sizes alone turns no axes."""
    array = np.random.default_rng(0).random((6, 5, 4)).astype(np.float32)
    placed, unplaced = nib.Nifti1Image(array, AFFINE), nib.Nifti1Image(array[::-1] if flipped else array, None)
    unplaced.header.set_zooms(placed.header.get_zooms())
    if not other_placed:
        placed = nib.Nifti1Image(array, None, unplaced.header)
    nib.save(unplaced, tmp_path / "a.nii")
    nib.save(placed, tmp_path / "b.nii")
    for pair in (("a.nii", "b.nii"), ("b.nii", "a.nii")):
        ended = crnn("verify", *(tmp_path / name for name in pair), "--json")
        found = json.loads(ended.out)
        assert (ended.code, found["voxels"]) == (code, array.size if flipped else 0), ended.err
        assert found["distance_mm"] is None
        assert said in ended.err.replace("\n", " ")
