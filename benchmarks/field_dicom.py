"""DICOM folders of every kind that is met in the field: read as their truth, or refused for a true reason.

    python benchmarks/field_dicom.py [--count 2000] [--seed 0] [--dcm2niix 100] [--keep FOLDER]

Folder N of a seed is always the same (`tests/support/dicom_folders.py`): a kind of sequence (gated and real-time cine,
perfusion, T1 mapping, dynamic and plain volumes, mosaics, enhanced multi-frame, several kinds of image, derived
averages, doubled images, stations, several patients, studies or frames of reference under one UID), in a place, with
times, stored in 8 to 32 bits, and perhaps broken: no preamble or meta header, wrong transfer syntax, cut, packed,
missing, hidden. Printed are the outcomes by kind and by defect, and each folder that came out wrong, with its seed. The
last part compares with dcm2niix what both should read alike. Exit status 1 if any is wrong.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from crnn_cli.data.alignment import compare_images
from crnn_cli.io.dicom.frames.frame import Frame
from crnn_cli.io.dicom.read import list_series, read_series
from crnn_cli.io.nifti.image import read_image
from tests.support.dicom_folders import draw_folder, verdict

ALIKE = ("plain", "rescaled_by_frame", "mosaic", "study")


def run(count: int, seed: int, keep: Path | None) -> int:
    """Draw and judge folders; print the table, and return the number of wrong ones."""
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    wrong, began, slowest = 0, time.monotonic(), 0.0
    for number in range(seed, seed + count):
        with tempfile.TemporaryDirectory() as parent:
            folder = draw_folder(Path(parent), number)
            start = time.monotonic()
            told = verdict(folder)
            slowest = max(slowest, time.monotonic() - start)
            if told.startswith("WRONG"):
                wrong += 1
                print(f"seed {number}: {folder.kind}, {folder.broken}: {told}")
                if keep is not None:
                    shutil.copytree(parent, keep / str(number), dirs_exist_ok=True)
            for row in (f"kind: {folder.kind}", f"defect: {folder.broken}", "all"):
                outcomes[row][told.partition(":")[0]] += 1
    print("| folders | number | read as the truth | refused for a true reason | wrong |\n|---|---|---|---|---|")
    for row in sorted(outcomes):
        tally = outcomes[row]
        print(f"| {row} | {sum(tally.values())} | {tally['read']} | {tally['refused']} | {tally['WRONG']} |")
    print(f"\n{time.monotonic() - began:.0f} s, the slowest folder {slowest:.2f} s")
    return wrong


def is_plain(frame: Frame) -> bool:
    """Whether dcm2niix reads the values: 16 bits, at the low end, not looked up, no fewer signed bits."""
    allocated, stored, high, signed = frame.layout.described[5:9]
    return allocated == 16 and high == stored - 1 and frame.table is None and (stored == 16 or not signed)


def against_dcm2niix(count: int, seed: int) -> int:
    """Compare whole folders with dcm2niix; print and return the number that differ."""
    if shutil.which("dcm2niix") is None:
        print("dcm2niix is not installed")
        return 0
    tally: Counter[str] = Counter()
    number = seed
    while sum(tally.values()) < count:
        number += 1
        with tempfile.TemporaryDirectory() as parent:
            folder = draw_folder(Path(parent), number)
            if folder.kind not in ALIKE or folder.broken != "whole" or folder.path.suffix == ".zip":
                continue
            out = Path(parent, "out")
            out.mkdir()
            command = ["dcm2niix", "-p", "n", "-z", "n", "-o", out, "-f", "%s_%d", folder.path]
            subprocess.run(command, capture_output=True, check=False)
            theirs = [read_image(file) for file in sorted(out.glob("*.nii"))]
            for series in list_series(folder.path).series:
                if not series.grid or not is_plain(series.grid[0][0]):
                    continue
                ours = read_series(folder.path, str(series.number))[0]
                found = [compare_images(ours, other) for other in theirs]
                same = any(f.distance_mm is not None and f.distance_mm < 1e-2 and f.difference < 1e-2 for f in found)
                tally["alike" if same else f"other ({folder.kind})"] += 1
    print(f"against dcm2niix: {', '.join(f'{n} {what}' for what, n in tally.most_common())}")
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dcm2niix", type=int, default=0, help="number of series to compare with dcm2niix")
    parser.add_argument("--keep", type=Path, help="folder to keep what came out wrong")
    options = parser.parse_args()
    wrong = run(options.count, options.seed, options.keep) if options.count else 0
    if options.dcm2niix:
        against_dcm2niix(options.dcm2niix, options.seed)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
