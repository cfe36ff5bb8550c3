"""``crnn models export``: the ONNX file gives what the network gives, and says how it is to be used."""

import json
from pathlib import Path

import numpy as np
import pytest

from crnn_cli.workflows import export


@pytest.fixture
def installed():
    for name in export.PACKAGES:
        pytest.importorskip(name, reason=f"{name} is not installed (the extra onnx)")


@pytest.fixture
def labeller(tmp_path):
    """Return a bundle of a small network with random weights."""
    import torch

    from crnn_cli.bundles.store import write_bundle
    from crnn_cli.networks.slice_clstm import SliceCLSTM, SliceCLSTMConfig
    from tests.cli.test_segment import CONFIG

    torch.manual_seed(0)
    network = SliceCLSTM(SliceCLSTMConfig(**CONFIG["settings"]))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return write_bundle(tmp_path / "small", CONFIG, network.state_dict(), "# small\n")


def test_the_file_gives_the_probabilities_of_the_network(crnn, labeller, tmp_path, installed):
    import onnx
    import onnxruntime
    import torch

    from crnn_cli.bundles.store import load_network

    file = tmp_path / "m.onnx"
    ended = crnn("models", "export", labeller.folder, "-o", file, "--slices", 3, "--size", "20x27", "--json")
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert report["shape"] == [3, 20, 27]
    assert report["difference"] <= export.TOLERANCE
    image = np.random.default_rng(3).normal(size=(3, 20, 27)).astype(np.float32)
    (found,) = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {export.INPUT: image})
    wanted = load_network(labeller, torch.device("cpu")).label(torch.from_numpy(image)).numpy()
    assert wanted.std() > 0.01
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    said = {each.key: each.value for each in onnx.load(file).metadata_props}
    assert (said["model"], said["weights_sha256"]) == ("small", labeller.sha256)
    assert [label["name"] for label in json.loads(said["labels"])] == [label.name for label in labeller.slices.labels]
    assert json.loads(said["slices_rows_columns"]) == [3, 20, 27]
    assert json.loads(said["not_in_graph"]) == report["not_in_graph"]
    again = crnn("models", "export", labeller.folder, "-o", file, "--slices", 3, "--size", "20x27")
    assert (again.code, "exists" in again.err) == (1, True)


def test_the_metadata_say_what_follows_the_network(labeller):
    from crnn_cli.bundles.config import read_bundle
    from crnn_cli.workflows.segment.options import SegmentOptions

    config = json.loads((labeller.folder / "config.json").read_text())
    labels, threshold = len(config["labels"]), {"threshold": SegmentOptions().threshold}
    rule = {"certainty": [0.9] * labels, "cover": [0.4] * labels}
    steps = {"class_weights": [0.5] * labels, "smooth_frames_ms": 80, "base_rule": rule, "keep_within_mm": 22}
    assert json.loads(export._metadata(labeller, (2, 16, 16))["not_in_graph"]) == threshold
    (labeller.folder / "config.json").write_text(json.dumps(config | steps))
    said = json.loads(export._metadata(read_bundle(labeller.folder), (2, 16, 16))["not_in_graph"])
    assert said == steps | threshold


def test_the_manual_names_every_step_that_follows_the_network():
    from crnn_cli.bundles.store import find_bundle

    manual = (Path(__file__).parents[2] / "docs" / "howto" / "onnx.md").read_text()
    steps = export.steps_after(find_bundle("cardiac-sax-clstm").slices)
    assert len(steps) >= 4
    assert [step for step in steps if f"| `{step}` |" not in manual] == []


def test_a_file_that_gives_something_else_is_not_written(crnn, labeller, tmp_path, monkeypatch, installed):
    run = export._run
    monkeypatch.setattr(export, "_run", lambda content, image: run(content, image) + 0.01)
    ended = crnn("models", "export", labeller.folder, "-o", tmp_path / "m.onnx", "--slices", 2, "--size", "16")
    assert (ended.code, "differ by 0.01" in ended.err, (tmp_path / "m.onnx").exists()) == (1, True, False)


@pytest.mark.parametrize(("more", "code", "said"), [
    (["cine-crnn", "-o", "a.onnx", "--slices", 2, "--size", "32"], 4, "is to reconstruct"),
    (["SMALL", "-o", "a.pt", "--slices", 2, "--size", "32"], 2, ".onnx"),
    (["SMALL", "-o", "a.onnx", "--slices", 2, "--size", "7x7"], 2, "192x160"),
    (["SMALL", "-o", "a.onnx", "--slices", 2, "--size", "32x"], 2, "192x160"),
    (["SMALL", "-o", "a.onnx", "--slices", 512, "--size", "4096"], 2, "too many"),
    (["SMALL", "-o", "nowhere/a.onnx", "--slices", 2, "--size", "32"], 1, "nowhere"),
])  # fmt: skip
def test_what_cannot_be_exported_is_refused(crnn, labeller, tmp_path, monkeypatch, more, code, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(export, "find_spec", lambda name: True)
    ended = crnn("models", "export", *(labeller.folder if word == "SMALL" else word for word in more))
    assert (ended.code, said in ended.err) == (code, True), ended.err


def test_without_the_extra_it_says_what_to_install(crnn, labeller, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else True)
    ended = crnn("models", "export", labeller.folder, "-o", tmp_path / "a.onnx", "--slices", 2, "--size", "32")
    assert (ended.code, "pip install onnxscript" in ended.err) == (2, True)
