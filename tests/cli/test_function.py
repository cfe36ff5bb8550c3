"""The command `crnn function`: outputs, sources, and what is refused."""

import csv
import json
import shutil

import nibabel as nib
import numpy as np
import pydicom
import pytest

import crnn_cli
from tests.cardiac.hearts import heart
from tests.support.cardiac_dicom import write_cine, write_segs
from tests.support.data import ROOT


@pytest.fixture(scope="module")
def beating():
    return heart()


@pytest.fixture
def labels(beating, tmp_path):
    """Label map of a beating heart, ACDC's values."""
    path = tmp_path / "labels.nii.gz"
    write(path, beating.array, beating.affine)
    return path


def write(path, array, affine, step=0.04):
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm", "sec")
    if array.ndim == 4:
        image.header["pixdim"][4] = step
    nib.save(image, path)
    return path


def test_report_table_and_picture_agree(crnn, labels, tmp_path):
    out, table, plot = (tmp_path / name for name in ("f.json", "f.csv", "f.png"))
    arguments = ("--labels", "acdc", "--height", 180, "--weight", 80, "-o", out, "--csv", table, "--plot", plot)
    ended = crnn("function", labels, *arguments)
    assert ended.code == 0, ended.err
    report = json.loads(out.read_text())
    left = report["quantities"]["left"]
    assert (report["end_diastole"], report["end_systole"]) == (1, 11)
    assert report["body_surface_m2"] == pytest.approx(2)
    assert left["edv_index"]["value"] == pytest.approx(left["edv"]["value"] / 2, rel=1e-4)
    assert len(report["curves_ml"]["left ventricle"]) == len(report["times_s"]) == 20
    assert sum(row["left_ventricle_ed_ml"] for row in report["slices"]) == pytest.approx(left["edv"]["value"], rel=1e-3)
    (row,) = csv.DictReader(table.open())
    assert float(row["left_edv_ml"]) == left["edv"]["value"]
    assert float(row["heart_rate_per_min"]) == pytest.approx(75)
    assert f"{left['edv']['value']:.0f} ml" in ended.out.decode()
    assert nib.load(labels).shape[3] == 20
    assert plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    printed = crnn("function", labels, "--labels", "acdc", "--json")
    assert json.loads(printed.out)["quantities"]["left"]["edv"] == left["edv"]


def test_names_come_from_the_report_beside_the_labels(crnn, labels):
    assert crnn("function", labels).code == 4
    names = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
    listed = [{"value": value, "name": name} for value, name in names.items()]
    labels.with_name("labels.json").write_text(json.dumps({"labels": listed}))
    assert crnn("function", labels).code == 0


def test_a_cine_is_labelled_first_and_equals_its_labels(crnn, tmp_path):
    source = ROOT / "sample_data/pig_stack.nii.gz"
    made = tmp_path / "labels.nii.gz"
    assert crnn("segment", source, "--slices", "-o", made).code == 0
    found = [json.loads(crnn("function", each, "--json").out) for each in (source, made)]
    assert found[0]["quantities"] == found[1]["quantities"]
    assert found[0]["model"]["name"] == "cardiac-sax-clstm"


def test_standard_input_is_read(crnn, labels):
    import gzip

    ended = crnn("function", "-", "--labels", "acdc", "--json", stdin=gzip.decompress(labels.read_bytes()))
    assert ended.code == 0, ended.err


def static(array):
    return np.repeat(array[..., :1], 20, -1)


ACDC = ("--labels", "acdc")
BAD = {
    "names unknown": (lambda a: a, (), 4, "no label that is called a ventricle"),
    "values unknown": (lambda a: np.array([0, 85, 170, 255], np.uint8)[a], ACDC, 4, "its values are 85, 170, 255"),
    "one value named twice": (lambda a: a, ("--labels", "1=LV,1=RV"), 2, "twice"),
    "no such convention": (lambda a: a, ("--labels", "mine"), 2, "acdc, mnms, ukbb"),
    "no heart": (lambda a: np.where(a == 2, 2, 0).astype(np.uint8), ACDC, 4, "its values are 2:"),
    "background": (lambda a: a * 0, ACDC, 4, "background alone"),
    "one slice": (lambda a: a[:, :, 4:5], ACDC, 4, "1 slice, and volumes by discs need 3"),
    "two slices": (lambda a: a[:, :, 4:6], ACDC, 4, "2 slices, and volumes by discs need 3"),
    "two slices of many": (lambda a: np.where(np.arange(9)[:, None] > 6, a, 0).astype(np.uint8), ACDC, 4,
                           "nothing can be measured"),
    "one frame many times": (static, ACDC, 4, "same volume in all 20 frames"),
    "cut": (lambda a: a[30:70], ACDC, 4, "cut by the edge"),
    "no such frame": (lambda a: a, (*ACDC, "--ed", "21"), 2, "the frames are 1 to 20"),
    "frame 0": (lambda a: a, (*ACDC, "--ed", "0"), 2, "--ed"),
    "phases exchanged": (lambda a: a, (*ACDC, "--ed", "11", "--es", "1"), 2, "no larger in frame 11 than in frame 1"),
    "one frame for both": (lambda a: a, (*ACDC, "--es", "1"), 2, "no larger in frame 1 than in frame 1"),
    "height alone": (lambda a: a, (*ACDC, "--height", "180"), 2, "belong together"),
    "height and weight exchanged": (lambda a: a, (*ACDC, "--height", "80", "--weight", "180"), 2, "cm and kg"),
    "height in metres": (lambda a: a, (*ACDC, "--height", "1.8", "--weight", "80"), 2, "cm and kg"),
    "formula": (lambda a: a, (*ACDC, "--bsa", "mine"), 2, "mosteller or dubois"),
    "not a number": (lambda a: np.where(a > 2, np.nan, a).astype(np.float32), ACDC, 4, "is nan, and labels"),
    "negative": (lambda a: a.astype(np.int16) - 1, ACDC, 4, "is -1, and labels"),
    "not whole": (lambda a: a.astype(np.float32) / 2, ACDC, 4, "is 0.5, and labels"),
    "many values": (lambda a: np.arange(a.size).reshape(a.shape).astype(np.int32), ACDC, 4, "no label map"),
    "heart rate": (lambda a: a, (*ACDC, "--heart-rate", "7"), 2, "beats per minute"),
    "output name": (lambda a: a, (*ACDC, "--plot", "x.gif"), 2, ".png"),
    "a cine of one slice": (lambda a: a[:, :, 4:5].astype(np.float32) * 77.7 + np.arange(20, dtype=np.float32), (), 4,
                            "1 slice, and volumes by discs need 3"),
    "a cine with NaN": (lambda a: np.where(a == 3, np.nan, np.arange(180).reshape(9, 20)).astype(np.float32), (), 4,
                        "NaN or infinite voxels"),
}  # fmt: skip
"""Change of the labels of a beating heart, options, exit code, words of the message."""


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_a_line_and_nothing_is_written(crnn, beating, tmp_path, case):
    change, options, code, words = BAD[case]
    path = write(tmp_path / "labels.nii.gz", change(beating.array), beating.affine)
    ended = crnn("function", path, *options, "-o", tmp_path / "f.json")
    assert (ended.code, words in ended.err) == (code, True), ended.err
    assert len([line for line in ended.err.splitlines() if line.startswith("error")]) == 1
    assert "weights of" not in ended.err  # before a model is asked for
    assert [each.name for each in tmp_path.iterdir()] == ["labels.nii.gz"]


SEGS = {
    "planes of another grid": (
        lambda d: d.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].__setattr__("PixelSpacing", ["2", "2"]),
        "pixel spacings differ",
    ),
    "planes of another direction": (
        lambda d: (
            d.SharedFunctionalGroupsSequence[0]
            .PlaneOrientationSequence[0]
            .__setattr__("ImageOrientationPatient", ["1", "0", "0", "0", "1", "0"])
        ),
        "directions differ",
    ),
    "of another matrix": (lambda d: d.__setattr__("Rows", 48), "differ in Rows"),
    "names of no ventricle": (
        lambda d: [s.__setattr__("SegmentLabel", "hippocampus") for s in d.SegmentSequence],
        "another structure",
    ),
}
"""Change of one of the objects, words of the message."""


@pytest.fixture(scope="module")
def segs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segs")
    return write_segs(write_cine(folder / "cine"), folder / "segs" / "seg.dcm").parent


@pytest.mark.parametrize("case", SEGS)
def test_segmentations_that_make_no_cine_are_refused(crnn, segs, tmp_path, case):
    change, words = SEGS[case]
    shutil.copytree(segs, tmp_path / "segs")
    data = pydicom.dcmread(tmp_path / "segs" / "seg_03.dcm")
    change(data)
    data.save_as(tmp_path / "segs" / "seg_03.dcm")
    ended = crnn("function", tmp_path / "segs", "-o", tmp_path / "f.json", "--sr", tmp_path / "sr.dcm")
    assert (ended.code, words in ended.err) == (4, True), ended.err
    assert [each.name for each in tmp_path.iterdir()] == ["segs"]


def test_segmentations_without_their_images_are_measured_as_far_as_they_go(crnn, segs, tmp_path):
    shutil.copytree(segs, tmp_path / "segs")
    found = json.loads(crnn("function", tmp_path / "segs", "--json").out)["quantities"]
    assert found["left"]["edv"]["value"] > 40
    assert found["heart"]["heart_rate"] == {
        "value": None, "unit": "/min", "reason": "the time between frames is not known",
    }  # fmt: skip
    given = json.loads(crnn("function", tmp_path / "segs", "--heart-rate", 60, "--json").out)["quantities"]
    assert given["heart"]["cardiac_output"]["value"] == pytest.approx(0.06 * found["left"]["stroke_volume"]["value"])


def test_no_time_is_missed_where_the_images_state_it(crnn, segs):
    report = json.loads(crnn("function", segs, "--image", segs.parent / "cine", "--json").out)
    assert "no-frame-time" not in [each["code"] for each in report["doubts"]]
    assert "frame-time-source" in [each["code"] for each in report["facts"]]
    assert report["quantities"]["heart"]["heart_rate"]["value"] is not None


REFUSED = {
    "one frame": (lambda a: a[..., :1], "left ejection fraction", "one frame"),
    "three frames": (lambda a: a[..., [0, 5, 10]], "heart rate", "3 frames are too few"),
    "spacing lost": (lambda a: a, "left end-diastolic volume", "the file has lost it"),
    "right ventricle cut": (lambda a: a[16:], "right ejection fraction", "may be cut by the edge of the map"),
    "without a cavity in one frame": (
        lambda a: np.where((np.arange(20) == 7) & (a == 1), 0, a).astype(np.uint8),
        "right stroke volume",
        "not labelled in frame 8",
    ),
}
"""Change of the labels, number that is refused, words of its reason."""


def test_a_map_cropped_to_its_labels_is_measured_with_a_margin(crnn, beating, tmp_path):
    """Nobody knows whether a structure ends where its map does."""
    places = np.argwhere(beating.array.any(axis=(2, 3)))
    (x, y), (x_end, y_end) = places.min(axis=0), places.max(axis=0) + 1
    tight = beating.array[x:x_end, y:y_end]
    table = crnn("function", write(tmp_path / "tight.nii.gz", tight, beating.affine), *ACDC).out.decode()
    assert "a map cropped to its labels needs an empty margin" in " ".join(table.split())
    margin = np.pad(tight, ((1, 1), (1, 1), (0, 0), (0, 0)))
    table = crnn("function", write(tmp_path / "margin.nii.gz", margin, beating.affine), *ACDC).out.decode()
    assert "edge of the map" not in table


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_number_has_its_reason_in_the_table(crnn, beating, tmp_path, case):
    change, number, words = REFUSED[case]
    affine = np.eye(4) if case == "spacing lost" else beating.affine
    path = write(tmp_path / "labels.nii.gz", change(beating.array), affine)
    ended = crnn("function", path, *ACDC)
    table = " ".join(ended.out.decode().split())
    assert (ended.code, f"{number}" in table, words in table) == (0, True, True), table
    numbers = json.loads(crnn("function", path, *ACDC, "--json").out)["quantities"]
    if case == "spacing lost":
        assert numbers["left"]["ejection_fraction"]["value"] > 10
        assert numbers["left"]["edv"]["value"] is numbers["left"]["mass_ed"]["value"] is None
    strict = crnn("function", path, *ACDC, "--strict", "-o", tmp_path / "f.json")
    assert strict.code == 4, strict.err  # the muscle changes its volume, or one frame has no known phase
    assert not (tmp_path / "f.json").exists()


@pytest.mark.parametrize("order", [(3, 0, 1, 2), (3, 2, 1, 0)])
def test_a_first_axis_of_time_is_named(crnn, beating, tmp_path, order):
    path = write(tmp_path / "labels.nii.gz", np.ascontiguousarray(beating.array.transpose(order)), beating.affine)
    ended = crnn("function", path, *ACDC)
    assert ended.code == 4
    assert "looks like time" in ended.err


def test_strict_takes_doubts_for_errors(crnn, beating, tmp_path):
    order = np.random.default_rng(1).permutation(20)
    path = write(tmp_path / "shuffled.nii.gz", beating.array[..., order], beating.affine)
    assert crnn("function", path, "--labels", "acdc").code == 0
    ended = crnn("function", path, "--labels", "acdc", "--strict", "-o", tmp_path / "f.json")
    assert ended.code == 4
    assert not (tmp_path / "f.json").exists()


def test_half_a_cycle_is_doubted(crnn, beating, tmp_path):
    path = write(tmp_path / "half.nii.gz", beating.array[..., :10], beating.affine)
    report = json.loads(crnn("function", path, *ACDC, "--json").out)
    assert "cycle-not-covered" in [doubt["code"] for doubt in report["doubts"]]
    given = json.loads(crnn("function", path, *ACDC, "--ed", 1, "--es", 10, "--json").out)
    assert "cycle-not-covered" not in [doubt["code"] for doubt in given["doubts"]]


def test_python_gives_the_same_numbers(labels, beating):
    found = crnn_cli.function(labels, labels="acdc", height=180, weight=80)
    again = crnn_cli.function(beating, labels="acdc", height=180, weight=80)
    for side, values in again.quantities().items():
        for name, quantity in values.items():
            assert found.quantities()[side][name].value == pytest.approx(quantity.value, rel=1e-5), (side, name)
    assert again.quantities()["left"]["edv"].value > 50
