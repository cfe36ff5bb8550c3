"""Memory, repeatability, residual of the written file, and start-up.

python benchmarks/resources.py [--size 256] [--frames 30]

Makes a phantom scan with ``crnn simulate``, reconstructs it twice with the default model on the CPU in processes of
their own, and prints a Markdown table. Peak memory is that of the whole process (maximum resident set size). Of a small
scan it says how the time of the command is divided: imports (``python -X importtime``, all modules), the reconstruction
with the lines held out (the report), and the rest: the model, reading, checking, writing and reading back.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

SAMPLE = Path(__file__).parents[1] / "sample_data/cine_undersampled.nii.gz"
CRNN = [sys.executable, "-m", "crnn_cli"]


def run(command: list[str]) -> tuple[float, float]:
    """Run a command; return seconds and peak memory in GiB."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - began, usage.ru_maxrss / 2**20


def simulated(folder: Path, size: str, frames: str) -> tuple[Path, tuple[float, float]]:
    """Make a phantom scan; return its zero-filled images, and what that took."""
    name = folder / f"s{size}"
    spent = run([*CRNN, "-q", "simulate", "-o", str(name), "--size", size, "--frames", frames])
    return Path(f"{name}_zerofilled.nii.gz"), spent


def divided(folder: Path, size: str = "128", frames: str = "16") -> str:
    """Return a row that says where the time of a small reconstruction goes; the median of five by their sum."""
    scan, _ = simulated(folder, size, frames)
    found = []
    for number in range(5):
        out = folder / f"small{number}.nii.gz"
        command = [sys.executable, "-X", "importtime", "-m", "crnn_cli", "-q", "reconstruct", str(scan), "-o", str(out)]
        began = time.perf_counter()
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        whole = time.perf_counter() - began
        imports = sum(int(micro) for micro in re.findall(r"^import time:\s+(\d+) \|", ended.stderr, re.M)) / 1e6
        found.append((whole, imports, json.loads((folder / f"small{number}.json").read_text())["seconds"]))
    whole, imports, computed = sorted(found)[2]
    parts = (
        f"{whole:.2f} s: imports {imports:.2f}, reconstruction {computed:.2f}, rest {whole - imports - computed:.2f}"
    )
    return f"| time of the command, {size} x {size} x {frames} | {parts} | not dominated by imports |"


def kspace(images: np.ndarray) -> np.ndarray:
    """Return centred orthonormal k-space over the first two axes, in double precision."""
    shifted = np.fft.ifftshift(images.astype(np.complex128), (0, 1))
    return np.fft.fftshift(np.fft.fft2(shifted, axes=(0, 1), norm="ortho"), (0, 1))


def residual(written: Path, zero_filled: Path, mask: Path) -> float:
    """Return ||m F x - y|| / ||y|| of complex images in a file."""
    sampled = np.asanyarray(nib.load(mask).dataobj) != 0
    data = kspace(np.asanyarray(nib.load(zero_filled).dataobj)) * sampled
    found = kspace(np.asanyarray(nib.load(written).dataobj)) * sampled
    return float(np.linalg.norm(found - data) / np.linalg.norm(data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="256")
    parser.add_argument("--frames", default="30")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan, simulation = simulated(folder, arguments.size, arguments.frames)
        runs = []
        for again in ("a", "b"):
            out = ["-o", str(folder / f"{again}.nii.gz"), "--complex", "--device", "cpu"]
            runs.append(run([*CRNN, "-q", "reconstruct", str(scan), *out]))
        sums = {hashlib.sha256((folder / f"{again}.nii.gz").read_bytes()).hexdigest() for again in ("a", "b")}
        precision = json.loads((folder / "a.json").read_text())["precision"]
        left = residual(folder / "a.nii.gz", scan, Path(str(scan).replace("zerofilled", "mask")))
        idle = [min(run([*CRNN, *asked]) for _ in range(7))[0] for asked in (["--help"], ["-q", "info", str(SAMPLE)])]
        small = divided(folder)
    print("| what | figure | bar |\n|---|---|---|")
    shape = f"{arguments.size} x {arguments.size} x {arguments.frames}"
    print(f"| peak memory, {shape}, {precision}, CPU | {runs[0][1]:.2f} GiB | 4 GiB |")
    print(f"| same input twice | {'identical bytes' if len(sums) == 1 else 'DIFFERENT'} | identical |")
    print(f"| relative residual at the measured samples, written file | {left:.1e} | 1e-5 |")
    print(f"| `crnn --help`, `crnn info` | {idle[0]:.2f}, {idle[1]:.2f} s | 0.4 s |")
    print(small)
    print(f"| time of the reconstruction ({os.cpu_count()} cores, shared) | {min(r[0] for r in runs):.1f} s | - |")
    print(f"| time and memory of the simulation | {simulation[0]:.1f} s, {simulation[1]:.2f} GiB | - |")


if __name__ == "__main__":
    main()
