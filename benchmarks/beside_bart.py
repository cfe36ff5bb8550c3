"""Time of the whole command beside BART's temporal total variation, taking turns on the same cores.

python benchmarks/beside_bart.py [--size 256] [--frames 30] [--repeats 3] [--models cine-crnn-fast cine-crnn]

A phantom scan of one coil at 8x (`crnn simulate`). BART gets its k-space as files of its own, sensitivities of one, and
runs 60 iterations: `bart pics -i 60 -R T:1024:0:0.01`. `crnn reconstruct` runs as a user starts it, with the check at
lines held out and without (`--hold-out-folds 0`). In each round every command runs once; ratios are those of a round,
and the median over the rounds is printed, with the peak memory of the process.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from baselines import write_cfl
from resources import CRNN, run, simulated

from crnn_cli.mri.fourier import image_to_kspace


def write_for_bart(scan: Path, folder: Path) -> None:
    """Write k-space and sensitivities of zero-filled images; samples that were not measured become zeros."""
    images_TYX = np.asarray(nib.load(scan).dataobj)[:, :, 0].T
    mask_TYX = np.asarray(nib.load(str(scan).replace("_zerofilled", "_mask")).dataobj)[:, :, 0].T
    kspace_TYX = image_to_kspace(torch.from_numpy(images_TYX.astype(np.complex64))).numpy() * mask_TYX
    write_cfl(folder / "kspace", kspace_TYX, 2)
    write_cfl(folder / "coil", np.ones((1, *kspace_TYX.shape[1:])), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="256")
    parser.add_argument("--frames", default="30")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["cine-crnn-fast", "cine-crnn"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan, _ = simulated(folder, options.size, options.frames)
        write_for_bart(scan, folder)
        kspace, coil, image = (str(folder / each) for each in ("kspace", "coil", "image"))
        commands = {"bart pics": ["bart", "pics", "-i", "60", "-R", "T:1024:0:0.01", kspace, coil, image]}
        out = folder / "out.nii.gz"
        for model in options.models:
            base = [*CRNN, "-q", "reconstruct", str(scan), "--model", model, "-o", str(out), "--force"]
            commands |= {f"{model}, no line check": [*base, "--hold-out-folds", "0"], model: base}
        found: dict[str, list[tuple[float, float]]] = {each: [] for each in commands}
        for _ in range(options.repeats):
            for each, command in commands.items():
                found[each].append(run(command))
    side = f"{options.size} x {options.size} x {options.frames}, {os.cpu_count()} cores"
    print(f"| {side} | seconds | of BART's time | peak memory, GiB |\n|---|--:|--:|--:|")
    for each, runs in found.items():
        ratios = [mine / other for (mine, _), (other, _) in zip(runs, found["bart pics"], strict=True)]
        seconds = float(np.median([spent for spent, _ in runs]))
        print(f"| {each} | {seconds:.1f} | {np.median(ratios):.2f} | {max(memory for _, memory in runs):.2f} |")


if __name__ == "__main__":
    main()
