"""Memory and time of reconstructing raw k-space of many coils, slice by slice; needs no data.

python benchmarks/raw.py [--method crnn] [--slices 3] [--coils 30] [--size 256] [--frames 30] [--compress 0]
python benchmarks/raw.py --method zero-filled --slices 12 --frames 111 --alike       20 GiB of k-space

Writes a phantom scan as NumPy k-space (slice, coil, t, ky, kx), 8-fold undersampled, with noise, and runs the command
on it, and on one slice of it. The memory at the peak must not grow with the number of slices, but for the images.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from crnn_cli.mri.phantom.ellipses import Grid
from crnn_cli.mri.phantom.scan import PhantomScan, simulate_slice
from crnn_cli.mri.sampling import variable_density


def written(folder: Path, options: argparse.Namespace) -> tuple[Path, Path]:
    """Return the file of all slices, and one of the first alone."""
    shape = (options.slices, options.coils, options.frames, options.size, options.size)
    whole = np.lib.format.open_memmap(folder / "whole.npy", "w+", np.complex64, shape)
    scan = PhantomScan(
        Grid(options.size, options.size, 1.5), options.frames, options.slices, options.coils, snr=100, seed=1
    )
    for z in range(options.slices):
        if options.alike and z > 0:
            whole[z] = whole[0]
            continue
        generator = torch.Generator().manual_seed(z)
        mask = variable_density(options.frames, options.size, 8, generator)
        whole[z] = (simulate_slice(scan, z).kspace_CTYX * mask[None, :, :, None]).numpy()
    whole.flush()
    np.save(folder / "one.npy", whole[:1])
    return folder / "whole.npy", folder / "one.npy"


def measured(file: Path, options: argparse.Namespace) -> tuple[float, float, dict]:
    """Return GiB at the peak, seconds, and the report of a run in a process of its own."""
    out = file.with_suffix(".nii")
    command = [sys.executable, "-m", "crnn_cli", "-q", "reconstruct", file, "--axes", "slice,coil,t,ky,kx"]
    command += ["--method", options.method, "-o", out, "--json"]
    command += ["--coils", options.compress] if options.compress else []
    began = time.monotonic()
    reader, writer = os.pipe()
    child = subprocess.Popen([str(part) for part in command], stdout=writer)
    os.close(writer)
    with os.fdopen(reader) as text:
        report = json.loads(text.read())
    _, _, usage = os.wait4(child.pid, 0)
    return usage.ru_maxrss / 2**20, time.monotonic() - began, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="crnn")
    parser.add_argument("--slices", type=int, default=3)
    parser.add_argument("--coils", type=int, default=30)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--compress", type=int, default=0)
    parser.add_argument("--alike", action="store_true", help="write the first slice again for the others")
    parser.add_argument("--folder", type=Path, help="for the files, several GB; a temporary one by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        with ProcessPoolExecutor(1, get_context("spawn")) as apart:  # a child's peak is at least that of its parent
            files = apart.submit(written, Path(folder), options).result()
        print("| slices | file, GiB | peak, GiB | seconds | residual |\n|---|---|---|---|---|")
        for file, slices in zip(files[::-1], (1, options.slices), strict=True):
            peak, seconds, report = measured(file, options)
            size = file.stat().st_size / 2**30
            residual = report["reliability"]["residual"]["overall"]
            print(f"| {slices} | {size:.2f} | {peak:.2f} | {seconds:.1f} | {residual:.1e} |", flush=True)


if __name__ == "__main__":
    main()
