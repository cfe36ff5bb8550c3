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


def test_every_device_that_can_be_asked_for_is_listed(crnn):
    from crnn_cli.compute.device import choose_device

    found = json.loads(crnn("doctor", "--json").out)["device"]
    names = [each["device"] for each in found["devices"]]
    assert names[0] == "cpu"
    assert choose_device(found["default"]).type in {name.split(":")[0] for name in names}
    for each in found["devices"]:
        assert str(choose_device(each["device"])) == each["device"]
        assert each["name"]
        assert each["memory"] is None or each["memory"] > 2**28
        assert isinstance(each["bfloat16"], bool)
    text = crnn("doctor").out.decode()
    assert found["devices"][0]["name"].split()[0] in text


def test_gpus_are_listed_with_their_memory(monkeypatch):
    import types

    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda index: types.SimpleNamespace(name=f"GPU {index}", total_memory=8 * 2**30),
    )
    rows = doctor.device_rows(doctor.diagnose())
    assert rows[1:] == [["cuda:0", "GPU 0", "8.0 GiB", "native"], ["cuda:1", "GPU 1", "8.0 GiB", "native"]]


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
