"""NIfTI to DICOM: place, times, values to the last bit where 16 bits hold them; patient and study from a reference."""

import shutil
import subprocess

import nibabel as nib
import numpy as np
import pydicom
import pytest

from crnn_cli.data.alignment import compare_images, reorient_to
from crnn_cli.data.image import Image
from crnn_cli.io.dicom.read import read_dicom, read_series
from crnn_cli.io.dicom.write import to_stored_pixels
from crnn_cli.io.nifti.image import read_image, write_image
from tests.support.dicom import oblique, values, write_enhanced, write_series


def headers(folder):
    """Return the headers by (position, trigger time)."""
    read = map(pydicom.dcmread, folder.iterdir())
    return {(tuple(map(float, d.ImagePositionPatient)), str(d.get("TriggerTime"))): d for d in read}


def oblique_affine(seed, mirrored=False):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = q * (1 if np.linalg.det(q) > 0 else -1) * [1.5, 1.25, -8.0 if mirrored else 8.0]
    affine[:3, 3] = 12.5, -30.25, 41.0
    return affine


def test_a_double_oblique_cine_comes_back_from_nifti_as_it_was(crnn, tmp_path):
    def each(z, t):
        return {"RescaleSlope": "2.5", "RescaleIntercept": "-3"} if t >= 0 else {}

    write_series(tmp_path / "d", values(5, 9, 8, 10, 3), oblique(7), shuffle=2, StudyDescription="heart", each=each)
    assert crnn("convert", tmp_path / "d", tmp_path / "a.nii.gz").code == 0
    ended = crnn("convert", tmp_path / "a.nii.gz", tmp_path / "back", "--reference-dicom", tmp_path / "d")
    assert ended.code == 0, ended.err
    assert "to the last bit" in ended.err.replace("\n", " ")
    first, again = read_dicom(tmp_path / "d")[0], read_dicom(tmp_path / "back")[0]
    found = compare_images(first, again)
    assert found.voxels == 0
    assert found.distance_mm < 1e-4
    before, made = headers(tmp_path / "d"), headers(tmp_path / "back")
    assert before.keys() == made.keys()  # 45 places and times
    for key, data in made.items():
        assert data.pixel_array.tobytes() == before[key].pixel_array.tobytes()
        assert data.PatientName == before[key].PatientName
        assert data.StudyInstanceUID == before[key].StudyInstanceUID
        assert data.SeriesInstanceUID != before[key].SeriesInstanceUID
        assert data.SourceImageSequence[0].ReferencedSOPInstanceUID == before[key].SOPInstanceUID


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.uint8, np.float32])
def test_without_a_model_place_values_and_times_stay_and_nobody_is_invented(crnn, tmp_path, kind, mirrored):
    low = -900 if kind == np.int16 else 0
    array = np.random.default_rng(1).integers(low, 250, (10, 12, 3, 4)).astype(kind)
    image = Image(array, oblique_affine(5, mirrored), 0.03)
    write_image(image, tmp_path / "a.nii", "test")
    ended = crnn("convert", tmp_path / "a.nii", tmp_path / "out")
    assert ended.code == 0, ended.err
    again = read_dicom(tmp_path / "out")[0]
    found = compare_images(image, again)
    assert (found.voxels, found.difference) == (0, 0.0)
    assert found.distance_mm < 1e-4
    assert again.frame_time == pytest.approx(0.03)
    for data in headers(tmp_path / "out").values():
        assert not data.PatientName
        assert not data.PatientID
        assert not data.StudyDate
        assert data.Modality == "MR"
        assert data.ImageType[0] == "DERIVED"


def test_values_that_16_bits_cannot_hold_are_off_by_half_a_step_at_most(crnn, tmp_path):
    array = np.random.default_rng(2).normal(20, 100, (10, 12, 3)).astype(np.float32)
    write_image(Image(array, oblique_affine(1)), tmp_path / "a.nii", "test")
    ended = crnn("convert", tmp_path / "a.nii", tmp_path / "out", "--modality", "CT")
    assert ended.code == 0, ended.err
    assert "in steps of" in ended.err
    found = compare_images(read_image(tmp_path / "a.nii"), read_dicom(tmp_path / "out")[0])
    assert 0 < found.difference <= 0.51 * (array.max() - array.min()) / 65535
    assert next(iter(headers(tmp_path / "out").values())).Modality == "CT"


def test_a_rescale_of_the_model_keeps_values_exact():
    whole = np.arange(-7, 4000, dtype=np.float64).reshape(1, 1, -1)
    exact = to_stored_pixels((whole * 0.3 + 11.7).astype(np.float32), [(0.3, 11.7)])
    assert exact.exact
    assert exact.array.dtype == np.int16
    np.testing.assert_array_equal(exact.array, whole)
    assert not to_stored_pixels((whole * 0.3 + 11.7).astype(np.float32), [(0.7, 0.0)]).exact


@pytest.mark.parametrize(("low", "high", "kind"), [(0, 65535, np.uint16), (-32768, 32767, np.int16), (-1, 65535, None)])
def test_integers_stay_integers_where_16_bits_hold_them(low, high, kind):
    found = to_stored_pixels(np.array([low, 7, high], np.int32))
    assert found.exact == (kind is not None)
    if kind is not None:
        assert found.array.dtype == kind
        np.testing.assert_array_equal(found.array, [low, 7, high])
    else:
        np.testing.assert_allclose(found.array * found.slope + found.intercept, [low, 7, high], atol=0.51 * found.slope)


def test_another_grid_takes_the_patient_alone(crnn, tmp_path):
    write_series(tmp_path / "d", values(3, 4, 10, 12), oblique(2), FrameOfReferenceUID="1.2.77")
    image = Image(np.arange(8 * 8 * 5, dtype=np.int16).reshape(8, 8, 5), oblique_affine(4))
    write_image(image, tmp_path / "a.nii", "test")
    ended = crnn("convert", tmp_path / "a.nii", tmp_path / "out", "--reference-dicom", tmp_path / "d")
    assert ended.code == 0, ended.err
    assert "not on the grid" in ended.err
    assert compare_images(image, read_dicom(tmp_path / "out")[0]).distance_mm < 1e-4
    data = next(iter(headers(tmp_path / "out").values()))
    assert data.PatientID == "4711"
    assert data.FrameOfReferenceUID == "1.2.77"
    assert "SourceImageSequence" not in data


def test_an_image_stored_the_other_way_round_finds_its_frames(crnn, tmp_path):
    write_series(tmp_path / "d", values(3, 4, 10, 12), oblique(2))
    image, _, series = read_series(tmp_path / "d")
    affine = image.affine.copy()
    affine[:, 3] += affine[:, 1] * 9 + affine[:, 2] * 2
    affine[:, 1:3] *= -1
    flipped = Image(image.array[:, ::-1, ::-1], affine, image.frame_time)
    write_image(flipped, tmp_path / "a.nii", "test")
    assert crnn("convert", tmp_path / "a.nii", tmp_path / "out", "--reference-dicom", tmp_path / "d").code == 0
    np.testing.assert_array_equal(read_dicom(tmp_path / "out")[0].array, image.array)
    laid = reorient_to(flipped, series.affine, image.shape)
    np.testing.assert_array_equal(laid.array, image.array)
    assert reorient_to(Image(image.array, image.affine + 0.1), series.affine, image.shape) is None


def test_enhanced_becomes_classic(crnn, tmp_path):
    write_enhanced(tmp_path / "one.dcm", values(3, 4, 10, 12), oblique(5))
    assert crnn("convert", tmp_path / "one.dcm", tmp_path / "out").code == 0
    found = compare_images(read_dicom(tmp_path / "one.dcm")[0], read_dicom(tmp_path / "out")[0])
    assert found.voxels == 0
    assert len(list((tmp_path / "out").iterdir())) == 12


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_dciodvfy_finds_no_error(crnn, tmp_path, modality):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed")
    write_image(Image(np.arange(600, dtype=np.int16).reshape(10, 12, 5), oblique_affine(4)), tmp_path / "a.nii", "test")
    assert crnn("convert", tmp_path / "a.nii", tmp_path / "out", "--modality", modality).code == 0
    ended = subprocess.run(["dciodvfy", tmp_path / "out" / "IM00001.dcm"], capture_output=True, text=True, check=False)
    assert f"{modality}Image" in ended.stderr
    assert not [line for line in ended.stderr.splitlines() if line.startswith("Error")]


@pytest.mark.parametrize(
    ("target", "more", "code", "why"),
    [
        ("out", ("--modality", "SEG"), 2, "--modality SEG is not known"),
        ("out", ("--reference-series", "1"), 2, "was not given"),
        ("out", ("--reference-dicom", "d", "--modality", "MR"), 2, "without --reference-dicom"),
        ("out", ("--reference-dicom", "d", "--reference-series", "7"), 4, "fits 0 of the series"),
        ("out", ("--reference-dicom", "a.nii"), 2, "is not DICOM"),
        ("out", ("--reference-dicom", "absent"), 3, "absent"),
        ("b.nii", ("--reference-dicom", "d"), 2, "a name without suffix"),
        ("there", (), 1, "holds more than .dcm files"),
        ("absent/out", (), 1, "create it first"),
    ],
)
def test_what_is_refused(crnn, tmp_path, monkeypatch, target, more, code, why):
    monkeypatch.chdir(tmp_path)
    write_series(tmp_path / "d", values(2, 1, 10, 12))
    write_image(Image(np.ones((4, 5, 3), np.int16), oblique_affine(1)), tmp_path / "a.nii", "test")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "thesis.odt").touch()
    ended = crnn("convert", "a.nii", target, *more)
    assert ended.code == code, ended.err
    assert why in ended.err.replace("\n", " ")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii", "d", "there"]


def test_a_modality_is_not_quietly_passed_over(crnn, tmp_path):
    write_series(tmp_path / "d", values(2, 1, 10, 12))
    ended = crnn("convert", tmp_path / "d", tmp_path / "out", "--modality", "CT")
    assert ended.code == 2
    assert "a DICOM series has its own" in ended.err.replace("\n", " ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.ones((4, 5, 3), np.complex64), "complex values"),
        (np.full((4, 5, 3), np.nan, np.float32), "NaN"),
    ],
)
def test_values_that_are_no_picture_are_refused(crnn, tmp_path, array, why):
    nib.save(nib.Nifti1Image(array, oblique_affine(2)), tmp_path / "a.nii")
    ended = crnn("convert", tmp_path / "a.nii", tmp_path / "out")
    assert ended.code == 4
    assert why in ended.err
    assert not (tmp_path / "out").exists()


def test_a_sheared_affine_is_refused(crnn, tmp_path):
    affine = oblique_affine(2)
    affine[:3, 2] += 0.3 * affine[:3, 0]
    nib.save(nib.Nifti1Image(np.ones((4, 5, 3), np.int16), affine), tmp_path / "a.nii")
    ended = crnn("convert", tmp_path / "a.nii", tmp_path / "out")
    assert ended.code == 4
    assert "is sheared" in ended.err
