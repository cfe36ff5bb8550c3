"""`crnn function --sr`: a report says what was measured, whoever reads it, and names what it was measured in."""

import json
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from functools import cache

import highdicom as hd
import numpy as np
import pydicom
import pytest
from highdicom.sr.utils import find_content_items

import crnn_cli
from crnn_cli.cardiac.chambers import parse_chambers
from crnn_cli.cardiac.function import assess_function
from crnn_cli.data.image import Image
from crnn_cli.io.atomic_write import write_together
from crnn_cli.io.dicom import sr
from crnn_cli.io.dicom.evidence import evidence_of_series
from crnn_cli.io.dicom.read import read_series
from crnn_cli.io.dicom.seg import Algorithm, SegForm
from crnn_cli.workflows.function.structured_report import structured_report
from tests.cardiac.hearts import heart
from tests.support.cardiac_dicom import PATIENT, write_cine, write_segs
from tests.support.data import ROOT
from tests.support.dicom import write_enhanced

FORMS = {"frames": SegForm(), "whole": SegForm(whole_series=True), "labelmap": SegForm("labelmap", whole_series=True)}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A cine, its labels as SEG of every form, and a report of each."""
    folder = tmp_path_factory.mktemp("study")
    whole = heart(frames=8, frame_time=0.1)
    write_cine(folder / "cine", replace(whole, array=whole.array[:, :, 3:6]))
    for name, form in FORMS.items():
        write_segs(folder / "cine", folder / name / "seg.dcm", form)
    return folder


@pytest.fixture(scope="module")
def reports(study):
    """Report as DICOM, and as JSON, of the cine and of each form of SEG."""
    from typer.testing import CliRunner

    from crnn_cli.cli.app import app

    made = {}
    for name in ("cine", *FORMS):
        target = study / f"{name}_sr.dcm"
        more = ("--labels", "acdc") if name == "cine" else ()  # height and weight are in the headers of both
        arguments = ("function", study / name, *more, "--sr", target, "-o", study / f"{name}.json")
        ended = CliRunner().invoke(app, [str(each) for each in arguments])
        assert ended.exit_code == 0, ended.stderr
        assert not any(value in ended.output for value in ("Secret", "4711"))
        made[name] = target, json.loads((study / f"{name}.json").read_text())
    return made


def numbers(report):
    """Values and units of the report in JSON that were not refused."""
    found = [each for side in report["quantities"].values() for each in side.values()]
    units = {"/min": "{H.B.}/min"}
    return Counter(
        (units.get(each["unit"], each["unit"]), each["value"]) for each in found if each["value"] is not None
    )


@cache
def groups_of(file):
    content = hd.sr.srread(file).content
    return [*content.get_volumetric_roi_measurement_groups(), *content.get_image_measurement_groups()]


@pytest.mark.parametrize("name", ["cine", *FORMS])
def test_highdicom_reads_every_number_back(reports, name):
    file, report = reports[name]
    read = Counter((m.unit.value, float(m.value)) for group in groups_of(file) for m in group.get_measurements())
    assert read == numbers(report)
    assert sum(read.values()) == {"cine": 23}.get(name, 18)  # a SEG has no times


@pytest.mark.parametrize("change", ["value", "unit", "lost"])
def test_a_number_that_is_read_back_differently_is_found(reports, tmp_path, change):
    """Before a report gets its name, the numbers, their codes and units are read from the disk."""
    data = pydicom.dcmread(reports["cine"][0])
    numbers_before = sr._numbers(reports["cine"][0])
    assert len(numbers_before) == 23
    measurements = [each for each in data.ContentSequence if each.ConceptNameCodeSequence[0].CodeValue == "126010"]
    group = measurements[0].ContentSequence[0]
    number = next(each for each in group.ContentSequence if each.ValueType == "NUM")
    measured = number.MeasuredValueSequence[0]
    if change == "value":
        measured.NumericValue = "1"
    elif change == "unit":
        measured.MeasurementUnitsCodeSequence[0].CodeValue = "l"
    else:
        group.ContentSequence.remove(number)
    data.save_as(tmp_path / "changed.dcm")
    assert sorted(sr._numbers(tmp_path / "changed.dcm")) != sorted(numbers_before)


@pytest.mark.parametrize("name", ["cine", *FORMS])
def test_dcmqi_reads_every_number_back(reports, name, tmp_path):
    if shutil.which("tid1500reader") is None:
        pytest.skip("tid1500reader (dcmqi) is not installed")
    file, report = reports[name]
    arguments = ["tid1500reader", "--inputDICOM", file, "--outputMetadata", tmp_path / "read.json"]
    subprocess.run(arguments, check=True, capture_output=True)
    groups = json.loads((tmp_path / "read.json").read_text())["Measurements"]
    items = [item for group in groups for item in group["measurementItems"]]
    assert Counter((item["units"]["CodeValue"], float(item["value"])) for item in items) == numbers(report)
    fractions = [item["value"] for item in items if item["quantity"]["CodeValue"] == "8811-2"]
    assert [float(each) for each in fractions] == [report["quantities"]["left"]["ejection_fraction"]["value"]]
    if name != "cine":
        assert Counter(group.get("ReferencedSegment") for group in groups) == {1: 2, 2: 2, 3: 2, None: 2}


@pytest.mark.parametrize("name", ["cine", "frames", "whole"])  # its version of 2022 does not know label maps
def test_dciodvfy_finds_no_error(reports, name):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed")
    ended = subprocess.run(["dciodvfy", reports[name][0]], capture_output=True, text=True, check=False)
    assert "EnhancedSR" in ended.stderr
    assert not [line for line in ended.stderr.splitlines() if line.startswith("Error")]


def images_at(study, frame):
    """UIDs of the images of a frame, from 1: by their trigger times, slice by slice."""
    places = {}
    for data in map(pydicom.dcmread, (study / "cine").iterdir()):
        places.setdefault(tuple(data.ImagePositionPatient), []).append((float(data.TriggerTime), data.SOPInstanceUID))
    return {sorted(row)[frame - 1][1] for row in places.values()}


@pytest.mark.parametrize("name", ["cine", *FORMS])
def test_the_ejection_fraction_names_the_images_of_both_frames(reports, study, name):
    file, report = reports[name]
    ends = images_at(study, report["end_diastole"]) | images_at(study, report["end_systole"])
    found = [m for group in groups_of(file) for m in group.get_measurements() if m.name.value in ("8811-2", "8818-7")]
    assert len(found) == 2
    for measured in found:
        assert {item.referenced_sop_instance_uid for item in measured.referenced_images} == ends
    listed = pydicom.dcmread(file).CurrentRequestedProcedureEvidenceSequence
    uids = {each.ReferencedSOPInstanceUID for item in listed for s in item.ReferencedSeriesSequence
            for each in s.ReferencedSOPSequence}  # fmt: skip
    assert ends <= uids


def test_volumes_name_the_segment_of_their_frame(reports, study):
    file, report = reports["frames"]
    by_frame = {d.InstanceNumber: d for d in map(pydicom.dcmread, (study / "frames").iterdir())}
    content = hd.sr.srread(file).content
    expected = {"8821-1": (3, "end_diastole"), "8823-7": (3, "end_systole"), "8822-9": (1, "end_diastole"),
                "8824-5": (1, "end_systole")}  # fmt: skip
    seen = 0
    for group in content.get_volumetric_roi_measurement_groups():
        (code, *_) = [measured.name.value for measured in group.get_measurements()]
        if code not in expected:
            continue
        number, phase = expected[code]
        segment, seg = group.referenced_segment, by_frame[report[phase]]
        reference = segment[0].ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert reference.ReferencedSegmentNumber == number
        sources = {each.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for each in segment[1:]}
        assert sources == images_at(study, report[phase])
        seen += 1
    assert seen == 4


def test_patient_and_study_are_those_of_the_source(reports, study):
    source = pydicom.dcmread(next((study / "cine").iterdir()))
    for file, _ in reports.values():
        made = pydicom.dcmread(file)
        for keyword in (*PATIENT, "StudyInstanceUID"):
            if keyword != "FrameOfReferenceUID":  # of images alone
                assert made[keyword].value == source[keyword].value, keyword
        assert made.SeriesInstanceUID != source.SeriesInstanceUID
        assert made.Modality == "SR"


def texts(file):
    items = find_content_items(pydicom.dcmread(file), value_type=hd.sr.ValueTypeValues.TEXT, recursive=True)
    return [item.TextValue for item in items]


def test_what_is_refused_is_no_number_and_its_reason_is_said(crnn, tmp_path):
    whole = heart(frames=2, frame_time=0.08)
    cut = Image(whole.array[20:], whole.affine, whole.frame_time)
    write_cine(tmp_path / "cine", cut)
    ended = crnn("function", tmp_path / "cine", "--labels", "acdc", "--sr", tmp_path / "sr.dcm")
    assert ended.code == 0, ended.err
    codes = {m.name.value for group in groups_of(tmp_path / "sr.dcm") for m in group.get_measurements()}
    assert "8821-1" in codes
    assert "8822-9" not in codes
    assert any(
        "right end-diastolic volume" in text and "cut by the edge" in text for text in texts(tmp_path / "sr.dcm")
    )


def test_an_enhanced_source_is_named_by_its_frames(crnn, tmp_path):
    whole = heart(frames=2, frame_time=0.1)
    row, column, _ = (np.diag([-1, -1, 1]) @ whole.affine[:3, :3] / whole.spacing).T
    pixels = whole.array[:, :, 2:6].astype(int).transpose(2, 3, 1, 0)
    write_enhanced(tmp_path / "cine.dcm", pixels, (row, column), (1.25, 1.25), 8.0)
    ended = crnn("function", tmp_path / "cine.dcm", "--labels", "acdc", "--sr", tmp_path / "sr.dcm")
    assert ended.code == 0, ended.err
    source = pydicom.dcmread(tmp_path / "cine.dcm")
    by_code = {m.name.value: m for group in groups_of(tmp_path / "sr.dcm") for m in group.get_measurements()}
    (image,) = by_code["8811-2"].referenced_images
    assert image.referenced_sop_instance_uid == source.SOPInstanceUID
    assert sorted(image.referenced_frame_numbers) == list(range(1, 9))
    systole = [group for group in groups_of(tmp_path / "sr.dcm") if "end systole" in group.tracking_identifier]
    for group in systole:
        (image,) = group.source_images
        times = {source.PerFrameFunctionalGroupsSequence[number - 1].FrameContentSequence[0].TemporalPositionIndex
                 for number in image.referenced_frame_numbers}  # fmt: skip
        assert (times, len(image.referenced_frame_numbers)) == ({2}, 4)
    assert len(systole) == 3


def test_an_interval_is_the_range_of_upper_and_lower_uncertainty(study, tmp_path):
    image, _, series = read_series(study / "cine")
    chambers = parse_chambers("acdc")
    function = assess_function(replace(image, array=image.array.astype(np.uint8)), chambers)
    left = function.ventricles["left ventricle"]
    interval = replace(left.ejection_fraction, value=57.0, low=53.0, high=61.5, level=0.9)
    function.ventricles["left ventricle"] = replace(left, ejection_fraction=interval)
    evidence = evidence_of_series(series, (function.phases.ed, function.phases.es))
    target = tmp_path / "sr.dcm"
    write_together([structured_report(function, chambers, evidence, Algorithm("crnn tiny"), target)])
    data = pydicom.dcmread(target)
    (item,) = find_content_items(data, name=hd.sr.CodedConcept("8811-2", "LN", "-"), recursive=True)
    ranges = {
        each.ConceptNameCodeSequence[0].CodeValue: each.MeasuredValueSequence[0]
        for each in item.ContentSequence
        if each.ValueType == "NUM"
    }
    assert {code: float(value.NumericValue) for code, value in ranges.items()} == {"371886008": 4.5, "371885007": 4}
    assert {value.MeasurementUnitsCodeSequence[0].CodeValue for value in ranges.values()} == {"%"}
    assert any("90 % intervals" in text for text in texts(target))
    others = find_content_items(data, name=hd.sr.CodedConcept("371886008", "SCT", "-"), recursive=True)
    assert len(others) == 1


def test_images_beside_a_seg_give_the_times_and_segments_are_named(crnn, study, reports, tmp_path):
    arguments = ("function", study / "frames", "--image", study / "cine", "--sr", tmp_path / "sr.dcm", "--json")
    ended = crnn(*arguments)
    assert ended.code == 0, ended.err
    read = Counter(
        (m.unit.value, float(m.value)) for group in groups_of(tmp_path / "sr.dcm") for m in group.get_measurements()
    )
    assert read == numbers(json.loads(ended.out)) == numbers(reports["cine"][1])
    assert len(hd.sr.srread(tmp_path / "sr.dcm").content.get_volumetric_roi_measurement_groups()) == 6


def test_of_a_cine_the_model_is_the_algorithm(crnn, tmp_path):
    pig = crnn_cli.load(ROOT / "sample_data/pig_stack.nii.gz")
    small = np.rint(pig.array[:, :, 2:7, :2])
    cine = write_cine(tmp_path / "cine", replace(pig, array=small, frame_time=0.05))
    ended = crnn("function", cine, "--sr", tmp_path / "sr.dcm", "-o", tmp_path / "f.json")
    assert ended.code == 0, ended.err
    model = json.loads((tmp_path / "f.json").read_text())["model"]
    found = texts(tmp_path / "sr.dcm")
    assert {f"crnn {model['name']}", f"weights sha256={model['sha256']}", crnn_cli.__version__} <= {*found}
    assert not hd.sr.srread(tmp_path / "sr.dcm").content.get_volumetric_roi_measurement_groups()
    listed = pydicom.dcmread(tmp_path / "sr.dcm").CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    uids = {each.ReferencedSOPInstanceUID for item in listed for each in item.ReferencedSOPSequence}
    assert uids == {pydicom.dcmread(file).SOPInstanceUID for file in cine.iterdir()}


def test_a_source_without_patient_and_study_is_refused_before_the_work(crnn, tmp_path):
    import nibabel as nib

    nib.save(nib.Nifti1Image(heart(frames=2).array, heart(frames=2).affine), tmp_path / "labels.nii.gz")
    ended = crnn("function", tmp_path / "labels.nii.gz", "--labels", "acdc", "--sr", tmp_path / "sr.dcm")
    assert (ended.code, "needs a DICOM source" in ended.err) == (4, True)
    ended = crnn("function", tmp_path / "labels.nii.gz", "--labels", "acdc", "--sr", tmp_path / "sr.xml")
    assert (ended.code, ".dcm" in ended.err) == (2, True)
    assert [each.name for each in tmp_path.iterdir()] == ["labels.nii.gz"]


def test_a_seg_that_does_not_name_its_images_is_refused(crnn, study, tmp_path):
    data = pydicom.dcmread(study / "whole" / "seg.dcm")
    del data.ReferencedSeriesSequence
    data.save_as(tmp_path / "seg.dcm")
    assert crnn("function", tmp_path / "seg.dcm").code == 0
    ended = crnn("function", tmp_path / "seg.dcm", "--sr", tmp_path / "sr.dcm", "-o", tmp_path / "f.json")
    assert (ended.code, "names neither the images" in ended.err) == (4, True)
    assert [each.name for each in tmp_path.iterdir()] == ["seg.dcm"]
