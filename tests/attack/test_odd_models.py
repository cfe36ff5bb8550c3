"""Bundles, settings and checkpoints with values that nobody meant are refused in a line, without taking memory."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from crnn_cli.bundles.import_checkpoint import read_published_checkpoint
from crnn_cli.bundles.store import find_bundle, load_network
from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.report.lettering import fitting, text_width
from crnn_cli.training.reconstruct.settings import ReconstructSettings
from crnn_cli.training.settings import read_toml
from tests.support.command_line import Ended
from tests.support.mutants import ODD, places

HUGE = [10**400, -(10**400), 10**5000, 2**63, 1e308]


@pytest.mark.parametrize("value", [*HUGE, *ODD], ids=range(len(HUGE) + len(ODD)))
def test_any_value_of_a_bundle_may_be_anything(value: Any, bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "it")
    file = tmp_path / "it" / "config.json"
    config = json.loads(file.read_text())
    for path in places(config):
        changed = json.loads(json.dumps(config))
        node = changed
        for step in path[:-1]:
            node = node[step]
        node[path[-1]] = value
        try:
            file.write_text(json.dumps(changed))
        except ValueError:  # Python writes no integer of more than 4300 digits
            file.write_text(json.dumps(changed | {path[0]: 0}).replace('": 0', '": ' + "9" * 5000, 1))
        try:
            load_network(find_bundle(str(tmp_path / "it")), torch.device("cpu"))
        except (UnreadableError, UnsupportedDataError) as error:
            assert len(str(error)) < 1000 + len(str(file))  # noqa: PT017


def test_sizes_of_a_network_are_compared_before_its_memory_is_taken(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "it")
    file = tmp_path / "it" / "config.json"
    config = json.loads(file.read_text())
    config["settings"]["features"] = 1024
    file.write_text(json.dumps(config))
    tracemalloc.start()
    before = int(Path("/proc/self/statm").read_text().split()[0])
    with pytest.raises(UnreadableError, match=r"is \("):
        load_network(find_bundle(str(tmp_path / "it")), torch.device("cpu"))
    tracemalloc.stop()
    assert int(Path("/proc/self/statm").read_text().split()[0]) - before < 2**28 / 4096


@pytest.mark.parametrize(
    "text",
    ["epochs = " + "9" * 400, "epochs = " + "9" * 5000, "epochs = 1000000000000000", "[" * 3000, "a = " + "[" * 10**5,
     "epochs = 1e400", "pixels = inf", "[optimiser]\nclip = " + "9" * 400, "batch = 100000000", "epochs = nan",
     "[network.features]\na = 1", "\x00", "epochs = '\x1b[31m'"],
    ids=lambda text: repr(text)[:24],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(UnreadableError) as raised:
        read_toml(ReconstructSettings, tmp_path / "a.toml")
    assert len(str(raised.value)) < 500 + len(str(tmp_path))


WEIGHT = torch.zeros(4, 2, 3, 3)


@pytest.mark.parametrize(
    "state",
    [{1: WEIGHT}, {"bcrnn.i2h.weight": torch.quantize_per_tensor(WEIGHT, 0.1, 0, torch.qint8)},
     {"bcrnn.i2h.weight": WEIGHT.to_sparse()}, {"bcrnn.i2h.weight": WEIGHT + 1j}, {"bcrnn.i2h.weight": [WEIGHT]},
     {"bcrnn.i2h.weight": torch.zeros(1).expand(2**20, 2**20)}, [WEIGHT], {}, {"bcrnn.i2h.weight": torch.zeros(())},
     {"bcrnn.i2h.weight": torch.zeros(10**4, 2, 3, 3)}, {"bcrnn.i2h.weight": torch.zeros(0, 0, 0, 0)}],
    ids=range(11),
)  # fmt: skip
def test_a_checkpoint_of_something_else_is_refused(state: Any, crnn: Callable[..., Ended], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "a.pth")
    ended = crnn("models", "import", tmp_path / "a.pth", "-o", tmp_path / "new")
    assert ended.code == 3, ended.err
    assert not (tmp_path / "new").exists()


def test_a_checkpoint_of_weights_is_read(tmp_path: Path) -> None:
    torch.save({"bcrnn.CRNN_model.i2h.weight": WEIGHT}, tmp_path / "a.pth")
    assert list(read_published_checkpoint(tmp_path / "a.pth")) == ["bcrnn.i2h.weight"]


@pytest.mark.parametrize("width", [-5, 0, 1, 7, 60, 200])
@pytest.mark.parametrize("text", ["", "i", "left ventricle", "W" * 50, "x" * 10**5])
def test_a_name_of_any_length_is_cut_at_once(text: str, width: float) -> None:
    cut = fitting(text, width)
    assert text.startswith(cut)
    assert not cut or text_width(cut) <= width
    assert cut == text or text_width(text[: len(cut) + 1]) > width
