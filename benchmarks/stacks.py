"""Studies of one series for each slice: joined right, or refused for a true reason; and the time of the whole command.

    python benchmarks/stacks.py [--count 540] [--seed 0] [--keep FOLDER]
    python benchmarks/stacks.py --count 0 --time 3 [--size 256] [--slices 12] [--frames 25]

Study N of a seed is always the same (`tests/support/dicom_stacks.py`): a stack whose slices are series of their own, as
one of several vendors writes them, with cycles that differ, in any order of slices, files and numbers, and a case:
whole, slices missing, repeated, moved or of another matrix, unequal frames, a second stack, another patient, lost
trigger times, damaged files. Beside it lie long-axis cines, localisers, volumes and single images. Joined right means:
every voxel the same, every corner within 1e-3 mm, the frame time within 1 ms. Exit status 1 if any is wrong.

``--time N`` writes a study of the size given, with long-axis views and a localiser, from the pig heart in sample_data,
and runs ``crnn segment STUDY --slices`` as a process, N times.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from scipy.ndimage import zoom

sys.path.insert(0, str(Path(__file__).parents[1]))

from crnn_cli.io.nifti.image import read_image
from tests.support.dicom import oblique, write_series
from tests.support.dicom_stacks import draw_study, verdict

ROOT = Path(__file__).parents[1]


def run(count: int, seed: int, keep: Path | None) -> int:
    """Draw and judge studies; print the table, and return the number of wrong ones."""
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    wrong, began, slowest = 0, time.monotonic(), 0.0
    for number in range(seed, seed + count):
        with tempfile.TemporaryDirectory() as parent:
            study = draw_study(Path(parent), number)
            start = time.monotonic()
            told = verdict(study)
            slowest = max(slowest, time.monotonic() - start)
            if told.startswith("WRONG"):
                wrong += 1
                print(f"seed {number}: {study.case}, {study.vendor}: {told}")
                if keep is not None:
                    shutil.copytree(parent, keep / str(number), dirs_exist_ok=True)
            for row in (f"case: {study.case.replace('_', ' ')}", f"headers: {study.vendor}", "all"):
                outcomes[row][told.partition(":")[0]] += 1
    print("| studies | number | joined right | refused for a true reason | wrong |\n|---|---|---|---|---|")
    for row in sorted(outcomes):
        tally = outcomes[row]
        print(f"| {row} | {sum(tally.values())} | {tally['joined']} | {tally['refused']} | {tally['WRONG']} |")
    print(f"\n{time.monotonic() - began:.0f} s, the slowest study {slowest:.2f} s")
    return wrong


def write_study(folder: Path, size: int, slices: int, frames: int) -> None:
    """Write a study of the pig heart, stretched to a size: a stack, two long-axis views, and a localiser."""
    heart = read_image(ROOT / "sample_data/pig_cine.nii.gz").array
    factors = np.array([size, size, slices, frames]) / heart.shape
    stored = zoom(heart.astype(np.float32), factors, order=1).clip(0).astype(np.int64)
    pixels, directions = stored.transpose(2, 3, 1, 0), oblique(1)
    normal = np.cross(*directions)
    common = {"study": "1.2.3", "FrameOfReferenceUID": "1.2.4", "spacing": (1.4, 1.4), "PatientPosition": "HFS"}
    for z in range(slices):
        write_series(folder / f"s{z}", pixels[z : z + 1], directions, gap=8.0, origin=normal * 8 * z,
                     step_ms=30 + 0.2 * z, SeriesNumber=10 + z, **common)  # fmt: skip
    for n in range(2):
        write_series(folder / f"l{n}", pixels[:1], oblique(5 + n), SeriesNumber=40 + n, **common)
    write_series(folder / "scout", pixels[:1, :1], oblique(9), SeriesNumber=1, **common)


def measure(times: int, size: int, slices: int, frames: int) -> None:
    """Time the whole command, from its start to its end."""
    with tempfile.TemporaryDirectory() as parent:
        study = Path(parent, "study")
        write_study(study, size, slices, frames)
        files = sum(1 for each in study.rglob("*.dcm"))
        for number in range(times):
            for words in (
                ["info", study],
                ["segment", study, "--slices", "-o", Path(parent, f"labels{number}.nii.gz")],
            ):
                command = [sys.executable, "-m", "crnn_cli", *map(str, words)]
                start, load, before = time.monotonic(), os.getloadavg()[0], os.times()
                ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
                took, status, after = time.monotonic() - start, ended.returncode, os.times()
                busy = sum(
                    getattr(after, each) - getattr(before, each) for each in ("children_user", "children_system")
                )
                name = f"crnn {words[0]}, {size} x {size} x {slices} x {frames}, {files} files"
                told = f"{took:.1f} s, {busy:.1f} s of processor time, exit code {status}"
                print(f"{name}: {told}, load before {load:.1f}, {os.cpu_count()} cores")
                if status:
                    print(ended.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=540)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder to keep what came out wrong")
    parser.add_argument("--time", type=int, default=0, help="runs of the whole command")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--slices", type=int, default=12)
    parser.add_argument("--frames", type=int, default=25)
    options = parser.parse_args()
    wrong = run(options.count, options.seed, options.keep) if options.count else 0
    if options.time:
        measure(options.time, options.size, options.slices, options.frames)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
