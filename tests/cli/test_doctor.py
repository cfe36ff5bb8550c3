"""``crnn doctor`` looks at an installation, and whatever it finds ends with 0."""

import json
import shutil

import pytest

from crnn_cli.bundles import store
from crnn_cli.workflows import doctor


def test_the_table_is_the_result(crnn, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    ended = crnn("-q", "doctor")
    assert (ended.code, ended.err) == (0, "")
    text = ended.out.decode()
    for word in (*doctor.REQUIRED, "threads", "memory", "compressed DICOM", "cine-crnn", "CC0-1.0", "verified"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 80


def test_json_has_versions_device_codecs_and_models(crnn):
    found = json.loads(crnn("doctor", "--json").out)
    import nibabel
    import torch

    assert found["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["versions"]["nibabel"] == nibabel.__version__
    assert found["device"]["default"] in ("cpu", "cuda")
    assert found["device"]["free_memory"] > 0
    assert found["threads"]["used"] >= 1
    assert found["codecs"]["RLE"] == "pydicom"
    assert {each["name"]: each["problem"] for each in found["models"]} == {
        each.name: None for each in store.list_bundles()
    }
    assert all(each["licence"] for each in found["models"])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "weights.safetensors").write_bytes(b"no"), "damaged"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
    ],
)
def test_a_broken_model_is_told_and_the_others_are_looked_at(crnn, tmp_path, monkeypatch, bundle, damage, words):
    for name in ("broken", "good"):
        shutil.copytree(bundle, tmp_path / name)
    damage(tmp_path / "broken")
    monkeypatch.setattr(store, "folder_of_bundles", lambda: tmp_path)
    ended = crnn("doctor", "--json")
    assert ended.code == 0
    broken, good = json.loads(ended.out)["models"]
    assert words in broken["problem"]
    assert (good["name"], good["problem"]) == ("good", None)


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "_codecs", lambda: {"RLE": "pydicom", "JPEG-LS": None})
    diagnosis = doctor.diagnose()
    table = dict(doctor.rows(diagnosis | {"versions": {"torch": None}}))
    assert table["torch"] == "not installed"
    assert table["compressed DICOM"] == "RLE"
    assert table["not readable"].startswith("JPEG-LS: python3 -m pip install python-gdcm")
