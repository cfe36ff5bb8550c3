"""``crnn models``: list, show, import."""

import json
import shutil

import torch

from crnn_cli.bundles.store import list_bundles
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
from tests.support.command_line import table_rows
from tests.support.data import data_file


def test_list(crnn):
    ended = crnn("models", "list", "--json")
    assert ended.code == 0
    entries = json.loads(ended.out)
    assert "cine-crnn" in [entry["name"] for entry in entries]
    fields = ("name", "task", "network", "licence", "summary", "sha256")
    assert entries == [{field: getattr(bundle, field) for field in fields} for bundle in list_bundles()]


def test_list_for_people(crnn, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    ended = crnn("models", "list")
    assert ended.err == ""
    table = table_rows(ended.out)
    for bundle in list_bundles():
        assert table[bundle.name] == [bundle.task, bundle.network, bundle.licence, bundle.summary]


def test_show_prints_the_card_and_checks_the_weights(crnn, bundle):
    ended = crnn("models", "show", bundle)
    assert ended.code == 0
    assert ended.out == b"# tiny\n"
    assert "verified" in ended.err
    found = json.loads(crnn("models", "show", bundle, "--json").out)
    assert found["settings"]["features"] == 6
    assert found["folder"] == str(bundle)
    parameters = sum(p.numel() for p in CRNNMRI(CRNNMRIConfig(6, 3, 2)).parameters())
    assert found["parameters"] == parameters
    assert ended.err.startswith(f"tiny: {parameters:,} parameters, sha256 {found['sha256']} verified")
    assert crnn("models", "show", "nothing").code == 2


def test_show_refuses_damaged_weights_and_does_without_a_card(crnn, bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").unlink()
    assert crnn("models", "show", tmp_path / "copy").out == b"copy has no card\n"
    (tmp_path / "copy" / "weights.safetensors").write_bytes(b"other")
    for extra in ([], ["--json"]):
        ended = crnn("models", "show", tmp_path / "copy", *extra)
        assert (ended.code, ended.out) == (3, b"")


def test_import_takes_what_was_said(crnn, tmp_path):
    torch.save(CRNNMRI(CRNNMRIConfig(features=3)).state_dict(), tmp_path / "a.pth")
    said = ["--iterations", 7, "--input-rms", 0.25, "--licence", "CC0-1.0"]
    for out, extra, expected in (("a", said, (7, 0.25, "CC0-1.0")), ("b", [], (5, 0.7, "unknown"))):
        ended = crnn("models", "import", tmp_path / "a.pth", "-o", tmp_path / out, *extra)
        assert ended.code == 0, ended.err
        folder = tmp_path / out
        assert ended.err == f"wrote {folder}; use it with: crnn reconstruct SCAN --model {folder}\n"
        found = json.loads(crnn("models", "show", tmp_path / out, "--json").out)
        assert (found["settings"]["iterations"], found["input_rms"], found["licence"]) == expected


def test_import_then_reconstruct(crnn, scan, tmp_path):
    file = data_file("weights", "crnn_mri_d5_c5.pth")
    ended = crnn("models", "import", file, "-o", tmp_path / "mine", "--licence", "Apache-2.0")
    assert ended.code == 0, ended.err
    ended = crnn("reconstruct", scan[2], "--model", tmp_path / "mine", "--iterations", 1, "-o", tmp_path / "o.nii")
    assert ended.code == 0, ended.err
    assert json.loads((tmp_path / "o.json").read_text())["model"]["licence"] == "Apache-2.0"
    again = crnn("models", "import", file, "-o", tmp_path / "mine")
    assert again.code == 1
    assert "exists" in again.err
    assert crnn("models", "import", tmp_path / "none.pth", "-o", tmp_path / "b").code == 3
    assert crnn("models", "import", file, "-o", tmp_path / "no" / "b").code == 1
