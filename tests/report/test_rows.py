"""The table at the end of a run names every file that was written, and none that was not."""

from pathlib import Path

from crnn_cli.notices import STREAM
from crnn_cli.report.rows import segmentation_rows, written_rows


def test_every_file_that_is_there_is_named_once(tmp_path):
    target, beside, elsewhere = tmp_path / "o.nii", tmp_path / "o.json", tmp_path / "pictures" / "p.png"
    elsewhere.parent.mkdir()
    for file in (target, beside, elsewhere):
        file.touch()
    rows = written_rows(target, [target, beside, elsewhere, tmp_path / "never.csv"])
    assert rows == [["written", str(target)], ["and", f"o.json, {elsewhere}"]]
    assert written_rows(target, []) == [["written", str(target)]]
    assert written_rows(STREAM, [STREAM, beside]) == [["written", "standard output"], ["and", str(beside)]]


def test_the_files_of_a_series_are_counted_and_those_beside_them_named(tmp_path):
    segs = [tmp_path / f"seg_{number:02d}.dcm" for number in range(1, 4)]
    for file in (*segs, tmp_path / "seg.json"):
        file.touch()
    report = {
        "model": {"name": "m", "licence": "l"}, "frames": 3, "labels": [], "seconds": 1.0, "device": "cpu",
        "slices": {"first": 1, "last": 2, "in_stack": 2, "array_axis": "z", "plane": "axial"},
        "output": [str(file) for file in segs],
    }  # fmt: skip
    rows = dict(segmentation_rows(tmp_path / "seg.dcm", report, [*segs, tmp_path / "seg.json"]))
    assert rows["written"] == f"3 files, {segs[0]} to seg_03.dcm"
    assert rows["and"] == "seg.json"
    one = report | {"output": [str(segs[0])]}
    assert dict(segmentation_rows(tmp_path / "seg.dcm", one, [segs[0]]))["written"] == str(segs[0])
    nifti = report | {"output": str(Path(tmp_path / "l.nii"))}
    assert dict(segmentation_rows(tmp_path / "l.nii", nifti))["written"] == str(tmp_path / "l.nii")
