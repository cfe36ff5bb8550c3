"""Labelled volumes in DICOM are found, checked and learned from like NIfTI, their labels brought onto their axes."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from crnn_cli.bundles.store import find_bundle
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.training.datasets.checks import check_cines, check_labelled
from crnn_cli.training.datasets.sets import LabelledSet, Pair, find_labelled, load_pair
from crnn_cli.training.session import digest_of_files
from tests.support.cines import save
from tests.support.dicom import oblique, values, write_series
from tests.training.datasets.test_sets import arrays, manifest, told, touch

OTHERWISE = [((0, 1, 2), ()), ((0, 1, 2), (1,)), ((0, 1, 2), (0, 2)), ((1, 0, 2), (2,)), ((2, 0, 1), (0, 1))]


def write_volume(folder, seed=0, directions=None, **more):
    """Write one volume, its intensity from its labels; return its values and labels (x, y, z), and the affine."""
    image, labels = arrays(seed)
    pixels = np.rint(image * 20)
    affine = write_series(folder, pixels.transpose(2, 1, 0)[:, None], directions, (1.25, 1.0), 4.0, **more)
    return pixels, labels, affine


def stored(array, affine, order, flips):
    """Return an array with its axes in another order and direction, and the affine that keeps it in its place."""
    array, affine = array.transpose(order), affine[:, [*order, 3]].copy()
    for axis in flips:
        array = np.flip(array, axis)
        affine[:, 3] += affine[:, axis] * (array.shape[axis] - 1)
        affine[:, axis] *= -1
    return array, affine


@pytest.fixture
def decathlon(tmp_path):
    """Return a folder of five volumes in DICOM, the labels stored with flipped rows as dcm2niix leaves them."""
    folder = tmp_path / "Task98"
    (folder / "labelsTr").mkdir(parents=True)
    for k in range(5):
        _, labels, affine = write_volume(folder / "imagesTr" / f"v{k}", k, oblique(k))
        array, turned = stored(labels, affine, (0, 1, 2), (1,))
        save(folder / "labelsTr" / f"v{k}.nii.gz", array, affine=turned)
    return folder


def test_folders_of_dicom_lie_beside_labels(decathlon):
    (decathlon / "imagesTr" / "notes").mkdir()
    touch(decathlon, "imagesTr/notes/readme.txt", "imagesTr/.hidden/x.dcm")
    found = find_labelled(decathlon)
    assert [(p.name, p.subject, p.image.name) for p in found.pairs] == [(f"v{k}",) * 3 for k in range(5)]
    assert not found.problems
    checked = check_labelled(found, 3)
    assert not any(c.problems + c.notes for c in checked)
    assert {(c.shape, c.values) for c in checked} == {((16, 12, 5), (0, 1, 2))}
    np.testing.assert_allclose(checked[0].spacing, (1, 1.25, 4), rtol=1e-6)


def test_a_case_may_lie_deeper_and_be_one_of_both_kinds(tmp_path):
    write_volume(tmp_path / "images" / "a" / "study" / "series")
    touch(tmp_path, "images/b.nii.gz", "labels/a.nii.gz", "labels/b.nii.gz", "labels/c.nii.gz")
    write_volume(tmp_path / "images" / "b")
    write_volume(tmp_path / "images" / "d")
    found = find_labelled(tmp_path)
    assert [p.name for p in found.pairs] == ["a", "b"]
    assert told(found.problems) == [
        ("c", "labels/c.nii.gz has no image in images/"),
        ("d", "images/d has no labels in labels/"),
        ("b", "images/ holds both b and b.nii.gz; keep one of them"),
    ]


def test_a_manifest_names_folders_zips_and_files(tmp_path):
    for name in ("a", "b", "c"):
        write_volume(tmp_path / "scans" / name)
    shutil.make_archive(str(tmp_path / "scans" / "b"), "zip", tmp_path / "scans" / "b")
    one = next((tmp_path / "scans" / "c").iterdir())
    touch(tmp_path, "a.nii", "b.nii", "c.nii")
    rows = [
        "scans/a/,a.nii",
        "scans/b.zip,b.nii",
        f"{one.relative_to(tmp_path)},c.nii",
        "scans/c,scans/a",
        "scans/a,b.nii",
    ]
    found = find_labelled(manifest(tmp_path, "\n".join(["image,label", *rows, "scans/gone,c.nii"])))
    assert [p.image for p in found.pairs] == [tmp_path / "scans" / "a", tmp_path / "scans" / "b.zip", one]
    assert [p.name for p in found.pairs] == ["a", "b.zip", one.name]
    assert told(found.problems) == [
        ("line 5", "scans/a is a folder; labels are a NIfTI file"),
        ("line 6", "scans/a is in line 2 already"),
        ("line 7", "scans/gone does not exist"),
    ]


@pytest.mark.parametrize("kind", ["dicom", "nifti"])
@pytest.mark.parametrize(("order", "flips"), OTHERWISE)
def test_labels_come_onto_the_axes_of_the_image(tmp_path, order, flips, kind):
    pixels, labels, affine = write_volume(tmp_path / "v", 3, oblique(7))
    array, turned = stored(labels, affine, order, flips)
    image = tmp_path / "v" if kind == "dicom" else save(tmp_path / "image.nii", pixels, affine=affine)
    pair = Pair("v", "v", image, save(tmp_path / "l.nii.gz", array, affine=turned))
    found, given = load_pair(pair)
    np.testing.assert_array_equal(found.array, pixels)
    np.testing.assert_array_equal(given, labels)
    np.testing.assert_allclose(found.affine, affine, atol=1e-4)
    assert (found.array.dtype, given.dtype) == (np.float32, np.uint8)
    assert not check_labelled(LabelledSet((pair,), {}, ""))[0].problems


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda a, m: (a, m + 0.02 * np.eye(4)[:, [3, 0, 0, 0]]), "first voxel lies"),
        (lambda a, m: (a, m @ np.diag([-1, 1, 1, 1])), "first voxel lies"),
        (lambda a, m: (a[:-1], m), "labels have 11 x 16 x 5 voxels"),
        (lambda a, m: (a, m @ np.diag([1, 1, 1.01, 1])), "the labels' voxels measure"),
    ],
)
def test_labels_that_lie_elsewhere_stay_refused(tmp_path, change, problem):
    _, labels, affine = write_volume(tmp_path / "v")
    array, turned = change(*stored(labels, affine, (1, 0, 2), (1,)))
    pair = Pair("v", "v", tmp_path / "v", save(tmp_path / "l.nii", array, affine=turned))
    with pytest.raises(UnsupportedDataError, match="another grid"):
        load_pair(pair)
    (checked,) = check_labelled(LabelledSet((pair,), {}, ""))
    assert any(problem in text for text in checked.problems), checked.problems


def test_what_is_wrong_with_series_is_told_like_anything_else(tmp_path):
    label = tmp_path / "l.nii"
    _, labels, affine = write_volume(tmp_path / "good")
    save(label, labels, affine=affine)
    for seed in (0, 1):
        write_volume(tmp_path / "two", seed, SeriesNumber=seed + 1)
    write_series(tmp_path / "cine", values(5, 3, 12, 16), None, (1.25, 1.0), 4.0)
    write_volume(tmp_path / "gap", skip={(2, 0)})
    write_volume(tmp_path / "cut")
    damaged = next((tmp_path / "cut").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-50])
    touch(tmp_path, "none/readme.txt")
    problems = {
        "good": "", "two": "two holds 2 DICOM series; one is taken", "cine": "series of 3 frames",
        "gap": "not evenly spaced", "cut": "damaged", "none": "holds no DICOM images",
    }  # fmt: skip
    pairs = tuple(Pair(name, name, tmp_path / name, label) for name in problems)
    for checked, problem in zip(check_labelled(LabelledSet(pairs, {}, "")), problems.values(), strict=True):
        assert bool(checked.problems) == bool(problem), checked.problems
        assert not problem or problem in checked.problems[0]
    assert "2 DICOM series" in check_cines([tmp_path / "two"])[0].problems[0]
    dicom_labels = Pair("x", "x", tmp_path / "good", next((tmp_path / "good").iterdir()))
    assert "not a NIfTI file" in check_labelled(LabelledSet((dicom_labels,), {}, ""))[0].problems[0]


def test_a_localizer_that_cannot_be_a_volume_does_not_stand_in_the_way(tmp_path):
    _, labels, affine = write_volume(tmp_path / "v")
    write_volume(tmp_path / "v", 1, SeriesNumber=9, skip={(2, 0)})
    pair = Pair("v", "v", tmp_path / "v", save(tmp_path / "l.nii", labels, affine=affine))
    assert not check_labelled(LabelledSet((pair,), {}, ""))[0].problems


def test_the_digest_of_a_folder_is_that_of_all_files_below_it(tmp_path):
    write_volume(tmp_path / "v" / "deep")
    before = digest_of_files([tmp_path / "v"])
    assert digest_of_files([tmp_path / "v"]) == before
    next((tmp_path / "v" / "deep").iterdir()).write_bytes(b"changed")
    assert digest_of_files([tmp_path / "v"]) != before


def test_a_folder_of_dicom_becomes_a_model(crnn, tmp_path, decathlon):
    pytest.importorskip("monai", reason="training of segmentation needs the extra train")
    from tests.cli.test_train import SMALL

    (tmp_path / "small.toml").write_text(SMALL)
    arguments = ("-o", tmp_path / "mine", "--config", tmp_path / "small.toml", "--epochs", 2)
    ended = crnn("train", "segment", decathlon, *arguments, "--json")
    assert ended.code == 0, ended.err
    assert "5 of 5 can be trained on" in ended.err
    assert set(json.loads(ended.out)["figures"]["dice"]) == {"label 1", "label 2"}
    assert find_bundle(str(tmp_path / "mine"), "segment").slices is not None
    ended = crnn("segment", decathlon / "imagesTr" / "v0", "--slices", "--model", tmp_path / "mine", "-o",
                 tmp_path / "labels.nii.gz")  # fmt: skip
    assert ended.code == 0, ended.err
    assert nib.load(tmp_path / "labels.nii.gz").shape == (16, 12, 5)
    write_volume(decathlon / "imagesTr" / "v2", 1, SeriesNumber=8)
    ended = crnn("train", "segment", decathlon, "-o", tmp_path / "other", "--config", tmp_path / "small.toml")
    assert ended.code == 4
    assert "holds 2 DICOM series" in " ".join(ended.err.split())
    assert not (tmp_path / "other").exists()
