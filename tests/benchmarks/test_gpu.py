"""What is measured on a GPU can be measured without one: the code of the benchmark runs, and its figures add up."""

import importlib.util
import json
import subprocess
import sys

import pytest
from torch.utils.flop_counter import FlopCounterMode

from tests.support.data import ROOT

FILE = ROOT / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu():
    spec = importlib.util.spec_from_file_location("gpu", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gpu"]


def test_it_runs_on_a_cpu(tmp_path):
    asked = ["--device", "cpu", "--sizes", "8x3", "--repeats", "1", "--json", tmp_path / "found.json"]
    ended = subprocess.run([sys.executable, FILE, *asked], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    rows = found["inference"] + found["training"] + found["command"]
    assert all(row.get("ms", 0) > 0 for row in rows), rows
    errors = {"fp32": [], "bf16": []}
    for row in found["inference"]:
        errors[row["precision"]].append(row["error"])
    assert max(errors["fp32"]) < 1e-5
    assert 1e-5 < max(errors["bf16"]) < 0.05
    assert {row["network"] for row in found["inference"]} == {"published size", "cine-crnn"}
    assert {row["at once"] for row in found["inference"]} == {1, 2, 3}
    assert found["verdict"] == "bar of 60 ms: not measured"
    assert "| published size | 10 | bf16 |" in ended.stdout


def test_the_rate_counts_the_multiplications_that_are_made(gpu, monkeypatch):
    monkeypatch.setattr("crnn_cli.networks.engines.onednn._has_fused", lambda dtype: False)  # PyTorch counts these
    net = gpu.published(3)
    image, operator = gpu.problem(8, 5)
    with FlopCounterMode(display=False) as counted:
        net(image, operator)
    assert gpu.multiply_adds(net, 8, 5) == pytest.approx(counted.get_total_flops() / 2, rel=1e-12)


def test_a_form_that_fails_is_told_and_the_bar_is_of_its_own_case(gpu):
    def fail():
        raise RuntimeError("no engine\nmore")

    assert gpu.attempt(fail) == {"failed": "RuntimeError: no engine"}
    case = gpu.BAR[0]
    assert gpu.verdict([case | {"ms": 61.0}, case | {"ms": 59.5}, case | {"ms": 1.0, "precision": "fp32"}]) == (
        "bar of 60 ms: met, 59.5 ms"
    )
    assert gpu.verdict([case | {"ms": 60.5}]) == "bar of 60 ms: missed, 60.5 ms"
    assert gpu.verdict([case | {"failed": "x"}]) == "bar of 60 ms: not measured"
