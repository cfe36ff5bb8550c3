"""``crnn models``: list, show, import."""

import json

from tests.conftest import data_file


def test_list(crnn):
    ended = crnn("models", "list", "--json")
    assert ended.code == 0
    assert "cine-crnn" in [entry["name"] for entry in json.loads(ended.out)]


def test_show_prints_the_card_and_checks_the_weights(crnn, bundle):
    ended = crnn("models", "show", bundle)
    assert ended.code == 0
    assert ended.out == b"# tiny\n"
    assert "verified" in ended.err
    found = json.loads(crnn("models", "show", bundle, "--json").out)
    assert found["settings"]["features"] == 6
    assert crnn("models", "show", "nothing").code == 3


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
