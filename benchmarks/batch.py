"""How much of the time of a batch is computing, and what it saves over single commands.

python benchmarks/batch.py [--studies 20] [--size 128] [--frames 16] [--single 3]

Simulates small undersampled scans with ``crnn simulate``, reconstructs them with ``crnn batch reconstruct`` in a new
process, and some of them with a ``crnn reconstruct`` each, whose mean time is scaled to all; prints a Markdown table.
The outputs of both must have the same bytes. The bar is 90 % computing once the program has started.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CRNN = [sys.executable, "-m", "crnn_cli", "-q"]


def run(*command: str) -> float:
    """Run a command; return the seconds it took, its start included."""
    began = time.perf_counter()
    subprocess.run([*CRNN, *command], check=True)
    return time.perf_counter() - began


def simulated(folder: Path, count: int, size: int, frames: int) -> list[Path]:
    """Make scans of different sampling patterns."""
    made = []
    for number in range(count):
        name = folder.parent / f"s{number:02d}"
        options = ["--size", str(size), "--frames", str(frames), "--undersample", "6", "--seed", str(number)]
        run("simulate", "-o", str(name), *options)
        made.append((folder.parent / f"{name.name}_zerofilled.nii.gz").rename(folder / f"{name.name}.nii.gz"))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--single", type=int, default=3, help="how many of them get a command of their own")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name, "studies"), Path(name, "out")
        folder.mkdir()
        scans = simulated(folder, arguments.studies, arguments.size, arguments.frames)
        whole = run("batch", "reconstruct", str(folder), "-o", str(out), "--device", "cpu")
        figures = json.loads((out / "crnn_batch.jsonl").read_text().splitlines()[-1])
        again = run("batch", "reconstruct", str(folder), "-o", str(out), "--device", "cpu", "--resume")
        chosen, single = scans[: arguments.single], 0.0
        for scan in chosen:
            target = Path(name, scan.name)
            single += run("reconstruct", str(scan), "-o", str(target), "--device", "cpu")
            same = target.read_bytes() == (out / scan.name.replace(".nii.gz", "_crnn.nii.gz")).read_bytes()
            if not same:
                raise SystemExit(f"{scan.name}: the batch and the single command differ")
    singles = single / len(chosen) * len(scans)
    shape = f"{arguments.size} x {arguments.size} x {arguments.frames}"
    print(f"{len(scans)} studies, {shape}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| what | figure | bar |\n|---|---|---|")
    print(f"| computing, share of the time after the start | {figures['later_share']:.1%} | 90 % |")
    print(f"| computing, share of the whole time | {figures['share_computing']:.1%} | - |")
    print(f"| the batch | {whole:.1f} s, of it {figures['seconds_to_start']:.1f} s to load torch and the model | - |")
    print(f"| as many single commands ({len(chosen)} were run) | {singles:.1f} s, {singles / whole:.2f} times | - |")
    print(f"| the same again with `--resume` | {again:.1f} s | - |")


if __name__ == "__main__":
    main()
