"""Through a real archive and back: source, derived images and SEG are one study, and every voxel is in its place."""

import io
import zipfile

import nibabel as nib
import numpy as np
import pydicom
import pytest

from crnn_cli.bundles.store import write_bundle
from crnn_cli.io.dicom.seg_read import read_seg
from tests.cli.test_segment import CONFIG, volume, weights
from tests.support.cardiac_dicom import write_cine, write_segs
from tests.support.dicom import oblique, write_series
from tests.support.orthanc import ORTHANC, archive

pytestmark = pytest.mark.skipif(ORTHANC is None, reason="Orthanc is not installed")
NAME = "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    with archive(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("seg") / "tiny", CONFIG, weights(), "# tiny\n").folder


def study(folder, frames=2, **more):
    """Write a series of a patient with a name in three alphabets, and a header that no standard knows."""
    pixels = np.round(volume() * 4).astype(int).transpose(2, 1, 0)[:, None]
    given = {
        "PatientName": NAME, "SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientID": "J-17", "StudyID": "3",
        "PatientBirthDate": "1950-02-03", "PatientSex": "Male", "StudyDate": "20260102", "StudyTime": "12:30:00",
    } | more  # fmt: skip
    write_series(folder, np.repeat(pixels, frames, 1), oblique(8), (1.5, 1.5), 8.0, **given)
    return folder


def stored(orthanc, *files):
    """Store files, and return the identifier of their one study in the archive."""
    answers = [orthanc.store(file) for file in files]
    assert {answer["Status"] for answer in answers} == {"Success"}
    (found,) = {answer["ParentStudy"] for answer in answers}
    return found


def unpacked(orthanc, found, folder):
    """Get the study as a zip archive, and return the files of each series by its UID."""
    series = {}
    folder.mkdir()
    with zipfile.ZipFile(io.BytesIO(orthanc.get(f"/studies/{found}/archive"))) as packed:
        for number, name in enumerate(packed.namelist()):
            file = folder / f"{number:04d}.dcm"
            file.write_bytes(packed.read(name))
            series.setdefault(pydicom.dcmread(file, stop_before_pixels=True).SeriesInstanceUID, []).append(file)
    return series


def test_source_derived_images_and_labels_come_back_as_one_study(crnn, orthanc, tmp_path, model):
    source = study(tmp_path / "d")
    labelled = ("segment", source, "--model", model, "--device", "cpu")
    simulated = ("--undersample", "2", "--method", "zero-filled", "--format", "dicom")
    for command in (
        ("reconstruct", source, *simulated, "-o", tmp_path / "derived"),
        (*labelled, "-o", tmp_path / "binary.dcm"),
        (*labelled, "-o", tmp_path / "map.dcm", "--seg", "labelmap"),
        (*labelled, "-o", tmp_path / "whole.dcm", "--seg-whole-series"),
        (*labelled, "-o", tmp_path / "labels.nii.gz"),
    ):
        ended = crnn(*command)
        assert ended.code == 0, ended.err
    segs = sorted(tmp_path.glob("*.dcm"))
    assert [file.name for file in segs] == ["binary_01.dcm", "binary_02.dcm", "map_01.dcm", "map_02.dcm", "whole.dcm"]
    files = [*source.iterdir(), *(tmp_path / "derived").iterdir(), *segs]
    found = stored(orthanc, *files)
    patient = orthanc.json(f"/studies/{found}")["PatientMainDicomTags"]
    assert (patient["PatientName"], patient["PatientID"]) == (NAME, "J-17")
    series = [orthanc.json(f"/series/{each}") for each in orthanc.json(f"/studies/{found}")["Series"]]
    listed = [each["MainDicomTags"]["Modality"] for each in series]
    assert sorted(listed) == ["MR", "MR", "SEG", "SEG", "SEG"]
    back = unpacked(orthanc, found, tmp_path / "back")
    uids = {pydicom.dcmread(file).SOPInstanceUID for file in source.iterdir()}
    labels = np.asarray(nib.load(tmp_path / "labels.nii.gz").dataobj)
    assert labels.any()
    seen = 0
    for series in back.values():
        for file in series:
            data = pydicom.dcmread(file)
            assert str(data.PatientName) == NAME
            if data.Modality == "SEG":
                referred = data.ReferencedSeriesSequence[0].ReferencedInstanceSequence
                assert {item.ReferencedSOPInstanceUID for item in referred} <= uids
                seen += check_labels(file, data, labels)
    assert seen == 5


def test_a_cine_its_labels_and_the_report_of_its_function_are_one_study(crnn, orthanc, tmp_path):
    cine = write_cine(tmp_path / "cine", PatientID="F-1", PatientName=NAME, SpecificCharacterSet=["", "ISO 2022 IR 87"])
    segs = write_segs(cine, tmp_path / "segs" / "seg.dcm").parent
    ended = crnn("function", segs, "--sr", tmp_path / "sr.dcm", "-o", tmp_path / "f.json")
    assert ended.code == 0, ended.err
    found = stored(orthanc, *cine.iterdir(), *segs.iterdir(), tmp_path / "sr.dcm")
    series = [orthanc.json(f"/series/{each}") for each in orthanc.json(f"/studies/{found}")["Series"]]
    assert sorted(each["MainDicomTags"]["Modality"] for each in series) == ["MR", "SEG", "SR"]
    back = unpacked(orthanc, found, tmp_path / "back")
    held = {data.SOPInstanceUID: data for files in back.values() for data in map(pydicom.dcmread, files)}
    (report,) = [data for data in held.values() if data.Modality == "SR"]
    assert str(report.PatientName) == NAME
    listed = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    named = [(item.SeriesInstanceUID, each.ReferencedSOPInstanceUID) for item in listed
             for each in item.ReferencedSOPSequence]  # fmt: skip
    assert len(named) == 2 * 5 + 2  # the images of both frames, and their labels
    assert all(held[uid].SeriesInstanceUID == series for series, uid in named)


def check_labels(file, data, labels):
    """Check a SEG that came back against the label map in NIfTI; binary segments count from 1."""
    read = read_seg(file)
    values = [0, *sorted({int(v) for v in np.unique(labels)} - {0})]
    numbered = read.array if data.SegmentationType == "LABELMAP" else np.array([*values, 0, 0], np.uint8)[read.array]
    expected = labels if read.array.ndim == 4 else labels[..., data.InstanceNumber - 1]
    np.testing.assert_array_equal(numbered, expected)
    return 1


@pytest.mark.parametrize("modality", ["MR", "PT", "NM", "CT"])
def test_converted_images_of_every_modality_come_back_to_the_last_bit(crnn, orthanc, tmp_path, modality):
    pet = {
        "Units": "BQML", "CountsSource": "EMISSION", "DecayCorrection": "START", "SeriesType": ["STATIC", "IMAGE"],
        "FrameReferenceTime": "0", "NumberOfSlices": 5, "DecayFactor": "1.01", "TriggerTime": None,
    }  # fmt: skip
    more = {"Modality": modality} | (pet if modality == "PT" else {})
    source = study(tmp_path / "d", 1, PatientID=f"M-{modality}", **more)
    assert crnn("convert", source, tmp_path / "a.nii.gz").code == 0
    ended = crnn("convert", tmp_path / "a.nii.gz", tmp_path / "made", "--reference-dicom", source)
    assert ended.code == 0, ended.err
    found = stored(orthanc, *source.iterdir(), *(tmp_path / "made").iterdir())
    back = unpacked(orthanc, found, tmp_path / "back")
    assert len(back) == 2
    made = pydicom.dcmread(next((tmp_path / "made").iterdir())).SeriesInstanceUID
    (tmp_path / "again").mkdir()
    for file in back[made]:
        assert pydicom.dcmread(file).Modality == modality
        file.rename(tmp_path / "again" / file.name)
    assert crnn("verify", tmp_path / "again", tmp_path / "a.nii.gz").code == 0
    assert crnn("verify", tmp_path / "again", source).code == 0


def test_a_study_from_the_archive_is_read_as_a_zip(crnn, orthanc, tmp_path):
    source = study(tmp_path / "d", 3, PatientID="Z-1")
    found = stored(orthanc, *source.iterdir())
    (tmp_path / "study.zip").write_bytes(orthanc.get(f"/studies/{found}/archive"))
    assert crnn("verify", tmp_path / "study.zip", source).code == 0
