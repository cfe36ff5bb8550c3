"""``crnn function --page``: images of label maps, reliability of a reconstruction, and what is refused."""

import json
import re

import nibabel as nib
import numpy as np
import pytest

from crnn_cli.data.image import Image
from crnn_cli.io.dicom.seg import SegForm
from tests.cardiac.hearts import heart
from tests.report.test_page import parsed
from tests.support.cardiac_dicom import write_cine, write_segs
from tests.support.data import ROOT


@pytest.fixture(scope="module")
def beating():
    labels = heart(frames=8)
    shades = np.array([60, 160, 30, 230], np.float32)
    return labels, shades[labels.array] + np.arange(8, dtype=np.float32)


def write(path, array, affine):
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 0.04
    nib.save(image, path)
    return path


@pytest.fixture
def files(beating, tmp_path):
    labels, array = beating
    return write(tmp_path / "labels.nii.gz", labels.array, labels.affine), write(
        tmp_path / "cine.nii.gz", array, labels.affine
    )


def tables(page):
    """Rows of all tables by their first cell."""
    tree = parsed(page.read_text(), scripts=2)
    return {row[0].text: [cell.text for cell in row[1:]] for row in tree.iter("tr")}


def content(page):
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', page.read_text(), re.S)[1])


def test_the_page_has_the_numbers_of_the_report_and_where_it_is_from(crnn, files, tmp_path):
    page, out = tmp_path / "p.html", tmp_path / "f.json"
    ended = crnn("function", files[0], "--labels", "acdc", "--image", files[1], "--page", page, "-o", out)
    assert ended.code == 0, ended.err
    report, rows = json.loads(out.read_text()), tables(page)
    left, right = (report["quantities"][side]["edv"]["value"] for side in ("left", "right"))
    assert rows["end-diastolic volume"] == [f"{left:.0f} ml", f"{right:.0f} ml"]
    assert rows["sha256 of the images"] == [report["input"]["image_sha256"]]
    assert rows["sha256 of the input"] == [report["input"]["sha256"]]
    assert [
        sum(float(row[k] or 0) for name, row in rows.items() if (name or "").isdigit()) for k in (0, 2)
    ] == pytest.approx([left, right], abs=0.5)
    assert "segments of the AHA" in page.read_text()


def test_what_is_refused_and_doubtful_stands_in_the_page(crnn, beating, tmp_path):
    labels, _ = beating
    path = write(tmp_path / "lost.nii.gz", labels.array, np.eye(4))
    assert crnn("function", path, "--labels", "acdc", "--page", tmp_path / "p.html").code == 0
    text = (tmp_path / "p.html").read_text()
    assert "the file has lost it" in text
    assert "(unit-spacing)" in text
    assert "No images were given" in text


def test_images_stored_along_other_axes_are_turned_to_the_labels(crnn, beating, files, tmp_path):
    labels, array = beating
    turned = labels.affine.copy()
    turned[:3, 3] += turned[:3, 0] * (array.shape[0] - 1)
    turned[:3, 0] *= -1
    turned[:3, :2] = turned[:3, [1, 0]]
    other = write(tmp_path / "turned.nii.gz", np.flip(array, 0).transpose(1, 0, 2, 3), turned)
    pages = []
    for number, image in enumerate((files[1], other)):
        pages.append(tmp_path / f"{number}.html")
        assert crnn("function", files[0], "--labels", "acdc", "--image", image, "--page", pages[-1]).code == 0
    assert content(pages[0])["images"] == content(pages[1])["images"]


BAD = {
    "shifted": (lambda a, m: (a, shifted(m)), 4, "do not lie on one grid"),
    "fewer frames": (lambda a, m: (a[..., :4], m), 4, "do not lie on one grid"),
    "other size": (lambda a, m: (a[:50], m), 4, "do not lie on one grid"),
    "not a number": (lambda a, m: (np.where(a > 230, np.nan, a), m), 4, "other.nii.gz has 35544 NaN"),
}


def shifted(affine):
    moved = affine.copy()
    moved[:3, 3] += 3
    return moved


@pytest.mark.parametrize("case", BAD)
def test_images_that_do_not_fit_are_refused_and_nothing_is_written(crnn, beating, files, tmp_path, case):
    change, code, words = BAD[case]
    image = write(tmp_path / "other.nii.gz", *change(beating[1], beating[0].affine))
    before = {path.name for path in tmp_path.iterdir()}
    ended = crnn(
        "function",
        files[0],
        "--labels",
        "acdc",
        "--image",
        image,
        "--page",
        tmp_path / "p.html",
        "-o",
        tmp_path / "f.json",
    )
    assert (ended.code, words in ended.err) == (code, True), ended.err
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["LABELS", "--page", "p.pdf"], 2, ".html"),
        (["LABELS", "--page", "-"], 2, "name them"),
        (["LABELS", "--page", "LABELS"], 2, "is the input"),
        (["LABELS", "--image", "absent.nii"], 3, "does not exist"),
        (["LABELS", "--image", "CINE", "--page", "CINE"], 2, "is the input"),
        (["STACK", "--image", "CINE"], 2, "holds images itself"),
        (["LABELS", "--page", "no/p.html"], 1, "the folder no does not exist"),
        (["LABELS", "--out", "sidecar.json", "--force"], 1, "no report of this program"),
    ],
)
def test_what_cannot_be_is_refused_at_once(crnn, files, tmp_path, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sidecar.json").write_text('{"RepetitionTime": 2}')
    names = {"LABELS": files[0], "CINE": files[1], "STACK": ROOT / "sample_data/pig_stack.nii.gz"}
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    labels = () if arguments[0] == "STACK" else ("--labels", "acdc")
    ended = crnn("function", *(names.get(each, each) for each in arguments), *labels)
    assert (ended.code, words in ended.err) == (code, True), ended.err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept


def test_the_images_are_found_by_the_report_of_the_labels_if_they_are_the_same(crnn, files, tmp_path):
    import hashlib

    names = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
    sha256 = hashlib.sha256(files[1].read_bytes()).hexdigest()
    report = {
        "format": 2, "labels": [{"value": value, "name": name} for value, name in names.items()],
        "input": {"file": "elsewhere/cine.nii.gz", "sha256": sha256},
    }  # fmt: skip
    (tmp_path / "labels.json").write_text(json.dumps(report))
    page = tmp_path / "p.html"
    assert crnn("function", files[0], "--page", page).code == 0
    assert len(content(page)["images"]) == 9
    report["input"]["sha256"] = "0" * 64
    (tmp_path / "labels.json").write_text(json.dumps(report))
    assert crnn("function", files[0], "--page", page, "--force").code == 0
    assert content(page)["images"] == []


def test_the_page_says_how_reliable_the_reconstruction_is(crnn, tmp_path):
    images = tmp_path / "images.nii.gz"
    scan = ("--size", 64, "--frames", 8, "--slices", 3, "--undersample", 2)
    assert crnn("simulate", "-o", tmp_path / "s", *scan).code == 0
    arguments = ("--method", "sliding-window", "--hold-out-folds", 1, "-o", images)
    assert crnn("reconstruct", tmp_path / "s_zerofilled.nii.gz", *arguments).code == 0
    made = nib.load(images)
    array = np.zeros(made.shape, np.uint8)
    array[20:40, 20:40] = 3
    array[25:35, 25:35, :, 4:] = 0
    labels = write(tmp_path / "labels.nii.gz", array, made.affine)
    page = tmp_path / "p.html"
    command = ("function", labels, "--labels", "acdc", "--image", images, "--page", page, "--force")
    assert crnn(*command).code == 0
    report = json.loads((tmp_path / "images.json").read_text())
    rows = tables(page)
    assert rows["residual at the samples"][0].startswith(f"{report['reliability']['residual']['overall']:.2g} ")
    assert "frame by frame" in page.read_text()
    (tmp_path / "images.json").write_text(json.dumps(report | {"reliability": {"residual": []}}))
    ended = crnn(*command)
    assert (ended.code, "is damaged" in ended.err) == (0, True), ended.err
    (tmp_path / "images.json").write_text(json.dumps(report | {"output_sha256": "0" * 64}))
    assert crnn(*command).code == 0
    assert "residual at the samples" not in tables(page)


def test_a_seg_takes_slices_times_and_body_from_its_images(crnn, tmp_path):
    """Slices that a SEG leaves out have no labels; what a SEG does not hold is in the headers of the cine."""
    whole = heart(frames=8, frame_time=0.1)
    array = np.zeros((48, 48, 5, 8), np.uint8)
    array[:, :, 1:4] = whole.array[::2, ::2, 3:6]
    cine = write_cine(tmp_path / "cine", Image(array, whole.affine, 0.1))
    segs = write_segs(cine, tmp_path / "segs" / "seg.dcm", SegForm(whole_series=True)).parent
    alone = json.loads(crnn("function", segs, "--json").out)
    page = tmp_path / "p.html"
    ended = crnn("function", segs, "--image", cine, "--page", page, "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["quantities"]["left"]["edv"] == alone["quantities"]["left"]["edv"]
    assert alone["quantities"]["heart"]["heart_rate"]["value"] is None
    assert found["quantities"]["heart"]["heart_rate"]["value"] == pytest.approx(75, rel=0.01)
    assert found["body_surface_m2"] == pytest.approx(2)
    assert [len(content(page)[key]) for key in ("images", "labels", "numbers")] == [5, 5, 5]
    text = page.read_text() + json.dumps(found)
    for secret in ("Secret", "4711"):
        assert secret not in text
