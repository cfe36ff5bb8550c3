"""Reports of format 1 are read as those of today, whole or damaged."""

import copy
import json
from pathlib import Path

import pytest

from crnn_cli.report.rows import reconstruction_rows
from crnn_cli.report.sidecar import FORMAT, upgrade_report
from crnn_cli.report.verdict import decisive_residual

STORED = Path(__file__).with_name("report_format_1.json")
OLD = ("trust", "residual", "noise", "weight", "weights", "undersampled_axis", "undersampled_axes",
       "acceleration_in_measured_region")  # fmt: skip


@pytest.fixture
def old():
    return json.loads(STORED.read_text())


def test_a_stored_report_of_format_1_has_the_keys_of_today(old):
    before = copy.deepcopy(old)
    report = upgrade_report(old)
    assert old == before
    assert report["format"] == FORMAT
    assert not set(OLD) & set(report)
    assert report["simulated"] is True
    assert (report["noise_ratio"], report["phase_encoding_axis"], report["n_undersampled_axes"]) == (0.5, "y", 1)
    assert report["effective_acceleration"] == old["acceleration_in_measured_region"]
    reliability = report["reliability"]
    assert reliability["residual"] == old["trust"]["residual"]
    assert reliability["held_out"] == old["trust"]["held_out"]
    assert reliability["null_space_energy_fraction"] == old["trust"]["undetermined"]
    assert [frame["ratio_to_expected"] for frame in reliability["outlier_frames"]] == [2.5]
    assert report["adapted"]["generalise"] is True
    assert report["adapted"]["weight_interpolation"] == 0.8
    assert report["input"]["slice_tolerance_mm"] == "0.5"
    options = {"undersample": 6.0, "noise_ratio": 0.5, "slice_tolerance": 0.5, "iterations": 2, "save_adapted": "tuned",
               "generalise": True}  # fmt: skip
    assert report["batch"] == {"options": options, "outputs": old["batch"]["outputs"]}
    assert upgrade_report(report) is report


def test_its_table_can_be_made_again(old):
    rows = dict(reconstruction_rows(Path("c.nii.gz"), "cine-crnn", upgrade_report(old)))
    assert rows["residual at lines held out"].startswith(f"{old['trust']['held_out']['overall']:.3f}")
    assert rows["outlier frames"] == "frame 4 of slice 1 (2.5 x at lines held out)"
    assert "zero-filled vs truth" in rows


def test_a_report_older_than_its_reliability_keeps_its_residual(old):
    del old["trust"]
    report = upgrade_report(old)
    assert report["reliability"] == {"residual": {"overall": old["residual"]}}
    assert decisive_residual(report) == ("residual", old["residual"])


def test_the_format_of_the_output_is_not_that_of_the_report(old):
    report = upgrade_report(old | {"format": "DICOM, derived series"})
    assert (report["format"], report["output_format"]) == (FORMAT, "DICOM, derived series")


@pytest.mark.parametrize(
    "damage", [{"trust": 3}, {"trust": {"stand_out": [1]}}, {"input": []}, {"adapted": None}, {"batch": 1}]
)
def test_damaged_parts_are_left_as_they_are(old, damage):
    assert upgrade_report(old | damage)["format"] == FORMAT
