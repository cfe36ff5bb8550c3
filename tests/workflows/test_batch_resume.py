"""Reports of earlier runs that a batch goes on from, those of older versions included."""

import hashlib
import json

import pytest

from crnn_cli.workflows.batch.resume import batch_stamp, earlier_report, same_input
from crnn_cli.workflows.segment.options import SegmentOptions


@pytest.fixture
def done(tmp_path):
    """Return a function that writes a report beside an output and reads it again."""
    target = tmp_path / "a_labels.nii.gz"
    target.write_bytes(b"labels")
    outputs = {target.name: hashlib.sha256(b"labels").hexdigest()}

    def read(report, options, weights="w"):
        report = {"output": str(target), "model": {"sha256": "w"}, "input": {"sha256": "i"}} | report
        report["batch"]["outputs"] = outputs
        (tmp_path / "a_labels.json").write_text(json.dumps(report))
        return earlier_report(target, options, weights)

    return read


def test_a_report_counts_with_the_same_options_and_weights(done):
    options = batch_stamp(SegmentOptions(slices="axial", slice_tolerance=0.5, force=True))
    assert options == {"slices": "axial", "slice_tolerance": 0.5}
    report = {"format": 2, "batch": {"options": options}}
    assert done(report, options)["batch"]["options"] == options
    assert done(report, options | {"threshold": 0.4}) is None
    assert done(report, options, "others") is None


def test_a_report_of_format_1_counts_by_the_names_of_today(done):
    report = {"format": "DICOM SEG", "batch": {"options": {"slices": "axial", "uneven": 0.5}}}
    earlier = done(report, {"slices": "axial", "slice_tolerance": 0.5})
    assert earlier is not None
    assert same_input(earlier, {"file": "elsewhere", "sha256": "i"})
    assert not same_input(earlier, {"file": "elsewhere", "sha256": "j"})
