"""A derived series keeps place, time and patient of its source, is new in everything else, and appears whole or not."""

import json
import shutil
import subprocess
import warnings
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from crnn_cli.data.alignment import compare_images
from crnn_cli.data.image import Image
from crnn_cli.errors import OutputError, UnsupportedDataError
from crnn_cli.io.dicom import write as dicom_write
from crnn_cli.io.dicom.folder import require_folder
from crnn_cli.io.dicom.header_repair import decimals
from crnn_cli.io.dicom.read import read_dicom, read_series
from crnn_cli.io.dicom.write import About, require_source, save_dicom, write_derived
from tests.support.cines import AFFINE, moving_cine, save
from tests.support.dicom import oblique, values, write_enhanced, write_series

ABOUT = About("heart crnn", "made up, for a test")


def source(folder, seed=1, slices=3, frames=4, **more):
    """Return an image of real values on the grid of a series in a folder, and the series."""
    write_series(folder, values(slices, frames, 10, 12, seed), oblique(seed), shuffle=seed, **more)
    image, _, series = read_series(folder)
    made = np.random.default_rng(seed).gamma(2.0, 30.0, image.shape).astype(np.float32)
    return replace(image, array=made), series


@pytest.mark.parametrize("seed", range(4))
def test_place_time_and_values_are_kept(tmp_path, seed):
    image, series = source(tmp_path / "in", seed, slices=1 + seed, frames=1 + 2 * seed)
    write_derived(image, series, ABOUT, tmp_path / "out", force=False)
    again, _ = read_dicom(tmp_path / "out")
    np.testing.assert_allclose(again.affine, image.affine, atol=1e-4)
    np.testing.assert_allclose(again.array, image.array, atol=0.51 * image.array.max() / 65535 + 1e-5)
    assert again.frame_time == pytest.approx(image.frame_time) if image.frame_time else again.frame_time is None


@pytest.mark.parametrize(("shear", "kept"), [(2e-5, True), (2e-4, True), (5e-3, False)])
def test_a_slight_shear_is_left_out_and_a_larger_one_refused(tmp_path, shear, kept):
    affine = np.diag([1.0, 1.0, 8.0, 1.0])
    affine[0, 1] = shear  # rounding of an oblique affine; over 128 pixels 0.6 mm at the largest
    image = Image(np.random.default_rng(0).integers(0, 999, (128, 128, 3)).astype(np.int16), affine)
    if not kept:
        with pytest.raises(OutputError, match="mm apart"):
            save_dicom(image, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return
    save_dicom(image, tmp_path / "out")
    found = compare_images(image, read_dicom(tmp_path / "out")[0])
    assert found.distance_mm <= 128 * shear * 2
    assert found.difference == 0


def test_an_enhanced_source_becomes_classic_images_in_the_same_place(tmp_path):
    write_enhanced(tmp_path / "one.dcm", values(3, 4, 10, 12), oblique(5))
    image, _, series = read_series(tmp_path / "one.dcm")
    image = replace(image, array=image.array.astype(np.float32))
    write_derived(image, series, ABOUT, tmp_path / "out", force=False)
    found = compare_images(image, read_dicom(tmp_path / "out")[0])
    assert found.distance_mm < 1e-4
    assert found.difference < 0.1
    first = pydicom.dcmread(next((tmp_path / "out").iterdir()))
    assert 1 <= first.SourceImageSequence[0].ReferencedFrameNumber <= 12


def test_what_is_copied_and_what_is_new(tmp_path):
    def private(z, t):
        return {"PatientBirthDate": "19600102", "FrameOfReferenceUID": "1.2.9", "InstitutionName": "Secret Hospital"}

    image, series = source(tmp_path / "in", each=private, StudyDate="20260101")
    for file in (tmp_path / "in").iterdir():
        data = pydicom.dcmread(file)
        data.private_block(0x0029, "MAKER", create=True).add_new(1, "LO", "Secret note")
        data.save_as(file)
    write_derived(image, series, ABOUT, tmp_path / "out", force=False)
    before = {d.SOPInstanceUID: d for d in map(pydicom.dcmread, (tmp_path / "in").iterdir())}
    made = [pydicom.dcmread(file) for file in sorted((tmp_path / "out").iterdir())]
    assert len(made) == 12
    assert len({d.SOPInstanceUID for d in made} | set(before)) == 24
    assert len({d.SeriesInstanceUID for d in made} | {series.uid}) == 2
    assert len({(d.RescaleSlope, d.RescaleIntercept, d.WindowCenter, d.WindowWidth) for d in made}) == 1
    for data in made:
        of = before[data.SourceImageSequence[0].ReferencedSOPInstanceUID]
        for name in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "StudyDate",
                     "TriggerTime", "FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient",
                     "PixelSpacing"):  # fmt: skip
            assert data[name].value == of[name].value, name
        assert data.ImageType[0] == "DERIVED"
        assert not data.PatientSex  # empty: it was not there
        assert "DIAGNOSTIC" in data.ImageComments
        assert not any(element.tag.is_private for element in data)
        assert "Secret note" not in str(data)


def test_dciodvfy_finds_no_error(tmp_path):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed")
    image, series = source(tmp_path / "in", InversionTime="200")
    write_derived(image, series, ABOUT, tmp_path / "out", force=False)
    for file in sorted((tmp_path / "out").iterdir())[:2]:
        ended = subprocess.run(["dciodvfy", file], capture_output=True, text=True, check=False)
        assert "MRImage" in ended.stderr
        assert not [line for line in ended.stderr.splitlines() if line.startswith("Error")]


def test_a_trigger_time_without_a_trigger_is_not_passed_on_nor_is_anything_printed(tmp_path):
    def timed(z, t):
        return {
            "TemporalPositionIdentifier": t + 1,
            "PatientAge": "42",
            "SpecificCharacterSet": "",
            "ScanOptions": "FS",
        }

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image, series = source(tmp_path / "in", each=timed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning of pydicom would quote the patient's age
        write_derived(image, series, ABOUT, tmp_path / "out", force=False)
    again, _, made = read_series(tmp_path / "out")
    assert made.ordered_by == "temporal position"
    assert again.frame_time == pytest.approx(0.03)
    for data in map(pydicom.dcmread, (tmp_path / "out").iterdir()):
        assert not {"TriggerTime", "PatientAge", "SpecificCharacterSet"} & {element.keyword for element in data}


def test_what_has_no_study_to_belong_to_is_refused(tmp_path):
    image, series = source(tmp_path / "in")
    with pytest.raises(UnsupportedDataError, match="needs a DICOM source"):
        require_source(image, None)
    with pytest.raises(UnsupportedDataError, match="do not fit"):
        require_source(Image(image.array[1:], AFFINE), series)


def test_what_reads_back_otherwise_is_not_kept(tmp_path, monkeypatch):
    image, series = source(tmp_path / "in")
    whole = dicom_write.read_series

    def wrong(folder, **how):
        again, *more = whole(folder, **how)
        return replace(again, array=again.array + 1), *more

    monkeypatch.setattr(dicom_write, "read_series", wrong)
    with pytest.raises(OutputError, match="values differ"):
        write_derived(image, series, ABOUT, tmp_path / "out", force=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    image, series = source(tmp_path / "in")
    out = tmp_path / "out"
    whole = dicom_write._image

    def failing(header, shared, number):
        if number == 7:
            raise OSError(28, "No space left on device")
        return whole(header, shared, number)

    monkeypatch.setattr(dicom_write, "_image", failing)
    with pytest.raises(OutputError, match="the disk is full"):
        write_derived(image, series, ABOUT, out, force=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]
    monkeypatch.setattr(dicom_write, "_image", whole)
    write_derived(image, series, ABOUT, out, force=False)
    names = sorted(p.name for p in out.iterdir())
    monkeypatch.setattr(dicom_write, "_image", failing)
    with pytest.raises(OutputError):
        write_derived(image, series, ABOUT, out, force=True)
    assert sorted(p.name for p in out.iterdir()) == names
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]


def test_a_folder_with_other_things_is_never_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    require_folder(tmp_path / "out", force=False)  # an empty one is filled
    (tmp_path / "out" / "a.dcm").touch()
    with pytest.raises(OutputError, match="force"):
        require_folder(tmp_path / "out", force=False)
    require_folder(tmp_path / "out", force=True)
    (tmp_path / "out" / "thesis.odt").touch()
    with pytest.raises(OutputError, match=r"more than \.dcm files"):
        require_folder(tmp_path / "out", force=True)
    with pytest.raises(OutputError, match="it is a file"):
        require_folder(tmp_path / "out" / "a.dcm", force=True)


@pytest.mark.parametrize("value", [0.1, -119.62467524735123, 1 / 3, 1e-7 / 3, 123456789.123456789, 0.0, -1e22 / 3])
def test_decimal_strings_are_short_and_exact(value):
    (text,) = decimals([value])
    assert len(text) <= 16
    assert float(text) == pytest.approx(value, rel=1e-9)


def test_the_command_writes_a_derived_series(crnn, tmp_path, bundle):
    truth = np.abs(moving_cine(24, 20, 2, 6)).transpose(2, 3, 1, 0)
    write_series(tmp_path / "d", truth / truth.max() * 4000, oblique(4))
    arguments = ("--model", bundle, "--undersample", 3, "--device", "cpu", "--format", "dicom")
    ended = crnn("reconstruct", tmp_path / "d", "-o", tmp_path / "out", *arguments)
    assert ended.code == 0, ended.err
    again, _, series = read_series(tmp_path / "out")
    assert again.shape == (24, 20, 2, 6)
    assert "SIMULATED" in series.description
    assert json.loads((tmp_path / "out.json").read_text())["output_format"].startswith("DICOM")
    as_nifti = crnn("reconstruct", tmp_path / "d", "-o", tmp_path / "a.nii.gz", *arguments[:-2])
    assert as_nifti.code == 0
    verified = crnn("verify", tmp_path / "out", tmp_path / "a.nii.gz", "--value-tolerance", 0.1)
    assert verified.code == 0, verified.err
    assert crnn("reconstruct", tmp_path / "d", "-o", tmp_path / "out", *arguments).code == 1
    assert crnn("reconstruct", tmp_path / "d", "-o", tmp_path / "out", *arguments, "--force").code == 0


@pytest.mark.parametrize(
    ("more", "code", "why"),
    [
        (("--complex",), 2, "--complex images are written as NIfTI"),
        (("-o", "-"), 2, "a DICOM series is a folder"),
        ((), 4, "needs a DICOM source"),
    ],
)
def test_what_the_command_refuses(crnn, tmp_path, bundle, more, code, why):
    save(tmp_path / "a.nii.gz", np.abs(moving_cine()))
    arguments = ("reconstruct", tmp_path / "a.nii.gz", "--model", bundle, "--undersample", 3, "--format", "dicom")
    ended = crnn(*arguments, *([] if "-o" in more else ["-o", tmp_path / "out"]), *more)
    assert ended.code == code
    assert why in ended.err
    assert not (tmp_path / "out").exists()
