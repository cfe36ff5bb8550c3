"""Stacks of one series for each slice are joined as their truth, or refused for a true reason."""

import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.atomic_write import write_together
from crnn_cli.io.dicom import series
from crnn_cli.io.dicom.image_kinds import MR_IMAGE
from crnn_cli.io.dicom.read import list_series, read_series
from crnn_cli.io.dicom.seg import Algorithm, SegForm, seg_outputs
from crnn_cli.io.dicom.series import ranges
from crnn_cli.io.dicom.stacks import join, repeats, slices
from crnn_cli.io.dicom.write import About, write_derived
from crnn_cli.labels.names import Label
from tests.support.dicom import oblique, values, write_enhanced, write_series
from tests.support.dicom_stacks import CASES, draw_study, verdict

PARTS = 5
STUDIES = 30


@pytest.mark.parametrize("part", range(PARTS))
def test_a_study_is_joined_as_its_truth_or_refused_for_a_true_reason(tmp_path, part):
    for seed in range(part, STUDIES, PARTS):
        study = draw_study(tmp_path, seed)
        told = verdict(study)
        assert not told.startswith("WRONG"), f"seed {seed}, {study.case}, {study.vendor}: {told}"


def test_every_case_is_drawn():
    assert len(CASES) == 30 <= STUDIES
    assert len({case.__name__ for case in CASES}) == 27


def seed_of(name):
    return next(n for n, case in enumerate(CASES) if case.__name__ == name)


@pytest.mark.parametrize(
    ("name", "module", "part", "instead"),
    [
        ("repeated", repeats, "_key", lambda each, starts: (0.0, -each.series.number)),
        ("measured_twice", repeats, "_is_stack", lambda repeated, places: False),
        ("tagged", slices, "_same_scan", lambda one, other: True),
        ("two_kinds", slices, "_by_type", lambda group: [group]),
        ("unequal_frames", join, "_problems", lambda ordered: []),
        ("late_start", join, "_late", lambda ordered: []),
        ("counted_through", join, "_with_own_positions", lambda ordered: [f for each in ordered for f in each.frames]),
        ("unlike_cycles", series, "unlike_cycles", lambda rows: []),
        ("few", slices, "LEAST_SLICES", 2),
        ("replanned", slices, "BESIDE", 1e9),
    ],
)
def test_the_judge_sees_what_is_left_out_of_the_rules(tmp_path, monkeypatch, name, module, part, instead):
    """The law above can fail: a reader without one of its rules is caught."""
    study = draw_study(tmp_path, seed_of(name))
    assert not verdict(study).startswith("WRONG")
    for each in (module, join):
        monkeypatch.setattr(each, part, instead, raising=each is module)
    assert verdict(study).startswith("WRONG")


@pytest.mark.parametrize(
    "name", ["middle_missing", "unequal_frames", "without_triggers", "repeated_for_an_unknown_reason"]
)
def test_the_remedy_of_a_refusal_reads_what_it_says(tmp_path, name):
    study = draw_study(tmp_path, seed_of(name))
    with pytest.raises(UnsupportedDataError) as refused:
        read_series(study.path)
    (numbers,) = re.findall(r"series='([0-9,-]+)'", str(refused.value))
    if name == "repeated_for_an_unknown_reason":  # to choose from: all of them lie in one place twice
        with pytest.raises(UnsupportedDataError, match="lie in one place"):
            read_series(study.path, numbers)
        return
    image, _, series = read_series(study.path, numbers)
    assert ranges(each.number for each in series.members) == numbers
    for z, member in enumerate(series.members):
        alone = read_series(study.path, str(member.number))[0]
        np.testing.assert_array_equal(alone.array[:, :, 0], image.array[:, :, z])
        np.testing.assert_allclose(alone.affine[:3, 3], (image.affine @ [0, 0, z, 1])[:3], atol=2e-3)
    gated = "stack-not-gated" not in {each.code for each in series.remarks}
    assert gated == (name != "without_triggers")


def write_study(
    folder, slices=4, frames=5, writer=write_series, skip=(), step_ms=lambda z: 30 + 0.5 * z, by_slice=None, **more
):
    """Write a stack, one folder and series for each slice; return its values (column, row, slice, frame) and affine.

    step_ms : time between frames, of the slice. by_slice : more attributes, of the slice.
    """
    study, reference, directions = generate_uid(), generate_uid(), oblique(7)
    normal, stored = np.cross(*directions), values(slices, frames, 20, 24, high=900)
    affines = []
    for z in range(slices):
        origin = np.array([-60.0, -40, 20]) + normal * 9 * z
        place = {"directions": directions, "gap": 9.0, "origin": origin, "step_ms": step_ms(z), "study": study}
        place |= {"FrameOfReferenceUID": reference, "SeriesNumber": 20 - z} if writer is write_series else {}
        place |= by_slice(z) if by_slice else {}
        where = folder / f"s{z}" if writer is write_series else folder / f"s{z}.dcm"
        folder.mkdir(exist_ok=True)
        if z not in skip:
            affines.append(writer(where, stored[z : z + 1], **place, **more))
    return stored.transpose(3, 2, 0, 1), affines[0]


@pytest.mark.parametrize("writer", [write_series, write_enhanced])
def test_members_are_chosen_by_their_own_numbers_and_uids(tmp_path, writer):
    whole, affine = write_study(tmp_path / "d", writer=writer)
    image, _, stack = read_series(tmp_path / "d")
    np.testing.assert_array_equal(image.array, whole)
    np.testing.assert_allclose(image.affine, affine, atol=1e-3)
    (row,) = list_series(tmp_path / "d").series
    assert row.number == 5
    assert len(stack.members) == 4
    for z, member in enumerate(stack.members):
        for choice in (str(member.number), member.uid):
            alone, _, series = read_series(tmp_path / "d", choice)
            np.testing.assert_array_equal(alone.array[:, :, 0], whole[:, :, z])
            assert series.members == ()
        assert stack.one_slice(z).members == (member,)
    np.testing.assert_array_equal(read_series(tmp_path / "d", "5")[0].array, whole)
    part = ",".join(str(each.number) for each in stack.members[1:])
    np.testing.assert_array_equal(read_series(tmp_path / "d", part)[0].array, whole[:, :, 1:])


@pytest.mark.parametrize("positions", [True, False])
def test_temporal_positions_tell_a_cycle_that_instance_numbers_do_not(tmp_path, positions):
    """By their numbers alone, the frames of each slice look like those of two beats one after the other."""

    def header(z, t):
        return {"InstanceNumber": (1, 4, 2, 5, 3, 6)[t]} | ({"TemporalPositionIdentifier": t + 1} if positions else {})

    whole, _ = write_study(tmp_path / "d", 3, 6, each=header)
    if positions:
        np.testing.assert_array_equal(read_series(tmp_path / "d")[0].array, whole)
    else:
        with pytest.raises(UnsupportedDataError, match="nothing says that their frames are the phases"):
            read_series(tmp_path / "d")


def test_the_frame_time_is_the_median_and_its_range_is_told(tmp_path):
    write_study(tmp_path / "d")
    image, _, stack = read_series(tmp_path / "d")
    assert image.frame_time == pytest.approx(0.03075)
    (fact,) = (each for each in stack.remarks if each.code == "stack-frame-times")
    assert "30.0 to 31.5 ms" in fact.text
    (joined,) = (each for each in stack.remarks if each.code == "stack-joined")
    assert joined.text == "series 1-4 were joined to a stack of 4 slices; they lie within 0.001 mm of even places"
    assert "stack-taken" not in {each.code for each in stack.remarks}  # nothing lies beside it


@pytest.mark.parametrize(("longest", "doubted"), [(31.5, False), (33, False), (35.5, True), (45, True)], ids=str)
def test_slices_of_unlike_frame_times_are_a_doubt(tmp_path, longest, doubted):
    write_study(tmp_path / "d", step_ms=lambda z: (30, 30, longest, 31)[z])
    codes = [each.code for each in read_series(tmp_path / "d")[2].remarks]
    assert ("stack-cycles-differ" in codes) is doubted
    assert "stack-frame-times" in codes


@pytest.mark.parametrize("even", [True, False], ids=["one frame time", "frame times"])
@pytest.mark.parametrize("header", ["HeartRate", "NominalInterval"])
@pytest.mark.parametrize(("fastest", "doubted"), [(64, False), (72, True)])
def test_slices_of_unlike_heart_rates_are_a_doubt(tmp_path, fastest, doubted, header, even):
    """Trigger times of the same steps in every slice do not tell how long its beats were."""

    def beat(z):
        rate = fastest if z == 2 else 60
        return rate if header == "HeartRate" else round(60_000 / rate)

    write_study(tmp_path / "d", step_ms=lambda z: 30 if even else 30 + 0.5 * z, by_slice=lambda z: {header: beat(z)})
    told = [each for each in read_series(tmp_path / "d")[2].remarks if each.code == "stack-cycles-differ"]
    assert len(told) == doubted
    if doubted:
        assert "heart rates of 60 to 72 a minute" in told[0].text


def test_slices_of_one_series_may_have_unlike_heart_rates_too(tmp_path):
    stored = values(4, 6, 20, 24, high=900)
    for name, fastest in (("alike", 64), ("unlike", 75)):
        write_series(tmp_path / name, stored, each=lambda z, t, fastest=fastest: {"HeartRate": fastest if z else 60})
        codes = [each.code for each in read_series(tmp_path / name)[2].remarks]
        assert ("stack-cycles-differ" in codes) is (name == "unlike")


def test_heart_rates_that_cannot_be_say_nothing(tmp_path):
    write_study(tmp_path / "d", step_ms=lambda z: 30, by_slice=lambda z: {"HeartRate": 60 if z else 0})
    assert "stack-cycles-differ" not in {each.code for each in read_series(tmp_path / "d")[2].remarks}


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("1-2,6", "6 are not"), ("2-1", "to name series"), ("1,2", None), ("1-3,99999", "are not"),
        ("7", "fits 0"), ("1,,2", "fits 0"), ("", "fits 0"),
    ],
)  # fmt: skip
def test_a_choice_of_several_that_makes_no_sense_is_refused(tmp_path, choice, told):
    write_study(tmp_path / "d", 4, 3)
    if told is None:
        assert read_series(tmp_path / "d", choice)[0].array.shape == (24, 20, 2, 3)
        return
    with pytest.raises(UnsupportedDataError, match=told):
        read_series(tmp_path / "d", choice)


def test_slices_of_other_directions_are_not_joined_though_they_are_asked_for(tmp_path):
    write_study(tmp_path / "d", 3, 3)
    write_series(tmp_path / "d/long", values(1, 3, 20, 24), oblique(8), SeriesNumber=1)
    with pytest.raises(UnsupportedDataError, match="1 and 2-3 differ in study"):
        read_series(tmp_path / "d", "1-3")


def test_a_slice_of_which_no_file_can_be_read_is_missed(tmp_path):
    """What is left of the stack is even, and no whole."""
    write_study(tmp_path / "d")
    for file in (tmp_path / "d/s3").iterdir():
        file.write_bytes(file.read_bytes()[:-300])
    with pytest.raises(UnsupportedDataError, match="series 1-4 are slices of one stack, and are not joined"):
        read_series(tmp_path / "d")
    for file in (tmp_path / "d/s3").iterdir():
        file.write_bytes(file.read_bytes()[:700])
    with pytest.raises(UnsupportedDataError, match="may be parts"):
        read_series(tmp_path / "d")
    for file in (tmp_path / "d/s3").iterdir():
        file.unlink()
    assert read_series(tmp_path / "d")[0].shape[2] == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"TriggerTime": None}, "nothing says that its frames are the phases"),
        ({"SliceThickness": "8"}, "8 mm thick, not 5"),
        ({"FrameOfReferenceUID": ""}, "no frame of reference"),
        ({"ImageOrientationPatient": None}, "its direction is not known"),
        ({"PatientID": "another"}, None),
        ({"FrameOfReferenceUID": "1.2.3"}, None),
    ],
)
def test_an_end_slice_that_is_left_out_is_a_doubt(tmp_path, change, reason):
    """Unless it is of another patient or lies in another frame of reference, where no place can be compared."""
    whole, _ = write_study(tmp_path / "d", 4, 5)
    for file in (tmp_path / "d/s3").iterdir():
        data = pydicom.dcmread(file)
        for keyword, value in change.items():
            setattr(data, keyword, value)
        data.save_as(file)
    image, _, stack = read_series(tmp_path / "d")
    np.testing.assert_array_equal(image.array, whole[:, :, :3])
    doubts = [each.text for each in stack.remarks if each.code == "stack-may-lack-slices"]
    assert len(doubts) == (reason is not None)
    assert all(reason in text for text in doubts)


def test_a_second_cine_of_several_slices_is_not_passed_over(tmp_path):
    write_study(tmp_path / "d", 3, 5)
    assert list_series(tmp_path / "d").only_stack is not None
    write_series(tmp_path / "d/other", values(3, 5, 20, 24), oblique(8), SeriesNumber=30)
    with pytest.raises(UnsupportedDataError, match="holds 2 series: choose one"):
        read_series(tmp_path / "d")
    (file, *_) = sorted((tmp_path / "d/other").iterdir())
    file.unlink()
    told = {each.code for each in read_series(tmp_path / "d")[2].remarks}
    assert "dicom-only-series" in told  # as of any series beside one with holes


def test_slice_tolerance_reaches_stacks(tmp_path):
    whole, _ = write_study(tmp_path / "d", 4, 3)
    for file in (tmp_path / "d/s1").iterdir():
        data = pydicom.dcmread(file)
        moved = np.array(data.ImagePositionPatient, float) + np.cross(*oblique(7)) * 0.4
        data.ImagePositionPatient = [f"{v:.8g}" for v in moved]
        data.save_as(file)
    with pytest.raises(UnsupportedDataError, match=r"slice_tolerance=0\.4"):
        read_series(tmp_path / "d")
    for choice in (None, "1-4"):
        image, _, series = read_series(tmp_path / "d", choice, slice_tolerance=0.41)
        np.testing.assert_array_equal(image.array, whole)
        assert "uneven-slices" in {each.code for each in series.remarks}


def sources(folder):
    """The images of a study, by their UIDs."""
    return {each.SOPInstanceUID: each for each in map(pydicom.dcmread, sorted(folder.rglob("*.dcm")))}


@pytest.mark.parametrize("form", [SegForm(), SegForm("labelmap"), SegForm(whole_series=True)])
@pytest.mark.parametrize("writer", [write_series, write_enhanced])
def test_a_seg_names_the_images_of_all_members(tmp_path, writer, form):
    write_study(tmp_path / "d", 3, 2, writer)
    image, _, series = read_series(tmp_path / "d")
    labels = replace(image, array=(image.array % 2).astype(np.uint8))
    target = tmp_path / "seg.dcm"
    write_together(seg_outputs(labels, series, [Label(1, "odd", (9, 9, 9))], Algorithm("a"), target, form))
    before = sources(tmp_path / "d")
    files = sorted(tmp_path.glob("seg*.dcm"))
    assert len(files) == (1 if form.whole_series else 2)
    for t, data in enumerate(map(pydicom.dcmread, files)):
        listed = {
            item.ReferencedSOPInstanceUID: each.SeriesInstanceUID
            for each in data.ReferencedSeriesSequence
            for item in each.ReferencedInstanceSequence
        }
        assert len(data.ReferencedSeriesSequence) == 3
        assert len(listed) == (6 if form.whole_series and writer is write_series else 3)
        assert all(before[uid].SeriesInstanceUID == of for uid, of in listed.items())
        for group in data.PerFrameFunctionalGroupsSequence:
            origin = group.DerivationImageSequence[0].SourceImageSequence[0]
            image = before[origin.ReferencedSOPInstanceUID]
            time = group.FrameContentSequence[0].get("TemporalPositionIndex", t + 1)
            if writer is write_enhanced:
                image = image.PerFrameFunctionalGroupsSequence[origin.ReferencedFrameNumber - 1]
                assert image.FrameContentSequence[0].TemporalPositionIndex == time
                image = image.PlanePositionSequence[0]
            else:
                assert float(image.TriggerTime) == sorted(
                    float(each.TriggerTime)
                    for each in before.values()
                    if each.SeriesInstanceUID == image.SeriesInstanceUID
                )[time - 1]  # fmt: skip
            place = group.PlanePositionSequence[0].ImagePositionPatient
            np.testing.assert_allclose(np.array(place, float), np.array(image.ImagePositionPatient, float), atol=1e-4)


def test_dciodvfy_finds_no_error_in_a_seg_of_a_stack(tmp_path):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed")
    write_study(tmp_path / "d", 3, 2, PatientBirthDate="", PatientSex="")
    image, _, series = read_series(tmp_path / "d")
    labels = replace(image, array=(image.array % 2).astype(np.uint8))
    target = tmp_path / "seg.dcm"
    write_together(seg_outputs(labels, series, [Label(1, "odd", (9, 9, 9))], Algorithm("a"), target))
    ended = subprocess.run(["dciodvfy", tmp_path / "seg_01.dcm"], capture_output=True, text=True, check=False)
    assert "Segmentation" in ended.stderr
    assert not [line for line in ended.stderr.splitlines() if line.startswith("Error")]


def test_a_derived_series_names_the_images_of_all_members(tmp_path):
    whole, affine = write_study(tmp_path / "d", 3, 2)
    image, _, series = read_series(tmp_path / "d")
    write_derived(image, series, About("derived", "by a test", MR_IMAGE), tmp_path / "out", force=False)
    before = sources(tmp_path / "d")
    again = read_series(tmp_path / "out")[0]
    np.testing.assert_array_equal(again.array, whole)
    np.testing.assert_allclose(again.affine, affine, atol=1e-3)
    for data in map(pydicom.dcmread, (tmp_path / "out").iterdir()):
        origin = before[data.SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert data.ImagePositionPatient == origin.ImagePositionPatient
        assert data.TriggerTime == origin.TriggerTime
        np.testing.assert_array_equal(data.pixel_array, origin.pixel_array)


def test_a_study_that_is_damaged_ends_as_unreadable_where_nothing_else_is_there(tmp_path):
    write_study(tmp_path / "d", 3, 2)
    for file in (tmp_path / "d").rglob("*.dcm"):
        file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(UnreadableError, match="holds no DICOM images"):
        read_series(tmp_path / "d")
