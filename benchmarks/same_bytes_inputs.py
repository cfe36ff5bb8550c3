"""Small inputs for ``same_bytes.py``, good and bad, made from the sample data without crnn."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

AFFINE = np.diag([1.5, 1.5, 8.0, 1.0])
SEGMENT_SETTINGS = """
[network]
width = 2
scales = 2
hidden = 2
[cnn]
slices = 3
[recurrent]
slices = 3
"""
RECONSTRUCT_SETTINGS = """
items = 6
pixels = 2000
[network]
features = 4
iterations = 2
[sampling]
lines = 24
most_lines = 32
frames = 3
most_frames = 4
cycle = 5
most_cycle = 6
"""
RAW_SETTINGS = """
several = 0.5
coils = 2
most_coils = 3
[network]
sets = 2
shift = 1
context = 1
trust = 1
"""


def make_inputs(folder: Path, sample: Path, setting: Callable[[str], str]) -> None:
    """Write all inputs into a new folder; ``setting`` names the keys of settings."""
    folder.mkdir(parents=True)
    cine = nib.load(sample / "pig_cine.nii.gz")
    stack = nib.load(sample / "pig_stack.nii.gz")
    make_images(folder, cine, stack)
    make_cines(folder / "cines", np.asarray(cine.dataobj))
    make_volumes(folder / "Task99")
    make_bad(folder, sample)
    for name, text in (("segment", SEGMENT_SETTINGS), ("reconstruct", RECONSTRUCT_SETTINGS), ("full", full_settings())):
        lines = [rename_key(line, setting) for line in text.splitlines()]
        (folder / f"{name}.toml").write_text("\n".join(lines) + "\n")


def full_settings() -> str:
    """Build the settings of a network with every part that a published model has."""
    sampling, network = RAW_SETTINGS.strip().split("[network]\n")
    return RECONSTRUCT_SETTINGS.replace("[network]\n", f"[network]\n{network}\n").replace(
        "[sampling]\n", f"[sampling]\n{sampling}"
    )


def rename_key(line: str, setting: Callable[[str], str]) -> str:
    key, equals, value = line.partition(" = ")
    return setting(key) + equals + value if equals else line


def make_images(folder: Path, cine: nib.Nifti1Image, stack: nib.Nifti1Image) -> None:
    """Write volumes, a series without a slice axis, a small cine and a phase for it, and the inputs of a batch."""
    frames = np.asarray(cine.dataobj)
    volumes = np.asarray(stack.dataobj)
    save(folder / "volume.nii.gz", volumes[..., 0], stack.affine)
    save(folder / "small.nii.gz", frames[32:96, 32:96, :, :8], cine.affine)
    save(folder / "xyt.nii.gz", frames[32:96, 32:96, 0, :8], cine.affine)
    save(folder / "fine.nii.gz", frames[40:80, 40:90, 0, :], np.eye(4))  # as a volume of 1 mm
    x, y = np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 64), indexing="ij")
    phase = np.broadcast_to((x * y + 0.3 * x)[:, :, None, None], (64, 64, 1, 8)).astype(np.float32)
    save(folder / "phase.nii.gz", phase, cine.affine)
    for name in ("first", "second"):  # of a batch
        (folder / "studies").mkdir(exist_ok=True)
        part = frames[32:96, 32:96, :, :8] if name == "first" else frames[30:90, 34:98, :, 8:14]
        save(folder / "studies" / f"{name}.nii.gz", part, cine.affine)


def make_cines(folder: Path, frames: np.ndarray) -> None:
    """Write three small cines to train on."""
    folder.mkdir()
    for number in range(3):
        start = 30 + 8 * number
        part = frames[start : start + 40, start : start + 36, :, number : number + 6]
        save(folder / f"{number}.nii.gz", part.astype(np.float32), AFFINE)


def make_volumes(folder: Path) -> None:
    """Write five volumes of two structures in the layout of the Decathlon."""
    x, y, z = np.meshgrid(np.arange(16), np.arange(12), np.arange(5), indexing="ij")
    for number in range(5):
        random = np.random.default_rng(number)
        radius = np.hypot(x - 7.5 - random.uniform(-1, 1), y - 5.5 - random.uniform(-1, 1)) + 0.5 * abs(z - 2)
        labels = (radius < 4).astype(np.uint8) + (radius < 2)
        image = (100 * labels + 20 * random.random(labels.shape)).astype(np.float32)
        for name, array in (("imagesTr", image), ("labelsTr", labels)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            save(folder / name / f"v{number}.nii.gz", array, AFFINE)
    (folder / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "core", "2": "rim"}}))


def make_bad(folder: Path, sample: Path) -> None:
    """Write files that must be refused."""
    (folder / "text.nii.gz").write_text("this is no image\n")
    (folder / "text.pth").write_text("this is no checkpoint\n")
    content = (sample / "pig_cine.nii.gz").read_bytes()
    (folder / "truncated.nii.gz").write_bytes(content[: len(content) // 2])
    undersampled = np.asarray(nib.load(sample / "cine_undersampled.nii.gz").dataobj)
    save(folder / "magnitude.nii.gz", np.abs(undersampled), AFFINE)
    save(folder / "complex.nii.gz", undersampled[..., 0], AFFINE)
    damaged = np.abs(undersampled)
    damaged[3, 4, 0, 5] = np.nan
    save(folder / "nan.nii.gz", damaged, AFFINE)
    save(folder / "empty.nii.gz", np.zeros((64, 64, 4), np.float32), AFFINE)
    save(folder / "mask_7x9.nii.gz", np.ones((7, 9, 1, 16), np.uint8), AFFINE)
    np.save(folder / "real.npy", np.ones((2, 4, 24, 32), np.float32))
    random = np.random.default_rng(1).standard_normal((2, 2, 4, 24, 32))
    np.save(folder / "kspace.npy", (random[0] + 1j * random[1]).astype(np.complex64))
    (folder / "nothing").mkdir()
    with zipfile.ZipFile(folder / "words.zip", "w") as file:
        file.writestr(zipfile.ZipInfo("words.txt"), "no DICOM in here")


def save(file: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write NIfTI; the frame time of series is 40 ms."""
    image = nib.Nifti1Image(np.ascontiguousarray(array), affine)
    image.header.set_xyzt_units("mm", "sec")
    if array.ndim == 4:
        image.header["pixdim"][4] = 0.04
    nib.save(image, file)
