"""DICOM SEG: every voxel of every label in its place, whoever reads it; one object for each frame, one series."""

import json
import shutil
import subprocess
from dataclasses import replace

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest

from crnn_cli.bundles.store import write_bundle
from crnn_cli.data.alignment import compare_images
from crnn_cli.data.image import Image
from crnn_cli.errors import OutputError, UnreadableError, UnsupportedDataError
from crnn_cli.io.atomic_write import write_together
from crnn_cli.io.dicom import seg as dicom_seg
from crnn_cli.io.dicom.read import read_series
from crnn_cli.io.dicom.seg import Algorithm, read_seg, seg_names, seg_outputs
from crnn_cli.labels.names import Label
from tests.cli.test_segment import CONFIG, volume, weights
from tests.support.dicom import oblique, values, write_enhanced, write_series

KEPT = [
    Label(1, "left ventricle", (255, 0, 0), ("SCT", "87878005", "Left ventricle")),
    Label(3, "front", (0, 0, 255), ("SCT", "5366008", "Hippocampus"), ("SCT", "255549009", "Anterior")),
]
ALGORITHM = Algorithm("crnn tiny", {"weights sha256": "abc"})


def labelled(place, seed=1):
    """Return a random label map on the grid of a series, and the series."""
    image, _, series = read_series(place)
    array = np.random.default_rng(seed).choice(np.array([0, 1, 3], np.uint8), image.shape)
    return replace(image, array=array), series


def write(labels, series, target):
    write_together(seg_outputs(labels, series, KEPT, ALGORITHM, target))
    return seg_names(target, labels.frames)


def frame(labels, t):
    return Image(labels.array if labels.array.ndim == 3 else labels.array[..., t], labels.affine)


@pytest.mark.parametrize(
    ("seed", "slices", "frames", "more"),
    [
        (0, 5, 9, {}),
        (1, 3, 1, {}),
        (2, 1, 3, {}),
        (3, 2, 2, {}),
        (4, 5, 2, {"SpacingBetweenSlices": "4"}),  # a header that is wrong by a half, as some scanners write it
        (5, 5, 2, {"SpacingBetweenSlices": None, "SliceThickness": None}),
    ],
)
def test_every_voxel_is_in_its_place(tmp_path, seed, slices, frames, more):
    write_series(tmp_path / "d", values(slices, frames, 10, 12, seed), oblique(seed), shuffle=seed, **more)
    labels, series = labelled(tmp_path / "d")
    files = write(labels, series, tmp_path / "seg.dcm")
    assert len(files) == frames
    for t, file in enumerate(files):
        segments = read_seg(file)
        values_of = np.array([0, 1, 3], np.uint8)[np.asarray(segments.array, int)]
        found = compare_images(frame(labels, t), Image(values_of, segments.affine))
        assert found.voxels == 0
        assert found.distance_mm < 1e-3


def test_pydicom_alone_finds_the_bits_and_the_positions(tmp_path):
    write_series(tmp_path / "d", values(3, 2, 10, 12), oblique(4))
    labels, series = labelled(tmp_path / "d")
    data = pydicom.dcmread(write(labels, series, tmp_path / "seg.dcm")[1])
    bits = data.pixel_array
    assert len(bits) == len(data.PerFrameFunctionalGroupsSequence) == 6
    for picture, group in zip(bits, data.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float) * [-1, -1, 1]
        z = int(np.argmin([np.abs(position - (labels.affine @ [0, 0, k, 1])[:3]).max() for k in range(3)]))
        assert np.abs(position - (labels.affine @ [0, 0, z, 1])[:3]).max() < 1e-3
        value = (1, 3)[group.SegmentIdentificationSequence[0].ReferencedSegmentNumber - 1]
        np.testing.assert_array_equal(picture.T, labels.array[:, :, z, 1] == value)


def test_patient_study_and_the_images_it_was_made_from(tmp_path):
    write_series(tmp_path / "d", values(3, 2, 10, 12), oblique(4), FrameOfReferenceUID="1.2.9", StudyDate="20260101")
    labels, series = labelled(tmp_path / "d")
    made = [pydicom.dcmread(file) for file in write(labels, series, tmp_path / "seg.dcm")]
    before = {d.SOPInstanceUID: d for d in map(pydicom.dcmread, (tmp_path / "d").iterdir())}
    one = next(iter(before.values()))
    assert len({d.SeriesInstanceUID for d in made} | {series.uid}) == 2
    assert len({d.SOPInstanceUID for d in made}) == 2
    for t, data in enumerate(made):
        for name in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "FrameOfReferenceUID"):
            assert data[name].value == one[name].value, name
        assert not data.PatientSex
        assert data.InstanceNumber == t + 1
        assert "not for diagnostic use" in data.ContentDescription
        for group in data.PerFrameFunctionalGroupsSequence:
            uid = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
            place = group.PlanePositionSequence[0].ImagePositionPatient
            assert before[uid].ImagePositionPatient == place
            assert float(before[uid].TriggerTime) == pytest.approx(float(before[uid].TriggerTime))
            times = sorted(float(d.TriggerTime) for d in before.values() if d.ImagePositionPatient == place)
            assert times.index(float(before[uid].TriggerTime)) == t


def test_segments_say_what_they_are(tmp_path):
    write_series(tmp_path / "d", values(2, 1, 10, 12))
    labels, series = labelled(tmp_path / "d")
    (file,) = write(labels, series, tmp_path / "seg.dcm")
    first, second = pydicom.dcmread(file).SegmentSequence
    assert first.SegmentLabel == "left ventricle"
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeValue == "87878005"
    kind = second.SegmentedPropertyTypeCodeSequence[0]
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "255549009"
    assert first.SegmentAlgorithmType == "AUTOMATIC"
    assert first.SegmentAlgorithmName == "crnn tiny"
    colour = hd.color.CIELabColor.from_dicom_value(second.RecommendedDisplayCIELabValue)
    np.testing.assert_allclose(colour.to_rgb(), (0, 0, 255), atol=1)


def test_an_enhanced_source_is_named_frame_by_frame(tmp_path):
    write_enhanced(tmp_path / "one.dcm", values(3, 4, 10, 12), oblique(5))
    labels, series = labelled(tmp_path / "one.dcm")
    source = pydicom.dcmread(tmp_path / "one.dcm")
    for t, file in enumerate(write(labels, series, tmp_path / "seg.dcm")):
        data = pydicom.dcmread(file)
        (listed,) = data.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        assert listed.ReferencedSOPInstanceUID == source.SOPInstanceUID
        for group in data.PerFrameFunctionalGroupsSequence:
            origin = group.DerivationImageSequence[0].SourceImageSequence[0]
            assert origin.ReferencedSOPInstanceUID == source.SOPInstanceUID
            assert origin.ReferencedSOPClassUID == source.SOPClassUID
            meant = source.PerFrameFunctionalGroupsSequence[origin.ReferencedFrameNumber - 1]
            assert meant.FrameContentSequence[0].TemporalPositionIndex == t + 1
            place = group.PlanePositionSequence[0].ImagePositionPatient
            np.testing.assert_allclose(meant.PlanePositionSequence[0].ImagePositionPatient, place, atol=1e-6)


def test_dciodvfy_finds_no_error(tmp_path):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed")
    write_series(tmp_path / "d", values(3, 2, 10, 12), oblique(4))
    for file in write(*labelled(tmp_path / "d"), tmp_path / "seg.dcm"):
        ended = subprocess.run(["dciodvfy", file], capture_output=True, text=True, check=False)
        assert "Segmentation" in ended.stderr
        assert not [line for line in ended.stderr.splitlines() if line.startswith("Error")]


def test_dcmqi_finds_the_same_voxels(tmp_path):
    if shutil.which("segimage2itkimage") is None:
        pytest.skip("segimage2itkimage (dcmqi) is not installed")
    write_series(tmp_path / "d", values(5, 2, 10, 12), oblique(6), shuffle=3)
    labels, series = labelled(tmp_path / "d")
    for t, file in enumerate(write(labels, series, tmp_path / "seg.dcm")):
        out = tmp_path / f"out{t}"
        out.mkdir()
        subprocess.run(
            ["segimage2itkimage", "--inputDICOM", file, "--outputDirectory", out, "-t", "nii"],
            capture_output=True, check=True,
        )  # fmt: skip
        for number, value in ((1, 1), (2, 3)):
            read = nib.load(out / f"{number}.nii.gz")
            theirs = Image((np.asarray(read.dataobj) > 0).astype(np.uint8), read.affine)
            ours = Image((labels.array[..., t] == value).astype(np.uint8), labels.affine)
            found = compare_images(ours, theirs)
            assert found.voxels == 0
            assert found.distance_mm < 1e-3


@pytest.mark.parametrize("missing", ["StudyInstanceUID", "SOPInstanceUID", "PatientID", "FrameOfReferenceUID"])
def test_a_source_without_uids_is_refused_and_one_without_a_patient_is_not(tmp_path, missing):
    write_series(tmp_path / "d", values(2, 1, 10, 12), **{missing: None})
    labels, series = labelled(tmp_path / "d")
    if missing in ("PatientID", "FrameOfReferenceUID"):
        (file,) = write(labels, series, tmp_path / "seg.dcm")
        assert not pydicom.dcmread(file).PatientID or missing != "PatientID"
    else:
        with pytest.raises(UnsupportedDataError, match=f"has no {missing}"):
            write(labels, series, tmp_path / "seg.dcm")


def test_what_reads_back_otherwise_is_not_kept(tmp_path, monkeypatch):
    write_series(tmp_path / "d", values(3, 2, 10, 12), oblique(4))
    labels, series = labelled(tmp_path / "d")
    whole = dicom_seg.read_seg

    def wrong(file):
        image = whole(file)
        return replace(image, array=image.array[::-1])

    monkeypatch.setattr(dicom_seg, "read_seg", wrong)
    with pytest.raises(OutputError, match="values differ"):
        write(labels, series, tmp_path / "seg.dcm")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("seg") / "tiny", CONFIG, weights(), "# tiny\n").folder


def heart(folder, frames=1):
    """Write a DICOM series of the volume that the tiny model labels."""
    pixels = np.round(volume() * 4).astype(int).transpose(2, 1, 0)[:, None]
    write_series(folder, np.repeat(pixels, frames, 1), oblique(8), (1.5, 1.5), 8.0)


@pytest.mark.parametrize("frames", [1, 2])
def test_the_command_writes_what_the_label_map_says(crnn, tmp_path, model, frames):
    heart(tmp_path / "d", frames)
    arguments = ("segment", tmp_path / "d", "--slices", "--model", model, "--device", "cpu")
    ended = crnn(*arguments, "-o", tmp_path / "seg.dcm")
    assert ended.code == 0, ended.err
    assert "has no code" in ended.err
    assert crnn(*arguments, "-o", tmp_path / "labels.nii.gz").code == 0
    labels = np.asarray(nib.load(tmp_path / "labels.nii.gz").dataobj).reshape(*volume().shape, frames)
    assert labels.any()
    report = json.loads((tmp_path / "seg.json").read_text())
    assert (report["format"], report["output_format"]) == (2, "DICOM SEG")
    assert [tmp_path / n for n in report["output"]] == seg_names(tmp_path / "seg.dcm", frames)
    for t, file in enumerate(seg_names(tmp_path / "seg.dcm", frames)):
        read = read_seg(file)
        affine = nib.load(tmp_path / "labels.nii.gz").affine
        assert compare_images(Image(labels[..., t], affine), read).voxels == 0
    before = {p.name: p.read_bytes() for p in tmp_path.glob("*.dcm")}
    (tmp_path / "seg.json").unlink()
    ended = crnn(*arguments, "-o", tmp_path / "seg.dcm")
    assert ended.code == 1
    assert "exists already" in ended.err.replace("\n", " ")  # seen before the work, not after it
    assert {p.name: p.read_bytes() for p in tmp_path.glob("*.dcm")} == before
    assert crnn(*arguments, "-o", tmp_path / "seg.dcm", "--force").code == 0


def test_the_name_of_the_output_without_one(crnn, tmp_path, model):
    heart(tmp_path / "d")
    ended = crnn("segment", tmp_path / "d", "--slices", "--model", model, "--device", "cpu", "--format", "dicom")
    assert ended.code == 0, ended.err
    assert (tmp_path / "d_labels.dcm").exists()


@pytest.mark.parametrize(
    ("more", "code", "why"),
    [
        (("-o", "seg.dcm"), 4, "needs a DICOM source"),
        (("-o", "-", "--format", "dicom"), 2, "cannot go to standard output"),
        (("-o", "a.nii", "--format", "dicom"), 2, "ends in .dcm"),
        (("-o", "seg.dcm", "--format", "nifti"), 2, ".nii"),
        (("-o", "seg.dcm", "--format", "nrrd"), 2, "--format nrrd is not known"),
    ],
)
def test_what_is_refused(crnn, tmp_path, monkeypatch, model, more, code, why):
    monkeypatch.chdir(tmp_path)
    affine = np.diag([1.5, 1.5, 8.0, 1])
    nib.save(nib.Nifti1Image(volume().astype(np.float32), affine), "v.nii")
    ended = crnn("segment", "v.nii", "--slices", "--model", model, "--device", "cpu", *more)
    assert ended.code == code, ended.err
    assert why in ended.err.replace("\n", " ")
    assert [p.name for p in tmp_path.iterdir()] == ["v.nii"]


def test_slices_taken_as_even_make_no_seg(crnn, tmp_path, model):
    pixels = np.round(volume() * 4).astype(int).transpose(2, 1, 0)[:, None]
    places = [8.0 * z + 0.3 * (z == 1) for z in range(len(pixels))]
    write_series(tmp_path / "d", pixels, oblique(8), (1.5, 1.5), 8.0, positions=places)
    arguments = ("segment", tmp_path / "d", "--slices", "--model", model, "--device", "cpu", "--slice-tolerance", "0.5")
    ended = crnn(*arguments, "-o", tmp_path / "seg.dcm")
    assert ended.code == 4
    assert "0.3 mm from even places" in ended.err.replace("\n", " ").replace("0.30", "0.3")
    assert not list(tmp_path.glob("seg*"))


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("SCT", "three texts"),
        (["SCT", "1"], "three texts"),
        (["SCT", 5, "Heart"], "three texts"),
        (["SCT", "", "Heart"], "three texts"),
        (["SCT", "12345678901234567", "Heart"], "longer than 16"),
    ],
)
def test_a_code_that_is_none_is_refused(tmp_path, code, why):
    labels = [CONFIG["labels"][0] | {"code": code}, CONFIG["labels"][1]]
    with pytest.raises(UnreadableError, match=why):
        write_bundle(tmp_path / "tiny", CONFIG | {"labels": labels}, weights(), "# tiny\n")


def test_a_seg_is_an_image_of_labels_wherever_images_are_read(crnn, tmp_path):
    write_series(tmp_path / "d", values(3, 1, 10, 12), oblique(4))
    labels, series = labelled(tmp_path / "d")
    numbers = np.searchsorted([0, 1, 3], labels.array).astype(np.uint8)
    (file,) = write(labels, series, tmp_path / "seg.dcm")
    assert crnn("convert", file, tmp_path / "labels.nii.gz").code == 0
    read = nib.load(tmp_path / "labels.nii.gz")
    assert compare_images(Image(numbers, labels.affine), Image(np.asarray(read.dataobj), read.affine)).voxels == 0
    assert crnn("verify", file, tmp_path / "labels.nii.gz").code == 0
    assert crnn("convert", file, tmp_path / "b.nii.gz", "--series", "1").code == 2
    file.rename(tmp_path / "d" / "seg.dcm")  # beside the images: it does not get in their way
    assert crnn("convert", tmp_path / "d", tmp_path / "c.nii.gz").code == 0
    listed = crnn("info", tmp_path / "d", "--json")
    assert json.loads(listed.out)["objects"] == {"Segmentation": 1}


def test_segments_that_overlap_or_are_cut_off_are_refused(tmp_path):
    write_series(tmp_path / "d", values(3, 1, 10, 12), oblique(4))
    (file,) = write(*labelled(tmp_path / "d"), tmp_path / "seg.dcm")
    data = pydicom.dcmread(file)
    data.PixelData = b"\xff" * len(data.PixelData)
    data.save_as(tmp_path / "overlap.dcm")
    with pytest.raises(UnsupportedDataError, match="overlap"):
        read_seg(tmp_path / "overlap.dcm")
    (tmp_path / "cut.dcm").write_bytes(file.read_bytes()[:-40])
    with pytest.raises(UnreadableError, match=r"cut\.dcm"):
        read_seg(tmp_path / "cut.dcm")
