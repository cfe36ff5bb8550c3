"""Generated files of raw k-space, read as their truth or refused for a true reason.

    python benchmarks/field_raw.py [--count 1000] [--seed 0]

ISMRMRD, NumPy, MATLAB 5 and 7.3, HDF5, CMRxRecon, BART and fastMRI files of a small moving phantom, varied as files of
the field are: zeros stored for lines, readout oversampling removed, partial Fourier, reversed lines, gaps in counters,
several sets and views, noise scans, 3-D scans undersampled along both phase encodings, wrong header fields, other
conventions of the Fourier transform, axes in any order, images instead of k-space. Each seed gives one file; a wrong
one is printed with its seed, and the script ends with 1 if there is any. Needs no data.
"""

from __future__ import annotations

import argparse
import collections
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.raw_field.make import make_case, verdict


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first file")
    given = parser.parse_args()
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    wrong, began = 0, time.perf_counter()
    for seed in range(given.seed, given.seed + given.count):
        with tempfile.TemporaryDirectory() as folder:
            case = make_case(seed, Path(folder))
            found = verdict(case)
        outcome = found if found in ("read", "refused") else "wrong"
        counts[case.told[0], outcome] += 1
        if outcome == "wrong":
            wrong += 1
            print(f"seed {seed}: {'; '.join(case.told)}\n  {found[:300]}")
    print(f"{given.count} files in {time.perf_counter() - began:.0f} s")
    for name in sorted({name for name, _ in counts}):
        told = ", ".join(f"{counts[name, each]} {each}" for each in ("read", "refused", "wrong"))
        print(f"{name:12} {told}")
    print(f"in all: {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
