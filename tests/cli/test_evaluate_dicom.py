"""``crnn evaluate`` of DICOM: measured where it lies in the patient, however the two are stored."""

import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest

from crnn_cli.data.image import Image
from crnn_cli.io.atomic_write import write_together
from crnn_cli.io.dicom.read import read_series
from crnn_cli.io.dicom.seg import Algorithm, seg_outputs
from crnn_cli.labels.names import Label
from tests.support.data import data_file
from tests.support.dicom import oblique, values, write_series

SHAPE = (3, 4, 14, 18)  # slices, frames, rows, columns


@pytest.fixture
def fails(evaluate):
    def run(code, words, *arguments):
        ended = evaluate(*arguments, code=code)
        assert words in " ".join(ended.err.split())
        assert ended.err.count("error:") == 1

    return run


def pixels(noise=0):
    change = np.random.default_rng(1).integers(-noise, noise + 1, SHAPE) if noise else 0
    return values(*SHAPE, low=500) + change


def stored(path, array, affine, order=(0, 1, 2), flips=()):
    """Write (column, row, slice, frame) with its axes in another order and direction, in the same place."""
    array, affine = array.transpose(*order, 3), affine[:, [*order, 3]].copy()
    for axis in flips:
        array = np.flip(array, axis)
        affine[:, 3] += affine[:, axis] * (array.shape[axis] - 1)
        affine[:, axis] *= -1
    nifti = nib.Nifti1Image(array, affine)
    nifti.header.set_xyzt_units("mm", "sec")
    nifti.header["pixdim"][4] = 0.03
    nib.save(nifti, path)
    return path


def write_volume(folder):
    """Write the first frame alone, on the same grid."""
    write_series(folder, pixels()[:, :1], oblique(3))
    return folder


@pytest.fixture
def series(tmp_path):
    """Return a DICOM folder, and what it holds as (column, row, slice, frame) with its affine."""
    affine = write_series(tmp_path / "d", pixels(), oblique(3))
    return tmp_path / "d", pixels().transpose(3, 2, 0, 1).astype(np.int16), affine


def test_a_series_against_itself_and_its_zip_is_identical(report, series, tmp_path):
    shutil.make_archive(str(tmp_path / "z"), "zip", series[0])
    for image, reference in ((series[0], series[0]), (tmp_path / "z.zip", series[0]), (series[0], tmp_path / "z.zip")):
        found = report(image, "-r", reference)
        assert (found["identical"], found["psnr_db"], found["compared"]) == (True, None, "images")
        assert (found["axes_turned"], found["geometry_ignored"]) == (False, False)
    one = next(series[0].iterdir())
    assert report(one, "-r", one)["identical"]


@pytest.mark.parametrize(
    ("order", "flips"), [((0, 1, 2), ()), ((0, 1, 2), (1,)), ((0, 1, 2), (0, 2)), ((1, 0, 2), ()), ((2, 0, 1), (1, 2))]
)
def test_the_order_and_direction_of_stored_axes_change_no_figure(report, tmp_path, series, order, flips):
    folder, array, affine = series
    noisy = pixels(200).transpose(3, 2, 0, 1).astype(np.int16)
    expected = report(stored(tmp_path / "plain.nii", noisy, affine), "-r", folder)
    assert expected["psnr_db"] < 40
    assert not expected["axes_turned"]
    moved = stored(tmp_path / "moved.nii", noisy, affine, order, flips)
    found = report(moved, "-r", folder)
    assert found["axes_turned"] == ((order, flips) != ((0, 1, 2), ()))
    for name in ("psnr_db", "ssim", "nmse", "hfen", "data_range", "frames"):
        assert found[name] == expected[name]
    same = stored(tmp_path / "same.nii", array, affine, order, flips)
    assert report(same, "-r", folder)["identical"]
    if order[2] == 2:  # frames are x-y planes of the reference; here those are the slices still
        assert report(folder, "-r", same)["identical"]


def test_the_turn_is_said_and_ignoring_the_geometry_turns_nothing(evaluate, report, tmp_path, series):
    folder, array, affine = series
    flipped = stored(tmp_path / "flipped.nii", array, affine, flips=(1,))
    assert f"the axes of {flipped} are turned to those of {folder}" in evaluate(flipped, "-r", folder).err
    ignored = report(flipped, "-r", folder, "--ignore-geometry")
    assert (ignored["identical"], ignored["axes_turned"], ignored["geometry_ignored"]) == (False, False, True)


def test_a_bad_voxel_of_a_turned_file_is_named_as_it_is_stored(fails, tmp_path, series):
    folder, array, affine = series
    broken = array[:, ::-1].astype(np.float32)
    broken[4, 1, 2, 3] = np.nan
    flipped = stored(tmp_path / "flipped.nii", broken[:, ::-1], affine, flips=(1,))
    fails(4, "first at (4, 1, 2, 3)", flipped, "-r", folder)


def test_what_lies_elsewhere_stays_refused(fails, tmp_path, series):
    folder, array, affine = series
    shifted, mirrored = affine.copy(), affine.copy()
    shifted[0, 3] += 0.02
    mirrored[:, 0] *= -1
    for name, other in (("shifted", shifted), ("mirrored", mirrored)):
        fails(4, "mm apart", stored(tmp_path / f"{name}.nii", array, other, flips=(1,)), "-r", folder)
    fails(4, "only images on one grid", stored(tmp_path / "short.nii", array[:-1], affine), "-r", folder)


def test_labels_are_compared_where_they_lie(report, tmp_path, series):
    _, array, affine = series
    labels = np.where(array > 3000, 2, np.where(array > 1500, 1, 0)).astype(np.uint8)
    write_series(tmp_path / "l", labels.transpose(2, 3, 1, 0), oblique(3))
    changed = labels.copy()
    changed[3:9, 2:5] = 1
    expected = report(stored(tmp_path / "plain.nii", changed, affine), "-r", tmp_path / "l")
    assert expected["compared"] == "labels"
    assert expected["mean"]["dice"] < 1
    found = report(stored(tmp_path / "moved.nii", changed, affine, (1, 0, 2), (0,)), "-r", tmp_path / "l")
    assert found["axes_turned"]
    assert (found["labels"], found["mean"]) == (expected["labels"], expected["mean"])
    assert report(tmp_path / "l", "-r", tmp_path / "l", "--require-dice", 1)["mean"]["dice"] == 1


def test_segments_are_labels_where_they_lie(report, fails, tmp_path, series):
    _, array, affine = series
    labels = (array[..., 0] > 1500).astype(np.uint8) + (array[..., 0] > 3000)
    of_frame = read_series(write_volume(tmp_path / "v"))[2]
    kept = [Label(1, "a", (255, 0, 0)), Label(2, "b", (0, 255, 0))]
    write_together(seg_outputs(Image(labels, affine), of_frame, kept, Algorithm("x", {}), tmp_path / "seg.dcm"))
    moved = stored(tmp_path / "moved.nii", labels[..., None], affine, (1, 0, 2), (0,))
    for arguments in ((tmp_path / "seg.dcm", "-r", moved), (moved, "-r", tmp_path / "seg.dcm")):
        found = report(*arguments, "--require-dice", 1)
        assert (found["compared"], [one["value"] for one in found["labels"]]) == ("labels", [1, 2])
    fails(4, "looks like a label map", tmp_path / "seg.dcm", "-r", tmp_path / "v")


def test_a_label_map_against_an_image_in_dicom_is_refused(fails, tmp_path, series):
    folder, array, affine = series
    labels = stored(tmp_path / "labels.nii", (array > 2000).astype(np.uint8), affine)
    fails(4, f"labels.nii (uint8) looks like a label map and {folder} (int16) like an image", labels, "-r", folder)


def test_one_of_several_series_has_to_be_chosen(report, fails, tmp_path, series):
    folder, array, affine = series
    single = stored(tmp_path / "one.nii", array, affine)
    write_series(folder, pixels(200), oblique(3), SeriesNumber=9)
    fails(4, "choose one with --series", folder, "-r", single)
    fails(4, "choose one with --reference-series", single, "-r", folder)
    assert report(folder, "--series", 1, "-r", single)["identical"]
    assert report(single, "-r", folder, "--reference-series", 1)["identical"]
    other = report(folder, "--series", 2, "-r", folder, "--reference-series", 1)
    assert other["psnr_db"] < 40
    fails(4, "--reference-series 3 fits 0 of the series", single, "-r", folder, "--reference-series", 3)


def test_options_are_for_their_kind_of_file(report, fails, tmp_path, series):
    folder, array, affine = series
    nifti = stored(tmp_path / "one.nii", array, affine)
    fails(2, "error: --series chooses a DICOM series", nifti, "-r", folder, "--series", 1)
    fails(2, "error: --reference-series chooses a DICOM series", folder, "-r", nifti, "--reference-series", 1)
    fails(2, "error: --axes is for files whose axes are in doubt", folder, "-r", nifti, "--axes", "x,y,z,t")
    fails(2, "error: --reference-axes is for files", nifti, "-r", folder, "--reference-axes", "x,y,z,t")
    assert report(nifti, "-r", folder, "--axes", "x,y,z,t")["identical"]  # they are those of the NIfTI file alone


def test_damaged_and_missing_series_end_with_3(fails, tmp_path, series):
    folder, array, affine = series
    nifti = stored(tmp_path / "one.nii", array, affine)
    (tmp_path / "empty").mkdir()
    fails(3, "holds no DICOM images", nifti, "-r", tmp_path / "empty")
    damaged = next(folder.iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-100])
    fails(3, "damaged", folder, "-r", nifti)
    fails(3, "damaged", nifti, "-r", folder)


@pytest.mark.parametrize("place", ["pig_cine_sax", "dicom/ct_3slice"])
def test_the_nifti_that_dcm2niix_makes_of_a_series_is_identical(report, tmp_path, place):
    folder = tmp_path / "series"
    folder.mkdir()
    for file in sorted(data_file(*place.split("/")).iterdir())[:40]:  # two slices of the pig
        shutil.copy(file, folder)
    if shutil.which("dcm2niix") is None:
        pytest.skip("dcm2niix is not installed")
    made = ["dcm2niix", "-o", tmp_path, "-f", "a", "-z", "n", "-p", "n", folder]
    subprocess.run(made, capture_output=True, check=True)
    found = report(folder, "-r", tmp_path / "a.nii")
    assert found["axes_turned"]
    assert found["identical"]
