"""SEG objects of the phases of a cine, each in its file: one label map in the order of time, or a refusal."""

import shutil
import zipfile

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from crnn_cli.errors import UnsupportedDataError
from crnn_cli.io.dicom.read import read_series
from crnn_cli.io.formats import DICOM, DICOM_SEG, identify
from crnn_cli.io.images import load_image
from tests.io.dicom.test_seg import labelled, write
from tests.support.dicom import oblique, values, write_series
from tests.support.remarks import codes as codes_of


@pytest.fixture
def objects(tmp_path):
    """SEG of three frames in a folder of their own, their names against their order; and the label map."""
    write_series(tmp_path / "d", values(3, 3, 7, 5, 2), oblique(2), shuffle=1)
    labels, series = labelled(tmp_path / "d")
    (tmp_path / "segs").mkdir()
    files = write(labels, series, tmp_path / "segs" / "seg.dcm")
    moved = [file.rename(file.with_name(f"{9 - t}.dcm")) for t, file in enumerate(files)]
    return moved, np.array([0, 1, 0, 2], np.uint8)[labels.array]


def changed(file, **attributes):
    data = pydicom.dcmread(file)
    for name, value in attributes.items():
        setattr(data, name, value)
    data.save_as(file)


@pytest.mark.parametrize("packed", [False, True])
def test_phases_are_read_in_the_order_of_time(objects, tmp_path, packed):
    files, expected = objects
    place = files[0].parent
    if packed:
        place = tmp_path / "segs.zip"
        with zipfile.ZipFile(place, "w") as archive:
            for file in files:
                archive.write(file, file.name)
    loaded = load_image(place)
    np.testing.assert_array_equal(loaded.image.array, expected)
    assert loaded.image.names == {1: "left ventricle", 2: "front"}
    assert codes_of(loaded.notes) == []
    changed(files[1], ContentLabel="OTHER")
    if not packed:
        assert load_image(place).source["sha256"] != loaded.source["sha256"]


def test_series_of_one_phase_each_are_ordered_by_their_numbers_and_doubted(objects):
    files, expected = objects
    for number, file in zip((31, 7, 12), files, strict=True):
        changed(file, SeriesInstanceUID=generate_uid(), SeriesNumber=number, InstanceNumber=1)
    loaded = load_image(files[0].parent)
    np.testing.assert_array_equal(loaded.image.array, expected[..., [1, 2, 0]])
    assert codes_of(loaded.notes) == ["ordered-by-instance"]


def test_planes_that_objects_leave_out_are_background(tmp_path):
    """As other software writes them: each phase on the planes where it has something."""
    write_series(tmp_path / "d", values(5, 2, 8, 6), oblique(3), spacing=(1.5, 1.5))
    image, _, series = read_series(tmp_path / "d")
    labels = np.zeros(image.shape, np.uint8)
    labels[2:4, 2:5, 0:4, 0] = 1
    labels[2:4, 2:5, 3:5, 1] = 1
    labels[1, 1, 1, 1] = 1
    (tmp_path / "segs").mkdir()
    description = hd.seg.SegmentDescription(
        1, "lv", codes.SCT.AnatomicalStructure, codes.SCT.LeftVentricle, hd.seg.SegmentAlgorithmTypeValues.MANUAL
    )
    uid = generate_uid()
    for t in range(2):
        images = [pydicom.dcmread(tmp_path / "d" / row[t].source.name) for row in series.grid]
        for each in images:
            each.FrameOfReferenceUID = "1.2.9"
            for keyword in ("PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime", "AccessionNumber"):
                setattr(each, keyword, None)
        hd.seg.Segmentation(
            images, labels[..., t].transpose(2, 1, 0), "BINARY", [description], uid, 1, generate_uid(), t + 1, "x", "x",
            "1", "1",
        ).save_as(tmp_path / "segs" / f"{t}.dcm")  # fmt: skip
    found = load_image(tmp_path / "segs").image
    np.testing.assert_array_equal(found.array, labels)
    np.testing.assert_allclose(found.affine, image.affine, atol=1e-3)


REFUSED = {
    "nothing says which comes first": ({0: {"InstanceNumber": 2}}, "InstanceNumber"),
    "two series of two": ({0: {"SeriesInstanceUID": "1.2.3"}}, "SeriesNumber"),
    "of another patient": ({0: {"PatientID": "other"}}, "differ in PatientID"),
    "of another type": ({0: {"SegmentationType": "FRACTIONAL"}}, "differ in SegmentationType"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_cine_is_refused_and_quotes_no_patient(objects, case):
    files, _ = objects
    changes, words = REFUSED[case]
    for number, attributes in changes.items():
        changed(files[number], **attributes)
    with pytest.raises(UnsupportedDataError, match=words) as refused:
        load_image(files[0].parent)
    assert "other" not in str(refused.value).replace("another", "")
    assert "4711" not in str(refused.value)


def test_a_number_that_means_another_structure_is_refused(objects):
    files, _ = objects
    data = pydicom.dcmread(files[1])
    data.SegmentSequence[0].SegmentLabel = "right ventricle"
    data.save_as(files[1])
    with pytest.raises(UnsupportedDataError, match="segment 1 is another structure"):
        load_image(files[0].parent)


def test_images_beside_them_make_a_folder_of_images(objects, tmp_path):
    files, _ = objects
    assert identify(files[0].parent, "image", "labels") is DICOM_SEG
    for file in files:
        shutil.copy(file, tmp_path / "d" / f"0_{file.name}")
    assert identify(tmp_path / "d", "image", "labels") is DICOM
    assert load_image(tmp_path / "d").series is not None


def test_labels_of_the_same_images_are_no_cine(objects):
    """As of two readers, each in a series of its own; frames that refer to images of their own are one."""
    files, _ = objects
    for number, file in enumerate(files):
        changed(file, SeriesInstanceUID=generate_uid(), SeriesNumber=number + 1)
    assert codes_of(load_image(files[0].parent).notes) == ["ordered-by-instance"]
    for file in files[1:]:
        file.unlink()
    shutil.copy(files[0], files[1])
    changed(files[1], SeriesInstanceUID=generate_uid(), SeriesNumber=9, SOPInstanceUID=generate_uid())
    with pytest.raises(UnsupportedDataError, match="two label the same images"):
        load_image(files[0].parent)
