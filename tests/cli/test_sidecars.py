"""JSON beside images: a sidecar of others is never replaced, ours of `convert` says what BIDS asks for and no more."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from crnn_cli.bundles.store import write_bundle
from crnn_cli.data.image import Image
from crnn_cli.io.nifti.image import write_image
from tests.cli.test_segment import CONFIG, volume, weights
from tests.support.dicom import oblique, values, write_series

THEIRS = ['{"RepetitionTime": 2.0}', '{"tool": "other 1.0"}', "[]", "not JSON", ""]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("seg") / "tiny", CONFIG, weights(), "# tiny\n").folder


@pytest.fixture
def commands(tmp_path, model, scan):
    """Return a command line of every command that writes a JSON file of the output's name, and that file."""
    nib.save(nib.Nifti1Image(volume().astype(np.float32), np.diag([1.5, 1.5, 8.0, 1])), tmp_path / "v.nii")
    write_series(tmp_path / "d", values(2, 3, 16, 16), oblique(1))
    zero_filled = ("--method", "zero-filled")
    return {
        "segment": ("segment", tmp_path / "v.nii", "--model", model, "-o", tmp_path / "sub-01.nii.gz"),
        "reconstruct": ("reconstruct", scan[2], *zero_filled, "-o", tmp_path / "sub-01.nii.gz"),
        "reconstruct to DICOM": ("reconstruct", tmp_path / "d", "--undersample", "2", *zero_filled, "--format", "dicom",
                                 "-o", tmp_path / "sub-01"),
        "convert": ("convert", tmp_path / "d", tmp_path / "sub-01.nii.gz", "--bids"),
    }  # fmt: skip


@pytest.mark.parametrize("text", THEIRS, ids=repr)
@pytest.mark.parametrize("name", ["segment", "reconstruct", "reconstruct to DICOM", "convert"])
def test_a_sidecar_that_is_not_ours_is_never_replaced(crnn, tmp_path, commands, name, text):
    (tmp_path / "sub-01.json").write_text(text)
    before = {path.name for path in tmp_path.iterdir()}
    for more in ((), ("--force",)):
        ended = crnn(*commands[name], *more)
        assert ended.code == 1, ended.err
        assert "no report of this program" in ended.err.replace("\n", " ")
        assert (tmp_path / "sub-01.json").read_text() == text
        assert {path.name for path in tmp_path.iterdir()} == before  # seen before the work


@pytest.mark.parametrize("name", ["segment", "reconstruct", "convert"])
def test_one_of_ours_is_replaced_where_that_is_asked_for(crnn, tmp_path, commands, name):
    assert crnn(*commands[name]).code == 0
    first = (tmp_path / "sub-01.json").read_bytes()
    assert crnn(*commands[name]).code == 1
    assert crnn(*commands[name], "--force").code == 0
    assert json.loads(first).keys() == json.loads((tmp_path / "sub-01.json").read_text()).keys()


def sidecar(crnn, source, place, *more):
    ended = crnn("convert", source, place / "out.nii.gz", "--bids", "--force", *more)
    assert ended.code == 0, ended.err
    return json.loads((place / "out.json").read_text())


def test_a_gated_cine_has_trigger_times(crnn, tmp_path):
    write_series(tmp_path / "d", values(2, 4, 8, 8), EchoTime="1.5", FlipAngle="50", MagneticFieldStrength="1.5",
                 ScanOptions="CG", ScanningSequence="GR", StudyDescription="Secret", ProtocolName="Secret")  # fmt: skip
    found = sidecar(crnn, tmp_path / "d", tmp_path)
    assert found["TriggerTimes"] == [0.005, 0.035, 0.065, 0.095]
    assert found["FrameTimesStart"] == [0.0, 0.03, 0.06, 0.09]
    assert "RepetitionTime" not in found  # in BIDS the time between volumes, not that of the sequence
    assert found["RepetitionTimeExcitation"] == 0.0031
    assert (found["Modality"], found["EchoTime"], found["FlipAngle"]) == ("MR", 0.0015, 50)
    assert found["MagneticFieldStrength"] == 1.5
    assert "secret" not in json.dumps(found).lower()
    assert "4711" not in json.dumps(found)


def test_a_time_series_has_a_repetition_time(crnn, tmp_path):
    def each(z, t):
        return {"TriggerTime": None, "TemporalPositionIdentifier": t + 1, "NumberOfTemporalPositions": 4,
                "AcquisitionTime": f"1000{2 * t:02d}"}  # fmt: skip

    write_series(tmp_path / "d", values(2, 4, 8, 8), each=each)
    found = sidecar(crnn, tmp_path / "d", tmp_path)
    assert found["RepetitionTime"] == 2
    assert not {"FrameTimesStart", "TriggerTimes"} & found.keys()


def test_nifti_lists_its_frame_times_and_a_volume_none(crnn, tmp_path):
    write_image(Image(np.ones((4, 5, 2, 3), np.float32), frame_time=0.04), tmp_path / "cine.nii", "")
    write_image(Image(np.ones((4, 5, 2), np.float32)), tmp_path / "volume.nii", "")
    assert sidecar(crnn, tmp_path / "cine.nii", tmp_path)["FrameTimesStart"] == [0, 0.04, 0.08]
    assert sidecar(crnn, tmp_path / "volume.nii", tmp_path).keys() == {
        "ConversionSoftware",
        "ConversionSoftwareVersion",
    }


def test_a_damaged_header_makes_no_sidecar_wrong(crnn, tmp_path):
    write_series(tmp_path / "d", values(1, 1, 8, 8))
    (file,) = (tmp_path / "d").iterdir()
    data = pydicom.dcmread(file)
    data.add(pydicom.DataElement("FlipAngle", "DS", "", already_converted=True))
    data.save_as(file)
    file.write_bytes(file.read_bytes())
    assert "FlipAngle" not in sidecar(crnn, tmp_path / "d", tmp_path)


def test_a_sidecar_needs_a_file_beside_it(crnn, tmp_path):
    write_series(tmp_path / "d", values(1, 1, 8, 8))
    ended = crnn("convert", tmp_path / "d", tmp_path / "out", "--bids")
    assert ended.code == 2
    assert "--bids writes a file beside NIfTI" in ended.err.replace("\n", " ")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc")
def test_a_place_that_takes_no_files_is_named_for_what_it_is(crnn, tmp_path):
    write_image(Image(np.ones((4, 5, 2), np.float32)), tmp_path / "a.nii", "")
    ended = crnn("convert", tmp_path / "a.nii", "/proc/a.nii.gz")
    assert ended.code == 1
    said = ended.err.replace("\n", " ")
    assert "the file system at /proc takes no new files" in said
    assert "does not exist" not in said
