"""Derived images of every modality that is read, 32-bit values, and spacing that headers state wrongly."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from crnn_cli.data.alignment import compare_images
from crnn_cli.io.dicom.header_copy import check_headers, kind_of
from crnn_cli.io.dicom.read import read_series
from crnn_cli.io.dicom.write import About, require_source, write_derived
from crnn_cli.workflows.convert import convert_image
from crnn_cli.workflows.verify import verify_images
from tests.support.dicom import oblique, values, write_series

PET = {
    "Units": "BQML", "CountsSource": "EMISSION", "DecayCorrection": "START", "SeriesType": ["STATIC", "IMAGE"],
    "FrameReferenceTime": "0", "NumberOfSlices": 3, "DecayFactor": "1.01", "TriggerTime": None,
}  # fmt: skip


def derived(place, **more):
    given = {
        "FrameOfReferenceUID": generate_uid(),
        "StudyDate": "20260102",
        "StudyTime": "101500",
        "StudyID": "1",
    } | more
    write_series(place / "d", values(3, 1, 8, 9), oblique(2), **given)
    image, _, series = read_series(place / "d")
    require_source(image, series)
    write_derived(image, series, About("made", "made", kind_of(series)), place / "out", force=False)
    again, _, made = read_series(place / "out")
    assert compare_images(image, again).voxels == 0
    return made, [pydicom.dcmread(file) for file in sorted((place / "out").iterdir())]


@pytest.mark.parametrize(
    ("given", "modality", "sop_class"),
    [
        ("MR", "MR", "MR Image Storage"), ("mr", "MR", "MR Image Storage"), ("", "MR", "MR Image Storage"),
        ("CT", "CT", "CT Image Storage"), ("PT", "PT", "Positron Emission Tomography Image Storage"),
        ("NM", "NM", "Secondary Capture Image Storage"), ("XA", "XA", "Secondary Capture Image Storage"),
        ("OT", "OT", "Secondary Capture Image Storage"), ("not a code", "OT", "Secondary Capture Image Storage"),
    ],
)  # fmt: skip
def test_a_derived_series_has_the_modality_of_its_source(tmp_path, given, modality, sop_class):
    series, made = derived(tmp_path, Modality=given, **(PET if given == "PT" else {}))
    assert series.modality == modality
    for data in made:
        assert (data.Modality, data.SOPClassUID.name) == (modality, sop_class)
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed")
    ended = subprocess.run(["dciodvfy", tmp_path / "out" / "IM00001.dcm"], capture_output=True, text=True, check=False)
    assert not [line for line in ended.stderr.splitlines() if line.startswith("Error")]


def test_a_pet_image_that_lacks_what_pet_requires_is_a_capture(tmp_path):
    _, made = derived(tmp_path, Modality="PT")
    assert made[0].SOPClassUID.name == "Secondary Capture Image Storage"
    assert made[0].Modality == "PT"


def test_a_modality_that_is_respelt_is_told(tmp_path):
    write_series(tmp_path / "d", values(3, 1, 8, 9), Modality="mr")
    assert "Modality" in check_headers(read_series(tmp_path / "d")[2]).respelt


@pytest.mark.parametrize(
    ("slices", "stated", "written"), [(3, "-6", 8.0), (3, "1", 8.0), (3, None, 8.0), (1, "-6", 6.0)]
)
def test_the_spacing_between_slices_is_what_the_positions_say(tmp_path, slices, stated, written):
    write_series(tmp_path / "d", values(slices, 1, 8, 9), oblique(2), SpacingBetweenSlices=stated)
    image, _, series = read_series(tmp_path / "d")
    write_derived(image, series, About("made", "made"), tmp_path / "out", force=False)
    for file in (tmp_path / "out").iterdir():
        assert float(pydicom.dcmread(file).SpacingBetweenSlices) == pytest.approx(written)


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("signed", [0, 1])
def test_integers_of_every_width_are_kept_on_the_way_to_nifti(tmp_path, bits, signed):
    high = 2 ** (bits - signed) - 1
    pixels = np.random.default_rng(bits).integers(-(2 ** (bits - 1)) if signed else 0, high, (2, 1, 8, 9))
    pixels[0, 0, 0, :2] = high, high - 1  # beyond 2^24 they differ in single precision by nothing
    write_series(
        tmp_path / "d", pixels, BitsAllocated=bits, BitsStored=bits, HighBit=bits - 1, PixelRepresentation=signed
    )
    convert_image(tmp_path / "d", tmp_path / "a.nii.gz")
    assert verify_images(tmp_path / "d", tmp_path / "a.nii.gz").passed
    convert_image(tmp_path / "a.nii.gz", tmp_path / "b.nii")
    assert verify_images(tmp_path / "d", tmp_path / "b.nii").passed
