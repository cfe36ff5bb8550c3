"""``crnn segment``: what it writes, the ways to say --slices, labels in space, and what bad input gets."""

import csv
import io
import itertools
import json

import nibabel as nib
import numpy as np
import pytest
import torch

from crnn_cli.bundles.store import write_bundle
from crnn_cli.cli.segment import with_slices_value
from crnn_cli.errors import UsageError
from crnn_cli.labels.names import Label
from crnn_cli.networks.slice_clstm import SliceCLSTM, SliceCLSTMConfig
from crnn_cli.workflows.segment.options import parse_slices, select_labels
from tests.support.cines import AFFINE as SKEWED
from tests.support.cines import save as save_with
from tests.support.command_line import table_rows

AFFINE = SKEWED.copy()  # oblique, its voxel axes perpendicular
AFFINE[:3, :3] = np.linalg.qr(SKEWED[:3, :3])[0] * np.linalg.norm(SKEWED[:3, :3], axis=0)
LABELS = [
    {"value": 1, "name": "left ventricle", "colour": [255, 0, 0]},
    {"value": 2, "name": "wall", "colour": [0, 255, 0]},
]
CONFIG = {
    "task": "segment", "network": "slice-clstm", "plane": "thickest", "spacing": 1.5, "licence": "CC0-1.0",
    "settings": {"classes": 3, "width": 4, "scales": 2, "hidden": 3, "kernel": 3, "directions": 2},
    "intensity": {"rule": "percentiles", "low": 1, "high": 99}, "labels": LABELS, "summary": "untrained, for tests",
    "expected_spacing_mm": {"in_slice": [0.5, 3], "between_slices": [4, 15]},
}  # fmt: skip


def weights(background=0.0):
    """Return weights of the tiny network whose labels are a random mixture, made by its recurrent part too.

    More ``background`` leaves less of them.
    """
    torch.manual_seed(5)
    network = SliceCLSTM(SliceCLSTMConfig(**CONFIG["settings"])).eval()
    image = torch.from_numpy(volume()).permute(2, 1, 0) / 500
    with torch.no_grad():
        side = network.cnn.side[0]
        side.weight.mul_(2 / network(image[None])[0].std(dim=(0, 1, 3, 4)).view(3, 1, 1, 1))
        for readout in network.readout:
            readout.weight.normal_(0, 10)
        side.bias -= network(image[None])[0].mean(dim=(0, 1, 3, 4))
        side.bias[0] += background
    return network.state_dict()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("segment") / "tiny", CONFIG, weights(), "# tiny\n").folder


def save(path, array, affine=AFFINE):
    return save_with(path, array, affine=affine)


def volume(shape=(20, 24, 5), seed=0):
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    disc = (x**2 + y**2 < 0.4)[(..., *[None] * (len(shape) - 2))]
    return (500 * disc + 100 * rng.random(shape)).astype(np.float32)


@pytest.fixture
def stack(tmp_path):
    return save(tmp_path / "v.nii.gz", volume())


def labels_in(path):
    nifti = nib.load(path)
    return np.asanyarray(nifti.dataobj), nifti


def test_labels_lie_on_the_inputs_grid_with_names_in_the_report(crnn, stack, model, tmp_path):
    out = tmp_path / "l.nii.gz"
    ended = crnn("segment", stack, "--slices", "-o", out, "--model", model)
    assert ended.code == 0, ended.err
    assert ended.out == b""
    array, nifti = labels_in(out)
    assert array.dtype == np.uint8
    assert array.shape == (20, 24, 5)
    assert set(np.unique(array)) == {0, 1, 2}
    np.testing.assert_allclose(nifti.affine, AFFINE, atol=1e-5)
    assert nifti.header.get_intent()[0] == "label"
    report = json.loads((tmp_path / "l.json").read_text())
    assert [(e["value"], e["name"], e["colour"]) for e in report["labels"]] == [
        (1, "left ventricle", [255, 0, 0]), (2, "wall", [0, 255, 0]),
    ]  # fmt: skip
    assert [e["voxels"] for e in report["labels"]] == [[int((array == k).sum())] for k in (1, 2)]
    assert report["model"]["licence"] == "CC0-1.0"
    assert report["slices"]["array_axis"] == "z"
    assert (report["format"], report["output_format"], report["passed"]) == (2, "NIfTI", None)
    assert report["output"] == str(out)
    assert "tiny (CC0-1.0)" in table_rows(ended.err)["model"]


def test_every_way_to_say_slices_means_the_same(crnn, stack, model, tmp_path):
    ways = {
        "a": [stack, "--slices"], "b": ["--slices", stack], "c": ["--slices", "axial", stack], "d": [stack],
        "e": ["--slices", "auto", stack], "f": ["--slices=axial", stack],
        "g": [stack, "--slices", "--threshold", "0.5"],
    }  # fmt: skip
    found = {}
    for name, way in ways.items():
        out = tmp_path / f"{name}.nii.gz"
        ended = crnn("segment", *way, "-o", out, "--model", model)
        assert ended.code == 0, (name, ended.err)
        found[name] = labels_in(out)[0]
    piped = crnn("segment", "--slices", "--model", model, stdin=stack.read_bytes())
    assert piped.code == 0, piped.err
    found["pipe"] = np.asanyarray(nib.Nifti1Image.from_bytes(piped.out).dataobj)
    dash = crnn("segment", "-", "--slices", "--model", model, "-o", tmp_path / "dash.nii", stdin=stack.read_bytes())
    assert dash.code == 0, dash.err
    found["dash"] = labels_in(tmp_path / "dash.nii")[0]
    for name, array in found.items():
        np.testing.assert_array_equal(array, found["a"], err_msg=name)


def test_a_word_behind_slices_is_its_value_only_if_it_is_a_plane_or_a_range():
    assert with_slices_value(["--slices", "v.nii"]) == ["--slices", "auto", "v.nii"]
    assert with_slices_value(["v.nii", "--slices"]) == ["v.nii", "--slices", "auto"]
    assert with_slices_value(["--slices", "axial:2-4", "v.nii"]) == ["--slices", "axial:2-4", "v.nii"]
    assert with_slices_value(["--slices", "./axial"]) == ["--slices", "auto", "./axial"]
    for file in ("axial.nii", "auto_scan.nii.gz", "coronal_t1.nii"):
        assert with_slices_value(["--slices", file]) == ["--slices", "auto", file]
    assert with_slices_value(["--slices", "axial:2-x", "v.nii"]) == ["--slices", "axial:2-x", "v.nii"]
    assert with_slices_value(["--", "--slices"]) == ["--", "--slices"]
    assert parse_slices("coronal:3-8") == ("coronal", (3, 8))
    assert parse_slices("auto") == (None, None)
    for bad in ("axail", "axial:", "axial:5-2", "axial:0-3", "axial:a-b", ""):
        with pytest.raises(UsageError):
            parse_slices(bad)


def test_every_frame_is_labelled_as_if_it_were_alone(crnn, model, tmp_path):
    series = np.stack([volume(seed=s) for s in range(3)], -1)
    save(tmp_path / "s.nii.gz", series)
    ended = crnn("segment", tmp_path / "s.nii.gz", "--slices", "-o", tmp_path / "l.nii.gz", "--model", model)
    assert ended.code == 0, ended.err
    array, nifti = labels_in(tmp_path / "l.nii.gz")
    assert array.shape == series.shape
    assert float(nifti.header["pixdim"][4]) == pytest.approx(0.03)
    for t in range(3):
        save(tmp_path / f"{t}.nii.gz", series[..., t])
        assert crnn("segment", tmp_path / f"{t}.nii.gz", "-o", tmp_path / f"l{t}.nii.gz", "--model", model).code == 0
        np.testing.assert_array_equal(array[..., t], labels_in(tmp_path / f"l{t}.nii.gz")[0])


@pytest.mark.parametrize("affine", [AFFINE, np.diag([1.3, 1.4, 8.0, 1])], ids=["oblique", "straight"])
def test_the_same_voxels_in_space_get_the_same_labels_however_they_are_stored(crnn, model, tmp_path, affine):
    array = volume()
    save(tmp_path / "v.nii.gz", array, affine=affine)
    assert crnn("segment", tmp_path / "v.nii.gz", "-o", tmp_path / "l.nii.gz", "--model", model).code == 0
    expected = labels_in(tmp_path / "l.nii.gz")[0]
    assert len(np.unique(expected)) == 3
    for number, (order, flips) in enumerate(
        itertools.product([(0, 1, 2), (1, 0, 2), (2, 0, 1)], [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)])
    ):
        change = np.zeros((4, 4))
        change[3, 3] = 1
        turn = tuple(slice(None, None, flip) for flip in flips)
        stored, manual = (a.transpose(order)[turn] for a in (array, expected))
        for new, old in enumerate(order):
            change[old, new] = flips[new]
            change[old, 3] = 0 if flips[new] == 1 else array.shape[old] - 1
        name, out = tmp_path / f"{number}.nii.gz", tmp_path / f"{number}_l.nii.gz"
        save(name, np.ascontiguousarray(stored), affine=affine @ change)
        assert crnn("segment", name, "-o", out, "--model", model).code == 0
        np.testing.assert_array_equal(labels_in(out)[0], manual, err_msg=f"{order} {flips}")


def test_shuffled_slices_hurt(crnn, stack, model, tmp_path):
    crnn("segment", stack, "-o", tmp_path / "l.nii.gz", "--model", model)
    order = [3, 0, 4, 1, 2]
    save(tmp_path / "shuffled.nii.gz", volume()[:, :, order])
    crnn("segment", tmp_path / "shuffled.nii.gz", "-o", tmp_path / "ls.nii.gz", "--model", model)
    straight, shuffled = labels_in(tmp_path / "l.nii.gz")[0], labels_in(tmp_path / "ls.nii.gz")[0]
    assert (straight[:, :, order] != shuffled).any()


def test_a_range_is_looked_at_as_if_it_were_the_file(crnn, stack, model, tmp_path):
    out = tmp_path / "l.nii.gz"
    assert crnn("segment", stack, "--slices", "axial:2-4", "-o", out, "--model", model).code == 0
    array = labels_in(out)[0]
    assert not array[:, :, [0, 4]].any()
    save(tmp_path / "part.nii.gz", volume()[:, :, 1:4])
    crnn("segment", tmp_path / "part.nii.gz", "-o", tmp_path / "lp.nii.gz", "--model", model)
    np.testing.assert_array_equal(array[:, :, 1:4], labels_in(tmp_path / "lp.nii.gz")[0])
    beyond = crnn("segment", stack, "--slices", "axial:2-6", "-o", tmp_path / "x.nii.gz", "--model", model)
    assert beyond.code == 2
    assert "5 slices" in beyond.err
    assert not (tmp_path / "x.nii.gz").exists()


def test_probabilities_statistics_preview_and_json(crnn, stack, model, tmp_path):
    extra = [
        "--probabilities",
        tmp_path / "p.nii.gz",
        "--statistics",
        tmp_path / "s.csv",
        "--preview",
        tmp_path / "p.png",
    ]
    ended = crnn("segment", stack, "-o", tmp_path / "l.nii.gz", "--model", model, "--json", *extra)
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    labels = labels_in(tmp_path / "l.nii.gz")[0]
    cavity, wall = (labels_in(tmp_path / f"p_{name}.nii.gz")[0] for name in ("left-ventricle", "wall"))
    together = cavity + wall
    np.testing.assert_array_equal(labels > 0, together >= 0.5)
    np.testing.assert_array_equal(labels == 2, (together >= 0.5) & (wall > cavity))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "s.csv").read_text())))
    assert [int(row["voxels"]) for row in rows] == [entry["voxels"][0] for entry in report["labels"]]
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    again = crnn("segment", stack, "-o", tmp_path / "other.nii", "--model", model, *extra[:2])
    assert again.code == 1
    assert "p_left-ventricle.nii.gz exists" in again.err
    assert not (tmp_path / "other.nii").exists()


def test_a_higher_threshold_labels_less(crnn, stack, model, tmp_path):
    counts = []
    for threshold in ("0.2", "0.5", "0.9"):
        out = tmp_path / f"{threshold}.nii"
        assert crnn("segment", stack, "--threshold", threshold, "-o", out, "--model", model).code == 0
        counts.append(int((labels_in(out)[0] > 0).sum()))
    assert counts[0] > counts[1] > counts[2]


def test_keep_largest_and_labels_asked_for(crnn, stack, model, tmp_path):
    crnn("segment", stack, "-o", tmp_path / "a.nii", "--model", model)
    ended = crnn("segment", stack, "--keep-largest", "--labels", "WALL", "-o", tmp_path / "b.nii", "--model", model)
    assert ended.code == 0, ended.err
    everything, kept = labels_in(tmp_path / "a.nii")[0], labels_in(tmp_path / "b.nii")[0]
    assert set(np.unique(kept)) == {0, 2}
    assert not (kept[everything != 2]).any()
    report = json.loads((tmp_path / "b.json").read_text())
    removed = int((everything == 2).sum() - (kept == 2).sum())
    assert [(e["name"], e["removed_voxels"]) for e in report["labels"]] == [("wall", removed)]
    assert removed > 0
    known = [Label(1, "left ventricle", (1, 2, 3)), Label(2, "wall", (4, 5, 6))]
    assert [label.value for label in select_labels(known, "2, left ventricle")] == [1, 2]
    with pytest.raises(UsageError, match="1 left ventricle, 2 wall"):
        select_labels(known, "aorta")


def test_the_same_input_gives_the_same_bytes(crnn, stack, model, tmp_path):
    for name in ("a", "b"):
        crnn("segment", stack, "-o", tmp_path / f"{name}.nii.gz", "--model", model)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_nothing_labelled_is_a_warning_and_exit_6_where_labels_are_required(crnn, stack, tmp_path):
    model = write_bundle(tmp_path / "empty", CONFIG, weights(background=1e4), "# none\n").folder
    ended = crnn("segment", stack, "-o", tmp_path / "a.nii.gz", "--model", model, "--preview", tmp_path / "a.png")
    assert ended.code == 0
    assert "nothing was labelled" in ended.err
    assert json.loads((tmp_path / "a.json").read_text())["passed"] is None
    assert crnn("segment", stack, "-o", tmp_path / "b.nii.gz", "--model", model, "--require-labels").code == 6
    assert json.loads((tmp_path / "b.json").read_text())["passed"] is False


def write(path, array, affine=AFFINE):
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def sheared():
    affine = np.diag([1.5, 1.5, 8, 1.0])
    affine[1, 2] = 3
    return affine


def flatten(path):
    """Zero the last row of the sform, as a damaged header has it."""
    content = bytearray(path.read_bytes())
    content[312:328] = bytes(16)
    path.write_bytes(content)


RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda p: write(p, volume((20, 24))), 4, "2-D"),
        (lambda p: write(p, volume((8, 8, 4, 2, 3))), 4, "axes"),
        (lambda p: write(p, np.zeros((8, 8, 4), RGB)), 4, "RGB"),
        (lambda p: flatten(write(p, volume())), 4, "singular"),
        (lambda p: write(p, volume(), sheared()), 4, "sheared"),
        (lambda p: write(p, volume(), np.diag([0.01, 0.01, 8, 1])), 4, "correct the header"),
        (lambda p: write(p, volume(), np.diag([80, 80, 200, 1])), 4, "correct the header"),
        (lambda p: write(p, np.full((8, 8, 4), np.nan, np.float32)), 4, "NaN"),
        (lambda p: write(p, volume((8, 8, 8)), np.eye(4)), 4, "--slices axial"),
        (lambda p: p.write_bytes(b"") and p, 3, "empty"),
        (lambda p: p.write_bytes(b"not an image at all") and p, 3, "not a NIfTI"),
        (lambda p: p, 3, "does not exist"),
    ],
    ids=["2-D", "5-D", "RGB", "singular", "sheared", "small", "large", "NaN", "cube", "empty", "text", "missing"],
)
def test_bad_input_is_refused_with_one_line_and_nothing_left(crnn, model, tmp_path, make, code, words):
    path = tmp_path / "v.nii"
    if words == "empty":
        path.touch()
    else:
        make(path)
    before = sorted(tmp_path.iterdir())
    ended = crnn("segment", path, "--slices", "-o", tmp_path / "l.nii.gz", "--model", model)
    assert ended.code == code, ended.err
    assert ended.err.count("error:") == 1
    assert words in ended.err.splitlines()[-1]
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--labels", "aorta"], 2, "left ventricle"),
        (["--slices=diagonal"], 2, "not understood"),
        (["--slices", "axial:4-2"], 2, "counted from 1"),
        (["--threshold", "0"], 2, "--threshold"),
        (["--threshold", "nan"], 2, "--threshold"),
        (["--model", "cine-crnn"], 4, "not to segment"),
        (["--model", "nothing-here"], 2, "no model"),
        (["--device", "cuda:77"], 5, "cuda:77"),
        (["--statistics", "s.txt"], 2, ".csv"),
        (["--preview", "p.jpg"], 2, ".png"),
        (["-o", "l.img"], 2, ".nii"),
        (["-o", "missing/l.nii.gz"], 1, "does not exist"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else None,
)
def test_wrong_options(crnn, stack, model, tmp_path, monkeypatch, options, code, words):
    monkeypatch.chdir(tmp_path)
    given = options if "--model" in options else [*options, "--model", model]
    target = [] if "-o" in options else ["-o", "l.nii.gz"]
    ended = crnn("segment", stack, *given, *target)
    assert ended.code == code, ended.err
    assert words in ended.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["v.nii.gz"]


def test_doubtful_input_is_labelled_with_a_warning_that_names_the_doubt(crnn, model, tmp_path):
    out = tmp_path / "l.nii.gz"
    cases = [
        (volume(), np.eye(4), "lost its spacing"),
        (volume((20, 24, 1)), AFFINE, "one slice"),
        (volume().astype(np.complex64) * 1j, AFFINE, "magnitude"),
    ]
    for array, affine, words in cases:
        write(tmp_path / "v.nii", array, affine)
        ended = crnn("segment", tmp_path / "v.nii", "--slices", "-o", out, "--force", "--model", model)
        assert ended.code == 0, ended.err
        assert words in ended.err
        assert labels_in(out)[0].shape == array.shape


def test_nothing_is_overwritten_and_no_output_falls_on_another(crnn, stack, model, tmp_path):
    out = tmp_path / "l.nii.gz"
    assert crnn("segment", stack, "-o", stack, "--force", "--model", model).code == 2
    twice = crnn("segment", stack, "-o", out, "--statistics", tmp_path / "l.json", "--model", model)
    assert twice.code == 2
    assert "twice" in twice.err
    assert crnn("segment", stack, "-o", out, "--model", model).code == 0
    assert crnn("segment", stack, "-o", out, "--model", model).code == 1
    assert crnn("segment", stack, "-o", out, "--model", model, "--force").code == 0
    assert crnn("segment", stack, "-o", "-", "--json", "--model", model).code == 2


def test_reconstruct_and_segment_in_one_pipe(crnn, bundle, model, scan, tmp_path):
    file = save(tmp_path / "straight.nii.gz", scan[0])
    images = crnn("reconstruct", file, "-o", "-", "--model", bundle)
    assert images.code == 0, images.err
    ended = crnn("segment", "-", "--slices", "-o", tmp_path / "l.nii.gz", "--model", model, stdin=images.out)
    assert ended.code == 0, ended.err
    assert labels_in(tmp_path / "l.nii.gz")[0].shape == (24, 20, 2, 6)
