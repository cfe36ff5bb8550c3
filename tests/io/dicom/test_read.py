"""DICOM becomes the image that it is, in its place, or is refused for a reason that is true."""

import contextlib
import re
import shutil
import subprocess
import zipfile

import nibabel as nib
import numpy as np
import pytest

from crnn_cli.data.alignment import compare_images
from crnn_cli.errors import CrnnError, UnreadableError, UnsupportedDataError, UsageError
from crnn_cli.io.dicom.read import list_series, read_dicom
from crnn_cli.io.images import load_image
from crnn_cli.io.nifti.image import read_image
from tests.support.data import data_file
from tests.support.dicom import oblique, values, write_enhanced, write_series
from tests.support.remarks import texts


def as_stored(image):
    """Return (slice, frame, row, column) of an image (column, row, slice, frame)."""
    array = image.array if image.array.ndim == 4 else image.array[..., None]
    return array.transpose(2, 3, 1, 0)


@pytest.mark.parametrize("seed", range(8))
def test_an_oblique_cine_in_any_order_comes_back(tmp_path, seed):
    pixels = values(4, 6, 10, 14, seed)
    affine = write_series(tmp_path, pixels, oblique(seed), shuffle=seed)
    image, _ = read_dicom(tmp_path)
    np.testing.assert_array_equal(as_stored(image), pixels)
    np.testing.assert_allclose(image.affine, affine, atol=1e-5)
    assert image.frame_time == pytest.approx(0.030)
    assert image.array.dtype == np.int16
    assert compare_images(image, image).differs(0, 0) == []


def test_the_trigger_times_give_the_frame_time_and_never_the_repetition_time(tmp_path):
    write_series(tmp_path, values(2, 5, 4, 4), step_ms=41.5)
    series = list_series(tmp_path).series[0]
    assert (series.kind, series.ordered_by) == ("cine", "trigger time")
    assert series.frame_time == pytest.approx(0.0415)
    write_series(tmp_path / "b", values(2, 5, 4, 4), each=lambda z, t: {"TriggerTime": None, "AcquisitionNumber": t})
    series = list_series(tmp_path / "b").series[0]
    assert (series.kind, series.ordered_by, series.frame_time) == ("time series", "acquisition number", None)


@pytest.mark.parametrize(
    ("each", "by"),
    [
        (lambda z, t: {"TemporalPositionIdentifier": 3 - t, "TriggerTime": "0"}, "temporal position"),
        (lambda z, t: {"TriggerTime": None, "AcquisitionTime": f"1010{30 - 5 * t:02d}.5"}, "acquisition time"),
        (lambda z, t: {"TriggerTime": "7", "InstanceNumber": 100 * z - t + 50}, "instance number"),
    ],
)
def test_times_are_ordered_by_the_first_number_that_tells_them_apart(tmp_path, each, by):
    pixels = values(3, 4, 5, 6)
    write_series(tmp_path, pixels, each=each)
    assert list_series(tmp_path).series[0].ordered_by == by
    np.testing.assert_array_equal(as_stored(read_dicom(tmp_path)[0]), pixels[:, ::-1])


@pytest.mark.parametrize(
    ("more", "stored", "kind", "expected"),
    [
        ({"RescaleSlope": "1", "RescaleIntercept": "-1024"}, (0, 3000), np.int16, lambda v: v - 1024),
        ({"PixelRepresentation": 1}, (-3000, 3000), np.int16, lambda v: v),
        ({}, (0, 65000), np.uint16, lambda v: v),
        ({"RescaleSlope": "1", "RescaleIntercept": "-5"}, (0, 65000), np.int32, lambda v: v - 5),
        ({"RescaleSlope": "0.25", "RescaleIntercept": "3"}, (0, 4000), np.float32, lambda v: v * 0.25 + 3),
    ],
)
def test_values_are_rescaled_exactly(tmp_path, more, stored, kind, expected):
    pixels = values(3, 1, 8, 9, low=stored[0], high=stored[1])
    pixels.flat[0] = stored[0]
    write_series(tmp_path, pixels, Modality="CT", **more)
    image, _ = read_dicom(tmp_path)
    assert image.array.dtype == kind
    assert image.array.ndim == 3
    np.testing.assert_array_equal(as_stored(image), expected(pixels))


def test_each_frame_has_its_own_rescale(tmp_path):
    pixels = values(2, 3, 6, 6)
    write_series(tmp_path, pixels, each=lambda z, t: {"RescaleSlope": f"{t + 1}", "RescaleIntercept": f"{z}"})
    expected = pixels * np.arange(1, 4)[None, :, None, None] + np.arange(2)[:, None, None, None]
    np.testing.assert_array_equal(as_stored(read_dicom(tmp_path)[0]), expected)
    assert any("each has its own" in note for note in texts(list_series(tmp_path).series[0].remarks))


def test_an_enhanced_object_is_read_frame_by_frame(tmp_path):
    pixels = values(3, 4, 6, 8)
    affine = write_enhanced(tmp_path / "one", pixels, oblique(3))
    image, _ = read_dicom(tmp_path / "one")
    np.testing.assert_array_equal(as_stored(image), pixels)
    np.testing.assert_allclose(image.affine, affine, atol=1e-5)
    assert image.frame_time == pytest.approx(0.025)


def test_a_folder_a_zip_and_a_dicomdir_are_the_same(tmp_path):
    folder = tmp_path / "folder"
    write_series(folder / "deep", values(2, 3, 5, 5))
    (folder / "DICOMDIR").write_bytes(b"anything")
    (folder / "notes.txt").write_text("not an image")
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        for file in sorted(folder.rglob("*.dcm")):
            archive.write(file, file.relative_to(folder))
    image, digest = read_dicom(folder)
    assert list_series(folder).others == 1
    for place in (tmp_path / "scan.zip", folder / "DICOMDIR"):
        other, same = read_dicom(place)
        assert compare_images(image, other).differs(0, 0) == []
        assert same == digest


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"skip": {(1, 2)}}, r"slice 2 has 3 of 4 frames \(none near 65 ms\)"),
        ({"skip": {(0, 0), (2, 3)}, "each": lambda z, t: {"TemporalPositionIdentifier": t + 1}},
         "slice 1 lacks temporal position 1, slice 3 lacks temporal position 4"),
        ({"positions": [0, 8, 16.5]}, "not evenly spaced: 8.25 mm, but 8.00 mm after slice 1"),
        ({"positions": [0, 8, 24, 32]}, "but 16.00 mm after slice 2"),
        ({"each": lambda z, t: {"ImagePositionPatient": ["0", str(3 * z), str(8 * z)]}}, "a tilt of 20.6 degrees"),
        ({"each": lambda z, t: {"ImageType": ["ORIGINAL", "PRIMARY", "MOSAIC"]}}, "a mosaic"),
        ({"each": lambda z, t: {"SamplesPerPixel": 3}}, "a colour picture"),
        ({"each": lambda z, t: {"ImagePositionPatient": None}}, "lack position, orientation or pixel spacing"),
        ({"each": lambda z, t: {"ImageOrientationPatient": ["1", "0", "0", "1", "0", "0"]}}, "not perpendicular"),
        ({"each": lambda z, t: {"TriggerTime": "5", "InstanceNumber": 1}}, "nothing in the headers tells their times"),
        ({"each": lambda z, t: {"SOPInstanceUID": "1.2.3"}}, "UID of another one"),
    ],
)  # fmt: skip
def test_what_is_no_full_grid_is_refused_with_the_reason(tmp_path, how, why):
    slices = len(how.get("positions", range(3)))
    write_series(tmp_path, values(slices, 4, 5, 5), **how)
    with pytest.raises(UnsupportedDataError, match=why):
        read_dicom(tmp_path)
    assert any(re.search(why, problem) for problem in list_series(tmp_path).series[0].problems)


def test_several_series_need_a_choice_and_their_table_is_the_message(tmp_path):
    one, two = values(2, 1, 5, 5, seed=1), values(2, 3, 6, 6, seed=2)
    write_series(tmp_path, one, SeriesNumber=9, SeriesDescription="scout")
    write_series(tmp_path, two, SeriesNumber=2, SeriesDescription="[b]heart")
    with pytest.raises(UnsupportedDataError, match=r"choose one with series(.|\n)*\[b\]heart(.|\n)*scout"):
        read_dicom(tmp_path)
    np.testing.assert_array_equal(as_stored(read_dicom(tmp_path, "1")[0]), two)
    uid = list_series(tmp_path).series[1].uid
    np.testing.assert_array_equal(as_stored(read_dicom(tmp_path, uid)[0]), one)
    with pytest.raises(UnsupportedDataError, match="series='3' fits 0"):
        read_dicom(tmp_path, "3")


def test_planes_of_a_localizer_and_phase_images_are_series_of_their_own(tmp_path):
    series = "1.2.3.4.5"
    for seed in range(3):
        write_series(tmp_path / str(seed), values(2, 1, 5, 5, seed), oblique(seed), series=series, study="1.2.3")
    assert [s.slices for s in list_series(tmp_path).series] == [2, 2, 2]
    phases = tmp_path / "phase"
    for kind in ("M", "P"):
        write_series(
            phases / kind, values(2, 3, 5, 5), series=series, study="1.2.3", ImageType=["ORIGINAL", "PRIMARY", kind]
        )
    assert [(s.part, s.slices, s.frames) for s in list_series(phases).series] == [("M", 2, 3), ("P", 2, 3)]


def test_a_damaged_file_is_never_left_out_in_silence(tmp_path):
    write_series(tmp_path, values(2, 2, 16, 16))
    victim = sorted(tmp_path.iterdir())[1]
    whole = victim.read_bytes()
    victim.write_bytes(whole[:300])
    with pytest.raises(CrnnError, match=victim.name + "|has 1 of 2 frames|not evenly|damaged"):
        read_dicom(tmp_path)
    victim.write_bytes(whole[:-40])
    with pytest.raises(UnreadableError, match=rf"the pixels of {victim.name} are damaged"):
        read_dicom(tmp_path)


def test_places_without_images(tmp_path):
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UnreadableError):
            read_dicom(place)
    (tmp_path / "a.dcm").write_text("no dicom")
    with pytest.raises(UnreadableError, match=r"holds no DICOM images that are read \(1 file: not DICOM\)"):
        read_dicom(tmp_path)
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04" + bytes(200))
    with pytest.raises(UnreadableError):
        read_dicom(tmp_path / "bad.zip")


def test_options_of_the_other_format_are_refused(tmp_path):
    write_series(tmp_path / "d", values(2, 1, 5, 5))
    with pytest.raises(UsageError, match="axes is for files whose axes are in doubt"):
        load_image(tmp_path / "d", "x,y,z")
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(UsageError, match="series chooses a DICOM series"):
        load_image(tmp_path / "a.nii", None, "1")


def test_no_patient_text_leaves_the_files(crnn, tmp_path):
    write_series(tmp_path / "d", values(2, 3, 5, 5), skip={(0, 1)})
    for arguments in (("info", tmp_path / "d"), ("info", tmp_path / "d", "--json"), ("convert", tmp_path / "d", "-")):
        ended = crnn(*arguments)
        assert b"Secret" not in ended.out
        assert "Secret" not in ended.err
        assert "4711" not in ended.err


def with_dcm2niix(place, folder):
    """Return dcm2niix's image of a series, values in display scale."""
    if shutil.which("dcm2niix") is None:
        pytest.skip("dcm2niix is not installed")
    subprocess.run(["dcm2niix", "-o", folder, "-f", "a", "-z", "n", "-p", "n", place], capture_output=True, check=True)
    (file,) = folder.glob("*.nii")
    return read_image(file)


@pytest.mark.parametrize("seed", range(6))
def test_dcm2niix_agrees_on_generated_cines(tmp_path, seed):
    frames = 1 + seed
    write_series(
        tmp_path / "d", values(3 + seed % 3, frames, 12, 16, seed), oblique(seed), shuffle=seed,
        each=lambda z, t: {"InstanceNumber": 1 + z * frames + t},  # which dcm2niix goes by
    )  # fmt: skip
    (tmp_path / "o").mkdir()
    found = compare_images(read_dicom(tmp_path / "d")[0], with_dcm2niix(tmp_path / "d", tmp_path / "o"))
    assert found.distance_mm < 1e-3
    assert found.voxels == 0


@pytest.mark.parametrize("place", ["pig_cine_sax", "dicom/ct_3slice", "dicom/epi_philips"])
def test_dcm2niix_agrees_on_real_series(tmp_path, place):
    folder = data_file(*place.split("/"))
    found = compare_images(read_dicom(folder)[0], with_dcm2niix(folder, tmp_path))
    assert found.distance_mm < 2.5e-3  # positions of the pig cine are rounded to 1e-3 mm
    assert found.difference < 1e-2


def test_a_tilted_and_uneven_head_is_refused_for_both_reasons():
    with pytest.raises(UnsupportedDataError, match=r"not evenly spaced(.|\n)*a tilt of 18\.5 degrees"):
        read_dicom(data_file("dicom", "ct_head_ge"))


@pytest.mark.parametrize("seed", range(40))
def test_mutated_files_end_in_an_error_of_ours(tmp_path, seed):
    rng = np.random.default_rng(seed)
    if seed % 2:
        write_series(tmp_path, values(1, 1, 8, 8))
    else:
        write_enhanced(tmp_path / "one.dcm", values(2, 2, 8, 8), oblique(1))
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    for _ in range(1 + seed % 7):
        place = int(rng.integers(132, len(content)))
        content[place : place + int(rng.integers(1, 5))] = rng.bytes(int(rng.integers(1, 5)))
    file.write_bytes(bytes(content[: int(rng.integers(140, len(content) + 1))] if seed % 3 == 0 else content))
    with contextlib.suppress(CrnnError):
        read_dicom(tmp_path)
