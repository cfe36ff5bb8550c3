"""The samples of one heart lie in space where they overlap; the DICOM one names nobody and breaks no rule of DICOM."""

import hashlib
import io
import json
import shutil
import subprocess
import zipfile

import numpy as np
import pydicom
import pytest

from crnn_cli.data.orientation import axis_codes
from crnn_cli.io.dicom.read import list_series
from crnn_cli.io.images import load_image
from tests.support.data import ROOT

SAMPLES = ROOT / "sample_data"
DICOM = SAMPLES / "pig_cine_dicom.zip"


@pytest.fixture(scope="module")
def images():
    """Return the images of the archive by name."""
    with zipfile.ZipFile(DICOM) as archive:
        return {name: pydicom.dcmread(io.BytesIO(archive.read(name))) for name in archive.namelist()}


def test_it_is_one_small_cine():
    assert DICOM.stat().st_size < 500_000
    (series,) = list_series(DICOM).series
    assert (series.kind, series.slices, series.frames, series.size) == ("cine", 3, 8, (96, 96))
    assert (series.ordered_by, series.frame_time) == ("trigger time", pytest.approx(0.063))
    assert not series.problems + series.remarks


def test_it_lies_where_the_stack_of_the_same_heart_lies():
    """Both are cuts of one series: [84:180, 80:176] of slices 4 to 6, and [72:200, 64:192] of all ten."""
    part, whole = load_image(DICOM).image, load_image(SAMPLES / "pig_stack.nii.gz").image
    within = (slice(12, 108), slice(16, 112), slice(4, 7))
    np.testing.assert_array_equal(part.array[..., [0, 7]], whole.array[within][..., [0, 2]])
    first = whole.affine @ [12, 16, 4, 1]
    np.testing.assert_allclose(part.affine[:3, 3], first[:3], atol=2e-3)
    np.testing.assert_allclose(part.affine[:3, :3], whole.affine[:3, :3], atol=1e-3)


def test_the_cine_is_a_slice_of_the_stack_and_lies_where_it_lies():
    cine, stack = load_image(SAMPLES / "pig_cine.nii.gz").image, load_image(SAMPLES / "pig_stack.nii.gz").image
    np.testing.assert_array_equal(cine.array[:, :, 0, 0:15:7], stack.array[:, :, 5])
    np.testing.assert_allclose(cine.affine[:3, :3], stack.affine[:3, :3], atol=1e-3)
    np.testing.assert_allclose(cine.affine[:3, 3], (stack.affine @ [0, 0, 5, 1])[:3], atol=1e-3)
    assert cine.spacing[2] == pytest.approx(10, abs=1e-3)
    assert axis_codes(cine.affine) == axis_codes(stack.affine)
    assert cine.frame_time == pytest.approx(stack.frame_time / 7)


def test_the_sums_are_those_of_the_files():
    sums = json.loads((SAMPLES / "sha256.json").read_text())
    files = [*SAMPLES.glob("*.nii.gz"), *SAMPLES.glob("*.zip")]
    assert sums == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_nothing_in_it_is_private_or_names_anybody(images):
    assert len(images) == 24
    for data in images.values():
        assert not [e for e in data.iterall() if e.tag.is_private]
        words = ("Institution", "Station", "Operator", "Serial", "Physician", "Protocol", "Date", "Performed")
        filled = [e.keyword for e in data if any(w in e.keyword for w in words) and e.value]
        assert not filled
        uids = [e.value for e in [*data.iterall(), *data.file_meta] if e.VR == "UI"]
        assert not [uid for uid in uids if uid.startswith("1.2.840.113619")]  # of the scanner
    assert len({data.SOPInstanceUID for data in images.values()}) == 24


def test_dciodvfy_finds_no_error(tmp_path):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dicom3tools (dciodvfy) is not installed")
    with zipfile.ZipFile(DICOM) as archive:
        archive.extractall(tmp_path)
    for file in sorted(tmp_path.rglob("*.dcm")):
        ended = subprocess.run(["dciodvfy", file], capture_output=True, text=True, check=False)
        assert not [line for line in (ended.stdout + ended.stderr).splitlines() if line.startswith("Error")]
