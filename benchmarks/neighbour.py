"""What a network tuned to one slice brings to the next slice of the same scan, which it was not tuned on.

    python benchmarks/neighbour.py --data DATA [--patients 41 45 46] [--seconds 180 | --steps 80] [--json FILE]

ACDC patients, 8x; phase, sampling and measures as in `quality.py`. The network is tuned to the middle slice as in
`adapt.py`, and used as it is then for the slice after it, as `--save-adapted` and `--model` allow. Both slices have the
same phase, as in a scan, and each lines of its own.

Kept  the gain on the next slice over the gain on the slice tuned to. The bar is a half.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import adapt as tuning_of
import nibabel as nib
import quality
from adapt import How, Scan, quality_of

from crnn_cli.adaptation import adapt

ACCELERATION = 8.0


@dataclass(frozen=True)
class Found:
    """PSNR in dB of both slices, before and after."""

    case: str
    own_before: float
    own_after: float
    next_before: float
    next_after: float
    steps: int

    @property
    def kept(self) -> float:
        return (self.next_after - self.next_before) / (self.own_after - self.own_before)


def run(data: Path, patient: int, how: How) -> Found:
    file = data / f"acdc_cine/patient{patient:03d}_4d.nii.gz"
    middle = nib.load(file).shape[2] // 2
    name = f"acdc-{patient:03d}"
    own = quality.make_problem(name, quality.read_slice(file, middle), ACCELERATION)
    other = quality.make_problem(name, quality.read_slice(file, middle + 1), ACCELERATION, "next")
    scans = [Scan.of(problem) for problem in (own, other)]
    before = [quality_of(how.method, scan, of, how.device)[0] for scan, of in zip(scans, (own, other), strict=True)]
    tuned, found = adapt(scans[0], how.method, how.tuning, how.device)
    after = [quality_of(tuned, scan, of, how.device)[0] for scan, of in zip(scans, (own, other), strict=True)]
    return Found(name, before[0], after[0], before[1], after[1], found.steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of acdc_cine")
    parser.add_argument("--patients", type=int, nargs="+", default=[41, 45, 46])
    tuning_of.add_options(parser)
    options = parser.parse_args()
    how, found = tuning_of.prepared(options), []
    print("| case | slice tuned to: before | after | next slice: before | after | kept | steps |\n" + "|---" * 7 + "|")
    for patient in options.patients:
        found.append(run(options.data, patient, how))
        r = found[-1]
        print(
            f"| {r.case} | {r.own_before:.2f} | {r.own_after:.2f} | {r.next_before:.2f} | {r.next_after:.2f} | "
            f"{r.kept:.0%} | {r.steps} |",
            flush=True,
        )
        if options.json:
            options.json.write_text(json.dumps([asdict(r) for r in found], indent=1))


if __name__ == "__main__":
    main()
