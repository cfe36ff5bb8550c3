"""Training data is found in the layouts people have, divided by subject, and what is wrong with it is told at once."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.training.datasets.checks import check_cines, check_labelled
from crnn_cli.training.datasets.sets import (
    LabelledSet,
    Pair,
    find_cines,
    find_labelled,
    load_pair,
    split_pairs,
)
from crnn_cli.training.reconstruct.job import load_cines
from crnn_cli.training.reconstruct.run import split_cines
from crnn_cli.training.session import digest_of_files
from tests.support.cines import moving_cine, save
from tests.support.data import data_file
from tests.support.dicom import values, write_series

AFFINE = np.diag([1.0, 1.25, 4.0, 1])


def touch(folder, *names):
    """Make empty files, and the folders they lie in."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def describe(folder, **content):
    (folder / "dataset.json").write_text(json.dumps(content))


def manifest(folder, text):
    file = folder / "list.csv"
    file.write_text(text)
    return file


def told(problems):
    return [(p.name, p.text) for p in problems]


def pair_of(folder, image, labels, affine=AFFINE, label_affine=None):
    paths = folder / "v.nii.gz", folder / "v_gt.nii.gz"
    save(paths[0], image, affine=affine)
    save(paths[1], labels, affine=affine if label_affine is None else label_affine)
    return Pair("v", "s", *paths)


def arrays(seed=0):
    labels = np.zeros((16, 12, 5), np.uint8)
    labels[4:9, 3:8, 1:4], labels[9:12, 3:8, 2:4] = 1, 2
    return (50 * labels + np.random.default_rng(seed).random(labels.shape)).astype(np.float32), labels


# Layouts


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("suffix", ["", "Tr"])
def test_pairs_of_two_folders(tmp_path, suffix, ending):
    names = [f"{kind}{suffix}/{name}{ending}" for kind in ("images", "labels") for name in ("b", "a", "._a")]
    touch(tmp_path, *names, "imagesTs/c.nii.gz")
    found = find_labelled(tmp_path)
    assert found.layout.startswith(f"images{suffix}/ with labels{suffix}/")
    assert [(p.name, p.subject, p.split) for p in found.pairs] == [("a", "a", ""), ("b", "b", "")]
    assert found.pairs[0].image == tmp_path / f"images{suffix}" / f"a{ending}"
    assert found.pairs[0].labels == tmp_path / f"labels{suffix}" / f"a{ending}"
    assert not found.problems + found.notes
    assert not found.names


def test_pairs_of_a_folder_per_subject(tmp_path):
    for subject in ("p2", "p1"):
        names = ("f01.nii.gz", "f01_gt.nii.gz", "f12.nii.gz", "f12_gt.nii.gz", "info.cfg")
        touch(tmp_path, *(f"{subject}/{subject}_{name}" for name in names), f"{subject}/._x_gt.nii.gz")
    touch(tmp_path, ".cache/x.nii.gz", ".cache/x_gt.nii.gz")
    found = find_labelled(tmp_path)
    expected = [("p1_f01", "p1"), ("p1_f12", "p1"), ("p2_f01", "p2"), ("p2_f12", "p2")]
    assert [(p.name, p.subject) for p in found.pairs] == expected
    assert all(p.image == p.labels.with_name(f"{p.name}.nii.gz") for p in found.pairs)
    assert not found.problems + found.notes


def test_pairs_in_one_folder(tmp_path):
    touch(tmp_path, "b.nii", "b_gt.nii", "a.nii.gz", "a_gt.nii", ".c_gt.nii", "lone_gt.nii", "bare.nii.gz")
    found = find_labelled(tmp_path)
    assert [(p.name, p.subject) for p in found.pairs] == [("a", "a"), ("b", "b")]
    assert found.pairs[0].image == tmp_path / "a.nii.gz"
    assert [p.name for p in found.problems] == ["lone", "bare"]


def test_names_are_unique(tmp_path):
    """Volumes are told apart by name in tables; where files of subjects are called the same, the folder is added."""
    touch(tmp_path, *(f"{p}/{kind}.nii.gz" for p in ("p1", "p2") for kind in ("ed", "ed_gt")))
    assert [(p.name, p.subject) for p in find_labelled(tmp_path).pairs] == [("p1/ed", "p1"), ("p2/ed", "p2")]
    file = manifest(tmp_path, "image,label\np1/ed.nii.gz,p1/ed_gt.nii.gz\np2/ed.nii.gz,p2/ed_gt.nii.gz\n")
    assert [(p.name, p.subject) for p in find_labelled(file).pairs] == [("p1/ed", "p1/ed"), ("p2/ed", "p2/ed")]


@pytest.mark.parametrize("suffix", ["", "Tr"])
def test_images_and_labels_without_each_other_are_all_told(tmp_path, suffix):
    images, labels = f"images{suffix}", f"labels{suffix}"
    touch(tmp_path, *(f"{images}/{n}.nii.gz" for n in "abcd"), *(f"{labels}/{n}.nii.gz" for n in "acef"))
    found = find_labelled(tmp_path)
    assert [p.name for p in found.pairs] == ["a", "c"]
    assert told(found.problems) == [
        ("e", f"{labels}/e.nii.gz has no image in {images}/"),
        ("f", f"{labels}/f.nii.gz has no image in {images}/"),
        ("b", f"{images}/b.nii.gz has no labels in {labels}/"),
        ("d", f"{images}/d.nii.gz has no labels in {labels}/"),
    ]


def test_a_subject_without_labels_is_a_problem_a_cine_beside_labelled_frames_is_not(tmp_path):
    touch(tmp_path, "p1/f.nii.gz", "p1/f_gt.nii.gz", "p1/4d.nii.gz", "p2/f.nii.gz", "p3/g_gt.nii.gz")
    found = find_labelled(tmp_path)
    assert [p.name for p in found.pairs] == ["f"]
    assert told(found.problems) == [
        ("p2/f", "f.nii.gz has no labels f_gt.nii.gz beside it"),
        ("p3/g", "g_gt.nii.gz has no image g.nii.gz beside it"),
    ]
    assert told(found.notes) == [("p1/4d", "4d.nii.gz has no labels 4d_gt.nii.gz beside it")]


def test_the_same_name_with_both_endings_is_a_problem(tmp_path):
    touch(tmp_path, "images/a.nii", "images/a.nii.gz", "labels/a.nii.gz")
    found = find_labelled(tmp_path)
    assert found.pairs[0].image.name == "a.nii.gz"
    assert told(found.problems) == [("a", "images/ holds both a.nii and a.nii.gz; keep one of them")]


def test_two_layouts_at_once_are_refused(tmp_path):
    touch(tmp_path, *(f"{k}/a.nii.gz" for k in ("images", "labels")))
    find_labelled(tmp_path)
    touch(tmp_path, "b.nii.gz", "b_gt.nii.gz")
    with pytest.raises(UnsupportedDataError, match="two ways"):
        find_labelled(tmp_path)


def test_where_nothing_fits_the_message_says_what_was_looked_for(tmp_path):
    with pytest.raises(UnreadableError, match="is empty"):
        find_labelled(tmp_path)
    with pytest.raises(UnreadableError, match="does not exist"):
        find_labelled(tmp_path / "absent")
    touch(tmp_path, "imagesTr/a.nii.gz", "note.txt")
    with pytest.raises(UnreadableError, match=r"(?s)imagesTr/ with labelsTr/.*_gt.*image,label"):
        find_labelled(tmp_path)
    with pytest.raises(UnreadableError, match="neither a folder nor a CSV"):
        find_labelled(tmp_path / "note.txt")
    touch(tmp_path, "labelsTr/b.nii.gz")
    with pytest.raises(UnreadableError, match=r"no image with labels: b: .*; a: "):
        find_labelled(tmp_path)


@pytest.mark.parametrize(("name", "count", "subjects"), [("hippocampus", 200, 200), ("acdc_labelled", 40, 20)])
def test_real_data_is_found_and_nothing_is_wrong_with_it(name, count, subjects):
    found = find_labelled(data_file(name))
    assert len(found.pairs) == count
    assert len({p.subject for p in found.pairs}) == subjects
    assert found.pairs == tuple(sorted(found.pairs, key=lambda p: p.labels))
    assert not found.problems + found.notes
    checked = check_labelled(LabelledSet(found.pairs[:3], {}, ""), 4)
    assert [c.name for c in checked] == [p.name for p in found.pairs[:3]]
    assert not any(c.problems for c in checked)
    assert all(len(c.values) > 2 for c in checked)


# dataset.json


DIALECTS = [{"0": "background", "1": "Anterior", "2": "Posterior"}, {"background": 0, "Anterior": 1, "Posterior": 2}]


@pytest.mark.parametrize("labels", DIALECTS)
def test_both_dialects_name_the_labels(tmp_path, labels):
    touch(tmp_path, "imagesTr/a.nii.gz", "labelsTr/a.nii.gz")
    describe(tmp_path, labels=labels, modality={"0": "MRI"})
    assert find_labelled(tmp_path).names == {1: "Anterior", 2: "Posterior"}


def test_nnunet_names_its_channel(tmp_path):
    touch(tmp_path, *(f"imagesTr/{n}_0000.nii.gz" for n in ("h_2", "h_1", "h_3")))
    touch(tmp_path, "labelsTr/h_2.nii.gz", "labelsTr/h_1.nii.gz", "labelsTr/h_3.nii")
    describe(tmp_path, channel_names={"0": "MRI"}, labels={"background": 0, "x": 1}, file_ending=".nii.gz")
    found = find_labelled(tmp_path)
    assert [(p.name, p.image.name) for p in found.pairs] == [("h_1", "h_1_0000.nii.gz"), ("h_2", "h_2_0000.nii.gz")]
    assert [p.name for p in found.problems] == ["h_3_0000"]  # its labels do not have the ending that is declared


def test_names_that_end_like_channels_are_names_first(tmp_path):
    touch(tmp_path, *(f"{kind}/{n}.nii.gz" for kind in ("images", "labels") for n in ("a_0000", "a_0001", "b_0001")))
    assert [p.name for p in find_labelled(tmp_path).pairs] == ["a_0000", "a_0001", "b_0001"]
    touch(tmp_path, "labels/a.nii.gz")  # the labels of a must not go to an image that has its own
    found = find_labelled(tmp_path)
    assert [(p.name, p.image.name) for p in found.pairs] == [
        (name, f"{name}.nii.gz") for name in ("a_0000", "a_0001", "b_0001")
    ]
    assert [p.name for p in found.problems] == ["a"]
    (tmp_path / "labels" / "a_0000.nii.gz").unlink()  # now it may, and a_0001 is no second channel
    assert [(p.name, p.image.name) for p in find_labelled(tmp_path).pairs][:2] == [
        ("a", "a_0000.nii.gz"),
        ("a_0001", "a_0001.nii.gz"),
    ]


def test_several_channels_are_refused(tmp_path):
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    for key in ("channel_names", "modality"):
        describe(tmp_path, **{key: {"0": "T2", "1": "ADC"}})
        with pytest.raises(UnsupportedDataError, match="single-channel images are trained on"):
            find_labelled(tmp_path)
    (tmp_path / "dataset.json").unlink()
    assert len(find_labelled(tmp_path).pairs) == 1
    touch(tmp_path, "imagesTr/a_0001.nii.gz")
    with pytest.raises(UnsupportedDataError, match="single-channel images are trained on"):
        find_labelled(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"labels": {"background": 0, "whole": [1, 2], "core": 2}}, "regions"),
        ({"labels": {"background": 0, "a": 1, "ignore": 2}}, "ignore"),
        ({"labels": {}, "file_ending": ".nrrd"}, r"\.nrrd"),
    ],
)
def test_descriptions_of_what_cannot_be_learned_are_refused(tmp_path, content, message):
    touch(tmp_path, "imagesTr/a.nii.gz", "labelsTr/a.nii.gz")
    describe(tmp_path, **content)
    with pytest.raises(UnsupportedDataError, match=message):
        find_labelled(tmp_path)


@pytest.mark.parametrize(
    "labels",
    [{"1": 2.5}, {"a": "b"}, ["a"], {"a": 1, "b": 1}, {"1": "a", "2": "a"}, {"1": " "}, {"a": 256}, {"a": True}],
)
def test_labels_in_neither_dialect_are_refused(tmp_path, labels):
    touch(tmp_path, "imagesTr/a.nii.gz", "labelsTr/a.nii.gz")
    describe(tmp_path, labels=labels)
    with pytest.raises(UnreadableError, match=r"dataset\.json"):
        find_labelled(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000])
def test_a_broken_description_is_refused(tmp_path, text):
    touch(tmp_path, "imagesTr/a.nii.gz", "labelsTr/a.nii.gz")
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(UnreadableError, match="JSON"):
        find_labelled(tmp_path)


# Manifests


def test_a_manifest_says_everything(tmp_path):
    touch(tmp_path, *(f"data/{n}{kind}.nii" for n in "abc" for kind in ("", "_seg")), "data/far/list.csv")
    text = "\ufeffsplit, subject ,image,label\n" + "".join(
        f"{split},{subject},../{n}.nii,../{n}_seg.nii\n\n"
        for n, split, subject in [("c", "test", "q"), ("a", "train", "p"), ("b", "train", "p")]
    )
    found = find_labelled(manifest(tmp_path / "data" / "far", text))
    assert [(p.name, p.subject, p.split) for p in found.pairs] == [
        ("c", "q", "test"), ("a", "p", "train"), ("b", "p", "train"),
    ]  # fmt: skip
    assert all(p.image.samefile(tmp_path / "data" / f"{p.name}.nii") for p in found.pairs)
    assert all(p.labels.samefile(tmp_path / "data" / f"{p.name}_seg.nii") for p in found.pairs)
    assert not found.problems
    assert "CSV" in found.layout


def test_image_and_label_are_enough(tmp_path):
    touch(tmp_path, "a.nii", "a_seg.nii")
    for path in ("", f"{tmp_path}/"):
        (pair,) = find_labelled(manifest(tmp_path, f"image,label\n{path}a.nii,{path}a_seg.nii\n")).pairs
        assert pair == Pair("a", "a", tmp_path / "a.nii", tmp_path / "a_seg.nii")


def test_every_broken_line_is_told(tmp_path):
    touch(tmp_path, *(f"{n}{kind}.nii" for n in "abc" for kind in ("", "_seg")))
    lines = [
        "image,label,split,subject",
        "a.nii,a_seg.nii,train,p",
        "b.nii,b_seg.nii,test,p",
        "gone.nii,lost.nii,train,q",
        "c.nii,,train,q",
        "c.nii,c_seg.nii,training,r",
        f"../{tmp_path.name}/a.nii,b_seg.nii,train,s",
        "c.nii,c_seg.nii",
        "c.nii,c.nii,,",
        f"{'x' * 5000},c_seg.nii,train,t",
    ]
    found = find_labelled(manifest(tmp_path, "\n".join(lines)))
    assert [p.name for p in found.pairs] == ["a", "b"]
    long = lines[-1].split(",")[0]
    assert told(found.problems) == [
        ("line 4", "gone.nii does not exist"),
        ("line 4", "lost.nii does not exist"),
        ("line 5", "label is empty"),
        ("line 6", "split is 'training'; it must be train, val or test"),
        ("line 6", "c.nii is in line 5 already"),
        ("line 7", f"../{tmp_path.name}/a.nii is in line 2 already"),
        ("line 8", "it has 2 cells, the header 4"),
        ("line 9", "split is empty"),
        ("line 9", "subject is empty"),
        ("line 9", "image and label are the same file, c.nii"),
        ("line 9", "c.nii is in line 5 already"),
        ("line 10", f"{long} does not exist"),
        ("p", "the subject is in test and in train; keep it in one of them"),
    ]


def test_a_manifest_says_which_structures_are_labelled(tmp_path):
    touch(tmp_path, *(f"{n}{kind}.nii" for n in "abc" for kind in ("", "_gt")))
    text = "image,label,structures\na.nii,a_gt.nii,\nb.nii,b_gt.nii,left ventricle; aorta\nc.nii,c_gt.nii,x;;y\n"
    found = find_labelled(manifest(tmp_path, text))
    assert [pair.structures for pair in found.pairs] == [(), ("left ventricle", "aorta")]
    assert [problem.name for problem in found.problems] == ["line 4"]
    assert "semicolons" in found.problems[0].text


def test_labels_beyond_the_structures_of_a_manifest_are_a_problem(tmp_path):
    pair = replace(pair_of(tmp_path, *arrays()), structures=("b",))
    (checked,) = check_labelled(LabelledSet((pair,), {}, "manifest"))
    assert any("the labels hold 2" in problem for problem in checked.problems)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,labels\n", "unknown column 'labels'; the nearest known is 'label'"),
        ("image,split\n", "lacks the column 'label'"),
        ("image,label,image\n", "twice"),
        ("", "lacks the column 'image'"),
        ("image,label\n", "no image with labels: it lists none"),
        ("image,label\nx.nii,y.nii\n", "x.nii does not exist"),
        ('image,label\n"x.nii,y.nii\n', "not readable as CSV"),
        ("image,label\nx\0.nii,y.nii\n", "not readable as CSV"),
    ],
)
def test_manifests_that_are_none_are_refused(tmp_path, text, message):
    with pytest.raises(UnreadableError, match=message):
        find_labelled(manifest(tmp_path, text))
    (tmp_path / "list.csv").write_bytes(b"image,label\n\xff\xfe\n")
    with pytest.raises(UnreadableError, match="not readable as CSV"):
        find_labelled(tmp_path / "list.csv")


# Dividing and reading


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_cover_all_and_divide_no_subject(tmp_path, folds):
    pairs = [Pair(f"v{k}", f"s{k % 7}", tmp_path, tmp_path) for k in range(17)]
    tested = []
    for fold in range(folds):
        training_pairs, test_pairs = split_pairs(pairs, fold, folds)
        assert not {p.subject for p in training_pairs} & {p.subject for p in test_pairs}
        assert sorted(p.name for p in training_pairs + test_pairs) == sorted(p.name for p in pairs)
        assert abs(len({p.subject for p in test_pairs}) - 7 / folds) < 1
        tested += test_pairs
    assert sorted(p.name for p in tested) == sorted(p.name for p in pairs)


@pytest.mark.parametrize("ending", ["", "_0000"])
def test_frames_of_one_subject_in_one_folder_are_not_divided(tmp_path, ending):
    volumes = ["patient021_frame01", "patient021_frame13", "sub-07_ses-1_cine", "sub-07_ses-2_cine", "A0_sa_ED",
               "A0_sa_ES", "hippocampus_001", "hippocampus_002", "frame01", "frame02"]  # fmt: skip
    if ending:
        touch(tmp_path, *(f"imagesTr/{v}_0000.nii.gz" for v in volumes), *(f"labelsTr/{v}.nii.gz" for v in volumes))
    else:
        touch(tmp_path, *(f"{v}{end}.nii.gz" for v in volumes for end in ("", "_gt")))
    found = find_labelled(tmp_path)
    whose = {pair.name: pair.subject for pair in found.pairs}
    assert [whose[name] for name in volumes] == [
        "patient021", "patient021", "sub-07", "sub-07", "A0_sa", "A0_sa", *volumes[6:],
    ]  # fmt: skip
    assert "each volume a subject" not in found.layout


def test_a_manifest_without_subjects_goes_by_names_unless_it_says_the_split(tmp_path):
    touch(tmp_path, *(f"p1_frame0{k}{end}.nii" for k in (1, 2) for end in ("", "_gt")))
    rows = [f"p1_frame0{k}.nii,p1_frame0{k}_gt.nii" for k in (1, 2)]
    found = find_labelled(manifest(tmp_path, "\n".join(["image,label", *rows])))
    assert [pair.subject for pair in found.pairs] == ["p1", "p1"]
    divided = [f"{row},{split}" for row, split in zip(rows, ("train", "val"), strict=True)]
    found = find_labelled(manifest(tmp_path, "\n".join(["image,label,split", *divided])))
    assert [pair.split for pair in found.pairs] == ["train", "val"]
    assert not found.problems


def test_slices_of_one_heart_are_not_divided():
    flat = [Path(f"cines/p{k}_slice{z}.nii") for k in range(3) for z in range(4)]
    training, held_out = split_cines(flat, (1, 3))
    assert (training, held_out) == (flat[:4] + flat[8:], flat[4:8])
    nested = [Path(f"cines/p{k}/slice{z}.nii.gz") for k in range(3) for z in range(4)]
    assert split_cines(nested, (0, 3)) == (nested[4:], nested[:4])
    nameless = [Path(f"cines/slice{z}.nii") for z in range(6)]
    assert split_cines(nameless, (0, 3)) == ([*nameless[1:3], *nameless[4:]], [nameless[0], nameless[3]])
    with pytest.raises(UnsupportedDataError, match=r"4 cine\(s\) of 1 subject\(s\) cannot be divided into 3 folds"):
        split_cines(flat[:4], (0, 3))


def test_published_folds_are_pinned(tmp_path):
    """Every fifth subject by name: published figures depend on it."""
    pairs = [Pair(f"v{k}", f"s{k % 7}", tmp_path, tmp_path) for k in reversed(range(14))]
    training_pairs, test_pairs = split_pairs(pairs, 0, 5)
    assert [p.name for p in test_pairs] == ["v12", "v7", "v5", "v0"]
    assert [p.name for p in training_pairs] == ["v13", "v11", "v10", "v9", "v8", "v6", "v4", "v3", "v2", "v1"]


def test_a_pair_is_read_as_it_is(tmp_path):
    image, labels = arrays()
    found, values = load_pair(pair_of(tmp_path, image, labels))
    np.testing.assert_array_equal(found.array, image)
    np.testing.assert_array_equal(values, labels)
    assert values.dtype == np.uint8


def with_value(array, value, kind=np.float32):
    changed = array.astype(kind)
    changed[0, 0, 0] = value
    return changed


def moved(**entries):
    """Return the affine with some entries replaced, such as r0c3."""
    affine = AFFINE.copy()
    for place, value in entries.items():
        affine[int(place[1]), int(place[3])] = value
    return affine


IMAGE, LABELS = arrays()
TURNED = moved(r0c0=-1.0)
SERIES = np.stack([IMAGE] * 3, -1)
BROKEN = {  # image, labels, affine of the labels -> what load_pair says, what the first pass says
    "fewer": ((IMAGE, LABELS[:-1], AFFINE), "another grid", ["labels have 15 x 12 x 5 voxels, the image 16 x 12 x 5"]),
    "shifted": ((IMAGE, LABELS, moved(r0c3=1.5)), "another grid", ["first voxel lies 1.5 mm from the image's"]),
    "wider": ((IMAGE, LABELS, moved(r0c0=2)), "another grid", ["measure 2 x 1.25 x 4 mm, the image's 1 x 1.25 x 4 mm"]),
    "turned": ((IMAGE, LABELS, TURNED), "another grid", ["axes of the labels point elsewhere"]),
    "half": ((IMAGE, with_value(LABELS, 0.5), AFFINE), "no labels", ["labels hold 0.5, 1 such voxels"]),
    "negative": ((IMAGE, with_value(LABELS, -1), AFFINE), "no labels", ["labels hold -1, 1 such"]),
    "large": ((IMAGE, with_value(LABELS, 256), AFFINE), "no labels", ["labels hold 256, 1 such"]),
    "nan label": ((IMAGE, with_value(LABELS, np.nan), AFFINE), "no labels", ["labels hold nan, 1 such"]),
    "complex label": ((IMAGE, with_value(LABELS, 1j, np.complex64), AFFINE), "no labels", ["hold complex numbers"]),
    "series": ((SERIES, np.stack([LABELS] * 3, -1), AFFINE), "pairs are volumes", ["a series of 3 frames"]),
    "complex": ((IMAGE.astype(np.complex64), LABELS, AFFINE), "is complex", ["the image is complex"]),
    "nan": ((with_value(IMAGE, np.nan), LABELS, AFFINE), "NaN", ["1 NaN or infinite voxels, the first at (0, 0, 0)"]),
    "infinite": ((with_value(IMAGE, np.inf), LABELS, AFFINE), "NaN", ["1 NaN or infinite voxels"]),
    "both": (
        (with_value(IMAGE, np.nan), with_value(LABELS, 0.5), TURNED),
        "another grid",
        ["NaN or infinite", "point elsewhere", "hold 0.5"],
    ),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.filterwarnings("error")
def test_broken_pairs_are_refused_and_the_first_pass_says_all_of_it(tmp_path, case):
    (image, labels, label_affine), refusal, problems = BROKEN[case]
    pair = pair_of(tmp_path, image, labels, label_affine=label_affine)
    with pytest.raises(UnsupportedDataError, match=refusal):
        load_pair(pair)
    (checked,) = check_labelled(LabelledSet((pair,), {}, ""))
    assert len(checked.problems) == len(problems), checked.problems
    for part, sentence in zip(problems, checked.problems, strict=True):
        assert part in sentence


# The first pass


def test_a_sound_pair_has_no_problems(tmp_path):
    pair = pair_of(tmp_path, IMAGE, LABELS)
    steps = []
    found = LabelledSet((pair, pair), {1: "a", 2: "b"}, "")
    first, second = check_labelled(found, 3, lambda done, total: steps.append((done, total)))
    assert (first.name, first.shape, first.spacing, first.values) == ("v", (16, 12, 5), (1, 1.25, 4), (0, 1, 2))
    assert not first.problems + first.notes
    assert first == second
    assert steps == [(1, 2), (2, 2)]


def test_values_beyond_the_classes_or_the_names_are_told(tmp_path):
    pair = pair_of(tmp_path, IMAGE, np.where(LABELS == 2, 7, LABELS).astype(np.uint8))
    for classes, names, parts in [
        (None, {}, []),
        (8, {1: "a", 7: "b"}, []),
        (7, {1: "a", 7: "b"}, ["hold 7; with 7 classes"]),
        (None, {1: "a"}, ["hold 7, which dataset.json does not name"]),
        (1, {2: "a"}, ["hold 1, 7; with 1 classes", "hold 1, 7, which"]),
    ]:
        (checked,) = check_labelled(LabelledSet((pair,), names, ""), classes)
        assert checked.values == (0, 1, 7)
        assert len(checked.problems) == len(parts)
        assert all(part in text for part, text in zip(parts, checked.problems, strict=True))


def test_a_constant_image_is_a_problem_and_empty_labels_are_a_note(tmp_path):
    (checked,) = check_labelled(LabelledSet((pair_of(tmp_path, 0 * IMAGE + 3, 0 * LABELS),), {}, ""))
    assert checked.problems == ("the image is the same everywhere: 3",)
    assert checked.notes == ("the labels are all background",)
    assert checked.values == (0,)


def test_bad_files_are_told_together_and_stop_nothing(tmp_path):
    good = pair_of(tmp_path, IMAGE, LABELS)
    text, cut, folder = tmp_path / "text.nii", tmp_path / "cut.nii.gz", tmp_path / "folder.nii"
    text.write_text("no image at all")
    cut.write_bytes(good.image.read_bytes()[:-300])
    folder.mkdir()
    pairs = [Pair("x", "x", text, cut), Pair("y", "y", folder, tmp_path / "gone.nii"), good]
    pairs.append(Pair("z", "z", good.image, text))
    x, y, sound, z = check_labelled(LabelledSet(tuple(pairs), {}, ""))
    assert ["not a NIfTI" in x.problems[0], "truncated" in x.problems[1]] == [True, True]
    assert ["holds no DICOM images" in y.problems[0], "does not exist" in y.problems[1]] == [True, True]
    assert (x.shape, x.spacing, x.values) == ((), (), ())
    assert (z.shape, len(z.problems), z.values) == (IMAGE.shape, 1, ())
    assert not sound.problems


# Cines


def test_cines_are_found_below_a_folder(tmp_path):
    wanted = ["a.nii", "p/b.nii.gz", "p/q/c.nii.gz"]
    touch(tmp_path, *wanted, "p/b_gt.nii.gz", "p/d_gt.nii", ".hidden/e.nii", "p/._b.nii.gz", "p/f.txt", "p/g.nii.json")
    (tmp_path / "folder.nii").mkdir()
    assert find_cines(tmp_path) == [tmp_path / name for name in wanted]
    assert find_cines(tmp_path / "a.nii") == [tmp_path / "a.nii"]
    hidden = tmp_path / ".hidden"
    assert find_cines(hidden) == [hidden / "e.nii"]  # asked for by name


def test_a_folder_of_dicom_is_a_cine(tmp_path):
    pixels = values(2, 6, 32, 40)
    write_series(tmp_path / "case1" / "sax", pixels)
    save(tmp_path / "case2.nii.gz", np.abs(moving_cine(40, 36)))
    found = find_cines(tmp_path)
    assert [place.name for place in found] == ["sax", "case2.nii.gz"]
    assert not any(each.problems for each in check_cines(found))
    cines = load_cines(found)
    np.testing.assert_array_equal(cines[1].numpy(), pixels[1])
    first = digest_of_files(found)
    next((tmp_path / "case1" / "sax").iterdir()).write_bytes(b"changed")
    assert digest_of_files(found) != first
    assert any(each.problems for each in check_cines(found))


def test_where_no_cines_are_the_message_says_so(tmp_path):
    touch(tmp_path, "a_gt.nii.gz", "b.txt")
    with pytest.raises(UnreadableError, match=r"no \.nii or \.nii\.gz"):
        find_cines(tmp_path)
    with pytest.raises(UnreadableError, match="neither NIfTI nor DICOM"):
        find_cines(tmp_path / "b.txt")
    with pytest.raises(UnreadableError, match="does not exist"):
        find_cines(tmp_path / "c")


def test_cines_are_checked(tmp_path):
    cine = moving_cine(x=32, y=33, z=2, t=4)
    nan, still = cine.copy(), np.repeat(cine[..., :1], 4, -1)
    nan[3, 2, 1, 0] = np.nan
    files = {
        "complex": (cine, ""),
        "magnitude": (np.abs(cine), ""),
        "p/nan": (nan, "1 NaN or infinite voxels, the first at (3, 2, 1, 0)"),
        "p/still": (still, "nothing moves"),
        "short": (cine[..., :3], "it has 3 frames; at least 4"),
        "small": (cine[:31], "31 x 33 pixels; at least 32 x 32"),
        "volume": (np.abs(cine[..., 0]), "three axes, 32 x 33 x 2"),
    }
    (tmp_path / "p").mkdir()
    for name, (array, _) in files.items():
        save(tmp_path / f"{name}.nii.gz", array)
    (tmp_path / "text.nii").write_text("no image at all")
    (tmp_path / "p" / "gone.nii").symlink_to(tmp_path / "nothing.nii")
    steps = []
    found = check_cines(find_cines(tmp_path), lambda done, total: steps.append((done, total)))
    checked = {c.name: c for c in found}
    assert steps == [(k, 9) for k in range(1, 10)]
    assert set(checked) == {*files, "text", "p/gone"}
    for name, (array, problem) in files.items():
        assert checked[name].shape == array.shape
        assert len(checked[name].problems) == bool(problem), checked[name].problems
        assert all(problem in text for text in checked[name].problems)
        assert checked[name].values == ()
    assert "not a NIfTI" in checked["text"].problems[0]
    assert "is a link to" in checked["p/gone"].problems[0]
    assert check_cines([]) == []
