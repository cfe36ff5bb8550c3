"""Time, memory and repeatability of ``crnn segment`` on a volume of 256 x 256 x 12.

python benchmarks/segment_resources.py [--model cardiac-sax-clstm] [--size 256] [--slices 12]

The volume is a frame of the simulated heart. Each figure is of a process of its own on the CPU; memory is the maximum
resident set size, less that of a process that only imports the same libraries.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from resources import CRNN, run

LIBRARIES = "import torch, numpy, nibabel, SimpleITK, rich.table, safetensors.torch, PIL.Image"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cardiac-sax-clstm")
    parser.add_argument("--size", default="256")
    parser.add_argument("--slices", default="12")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan = ["simulate", "-o", str(folder / "s"), "--size", arguments.size, "--slices", arguments.slices]
        run([*CRNN, "-q", *scan, "--frames", "2", "--undersample", "1"])
        truth = nib.load(folder / "s_truth.nii.gz")
        volume = np.abs(np.asanyarray(truth.dataobj)[..., 0]).astype(np.float32)
        nib.save(nib.Nifti1Image(volume, truth.affine), folder / "v.nii")
        command = [*CRNN, "-q", "segment", str(folder / "v.nii"), "--slices", "--model", arguments.model]
        runs = [run([*command, "--device", "cpu", "-o", str(folder / f"{k}.nii.gz")]) for k in range(3)]
        sums = {hashlib.sha256((folder / f"{k}.nii.gz").read_bytes()).hexdigest() for k in range(3)}
        inner = [json.loads((folder / f"{k}.json").read_text())["seconds"] for k in range(3)]
    libraries = run([sys.executable, "-c", LIBRARIES])
    shape = " x ".join(map(str, volume.shape))
    seconds, memory = sorted(r[0] for r in runs)[1], max(r[1] for r in runs) - libraries[1]
    print("| what | figure | bar |\n|---|---|---|")
    print(f"| {shape} on {os.cpu_count()} cores, whole command, median of 3 | {seconds:.1f} s | 10 s |")
    print(f"| of which labelling | {sorted(inner)[1]:.1f} s | - |")
    print(f"| peak memory beyond the libraries' {libraries[1]:.2f} GiB | {memory:.2f} GiB | 2 GiB |")
    print(f"| same input three times | {'identical bytes' if len(sums) == 1 else 'DIFFERENT'} | identical |")


if __name__ == "__main__":
    main()
