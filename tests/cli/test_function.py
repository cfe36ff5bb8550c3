"""The command `crnn function`: outputs, sources, and what is refused."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest

import crnn_cli
from tests.cardiac.hearts import heart
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


BAD = {
    "names unknown": (lambda a: a, (), 4, "no label that is called a ventricle"),
    "one value named twice": (lambda a: a, ("--labels", "1=LV,1=RV"), 2, "twice"),
    "no heart": (lambda a: np.where(a == 2, 2, 0).astype(np.uint8), ("--labels", "acdc"), 4, "no frame has a label"),
    "no such frame": (lambda a: a, ("--labels", "acdc", "--ed", "21"), 2, "the frames are 1 to 20"),
    "height alone": (lambda a: a, ("--labels", "acdc", "--height", "180"), 2, "belong together"),
    "height in metres": (lambda a: a, ("--labels", "acdc", "--height", "1.8", "--weight", "80"), 2, "cm and kg"),
    "formula": (lambda a: a, ("--labels", "acdc", "--bsa", "mine"), 2, "mosteller or dubois"),
    "not a number": (lambda a: np.where(a > 2, np.nan, a).astype(np.float32), ("--labels", "acdc"), 4, "label map"),
    "heart rate": (lambda a: a, ("--labels", "acdc", "--heart-rate", "7"), 2, "beats per minute"),
    "output name": (lambda a: a, ("--labels", "acdc", "--plot", "x.gif"), 2, ".png"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_a_line_and_nothing_is_written(crnn, beating, tmp_path, case):
    change, options, code, words = BAD[case]
    path = write(tmp_path / "labels.nii.gz", change(beating.array), beating.affine)
    ended = crnn("function", path, *options, "-o", tmp_path / "f.json")
    assert (ended.code, words in ended.err) == (code, True), ended.err
    assert [each.name for each in tmp_path.iterdir()] == ["labels.nii.gz"]


def test_what_is_refused_stands_in_the_table_with_its_reason(crnn, beating, tmp_path):
    path = write(tmp_path / "one.nii.gz", beating.array[:, :, 4:5], beating.affine)
    ended = crnn("function", path, "--labels", "acdc")
    assert ended.code == 0
    assert "volumes by discs need 3" in " ".join(ended.out.decode().split())


def test_strict_takes_doubts_for_errors(crnn, beating, tmp_path):
    order = np.random.default_rng(1).permutation(20)
    path = write(tmp_path / "shuffled.nii.gz", beating.array[..., order], beating.affine)
    assert crnn("function", path, "--labels", "acdc").code == 0
    ended = crnn("function", path, "--labels", "acdc", "--strict", "-o", tmp_path / "f.json")
    assert ended.code == 4
    assert not (tmp_path / "f.json").exists()


def test_python_gives_the_same_numbers(labels, beating):
    found = crnn_cli.function(labels, labels="acdc", height=180, weight=80)
    again = crnn_cli.function(beating, labels="acdc", height=180, weight=80)
    for side, values in again.quantities().items():
        for name, quantity in values.items():
            assert found.quantities()[side][name].value == pytest.approx(quantity.value, rel=1e-5), (side, name)
    assert again.quantities()["left"]["edv"].value > 50
