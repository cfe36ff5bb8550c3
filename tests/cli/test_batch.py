"""``crnn batch``: what comes out is what single commands give, in every order of events, and bad input stays apart."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from crnn_cli.bundles.store import write_bundle
from crnn_cli.errors import UsageError
from crnn_cli.io import discover as listing
from crnn_cli.workflows.batch.items import parse_shard
from tests.cli.test_segment import CONFIG, volume, weights
from tests.cli.test_segment import save as save_volume
from tests.support.cines import lines_mask, moving_cine, save, to_images, to_kspace


def undersampled(path, seed):
    return save(path, to_images(to_kspace(moving_cine(seed=seed)) * lines_mask(24, 20, 6)).astype(np.complex64))


@pytest.fixture
def folder(tmp_path):
    """Return a folder of three scans and a file that is none."""
    made = tmp_path / "in"
    made.mkdir()
    for seed, name in enumerate(("b.nii", "a.nii.gz", "c.nii.gz")):
        undersampled(made / name, seed)
    (made / "notes.txt").write_text("not a scan")
    return made


@pytest.fixture
def batch(crnn, bundle, tmp_path):
    """Return a function that runs a batch into OUT and returns how it ended and its JSON lines."""

    def run(*arguments, code=0, command="reconstruct", model=bundle):
        chosen = () if model is None else ("--model", model)
        ended = crnn("batch", command, *arguments, "-o", tmp_path / "out", *chosen, "--json")
        assert ended.code == code, ended.err
        assert "Traceback" not in ended.err
        return ended, [json.loads(line) for line in ended.out.decode().splitlines()]

    return run


def contents(folder, pattern="*.nii.gz"):
    return {path.name: path.read_bytes() for path in sorted(folder.glob(pattern))}


def test_inputs_of_one_name_in_nested_folders_are_told_apart_each_on_one_line(batch, folder):
    (folder / "sub").mkdir()
    for name in ("sub/a.nii.gz", "new\nline.nii.gz"):
        shutil.copy(folder / "a.nii.gz", folder / name)
    ended, lines = batch(folder, "--method", "zero-filled", model=None)
    said = [line.split(": ")[1] for line in ended.err.splitlines() if " of 5: " in line]
    assert sorted(said) == sorted(line["input"].replace("\n", "\\n") for line in lines)
    assert len(set(said)) == 5


@pytest.mark.parametrize(
    ("inputs", "options", "last"),
    [
        (("x.nii", "y.nii"), ["--keep-going"], "error: 2 of 2 failed"),
        (("a.nii.gz", "x.nii"), ["--keep-going"], "error: 1 of 2 failed; the others are done"),
        (("x.nii", "y.nii"), [], "error: 1 of 2 failed; nothing was begun after that: --keep-going does the others"),
    ],
)
def test_a_quiet_batch_still_says_what_failed_and_why(batch, folder, inputs, options, last):
    for name in ("x.nii", "y.nii"):
        (folder / name).write_bytes(b"")
    ended, _ = batch(*(folder / name for name in inputs), "--method", "zero-filled", "-q", *options, model=None, code=7)
    *failed, end = ended.err.splitlines()
    assert end == last
    assert failed[0] == f"failed: {folder / 'x.nii'} (3): {folder / 'x.nii'} is empty (0 bytes)"


def test_a_batch_writes_the_bytes_of_single_commands(crnn, batch, folder, bundle, tmp_path):
    ended, lines = batch(folder, "--preview", "{name}.png")
    single = tmp_path / "single"
    single.mkdir()
    for name in ("a.nii.gz", "b.nii", "c.nii.gz"):
        out = single / f"{name.split('.')[0]}_crnn.nii.gz"
        assert crnn("reconstruct", folder / name, "--model", bundle, "-o", out).code == 0
    assert contents(tmp_path / "out") == contents(single)
    assert len(contents(single)) == 3
    assert {p.name for p in (tmp_path / "out").glob("*.png")} == {"a.png", "b.png", "c.png"}
    assert [line["input"] for line in lines] == [str(folder / name) for name in ("a.nii.gz", "b.nii", "c.nii.gz")]
    for line in lines:
        assert (line["status"], line["error"], line["exit_code"]) == ("done", None, 0)
        assert list(line["seconds"]) == ["reading", "computing", "writing"]
        assert line["seconds"]["computing"] > 0
        assert nib.load(line["output"]).shape == (24, 20, 2, 6)
    both = [json.loads((place / "a_crnn.json").read_text()) for place in (tmp_path / "out", single)]
    for report in both:
        for changing in ("command", "date", "seconds", "output", "batch"):
            report.pop(changing, None)
    assert both[0] == both[1]
    assert "a.nii.gz: done" in ended.err
    assert "after the start" in ended.err


def test_the_model_is_loaded_once(batch, folder, monkeypatch):
    from crnn_cli.bundles import store as bundles

    loads, load = [], bundles.load_network
    monkeypatch.setattr(bundles, "load_network", lambda *a: (loads.append(1), load(*a))[1])
    batch(folder)
    assert len(loads) == 1


def test_resume_does_again_what_has_changed_and_nothing_else(batch, folder, tmp_path):
    batch(folder)
    whole = contents(tmp_path / "out")

    def resumed(*arguments):
        return {line["input"].rpartition("/")[2][0]: line["status"] for line in batch(*arguments, "--resume")[1]}

    assert resumed(folder) == {"a": "skipped", "b": "skipped", "c": "skipped"}
    shutil.copytree(folder, tmp_path / "moved")
    assert set(resumed(tmp_path / "moved").values()) == {"skipped"}
    undersampled(folder / "a.nii.gz", 9)  # another input
    (tmp_path / "out" / "b_crnn.nii.gz").write_bytes(b"cut short")
    cut = (tmp_path / "out" / "c_crnn.json").read_text()[:-20]
    (tmp_path / "out" / "c_crnn.json").write_text(cut)
    assert resumed(folder) == {"a": "done", "b": "done", "c": "done"}
    again = contents(tmp_path / "out")
    assert [again[name] == whole[name] for name in sorted(whole)] == [False, True, True]
    assert set(resumed(folder).values()) == {"skipped"}
    assert set(resumed(folder, "--iterations", 1).values()) == {"done"}
    (tmp_path / "out" / "c_crnn.nii.gz").unlink()
    assert resumed(folder, "--iterations", 1) == {"a": "skipped", "b": "skipped", "c": "done"}


def test_resume_sees_other_weights(batch, folder, bundle, tmp_path):
    from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig

    batch(folder / "b.nii")
    config = json.loads((bundle / "config.json").read_text())
    parts = {key: value for key, value in config.items() if key not in ("format", "sha256")}
    network = CRNNMRI(CRNNMRIConfig(**config["settings"]))
    write_bundle(tmp_path / "other", parts, network.state_dict(), "# other\n")
    report = json.loads((tmp_path / "out" / "b_crnn.json").read_text())
    report["batch"]["options"]["model"] = str(tmp_path / "other")  # the same words, other weights
    (tmp_path / "out" / "b_crnn.json").write_text(json.dumps(report))
    assert batch(folder / "b.nii", "--resume", model=tmp_path / "other")[1][0]["status"] == "done"
    assert batch(folder / "b.nii", "--resume", model=tmp_path / "other")[1][0]["status"] == "skipped"


def test_failures_stay_apart_with_keep_going_and_stop_without(batch, folder, tmp_path):
    (folder / "aa.nii").write_bytes(b"not a scan")
    save(folder / "ab.nii", np.abs(moving_cine()))  # magnitude only
    ended, lines = batch(folder, "--keep-going", code=7)
    assert [(line["status"], line["exit_code"]) for line in lines] == [
        ("done", 0), ("failed", 3), ("failed", 4), ("done", 0), ("done", 0),
    ]  # fmt: skip
    assert "not a NIfTI" in lines[1]["error"]
    assert f"failed: {folder / 'aa.nii'} (3): " in ended.err
    assert ended.err.strip().endswith("error: 2 of 5 failed; the others are done")
    assert set(contents(tmp_path / "out")) == {f"{name}_crnn.nii.gz" for name in "abc"}
    shutil.rmtree(tmp_path / "out")
    ended, lines = batch(folder, code=7)
    assert [line["status"] for line in lines] == ["done", "failed"]
    assert set(contents(tmp_path / "out")) == {"a_crnn.nii.gz"}
    assert "not finished" in ended.err


def test_what_is_missing_stops_a_batch_before_anything_is_done(batch, folder, tmp_path):
    _, lines = batch(folder, tmp_path / "z.nii", code=7)
    assert [(line["status"], line["exit_code"]) for line in lines] == [("failed", 3)]
    _, lines = batch(folder, tmp_path / "z.nii", "--keep-going", code=7)
    assert [line["status"] for line in lines] == ["done", "done", "done", "failed"]


def test_a_file_that_vanishes_after_the_listing_fails_alone(batch, folder, monkeypatch):
    from crnn_cli.workflows.reconstruct import steps as reconstruct_job

    read = reconstruct_job.read

    def vanishing(planned, engine):
        (folder / "b.nii").unlink(missing_ok=True)
        return read(planned, engine)

    monkeypatch.setattr(reconstruct_job, "read", vanishing)
    _, lines = batch(folder, "--keep-going", code=7)
    assert [(line["status"], line["exit_code"]) for line in lines] == [("done", 0), ("failed", 3), ("done", 0)]


def test_a_defect_fails_its_input_alone_and_is_shown(crnn, folder, bundle, tmp_path, monkeypatch):
    from crnn_cli.workflows.reconstruct import steps as reconstruct_job

    compute = reconstruct_job.compute

    def broken(planned, *others):
        if planned.request.scan.name == "b.nii":
            raise ValueError("shapes differ")
        return compute(planned, *others)

    monkeypatch.setattr(reconstruct_job, "compute", broken)
    ended = crnn("batch", "reconstruct", folder, "-o", tmp_path / "out", "--model", bundle, "--keep-going")
    assert ended.code == 7
    assert "Traceback" in ended.err
    assert "a defect of this program: ValueError: shapes differ" in ended.err
    assert set(contents(tmp_path / "out")) == {"a_crnn.nii.gz", "c_crnn.nii.gz"}


@pytest.mark.parametrize("shares", [1, 2, 4])
def test_shares_are_disjoint_and_complete(batch, folder, shares):
    done = [line["input"] for k in range(shares) for line in batch(folder, "--shard", f"{k + 1}/{shares}")[1]]
    assert sorted(done) == [str(folder / name) for name in ("a.nii.gz", "b.nii", "c.nii.gz")]


@pytest.mark.parametrize("text", ["0/3", "4/3", "x", "1/0", "1", "-1/3", "1/3/5", ""])
def test_shares_that_make_no_sense_are_refused(text):
    with pytest.raises(UsageError, match="shard"):
        parse_shard(text)


@pytest.fixture(scope="module")
def labeller(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("batch") / "tiny", CONFIG, weights(), "# tiny\n").folder


def test_segmentation_too(crnn, batch, labeller, tmp_path):
    (tmp_path / "in").mkdir()
    files = [save_volume(tmp_path / "in" / f"{k}.nii.gz", volume(seed=k)) for k in range(2)]
    _, lines = batch(
        tmp_path / "in", "--slices", "--statistics", "{name}.csv", "--probabilities", "{name}_p.nii.gz",
        command="segment", model=labeller,
    )  # fmt: skip
    assert [line["status"] for line in lines] == ["done", "done"]
    single = tmp_path / "1_labels.nii.gz"
    assert crnn("segment", files[1], "--slices", "--model", labeller, "-o", single).code == 0
    assert single.read_bytes() == (tmp_path / "out" / "1_labels.nii.gz").read_bytes()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"0.csv", "1.csv", "0_p_wall.nii.gz", "1_p_left-ventricle.nii.gz", "0_labels.json"} <= names


def test_labels_that_are_required_fail_on_resume_too(batch, tmp_path):
    empty = write_bundle(tmp_path / "empty", CONFIG, weights(background=1e6), "# empty\n").folder
    file = save_volume(tmp_path / "v.nii.gz", volume())
    for more in ([], ["--resume"]):
        _, lines = batch(file, "--slices", "--require-labels", *more, code=7, command="segment", model=empty)
        assert (lines[0]["status"], lines[0]["exit_code"]) == ("failed", 6)
    assert (tmp_path / "out" / "v_labels.nii.gz").exists()


def test_the_listing_takes_what_can_be_read(tmp_path):
    for name in ("b.nii", "x.txt", ".hidden.nii", "s_part-mag.nii", "s_part-phase.nii", "k.cfl", "k.hdr"):
        (tmp_path / name).write_bytes(b"# Dimensions\n1" if name == "k.hdr" else b"")
    np.save(tmp_path / "k.npy", np.zeros(3))
    for name in ("dicom/deep/1", "out/crnn_batch.jsonl", "out/x_crnn/1.dcm", "other/x.nii", "left/1.dcm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"" if name == "other/x.nii" else bytes(128) + b"DICM")
    found = [path.name for path in listing.find_inputs(tmp_path, {(tmp_path / "left").resolve()})]
    assert found == ["b.nii", "dicom", "k.cfl", "k.npy", "x.nii", "s_part-mag.nii"]
    assert listing.find_inputs(tmp_path / "left") == [tmp_path / "left"]


def test_reports_of_a_batch_say_the_weights_of_their_own_input(crnn, folder, tmp_path):
    ended = crnn("batch", "reconstruct", folder, "-o", tmp_path / "out", "--method", "tv", "--hold-out-folds", 0)
    assert ended.code == 0, ended.err
    for name in "abc":
        assert json.loads((tmp_path / "out" / f"{name}_crnn.json").read_text())["regularisation_weights_used"] == [
            0.001,
            0.001,
        ]
