"""Inputs of all formats that are read, mutated, and the commands that read them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import torch
from typer.testing import CliRunner

from crnn_cli.bundles.store import write_bundle
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
from tests.support import kspace, mutants
from tests.support.cines import AFFINE, lines_mask, moving_cine, save, to_images, to_kspace
from tests.support.dicom import values, write_series
from tests.support.ismrmrd import Options, write_scan
from tests.support.mutants import Dice, pick

_SETTINGS = {
    "segment": "epochs = 1\n[network]\nwidth = 2\nscales = 2\nhidden = 2\n[cnn]\nslices = 3\nsequences = 1\n"
    "[recurrent]\nslices = 3\nsequences = 1\n",
    "reconstruct": "epochs = 1\nitems = 2\nbatch = 1\npixels = 2000\n[network]\nfeatures = 4\niterations = 2\n"
    "[sampling]\nlines = 24\nmost_lines = 32\nframes = 3\nmost_frames = 4\ncycle = 5\nmost_cycle = 6\n",
}  # fmt: skip
_COUNTS = ("epochs", "items", "batch", "sequences", "slices", "validations")

Words = list[str]
Drawn = Callable[[Path, Dice], Words]
"""Mutates a file in a folder of all inputs, and gives the command that reads it."""


@dataclass(frozen=True)
class Kind:
    """A kind of input, its share of all mutants, and what draws one."""

    name: str
    share: int
    draw: Drawn


def run(folder: Path, *words: object) -> None:
    """Run a command that makes an input; it must end well."""
    from crnn_cli.cli.app import app

    ended = CliRunner().invoke(app, [str(word) for word in words])
    if ended.exit_code:
        raise RuntimeError(f"{words} ended with {ended.exit_code} in {folder}: {ended.output} {ended.exception!r}")


def make_inputs(folder: Path, *, trained: bool = True) -> None:
    """Write a whole input of each kind into a folder; that of resumed training takes longest, and may be left out."""
    from tests.cli.test_segment import CONFIG, weights

    torch.manual_seed(3)
    network = CRNNMRI(CRNNMRIConfig(features=4, kernel=3, iterations=2))
    config = {
        "task": "reconstruct", "network": "crnn-mri", "initial_image": "view-shared", "input_rms": 1.0,
        "settings": {"features": 4, "kernel": 3, "iterations": 2}, "licence": "CC0-1.0", "summary": "untrained",
    }  # fmt: skip
    write_bundle(folder / "tiny", config, network.state_dict(), "# tiny\n")
    write_bundle(folder / "labels", CONFIG, weights(), "# labels\n")
    torch.save({f"bcrnn.{k}" if not k.startswith("bcrnn") else k: v for k, v in network.state_dict().items()},
               folder / "published.pth")  # fmt: skip
    _make_images(folder)
    _make_raw(folder)
    _make_labelled(folder)
    if trained:
        run(folder, "train", "reconstruct", "--simulated", "-o", folder / "mine", "--config",
            folder / "reconstruct.toml", "--device", "cpu")  # fmt: skip
        shutil.rmtree(folder / "mine")  # the run is there, as if it had been killed before its bundle was written
    run(folder, "reconstruct", folder / "whole.nii", "-o", folder / "images.nii.gz", "--model", folder / "tiny",
        "--undersample", 2, "--device", "cpu")  # fmt: skip
    (folder / "many").mkdir()
    shutil.copy(folder / "whole.nii", folder / "many" / "a.nii")
    run(folder, "batch", "reconstruct", folder / "many", "-o", folder / "done", "--model", folder / "tiny",
        "--undersample", 2, "--device", "cpu")  # fmt: skip


def _make_images(folder: Path) -> None:
    cine, mask = moving_cine(16, 16, 1, 3), lines_mask(16, 16, 3)
    zero_filled = to_images(to_kspace(cine) * mask).astype(np.complex64)
    save(folder / "scan.nii.gz", zero_filled)
    save(folder / "magnitude.nii.gz", np.abs(zero_filled))
    save(folder / "phase.nii.gz", np.angle(zero_filled).astype(np.float32))
    save(folder / "mask.nii.gz", mask)
    save(folder / "whole.nii", np.abs(cine))
    save(folder / "short.nii", (np.abs(cine) * 1000).astype(np.int16))
    volume = np.abs(moving_cine(16, 16, 4, 1))[..., 0]
    nib.save(nib.Nifti1Image(volume, AFFINE), folder / "volume.nii.gz")
    nib.save(nib.Nifti2Image((volume > 1).astype(np.uint8), AFFINE), folder / "segmented.nii.gz")
    write_series(folder / "dicom", values(2, 3, 16, 12), series="1.2.3", study="1.2.4")
    for number, file in enumerate(sorted((folder / "dicom").iterdir())):  # no two runs have other UIDs
        data = pydicom.dcmread(file)
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.5.{number}"
        data.FrameOfReferenceUID = "1.2.6"
        data.save_as(file)
    shutil.make_archive(str(folder / "study"), "zip", folder / "dicom")


def _make_raw(folder: Path) -> None:
    k_ZCTYX = kspace.kspace(slices=1, coils=2, frames=3, lines=16, samples=16)
    kspace.write_npy(folder / "raw.npy", k_ZCTYX)
    kspace.write_bart(folder / "bart", k_ZCTYX)
    kspace.write_v5(folder / "v5.mat", kspace_full=kspace.matlab(k_ZCTYX))
    kspace.write_v73(folder / "v73.mat", kspace_full=kspace.matlab(k_ZCTYX))
    kspace.write_fastmri(folder / "fastmri.h5", k_ZCTYX, mask=np.ones(16, np.uint8))
    write_scan(folder / "ismrmrd.h5", Options(samples=16, lines=16, frames=2, slices=1))
    np.save(folder / "maps.npy", np.ones((2, 16, 16), np.complex64) / np.sqrt(2))


def _make_labelled(folder: Path) -> None:
    data = folder / "labelled"
    for number in range(4):
        volume = np.abs(moving_cine(12, 12, 4, 1, seed=number))[..., 0].astype(np.float32)
        for name, array in (("imagesTr", volume), ("labelsTr", (volume > 1).astype(np.uint8))):
            (data / name).mkdir(parents=True, exist_ok=True)
            save(data / name / f"v{number}.nii.gz", array)
    rows = [f"imagesTr/v{n}.nii.gz,labelsTr/v{n}.nii.gz,{'val' if n == 3 else 'train'},s{n}" for n in range(4)]
    (data / "list.csv").write_text("\n".join(["image,label,split,subject", *rows]) + "\n")
    (data / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "core"}}))
    for task, text in _SETTINGS.items():
        (folder / f"{task}.toml").write_text(text)


def _command(folder: Path, dice: Dice, image: Path) -> Words:
    """A command that reads an image."""
    made, tiny = str(folder / "out.nii.gz"), str(folder / "tiny")
    return pick(dice, (
        ["info", str(image)], ["info", str(image), "--json"], ["convert", str(image), made],
        ["reconstruct", str(image), "-o", made, "--model", tiny, "--undersample", "2", "--device", "cpu"],
        ["segment", str(image), "-o", made, "--model", str(folder / "labels"), "--device", "cpu", "--slices"],
        ["evaluate", str(image), "--reference", str(folder / "whole.nii")],
        ["evaluate", str(folder / "whole.nii"), "--reference", str(image)],
        ["verify", str(image), str(folder / "whole.nii")],
    ))  # fmt: skip


def _nifti(folder: Path, dice: Dice) -> Words:
    names = ("scan.nii.gz", "magnitude.nii.gz", "whole.nii", "short.nii", "volume.nii.gz", "segmented.nii.gz")
    path = folder / pick(dice, names)
    mutants.mutate_packed(path, dice)
    return _command(folder, dice, path)


def _beside(folder: Path, dice: Dice) -> Words:
    """A mask or a phase beside a scan."""
    start = ["-o", str(folder / "out.nii.gz"), "--model", str(folder / "tiny"), "--device", "cpu"]
    if dice.random() < 0.5:
        mutants.mutate_packed(folder / "mask.nii.gz", dice)
        return ["reconstruct", str(folder / "scan.nii.gz"), *start, "--mask", str(folder / "mask.nii.gz")]
    mutants.mutate_packed(folder / "phase.nii.gz", dice)
    return ["reconstruct", str(folder / "magnitude.nii.gz"), *start, "--phase", str(folder / "phase.nii.gz")]


def _dicom(folder: Path, dice: Dice) -> Words:
    if dice.random() < 0.2:
        mutants.mutate_packed(folder / "study.zip", dice)
        return _command(folder, dice, folder / "study.zip")
    files = sorted((folder / "dicom").iterdir())
    for _ in range(int(dice.integers(1, 4))):
        mutants.mutate_dicom(pick(dice, files), dice)
    return _command(folder, dice, folder / "dicom" if dice.random() < 0.8 else files[0])


def _raw(folder: Path, dice: Dice) -> Words:
    name = pick(dice, ("raw.npy", "bart.hdr", "bart.cfl", "v5.mat", "v73.mat", "fastmri.h5", "ismrmrd.h5", "maps.npy"))
    path = folder / name
    (mutants.mutate_hdf5 if name in ("v73.mat", "fastmri.h5", "ismrmrd.h5") else mutants.mutate_packed)(path, dice)
    scan = folder / "raw.npy" if name == "maps.npy" else path
    axes = ["--axes", "slice,coil,t,ky,kx"] if scan.name == "raw.npy" else []
    if dice.random() < 0.3 and name != "maps.npy":
        return ["info", str(scan)]
    method = pick(dice, ("zero-filled", "sense", "network"))
    network = ["--model", str(folder / "tiny")] if method == "network" else ["--method", method]
    maps = ["--maps", str(folder / "maps.npy")] if name == "maps.npy" else []
    return ["reconstruct", str(scan), "-o", str(folder / "out.nii.gz"), "--device", "cpu", *network, *axes, *maps]


def _bundle(folder: Path, dice: Dice) -> Words:
    name = pick(dice, ("tiny", "labels"))
    file = pick(dice, ("config.json", "config.json", "config.json", "weights.safetensors", "README.md"))
    path = folder / name / file
    if file == "config.json":
        mutants.mutate_json(path, dice)
    else:
        path.write_bytes(mutants.mutated_bytes(path.read_bytes(), dice))
    if dice.random() < 0.4:
        return ["models", "show", str(folder / name)]
    task = ["reconstruct", str(folder / "whole.nii"), "--undersample", "2"]
    if name == "labels":
        task = ["segment", str(folder / "volume.nii.gz"), "--slices"]
    return [*task, "-o", str(folder / "out.nii.gz"), "--model", str(folder / name), "--device", "cpu"]


def _report(folder: Path, dice: Dice) -> Words:
    mutants.mutate_json(folder / "images.json", dice)
    return ["report", str(folder / "images.nii.gz"), "-o", str(folder / "page.html")]


def _settings(folder: Path, dice: Dice) -> Words:
    """Settings that are only read; or counts that are carried out, within next to no time."""
    task = pick(dice, ("segment", "reconstruct"))
    path = folder / f"{task}.toml"
    if dice.random() < 0.75:
        mutants.mutate_text(path, dice)
        return ["train", task, "--config", str(path), "--print-config"]
    number = pick(dice, ("1000000000000000", "100000000", "0", "-1", "1e15", "true", "3.5", "9" * 400))
    lines = path.read_text().splitlines()
    chosen = pick(dice, [n for n, line in enumerate(lines) if line.split(" ")[0] in _COUNTS])
    lines[chosen] = f"{lines[chosen].split(' ')[0]} = {number}"
    path.write_text("\n".join(lines))
    data = ["--simulated"] if task == "reconstruct" else [str(folder / "labelled")]
    return ["train", task, *data, "-o", str(folder / "new"), "--config", str(path), "--minutes", "0.0001",
            "--device", "cpu"]  # fmt: skip


def _manifest(folder: Path, dice: Dice) -> Words:
    data = folder / "labelled"
    source = data
    if dice.random() < 0.6:
        source = data / "list.csv"
        mutants.mutate_text(source, dice)
    else:
        mutants.mutate_json(data / "dataset.json", dice)
    return ["train", "segment", str(source), "-o", str(folder / "new"), "--config", str(folder / "segment.toml"),
            "--minutes", "0.0001", "--device", "cpu", "--fold", pick(dice, ("none", "0/2"))]  # fmt: skip


def _batch(folder: Path, dice: Dice) -> Words:
    done = folder / "done"
    path = done / pick(dice, ("a_crnn.json", "a_crnn.json", "a_crnn.nii.gz", "crnn_batch.jsonl"))
    if path.suffix == ".json":
        mutants.mutate_json(path, dice)
    else:
        path.write_bytes(mutants.mutated_bytes(path.read_bytes(), dice))
    more = ["--max-residual", "100"] if dice.random() < 0.5 else []
    return ["batch", "reconstruct", str(folder / "many"), "-o", str(done), "--model", str(folder / "tiny"),
            "--undersample", "2", "--device", "cpu", "--resume", *more]  # fmt: skip


def _resume(folder: Path, dice: Dice) -> Words:
    path = pick(dice, sorted(p for p in (folder / "mine.run").iterdir() if p.is_file() and p.suffix != ".png"))
    if path.suffix == ".json":
        mutants.mutate_json(path, dice)
    else:
        path.write_bytes(mutants.mutated_bytes(path.read_bytes(), dice))
    return ["train", "reconstruct", "--simulated", "-o", str(folder / "mine"), "--config",
            str(folder / "reconstruct.toml"), "--device", "cpu", "--resume"]  # fmt: skip


def _checkpoint(folder: Path, dice: Dice) -> Words:
    mutants.mutate_packed(folder / "published.pth", dice)
    return ["models", "import", str(folder / "published.pth"), "-o", str(folder / "imported")]


KINDS = (
    Kind("NIfTI", 900, _nifti), Kind("masks and phases", 300, _beside), Kind("DICOM", 800, _dicom),
    Kind("raw and maps", 1000, _raw), Kind("bundles", 500, _bundle), Kind("reports", 400, _report),
    Kind("settings", 400, _settings), Kind("manifests", 250, _manifest), Kind("batch resume", 150, _batch),
    Kind("training resume", 120, _resume), Kind("checkpoints", 180, _checkpoint),
)  # fmt: skip
"""All kinds; their shares are of 5,000."""


def draw_mutant(kind: Kind, seed: int, number: int, inputs: Path, folder: Path) -> Words:
    """Copy the inputs to a new folder, mutate one of them, and give the command that reads it.

    Parameters
    ----------
    seed, number : which mutant of the kind.
    """
    shutil.copytree(inputs, folder)
    dice = np.random.default_rng([seed, [each.name for each in KINDS].index(kind.name), number])
    return kind.draw(folder, dice)
