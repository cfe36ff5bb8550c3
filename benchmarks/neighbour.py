"""What a network tuned to one slice brings to the next slice of the same scan, which it was not tuned on.

    python benchmarks/neighbour.py --data DATA [--patients 41 42] [--ways 0.8 1] [--seconds 180 | --steps 80] [--plain]

ACDC patients, those of `quality.py` where none are named, 8x; phase, sampling and measures as there. The network is
tuned to the middle slice as `--generalise` has it, and used for the slice after it, as `--model` allows: with weights
some way towards the tuned ones. --plain tunes as `--adapt` does alone: nothing that is rehearsed is flipped. Both
slices have the same phase, as in a scan, and each its own lines.

Way   how far the weights go from those of the model, 0, to the tuned ones, 1; `--save-adapted --generalise` writes the
      first of the default ones.
Kept  the gain on the next slice over that on the slice tuned to, of the same weights. The bar is a half. Beside it the
      same over the gain of the tuned weights.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import adapt as tuning_of
import nibabel as nib
import quality
from adapt import How, Scan, quality_of

from crnn_cli.adaptation.adapt import GENERALISE_ALPHA, adapt, interpolate_weights
from crnn_cli.reconstruction.reconstruct import NetworkReconstructor

ACCELERATION = 8.0


@dataclass(frozen=True)
class Found:
    """What weights some way to the tuned ones gain, in dB of PSNR, on the slice tuned to and on the next.

    tuned : what the tuned ones themselves gain there. before : PSNR of the model, of both slices.
    """

    case: str
    way: float
    before: tuple[float, float]
    own: float
    next: float
    tuned: float
    steps: int

    @property
    def kept(self) -> float:
        return _share(self.next, self.own)

    @property
    def row(self) -> str:
        """Markdown."""
        own, other = (f"{was:.2f} | {gain:+.2f}" for was, gain in zip(self.before, (self.own, self.next), strict=True))
        kept = f"{self.kept:.0%} | {_share(self.next, self.tuned):.0%}"
        return f"| {self.case} | {self.way:g} | {own} | {other} | {kept} | {self.steps} |"


def _share(part: float, whole: float) -> float:
    """Return the quotient, NaN where nothing was gained at all."""
    return part / whole if whole else math.nan


def run(data: Path, patient: int, ways: list[float], how: How) -> list[Found]:
    """Tune to one slice, and return what that brings on both, by way."""
    file = data / f"acdc_cine/patient{patient:03d}_4d.nii.gz"
    middle = nib.load(file).shape[2] // 2
    name = f"acdc-{patient:03d}"
    own = quality.make_problem(name, quality.read_slice(file, middle), ACCELERATION)
    other = quality.make_problem(name, quality.read_slice(file, middle + 1), ACCELERATION, "next")
    both = [(Scan.of(problem), problem) for problem in (own, other)]
    tuned, found = adapt(both[0][0], how.method, how.tuning, how.device)

    def measured(method: NetworkReconstructor) -> list[float]:
        return [quality_of(method, scan, problem, how.device)[0] for scan, problem in both]

    before, whole = measured(how.method), measured(tuned)
    gain = whole[0] - before[0]
    rows = []
    for way in ways:
        after = whole if way == 1 else measured(halted(how.method, tuned, way))
        gains = [now - was for now, was in zip(after, before, strict=True)]
        rows.append(Found(name, way, (before[0], before[1]), *gains, gain, found.steps))
    return rows


def halted(model: NetworkReconstructor, tuned: NetworkReconstructor, way: float) -> NetworkReconstructor:
    """Return the method with weights some way from those of the model to the tuned ones."""
    network = copy.deepcopy(tuned.network)
    network.load_state_dict(interpolate_weights(model.network, tuned.network, way))
    return replace(tuned, network=network)


def means(found: list[Found]) -> str:
    """Return Markdown: gains by way, means over the cases, what is kept of them, and how many cases keep a half."""
    lines = ["| way | cases | slice tuned to | next slice | kept | of the tuned | keep half |", "|--:" * 7 + "|"]
    for way in sorted({r.way for r in found}):
        some = [r for r in found if r.way == way]
        own, other, tuned = (sum(getattr(r, what) for r in some) / len(some) for what in ("own", "next", "tuned"))
        half = sum(r.kept >= 0.5 for r in some)
        kept = f"{_share(other, own):.0%} | {_share(other, tuned):.0%}"
        lines.append(f"| {way:g} | {len(some)} | {own:+.2f} | {other:+.2f} | {kept} | {half} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of acdc_cine")
    parser.add_argument("--patients", type=int, nargs="+", default=list(range(41, 51)))
    parser.add_argument("--ways", type=float, nargs="+", default=[GENERALISE_ALPHA, 1.0])
    parser.add_argument("--plain", action="store_true", help="tune as --adapt alone does")
    tuning_of.add_options(parser)
    options = parser.parse_args()
    how, found = tuning_of.prepared(options), []
    how = replace(how, tuning=replace(how.tuning, generalise=not options.plain))
    print("| case | way | tuned to | gain | next slice | gain | kept | of the tuned | steps |\n" + "|---" * 9 + "|")
    for patient in options.patients:
        rows = run(options.data, patient, options.ways, how)
        print("\n".join(r.row for r in rows), flush=True)
        found += rows
        if options.json:
            options.json.write_text(json.dumps([asdict(r) for r in found], indent=1))
    print("\n" + means(found))


if __name__ == "__main__":
    main()
