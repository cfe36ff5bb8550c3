"""DICOM SEG of every type, ours and that of others: what is written is what is read, and labels are what was meant."""

import json
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from crnn_cli.data.alignment import compare_images
from crnn_cli.data.image import Image
from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.atomic_write import write_together
from crnn_cli.io.dicom.read import read_series
from crnn_cli.io.dicom.seg import SEG_TYPES, SegForm, seg_names, seg_outputs
from crnn_cli.io.dicom.seg_read import read_seg
from crnn_cli.io.images import load_image
from crnn_cli.io.nifti.image import write_image
from tests.io.dicom.test_seg import ALGORITHM, KEPT, frame, labelled
from tests.support.dicom import oblique, values, write_enhanced, write_series


def write(labels, series, target, form):
    write_together(seg_outputs(labels, series, KEPT, ALGORITHM, target, form))
    return seg_names(target, labels.frames, form)


def expected(labels, form):
    """Label map as a reader sees it: labels of a labelmap keep their values, binary segments count from 1."""
    return labels if form.type == "labelmap" else replace(labels, array=np.array([0, 1, 0, 2], np.uint8)[labels.array])


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("kind", SEG_TYPES)
@pytest.mark.parametrize(("slices", "frames"), [(3, 4), (1, 2), (2, 1)])
def test_each_form_is_read_as_it_was_written(tmp_path, kind, whole, slices, frames):
    write_series(tmp_path / "d", values(slices, frames, 7, 5, 2), oblique(2), shuffle=1)  # 35 pixels: no whole bytes
    labels, series = labelled(tmp_path / "d")
    form = SegForm(kind, whole)
    files = write(labels, series, tmp_path / "seg.dcm", form)
    assert len(files) == (1 if whole else frames)
    for t, file in enumerate(files):
        found = compare_images(expected(labels if whole else frame(labels, t), form), read_seg(file))
        assert (found.voxels, found.shapes[0]) == (0, found.shapes[1])
        assert found.distance_mm < 1e-3


def test_a_cine_in_one_object_says_when_each_frame_is_and_what_it_was_made_from(tmp_path):
    write_series(tmp_path / "d", values(2, 3, 7, 5), oblique(2))
    labels, series = labelled(tmp_path / "d")
    (file,) = write(labels, series, tmp_path / "seg.dcm", SegForm("binary", True))
    data, sources = (
        pydicom.dcmread(file),
        {d.SOPInstanceUID: d for d in map(pydicom.dcmread, (tmp_path / "d").iterdir())},
    )
    assert (
        len({tuple(g.FrameContentSequence[0].DimensionIndexValues) for g in data.PerFrameFunctionalGroupsSequence})
        == 12
    )
    assert len(data.DimensionIndexSequence) == len(
        data.PerFrameFunctionalGroupsSequence[0].FrameContentSequence[0].DimensionIndexValues
    )
    for group in data.PerFrameFunctionalGroupsSequence:
        source = sources[group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        place = group.PlanePositionSequence[0].ImagePositionPatient
        assert source.ImagePositionPatient == place
        times = sorted(float(d.TriggerTime) for d in sources.values() if d.ImagePositionPatient == place)
        assert group.FrameContentSequence[0].TemporalPositionIndex == times.index(float(source.TriggerTime)) + 1
    listed = data.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert sorted(item.ReferencedSOPInstanceUID for item in listed) == sorted(sources)


def test_an_enhanced_source_of_a_whole_cine_is_listed_once(tmp_path):
    write_enhanced(tmp_path / "one.dcm", values(2, 3, 7, 5), oblique(5))
    labels, series = labelled(tmp_path / "one.dcm")
    (file,) = write(labels, series, tmp_path / "seg.dcm", SegForm("labelmap", True))
    (listed,) = pydicom.dcmread(file).ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert listed.ReferencedSOPInstanceUID == pydicom.dcmread(tmp_path / "one.dcm").SOPInstanceUID


def theirs(folder, pixels_ZYXS, kind, shuffle=0, **how):
    """Write a SEG with highdicom as other software does: empty frames left out, fractions, no order of ours."""
    images = [pydicom.dcmread(file) for file in folder.iterdir()]
    images.sort(key=lambda d: float(d.InstanceNumber))
    for image in images:
        image.StudyDate = image.StudyTime = image.StudyID = image.AccessionNumber = image.PatientBirthDate = None
        image.PatientSex, image.FrameOfReferenceUID, image.PositionReferenceIndicator = None, "1.2.3", None
    images = [images[i] for i in np.random.default_rng(shuffle).permutation(len(images))]
    directions = np.array(images[0].ImageOrientationPatient, float)
    along = [np.cross(directions[:3], directions[3:]) @ np.array(d.ImagePositionPatient, float) for d in images]
    order = np.argsort(np.argsort(along))
    described = [
        hd.seg.SegmentDescription(n, f"part {n}", codes.SCT.Organ, codes.SCT.Heart, "MANUAL")
        for n in range(1, pixels_ZYXS.shape[3] + 1)
    ]
    return hd.seg.Segmentation(
        images, pixels_ZYXS[order], kind, described, generate_uid(), 7, generate_uid(), 1, "other", "m", "1", "0", **how
    )


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["BINARY", "FRACTIONAL", "LABELMAP"]), hole=st.booleans())
def test_objects_of_others_are_read_as_meant(tmp_path_factory, seed, kind, hole):
    folder = tmp_path_factory.mktemp("other")
    rng = np.random.default_rng(seed)
    affine = write_series(folder / "d", values(5, 1, 6, 7, seed), oblique(seed), gap=4.0)
    truth = rng.integers(0, 3, (5, 6, 7)).astype(np.uint8)
    first = 1 if hole else 0
    truth[:first] = 0
    if hole:
        truth[2] = 0  # a gap inside the stack, which is left out of the object
    stacked = np.stack([truth == 1, truth == 2], -1)
    stored = stacked.astype(np.uint8)
    if kind == "FRACTIONAL":
        fractions = rng.random((*truth.shape, 2)) * 0.49
        fractions[stacked] = 0.51 + rng.random(int(stacked.sum())) * 0.49
        stored = fractions if not hole else np.where(truth[..., None] > 0, fractions, 0.0)
    seg = theirs(folder / "d", stored, kind, seed)
    seg.save_as(folder / "seg.dcm")
    read = read_seg(folder / "seg.dcm")
    placed = affine.copy()
    placed[:3, 3] += affine[:3, 2] * first
    found = compare_images(Image(truth[first:].transpose(2, 1, 0), placed), Image(read.array, read.affine))
    assert found.voxels == 0
    assert found.distance_mm < 1e-3
    assert read.names[2] == "part 2"


def test_slices_that_an_object_leaves_out_are_background(crnn, tmp_path):
    affine = write_series(tmp_path / "d", values(5, 1, 12, 13), oblique(4), gap=4.0)
    truth = np.zeros((5, 12, 13), np.uint8)
    truth[1, 3:6, 2:8] = truth[3, 3:6, 2:8] = 1
    theirs(tmp_path / "d", truth[..., None], "BINARY").save_as(tmp_path / "seg.dcm")
    read = read_seg(tmp_path / "seg.dcm")
    assert read.shape == (13, 12, 3)  # planes 1 and 3, and by the spacing that is stated an empty one between them
    assert read.spacing[2] == pytest.approx(4)
    write_image(Image(truth.transpose(2, 1, 0)[:, ::-1], flipped(affine, 12)), tmp_path / "truth.nii.gz", "", "label")
    assert crnn("verify", tmp_path / "seg.dcm", tmp_path / "truth.nii.gz").code == 0
    for order in ((0, 1), (1, 0)):
        files = [(tmp_path / "seg.dcm", tmp_path / "truth.nii.gz")[i] for i in order]
        ended = crnn("evaluate", files[0], "--reference", files[1], "--require-dice", "1")
        assert ended.code == 0, ended.err


def flipped(affine, rows):
    """Return the affine of an array whose second axis runs the other way."""
    other = affine.copy()
    other[:3, 3] += affine[:3, 1] * (rows - 1)
    other[:3, 1] *= -1
    return other


def test_of_two_fractions_the_larger_one_counts_from_one_half_on(tmp_path):
    write_series(tmp_path / "d", values(2, 1, 3, 4), oblique(0))
    fractions = np.zeros((2, 3, 4, 2))
    fractions[0, 0, 0] = 0.6, 0.9
    fractions[0, 0, 1] = 0.9, 0.6
    fractions[0, 0, 2] = 0.49, 0.3
    theirs(tmp_path / "d", fractions, "FRACTIONAL", max_fractional_value=100).save_as(tmp_path / "seg.dcm")
    read = read_seg(tmp_path / "seg.dcm").array
    plane = next(read[..., z] for z in range(read.shape[2]) if read[..., z].any())
    assert [int(plane[x, 0]) for x in range(3)] == [2, 1, 0]
    assert [each.code for each in load_image(tmp_path / "seg.dcm").notes] == ["fractional-labels"]


def test_commands_read_every_type_as_labels(crnn, tmp_path):
    write_series(tmp_path / "d", values(3, 2, 7, 5), oblique(3))
    labels, series = labelled(tmp_path / "d")
    (whole,) = write(labels, series, tmp_path / "whole.dcm", SegForm("labelmap", True))
    assert crnn("convert", whole, tmp_path / "labels.nii.gz").code == 0
    loaded = load_image(tmp_path / "labels.nii.gz")
    assert loaded.intent == 1002
    assert crnn("verify", whole, tmp_path / "labels.nii.gz").code == 0
    ended = crnn("evaluate", whole, "--reference", tmp_path / "labels.nii.gz", "--json")
    assert ended.code == 0, ended.err
    assert '"compared": "labels"' in ended.out.decode()
    assert '"left ventricle"' in ended.out.decode()
    described = crnn("info", whole, "--json")
    assert described.code == 0, described.err
    assert json.loads(described.out)["format"] == "DICOM SEG"
    ended = crnn("convert", whole, tmp_path / "folder")
    assert ended.code == 4
    assert "labels are written" in ended.err.replace("\n", " ")


def test_what_is_no_label_map_is_refused_and_quotes_no_patient(tmp_path):
    write_series(tmp_path / "d", values(3, 1, 7, 5), oblique(3))
    labels, series = labelled(tmp_path / "d")
    (file,) = write(labels, series, tmp_path / "seg.dcm", SegForm())

    def changed(change):
        data = pydicom.dcmread(file)
        data.PatientName, data.PatientBirthDate = "Marked^Person", "MARKED"
        change(data)
        data.save_as(tmp_path / "changed.dcm")
        return read_seg(tmp_path / "changed.dcm")

    assert changed(lambda d: None).array.any()  # neither name nor date keep it from being read
    for change, error, why in (
        (lambda d: d.__delattr__("PerFrameFunctionalGroupsSequence"), UnreadableError, "describes 0"),
        (lambda d: setattr(d, "NumberOfFrames", 2), UnreadableError, "promises 2"),
        (lambda d: setattr(d, "SegmentationType", "FUZZY"), UnsupportedDataError, "FUZZY"),
        (lambda d: move(d, 3.3), UnsupportedDataError, "no stack"),
        (lambda d: move(d, 0.0), UnsupportedDataError, "several frames of a segment"),
        (lambda d: setattr(d, "Rows", 0), UnreadableError, "damaged"),
    ):
        with pytest.raises(error, match=why) as refused:
            changed(change)
        assert "marked" not in str(refused.value).lower()


def move(data, to):
    """Move the last plane along z: to the place of the first, or off the stack."""
    first = data.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient
    group = data.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence[0]
    group.ImagePositionPatient = [first[0], first[1], float(first[2]) + to]


def test_the_options_of_the_command(crnn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("v.nii").write_bytes(b"x")
    for more, why in (
        (("--seg", "labelmap"), "--seg is for a DICOM SEG"),
        (("--seg-whole-series", "-o", "a.nii"), "--seg-whole-series is for a DICOM SEG"),
        (("--seg", "surface", "-o", "a.dcm"), "surface"),
    ):
        ended = crnn("segment", "v.nii", *more)
        assert ended.code == 2, ended.err
        assert why in ended.err.replace("\n", " ")


def test_a_series_of_any_modality_has_a_seg(tmp_path):
    for modality in ("PT", "NM", "XA", "OT", "mr", "US"):
        folder = tmp_path / (modality or "none")
        write_series(
            folder, values(2, 1, 7, 5), oblique(3), Modality=modality, SliceThickness=["5", "6"], SeriesNumber=None
        )
        labels, series = labelled(folder)
        (file,) = write(labels, series, tmp_path / f"{modality}.dcm", SegForm())
        assert compare_images(expected(labels, SegForm()), read_seg(file)).voxels == 0
        referred = pydicom.dcmread(file).ReferencedSeriesSequence[0]
        assert referred.SeriesInstanceUID == read_series(folder)[2].uid
