"""What many tests share: a moving cine, files of it, a small bundle, and the command line in this process."""

import json
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: on small arrays its threads wait for each other
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:  # one core for each worker
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# isort: split

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from crnn_cli.bundles.store import write_bundle
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
from tests.support.cines import lines_mask, moving_cine, save, to_images, to_kspace
from tests.support.command_line import Ended


def pytest_collection_modifyitems(items):
    """Begin with the commands of the documentation, the longest, so that no worker waits for one at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/test_readme_and_docs.py"))


@pytest.fixture
def crnn():
    """Return a function that runs a command line in this process."""
    from crnn_cli.cli.app import app

    def run(*arguments, stdin=None):
        ended = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)
        if ended.exception is not None and not isinstance(ended.exception, SystemExit):
            raise ended.exception
        return Ended(ended.exit_code, ended.stdout_bytes, ended.stderr)

    return run


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """Return a bundle folder of a small untrained network."""
    torch.manual_seed(3)
    network = CRNNMRI(CRNNMRIConfig(features=6, kernel=3, iterations=2))
    config = {
        "task": "reconstruct", "network": "crnn-mri", "initial_image": "view-shared", "input_rms": 1.0,
        "settings": {"features": 6, "kernel": 3, "iterations": 2}, "licence": "CC0-1.0",
        "summary": "untrained, for tests",
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    return write_bundle(folder, config, network.state_dict(), "# tiny\n").folder


@pytest.fixture
def scan(tmp_path):
    """Return a complex zero-filled scan, its mask (x, y, 1, t), and the file."""
    truth = moving_cine()
    mask = lines_mask(24, 20, 6)
    zero_filled = to_images(to_kspace(truth) * mask).astype(np.complex64)
    return zero_filled, mask, save(tmp_path / "scan.nii.gz", zero_filled)


@pytest.fixture
def evaluate(crnn, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments, stdin=None, code=0):
        ended = crnn("evaluate", *arguments, stdin=stdin)
        assert ended.code == code, ended.err
        assert "Traceback" not in ended.err
        return ended

    return run


@pytest.fixture
def report(evaluate):
    return lambda *arguments, **options: json.loads(evaluate(*arguments, "--json", **options).out)
