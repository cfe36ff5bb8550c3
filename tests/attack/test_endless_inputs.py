"""Devices and named pipes in the place of any file: refused at once, whichever option or table names them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

from tests.support import kspace
from tests.support.cines import moving_cine, save
from tests.support.command_line import Ended


class LateError(BaseException):
    """It took too long. No error that a command could take for its own."""


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """Fail, and do not hang, where something is read that never ends."""

    def late(number: int, frame: FrameType | None) -> None:
        raise LateError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


COMMANDS = {
    "info": "info X", "convert": "convert X out.nii", "verify": "verify X whole.nii", "other": "verify whole.nii X",
    "reconstruct": "reconstruct X -o out.nii --undersample 2 --model tiny", "segment": "segment X -o out.nii --slices",
    "reference": "evaluate whole.nii --reference X", "mask": "reconstruct scan.nii -o out.nii --mask X --model tiny",
    "phase": "reconstruct whole.nii -o out.nii --phase X --model tiny", "report": "report X",
    "maps": "reconstruct raw.npy --axes slice,coil,t,ky,kx -o out.nii --maps X --method sense",
    "config": "train reconstruct --simulated -o new --config X", "model": "reconstruct scan.nii -o out.nii --model X",
    "import": "models import X -o imported", "data": "train segment X -o new",
    "batch": "batch reconstruct X -o results --undersample 2 --model tiny",
    "manifest": "train segment list.csv -o new --fold none", "compare": "compare X --method zero-filled",
    "dicom": "convert whole.nii derived --reference-dicom X",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", COMMANDS)
def test_what_never_ends_is_refused(
    name: str, kind: str, crnn: Callable[..., Ended], bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "whole.nii", np.abs(moving_cine(16, 16, 1, 3)), affine=np.diag([1.0, 1, 8, 1]))
    save(tmp_path / "scan.nii", moving_cine(16, 16, 1, 3))
    kspace.write_npy(tmp_path / "raw.npy", kspace.kspace(1, 2, 3, 16, 16))
    (tmp_path / "tiny").symlink_to(bundle)
    os.mkfifo(tmp_path / "pipe")
    endless = "/dev/zero" if kind == "device" else str(tmp_path / "pipe")
    (tmp_path / "list.csv").write_text(f"image,label\n{endless},{endless}\n")
    words = [endless if word == "X" else word for word in COMMANDS[name].split()]
    ended = crnn(*words)
    codes = (7,) if name == "batch" else (2, 3)
    assert ended.code in codes, ended.err
    assert not (tmp_path / "out.nii").exists()


def test_a_bundle_that_never_ends_is_refused(crnn: Callable[..., Ended], bundle: Path, tmp_path: Path) -> None:
    for name in ("config.json", "weights.safetensors", "README.md"):
        folder = tmp_path / name
        folder.mkdir()
        for file in bundle.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / name).unlink()
        os.mkfifo(folder / name)
        ended = crnn("models", "show", folder)
        assert ended.code == (0 if name == "README.md" else 3), ended.err


@pytest.mark.parametrize(
    "cell", ["/", ".", "..", ".nii.gz", "imagesTr/.nii", "", '" "', "\x1b[31m", "a" * 5000, "\ud800"]
)
def test_a_cell_of_a_manifest_may_be_anything(cell: str, crnn: Callable[..., Ended], tmp_path: Path) -> None:
    rows = f"image,label\n{cell},{cell}\n{cell},b.nii\n"
    (tmp_path / "list.csv").write_bytes(rows.encode("utf-8", "surrogatepass"))
    ended = crnn("train", "segment", tmp_path / "list.csv", "-o", tmp_path / "new", "--fold", "none")
    assert ended.code in (2, 3, 4), ended.err


def test_a_description_of_data_that_never_ends_is_refused(crnn: Callable[..., Ended], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "dataset.json")
    ended = crnn("train", "segment", tmp_path, "-o", tmp_path / "new")
    assert ended.code in (2, 3), ended.err
    (tmp_path / "dataset.json").unlink()
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"a": 10**400}}))
    assert crnn("train", "segment", tmp_path, "-o", tmp_path / "new").code in (2, 3)
