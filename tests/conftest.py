"""What many tests share: a moving cine, files of it, a small bundle, and the command line in this process."""

import json
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: on small arrays its threads wait for each other

import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from crnn_cli.bundles import write_bundle
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig

DATA = Path(os.environ.get("CRNN_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
AFFINE = np.array([[1.3, 0.2, 0.4, -70.0], [-0.3, 1.4, 0.5, 20.0], [-0.1, -0.3, 8.0, 5.0], [0, 0, 0, 1]])


def data_file(*parts):
    """Return a file of the real data, or skip the test."""
    file = DATA.joinpath(*parts)
    if not file.exists():
        pytest.skip(f"real data not here: {file} (set CRNN_TEST_DATA)")
    return file


def moving_cine(x=24, y=20, z=2, t=6, seed=0, noise=0.01):
    """Return a complex cine (x, y, z, t): a pulsating disc on a textured body, smooth phase, a little noise."""
    rng = np.random.default_rng(seed)
    gx, gy = np.meshgrid(np.linspace(-1, 1, x), np.linspace(-1, 1, y), indexing="ij")
    body = 1.0 * (gx**2 + gy**2 < 0.9) * (1 + 0.2 * np.sin(7 * gx) * np.cos(5 * gy))
    frames = np.stack(
        [body + 1.5 * ((gx - 0.1) ** 2 + gy**2 < (0.3 + 0.15 * np.sin(2 * np.pi * k / t)) ** 2) for k in range(t)], -1
    )
    phase = np.exp(1j * (0.5 + gx + 0.7 * gy))
    series = np.stack([(1 - 0.2 * k) * frames * phase[..., None] for k in range(z)], axis=2)
    return (series + noise * (rng.normal(size=series.shape) + 1j * rng.normal(size=series.shape))).astype(np.complex64)


def lines_mask(x, y, t, axis=1, seed=0, share=0.4):
    """Return a 0/1 mask (x, y, 1, t) of whole lines that change over time, the centre always measured."""
    rng = np.random.default_rng(seed)
    n = (x, y)[axis]
    lines = rng.random((n, t)) < share
    lines[n // 2 - 1 : n // 2 + 1] = True
    shape = [1, 1, 1, t]
    shape[axis] = n
    return np.broadcast_to(lines.reshape(shape), (x, y, 1, t)).astype(np.uint8)


def to_kspace(images):
    """Return centred orthonormal k-space of (x, y, ...) in double precision, written on its own."""
    shifted = np.fft.ifftshift(images.astype(np.complex128), (0, 1))
    return np.fft.fftshift(np.fft.fft2(shifted, axes=(0, 1), norm="ortho"), (0, 1))


def to_images(kspace):
    """Return images of centred orthonormal k-space (x, y, ...)."""
    shifted = np.fft.ifftshift(kspace, (0, 1))
    return np.fft.fftshift(np.fft.ifft2(shifted, axes=(0, 1), norm="ortho"), (0, 1))


def save(path, array, frame_time=0.03, affine=AFFINE):
    """Write a NIfTI file."""
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm", "sec")
    if array.ndim == 4:
        image.header["pixdim"][4] = frame_time
    nib.save(image, path)
    return path


def table_rows(text):
    """Return the cells of a printed table, by the first of each row."""
    cells = [[cell.strip() for cell in line.strip(" │").split("│")] for line in text.splitlines() if "│" in line]
    return {first: rest for first, *rest in cells if first}


def free_port():
    """Return a port that nobody listens on, as text."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return str(opened.getsockname()[1])


def run_two_processes(script, folder):
    """Run a Python script, which is told the folder, in two processes that train together."""
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(folder)],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in started:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: bytes
    err: str


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
        "task": "reconstruct", "network": "crnn-mri", "start": "view-shared", "amplitude": 1.0, "licence": "CC0-1.0",
        "settings": {"features": 6, "kernel": 3, "iterations": 2}, "summary": "untrained, for tests",
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
