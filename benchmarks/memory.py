"""Memory at the peak of `crnn reconstruct` on scans of many slices, and what an estimate before the start says.

python benchmarks/memory.py [--size 256] [--frames 30] [--slices 1 6] [--memory 4G] [--methods zero-filled crnn]
python benchmarks/memory.py --size 512 --frames 60 --slices 12 --memory 8G --methods crnn --precision bf16

Writes a moving phantom as an uncompressed magnitude NIfTI file, 8-fold undersampled by the command itself, and runs
every method in a process of its own: as it is, and with everything in memory that could lie in files. The images of
both must be the same. One iteration of the network: memory does not depend on how many there are. Needs no data.
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

import nibabel as nib
import numpy as np

START = "import sys; from crnn_cli.cli.app import main; sys.argv[0] = 'crnn'; "
UNLIMITED = "import crnn_cli.data.mapped_arrays as s; s.LARGE = 2**60; "
IMPORTS = """import torch, nibabel, PIL.Image
import crnn_cli.io.nifti.image, crnn_cli.bundles.import_checkpoint, crnn_cli.assessment.reliability"""


def written(folder: Path, size: int, frames: int, slices: int) -> Path:
    """Return a file of discs that beat, one slice brighter than the other, with noise."""
    file = folder / f"{slices}.nii"
    header = nib.Nifti1Image(np.zeros((1, 1, 1, 1), np.float32), np.diag([1.4, 1.4, 8.0, 1.0])).header
    header.set_data_shape((size, size, slices, frames))
    header.set_xyzt_units("mm", "sec")
    header["pixdim"][4], header["vox_offset"], header["magic"] = 0.03, 352, b"n+1"
    away = np.hypot(*np.meshgrid(*[np.linspace(-1, 1, size)] * 2, indexing="ij"))
    generator = np.random.default_rng(0)
    with file.open("wb") as stream:
        stream.write(header.binaryblock + bytes(4))
        for frame in range(frames):
            inner = 0.3 + 0.1 * np.sin(2 * np.pi * frame / frames)
            for z in range(slices):
                plane = (1 + 0.1 * z) * (1.0 * (away < 0.9) + 1.5 * (away < inner))
                plane = plane + generator.normal(scale=0.01, size=plane.shape)
                stream.write(np.abs(plane).astype(np.float32).tobytes("F"))
    return file


def run(code: str, arguments: list[str]) -> tuple[float, float, str]:
    """Run Python code in a process of its own; return GiB at its peak, seconds and what it printed."""
    began = time.monotonic()
    reader, writer = os.pipe()
    child = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=writer)
    os.close(writer)
    with os.fdopen(reader) as text:
        printed = text.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss / 2**20, time.monotonic() - began, printed


def compared(first: Path, second: Path) -> float:
    """Return how far two files of images differ, as a share of the largest value."""
    one, other = (nib.load(file).dataobj for file in (first, second))
    apart = largest = 0.0
    for frame in range(one.shape[3]):
        a, b = np.asarray(one[..., frame]), np.asarray(other[..., frame])
        apart, largest = max(apart, float(np.abs(a - b).max())), max(largest, float(np.abs(a).max()))
    return apart / largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--slices", type=int, nargs="+", default=[1, 6])
    parser.add_argument("--memory", help="for the network, such as 8G")
    parser.add_argument("--methods", nargs="+", default=["zero-filled", "sliding-window", "crnn"])
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--alone", action="store_true", help="do not run it again with everything in memory")
    parser.add_argument("--folder", type=Path, help="for the files, several GB; a temporary one by default")
    options = parser.parse_args()
    imports = run(IMPORTS, [])[0]
    print(f"imports: {imports:.2f} GiB\n")
    columns = ("scan", "method", "estimate", "peak beyond imports", "peak", "seconds", "all in memory", "difference")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for slices in options.slices:
            file = written(Path(folder), options.size, options.frames, slices)
            for method in options.methods:
                asked = [
                    "-q",
                    "reconstruct",
                    str(file),
                    "--undersample",
                    "8",
                    "--hold-out-folds",
                    "0",
                    "--method",
                    method,
                ]
                asked += ["--json", "--device", "cpu", "--force"]
                limit = ["--memory", options.memory] if options.memory and method == "crnn" else []
                network = ["--iterations", "1", "--precision", options.precision] if method == "crnn" else []
                first, second = file.with_name("a.nii"), file.with_name("b.nii")
                peak, seconds, said = run(START + "main()", [*asked, *network, *limit, "-o", str(first)])
                estimate = json.loads(said)["memory"]["estimated_bytes"] / 2**30
                other, apart = "-", "-"
                if not options.alone:
                    other = f"{run(START + UNLIMITED + 'main()', [*asked, *network, '-o', str(second)])[0]:.2f}"
                    apart = f"{compared(first, second):.1e}"
                shape = f"{options.size} x {options.size} x {options.frames} x {slices}"
                row = (shape, method, f"{estimate:.2f}", f"{peak - imports:.2f}", f"{peak:.2f}", f"{seconds:.0f}")
                print(f"| {' | '.join((*row, other, apart))} |", flush=True)


if __name__ == "__main__":
    main()
