"""``crnn function --runs``: runs of a reconstruction are labelled and measured, and what is refused."""

import csv
import json
import shutil
from hashlib import sha256

import nibabel as nib
import numpy as np
import pytest

import crnn_cli
from crnn_cli.segmentation.segment import Segmentation
from tests.cardiac.hearts import heart, oblique
from tests.support.cardiac_dicom import write_cine
from tests.support.data import ROOT

FRAMES = 4
BEAT = 1 - 0.3 * np.sin(np.pi * np.arange(FRAMES) / FRAMES) ** 2
SHADES = np.array([60, 160, 30, 230], np.float32)
CHANGES = (0.02, -0.01, 0.02, -0.03)
"""Of the radius in end systole, in each run."""


def images(change=0.0):
    """A beating heart in shades of grey, in which the cavities are so much wider in end systole."""
    beat = BEAT * np.where(np.arange(FRAMES) == FRAMES // 2, 1 + change, 1)
    ramp = np.linspace(0, 12, 96, dtype=np.float32)[:, None, None, None]
    return SHADES[heart(frames=FRAMES, beat=beat).array[:, :, :4]] + ramp


@pytest.fixture(scope="module")
def hearts():
    return [images(change) for change in (0.0, *CHANGES)]


@pytest.fixture(autouse=True)
def network(monkeypatch):
    """Labels by the shade, in place of the network; every call is counted."""
    calls = []

    def by_shade(image, *_, progress, **__):
        calls.append(image.shape)
        progress(1, 1)
        brighter = 20 if image.array.max() > 1000 else 1
        labels = np.abs(image.array[..., None] / brighter - SHADES).argmin(-1).astype(np.uint8)
        return Segmentation(labels, None, ((0.95,) * 3,) * FRAMES)

    monkeypatch.setattr("crnn_cli.segmentation.segment.segment", by_shade)
    return calls


def write(path, array, affine=None):
    image = nib.Nifti1Image(array, oblique() if affine is None else affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 0.15
    nib.save(image, path)
    return path


def write_runs(folder, arrays, cine=None, **facts):
    folder.mkdir()
    for number, array in enumerate(arrays, start=1):
        write(folder / f"run_{number:02d}.nii.gz", array)
    digest = None if cine is None else sha256(cine.read_bytes()).hexdigest()
    known = {"images_sha256": digest, "runs": len(arrays), "left_out": 0.25}
    (folder / "runs.json").write_text(json.dumps(known | facts))
    return folder


@pytest.fixture(scope="module")
def written(hearts, tmp_path_factory):
    """A folder of a cine and its runs, which tests get as copies."""
    folder = tmp_path_factory.mktemp("written")
    write_runs(folder / "runs", hearts[1:], write(folder / "cine.nii.gz", hearts[0]))
    return folder


@pytest.fixture
def cine(written, tmp_path):
    return shutil.copy(written / "cine.nii.gz", tmp_path / "cine.nii.gz")


@pytest.fixture
def runs(written, tmp_path):
    return shutil.copytree(written / "runs", tmp_path / "runs")


def model_with(folder, intervals):
    """The published model with other limits."""
    shutil.copytree(ROOT / "models/cardiac-sax-clstm", folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("intervals", None)
    (folder / "config.json").write_text(json.dumps(config | intervals))
    return folder


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    """A model with limits of the left ventricle alone."""
    limits = {"left.ejection_fraction": 5.0, "left.edv": 6.0}
    known = {"level": 0.9, "group_level": 0.8, "patients": 25, "least_doubt": 0.05, "limits": limits}
    return model_with(tmp_path_factory.mktemp("models") / "limited", {"intervals": known})


def test_the_report_says_which_part_comes_from_where(crnn, cine, runs, limited, network, tmp_path):
    out, table = tmp_path / "f.json", tmp_path / "f.csv"
    ended = crnn("function", cine, "--runs", runs, "--model", limited, "-o", out, "--csv", table)
    assert ended.code == 0, ended.err
    assert len(network) == 5
    report = json.loads(out.read_text())
    fraction = report["quantities"]["left"]["ejection_fraction"]
    alone = [crnn_cli.function(f"{runs}/run_{number:02d}.nii.gz", ed=1, es=3) for number in range(1, 5)]
    changes = [each.numbers()["left.ejection_fraction"] - fraction["value"] for each in alone]
    half = 2.3534 * np.sqrt(3 * np.mean(np.square(changes)))
    assert fraction["parts"]["reconstruction"] == pytest.approx(half, rel=1e-3)
    without = crnn("function", cine, "--model", limited, "--json")
    assert ended.err == without.err  # what is doubtful is told once
    plain = json.loads(without.out)
    labels = plain["quantities"]["left"]["ejection_fraction"]
    assert labels["parts"] == {"labels": fraction["parts"]["labels"]}
    assert labels["value"] == fraction["value"]
    assert fraction["high"] - fraction["value"] == pytest.approx(np.hypot(*fraction["parts"].values()), rel=1e-4)
    (row,) = csv.DictReader(table.open())
    assert float(row["left_ejection_fraction_percent_reconstruction"]) == fraction["parts"]["reconstruction"]
    shown = " ".join(ended.out.decode().split())
    assert f"labels {fraction['parts']['labels']:.1f}, reconstruction {half:.1f})" in shown
    assert report["input"]["runs"] == str(runs)
    assert {each["code"] for each in report["doubts"]} == {each["code"] for each in plain["doubts"]}


def test_runs_that_equal_the_images_add_nothing_and_one_file_is_that_of_memory(crnn, hearts, cine, limited, tmp_path):
    same = write_runs(tmp_path / "same", [hearts[0]] * 4, cine)
    found = json.loads(crnn("function", cine, "--runs", same, "--model", limited, "--json").out)
    fraction = found["quantities"]["left"]["ejection_fraction"]
    assert fraction["parts"]["reconstruction"] == 0
    assert fraction["high"] == pytest.approx(fraction["value"] + fraction["parts"]["labels"], rel=1e-5)
    others = [crnn_cli.load(write(tmp_path / f"{k}.nii.gz", each)) for k, each in enumerate(hearts[1:])]
    calls = []
    kept = crnn_cli.function(crnn_cli.load(cine), runs=others, model=limited, progress=lambda *step: calls.append(step))
    named = crnn_cli.function(cine, runs=[tmp_path / f"{k}.nii.gz" for k in range(4)], model=limited)
    assert kept.quantities() == named.quantities()
    assert kept.quantities()["left"]["ejection_fraction"].parts["reconstruction"] > 1
    assert calls == [(done, 5) for done in range(1, 6)]


def test_a_model_without_limits_gives_the_reconstruction_alone(crnn, cine, runs, tmp_path):
    model = ("--model", model_with(tmp_path / "model", {}))
    report = json.loads(crnn("function", cine, "--runs", runs, *model, "--json").out)
    assert report["intervals"]["parts"] == ["reconstruction"]
    assert {*report["quantities"]["right"]["ejection_fraction"]["parts"]} == {"reconstruction"}
    assert "reconstruction alone" in " ".join(crnn("function", cine, "--runs", runs, *model).out.decode().split())


def test_runs_along_other_axes_are_turned(crnn, hearts, cine, runs, tmp_path):
    straight = json.loads(crnn("function", cine, "--runs", runs, "--json").out)
    affine = oblique()
    affine[:3, 3] += affine[:3, 0] * (hearts[1].shape[0] - 1)
    affine[:3, 0] *= -1
    write(runs / "run_01.nii.gz", np.flip(hearts[1], 0), affine)
    turned = json.loads(crnn("function", cine, "--runs", runs, "--json").out)
    assert turned["quantities"] == straight["quantities"]


def test_a_run_without_a_number_leaves_it_without_an_interval(crnn, hearts, cine, limited, tmp_path):
    hole = hearts[1].copy()
    hole[..., 0] = np.where(np.abs(hole[..., 0] - 166) < 10, 60, hole[..., 0])  # no right ventricle in end diastole
    folder = write_runs(tmp_path / "runs", [hole, *hearts[2:]], cine)
    ended = crnn("function", cine, "--runs", folder, "--model", limited, "--json")
    found = json.loads(ended.out)["quantities"]
    assert "parts" not in found["right"]["ejection_fraction"]
    assert "reconstruction" in found["left"]["ejection_fraction"]["parts"]
    assert "1 of 4 runs of the reconstruction lack right end-diastolic volume" in ended.err


def change_runs(change):
    def do(folder):
        for path in folder.glob("run_*"):
            image = nib.load(path)
            write(path, *change(np.asarray(image.dataobj), image.affine))

    return do


def shifted(array, affine):
    affine[:3, 3] += 3
    return array, affine


def in_one(value):
    def do(folder):
        array = np.asarray(nib.load(folder / "run_04.nii.gz").dataobj).copy()
        array[3, 3, 3, 3] = value
        write(folder / "run_04.nii.gz", array)

    return do


def rewrite(**facts):
    def do(folder):
        known = json.loads((folder / "runs.json").read_text())
        (folder / "runs.json").write_text(json.dumps(known | facts))

    return do


def few(folder):
    (folder / "run_04.nii.gz").unlink()
    rewrite(runs=3)(folder)


BAD = {
    "shifted": (change_runs(shifted), 4, "do not lie on one grid"),
    "other frames": (change_runs(lambda a, m: (a[..., :3], m)), 4, "x 3) and the images"),
    "other size": (change_runs(lambda a, m: (a[:50], m)), 4, "do not lie on one grid"),
    "NaN": (in_one(np.nan), 4, "run_04.nii.gz has 1 NaN or infinite voxels"),
    "infinite": (in_one(np.inf), 4, "run_04.nii.gz has 1 NaN or infinite voxels"),
    "one run lost": (lambda f: (f / "run_02.nii.gz").unlink(), 3, "holds 3 of 4 runs"),
    "too few": (few, 4, "3 runs say too little"),
    "of other images": (rewrite(images_sha256="0" * 64), 4, "are of other images"),
    "no heart in a run": (
        lambda f: write(f / "run_03.nii.gz", np.full((96, 96, 4, FRAMES), 60.0, np.float32)), 4, "no heart was found in"
    ),
    "a heart that stands the other way": (
        lambda f: write(f / "run_03.nii.gz", np.roll(images(), 2, -1)), 4, "no larger in frame 1 than in frame 3"
    ),
    "no folder": (shutil.rmtree, 3, "does not exist"),
    "no facts": (lambda f: (f / "runs.json").unlink(), 3, "is no folder of runs"),
    "damaged facts": (lambda f: (f / "runs.json").write_text('{"runs": 4}'), 3, "is damaged"),
    "facts of another kind": (lambda f: (f / "runs.json").write_text("[1]"), 3, "is damaged"),
    "a share that cannot be": (rewrite(left_out=0), 3, "is damaged"),
    "a damaged run": (lambda f: (f / "run_01.nii.gz").write_bytes(b"x"), 3, "run_01.nii.gz"),
}  # fmt: skip
"""Change of the folder of runs, exit code, words of the message."""


@pytest.mark.parametrize("case", BAD)
def test_runs_that_do_not_fit_are_refused_in_a_line_and_nothing_is_written(crnn, cine, runs, network, tmp_path, case):
    change, code, words = BAD[case]
    change(runs)
    before = {path.name for path in tmp_path.iterdir()}
    ended = crnn("function", cine, "--runs", runs, "-o", tmp_path / "f.json", "--page", tmp_path / "p.html")
    assert (ended.code, words in ended.err) == (code, True), ended.err
    assert len([line for line in ended.err.splitlines() if line.startswith("error")]) == 1
    assert "Traceback" not in ended.err
    assert {path.name for path in tmp_path.iterdir()} == before
    assert bool(network) == (case in ("no heart in a run", "a heart that stands the other way"))


def test_runs_belong_to_images_and_not_to_labels(crnn, cine, runs, tmp_path):
    labels = write(tmp_path / "labels.nii.gz", heart(frames=FRAMES, beat=BEAT).array[:, :, :4])
    ended = crnn("function", labels, "--labels", "acdc", "--runs", runs)
    assert (ended.code, "--runs belongs to images" in ended.err) == (2, True), ended.err
    for given in (crnn_cli.load(labels), labels):
        with pytest.raises(crnn_cli.CrnnError, match="runs belongs to images"):
            crnn_cli.function(given, labels="acdc", runs=[crnn_cli.load(cine)] * 4)
    with pytest.raises(crnn_cli.CrnnError, match="0 runs say too little"):
        crnn_cli.function(cine, runs=[])


def test_a_batch_takes_the_runs_of_each_and_none_for_a_case(crnn, hearts, limited, tmp_path):
    studies = tmp_path / "in"
    studies.mkdir()
    for name in "ab":
        cine = write(studies / f"{name}.nii.gz", hearts[0])
        write_runs(studies / f"{name}_runs", hearts[1:], cine)
    arguments = ("batch", "function", studies, "-o", tmp_path / "out", "--model", limited)
    ended = crnn(*arguments, "--runs", f"{studies}/{{name}}_runs", "--json")
    assert ended.code == 0, ended.err
    assert sorted(path.name for path in (tmp_path / "out").glob("*_function.json")) == [
        "a_function.json", "b_function.json",
    ]  # fmt: skip
    again = crnn(*arguments, "--runs", f"{studies}/{{name}}_runs", "--json", "--resume")
    assert [json.loads(line)["status"] for line in again.out.decode().splitlines()] == ["skipped"] * 2
    write(studies / "a_runs" / "run_01.nii.gz", hearts[2])
    again = crnn(*arguments, "--runs", f"{studies}/{{name}}_runs", "--json", "--resume")
    assert sorted(json.loads(line)["status"] for line in again.out.decode().splitlines()) == ["done", "skipped"]


def test_page_and_structured_report_have_the_interval_of_both_parts(crnn, hearts, limited, tmp_path):
    import pydicom

    from crnn_cli.io.images import load_image

    shown = crnn_cli.Image(20 * hearts[0], oblique(), 0.15)
    source = write_cine(tmp_path / "cine", shown)
    opened = load_image(source)
    folder = write_runs(tmp_path / "runs", hearts[1:], images_sha256=opened.source["sha256"])
    for path, array in zip(sorted(folder.glob("run_*")), hearts[1:], strict=True):
        write(path, array, opened.image.affine)
    targets = {key: tmp_path / f"out.{key}" for key in ("json", "html", "dcm")}
    files = ("-o", targets["json"], "--page", targets["html"], "--sr", targets["dcm"])
    ended = crnn("function", source, "--runs", folder, "--model", limited, *files)
    assert ended.code == 0, ended.err
    fraction = json.loads(targets["json"].read_text())["quantities"]["left"]["ejection_fraction"]
    parts = ", ".join(f"{name} {half:.1f}" for name, half in fraction["parts"].items())
    assert f"({fraction['low']:.0f} to {fraction['high']:.0f}; {parts})" in targets["html"].read_text()
    numbers = {
        float(element.value)
        for element in pydicom.dcmread(targets["dcm"]).iterall()
        if element.keyword == "NumericValue"
    }
    assert min(abs(number - (fraction["high"] - fraction["value"])) for number in numbers) < 1e-4
