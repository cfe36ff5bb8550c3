"""What becomes of small and short-lived details: lesions put into cines, changes over time, edges around the heart.

    python benchmarks/details.py --data DATA [--patients 21-23] [--models cine-crnn-fast cine-crnn] [--json FILE]

Cases, phase, sampling and axes are those of `quality.py`, at 8x; the same lines with and without what is put in.

Region     of the heart: where the images change most over time. The standard deviation over time, smoothed (Gaussian, 3
           pixels), above half of its maximum; the box around the connected part with the maximum, 6 pixels wider.
Places     four a case. Of pixels at least as bright as the median of the box (mean over 3 x 3 pixels and time): in the
           box the one that changes most and the one that changes least, then the same around it, up to 16 pixels away.
           At least 8 pixels apart, 6 from the border.
Inserted   3 x 3 pixels at all four places of a case at once; images without them are made from the same lines.
           lesion    brighter by a quarter of the 99 % quantile of the truth, in three frames, others at each place.
           permanent the same in all frames.
           absence   dark in three frames: 80 % of the magnitude is taken away.
Contrast   difference d of the magnitudes with and without, projected on what was put in, p: <d, p> / <p, p>.
Leakage    over the contrast that was put in: the mean of d over the 3 x 3 pixels in other frames, root mean square and
           largest (none of a permanent one); the root mean square of d around it, within 4 pixels, in its frames.
Changes    differences of neighbouring frames in the box: NMSE, and energy over that of the truth.
Edges      HFEN in the box (`crnn_cli.mri.metrics`).
Methods    bundles; temporal total variation (BART) at the weight that is best for the images without insertion, chosen
           with the truth; with --adapt-steps the first bundle, tuned to each scan, what was inserted with it.
Choices    made during development belong on other patients (--patients 21-30), not on the test cases.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import baselines
import numpy as np
import quality
import torch
from adapt import Scan, middle
from baselines import Method, Problem
from numpy.typing import NDArray
from scipy import ndimage

from crnn_cli.adaptation.adapt import AdaptSettings, adapt
from crnn_cli.mri.metrics import hfen
from crnn_cli.reconstruction.reconstruct import NetworkReconstructor
from crnn_cli.workflows.reconstruct.methods import MethodRequest, prepare_method

Real = NDArray[np.floating]
KINDS = ("lesion", "permanent", "absence")
ACCELERATION, PLACES, FRAMES = 8.0, 4, 3
BRIGHTER, TAKEN = 0.25, 0.8
SMOOTH, MARGIN, AROUND, APART, BORDER, RING = 3.0, 6, 16, 8, 6, 4


@dataclass(frozen=True)
class Insertion:
    """What became of one detail; shares of the contrast that was put in."""

    case: str
    method: str
    kind: str
    place: int
    contrast: float
    other_frames: float
    largest_other: float
    around: float


@dataclass(frozen=True)
class Whole:
    """Measures of the images without insertion."""

    case: str
    method: str
    psnr: float
    change_nmse: float
    change_energy: float
    hfen: float


def heart_box(magnitude_TYX: Real) -> tuple[slice, slice]:
    """Return the region where the images change most over time."""
    change_YX = ndimage.gaussian_filter(magnitude_TYX.std(0), SMOOTH)
    parts_YX, _ = ndimage.label(change_YX > change_YX.max() / 2)
    part = ndimage.find_objects(parts_YX)[parts_YX.flat[change_YX.argmax()] - 1]
    return _wider(part, MARGIN, change_YX.shape)


def places(magnitude_TYX: Real) -> list[tuple[int, int]]:
    """Return the middle pixels of the details: two in the region of the heart, two around it."""
    box = heart_box(magnitude_TYX)
    bright_YX, change_YX = (ndimage.uniform_filter(each, 3) for each in (magnitude_TYX.mean(0), magnitude_TYX.std(0)))
    inside_YX, near_YX = np.zeros((2, *bright_YX.shape), bool)
    inside_YX[box] = True
    near_YX[_wider(box, AROUND, bright_YX.shape)] = True
    open_YX = bright_YX >= np.median(bright_YX[box])
    open_YX &= ndimage.binary_erosion(np.ones_like(open_YX), iterations=BORDER, structure=np.ones((3, 3)))
    found: list[tuple[int, int]] = []
    for part_YX in (inside_YX, near_YX & ~inside_YX):
        for sign in (1, -1):
            left_YX = part_YX & open_YX
            for y, x in found:
                left_YX[max(0, y - APART + 1) : y + APART, max(0, x - APART + 1) : x + APART] = False
            if not left_YX.any():
                raise ValueError(f"{len(found)} of {PLACES} places found")
            y, x = np.unravel_index(np.where(left_YX, sign * change_YX, -np.inf).argmax(), left_YX.shape)
            found.append((int(y), int(x)))
    return found


def inserted(magnitude_TYX: Real, kind: str, number: int, place: tuple[int, int]) -> Real:
    """Return what is added to the magnitude for one detail: zero elsewhere."""
    frames = len(magnitude_TYX)
    first = int((number + 0.5) * frames / PLACES) - FRAMES // 2
    when = slice(None) if kind == "permanent" else slice(max(0, first), max(0, first) + FRAMES)
    where = (when, *(slice(middle - 1, middle + 2) for middle in place))
    added_TYX = np.zeros_like(magnitude_TYX)
    brighter = BRIGHTER * np.quantile(magnitude_TYX, 0.99)
    added_TYX[where] = -TAKEN * magnitude_TYX[where] if kind == "absence" else brighter
    return added_TYX


def judge(difference_TYX: Real, added_TYX: Real) -> tuple[float, float, float, float]:
    """Return contrast, leakage to other frames, the largest of it, and leakage around, of one detail.

    Parameters
    ----------
    difference_TYX : magnitude of the images with details less that of those without.
    added_TYX : the detail, in the truth.
    """
    contrast = float((difference_TYX * added_TYX).sum() / (added_TYX**2).sum())
    there_TYX = added_TYX != 0
    spot_YX, when_T = there_TYX.any(0), there_TYX.any((1, 2))
    size = float(np.sqrt((added_TYX[there_TYX] ** 2).mean()))
    elsewhen_T = difference_TYX[~when_T][:, spot_YX].mean(-1) / size
    ring_YX = ndimage.binary_dilation(spot_YX, np.ones((3, 3)), iterations=RING) & ~spot_YX
    around = float(np.sqrt((difference_TYX[when_T][:, ring_YX] ** 2).mean())) / size
    if not len(elsewhen_T):
        return contrast, np.nan, np.nan, around
    return contrast, float(np.sqrt((elsewhen_T**2).mean())), float(np.abs(elsewhen_T).max()), around


def whole(case: str, method: str, image_TYX: Real, truth_TYX: Real, psnr: float) -> Whole:
    """Return the measures of images without insertion in the region of the heart."""
    box = (slice(None), *heart_box(truth_TYX))
    images, changes = [image_TYX[box], truth_TYX[box]], [np.diff(each[box], axis=0) for each in (image_TYX, truth_TYX)]
    energy = float((changes[1] ** 2).sum())
    nmse, share = float(((changes[0] - changes[1]) ** 2).sum()) / energy, float((changes[0] ** 2).sum()) / energy
    return Whole(case, method, psnr, nmse, share, hfen(*(torch.from_numpy(each) for each in images)).whole)


def run(case: str, magnitude_TYX: Real, methods: list[Method]) -> Iterator[Insertion | Whole]:
    """Yield what is found of a case."""
    plain, spots = quality.make_problem(case, magnitude_TYX, ACCELERATION), places(magnitude_TYX)
    for method in methods:
        found = baselines.best_setting(method, plain, lambda image: quality.psnr(image, plain))
        setting, before_TYX = found.setting or 1.0, found.image_BTYX[0].abs().numpy()
        yield whole(case, method.name, before_TYX, magnitude_TYX, quality.psnr(found.image_BTYX, plain))
        for kind in KINDS:
            added = [inserted(magnitude_TYX, kind, number, place) for number, place in enumerate(spots)]
            problem = quality.make_problem(case, magnitude_TYX + sum(added), ACCELERATION)
            difference_TYX = method.reconstruct(problem, setting)[0].abs().numpy() - before_TYX
            for number, each in enumerate(added):
                yield Insertion(case, method.name, kind, number, *judge(difference_TYX, each))


def tuned(name: str, steps: int) -> Method:
    """Return a bundle that is tuned to each scan, as `crnn reconstruct --adapt-steps` does it."""
    method = prepare_method(MethodRequest(model=name), torch.device("cpu")).method
    assert isinstance(method, NetworkReconstructor)

    def reconstruct(problem: Problem, setting: float) -> torch.Tensor:
        del setting
        with torch.inference_mode(False), torch.enable_grad():
            scan = Scan.of(replace(problem, kspace_BTYX=problem.kspace_BTYX.clone()))
            adapted, _ = adapt(scan, method, AdaptSettings(steps=steps), torch.device("cpu"))
        return adapted(problem.measured(), lambda: None).images_BTYX

    return Method(f"{Path(name).name}, {steps} steps of --adapt", reconstruct)


def tables(insertions: list[Insertion], wholes: list[Whole]) -> str:
    """Return Markdown: means over cases and places by method, and the least contrast."""
    lines = [
        "| inserted | method | contrast kept: mean, least | in other frames | largest there | around |",
        "|---|---|--:|--:|--:|--:|",
    ]
    names = list(dict.fromkeys(each.method for each in wholes))
    for kind in KINDS:
        for name in names:
            some = [each for each in insertions if (each.kind, each.method) == (kind, name)]
            kept = [each.contrast for each in some]
            leaks = [_percent([getattr(e, key) for e in some]) for key in ("other_frames", "largest_other", "around")]
            lines.append(f"| {kind} | {name} | {_percent(kept)}, {100 * min(kept):.0f} % | {' | '.join(leaks)} |")
    lines += ["", "| method | PSNR | NMSE of changes | energy of changes | HFEN |", "|---|--:|--:|--:|--:|"]
    for name in names:
        own = [each for each in wholes if each.method == name]
        psnr, nmse, energy, edges = (
            float(np.mean([getattr(e, key) for e in own])) for key in ("psnr", "change_nmse", "change_energy", "hfen")
        )
        lines.append(f"| {name} | {psnr:.2f} | {nmse:.3f} | {energy:.2f} | {edges:.3f} |")
    return "\n".join(lines)


def _percent(values: list[float]) -> str:
    return "-" if np.isnan(values).any() else f"{100 * np.mean(values):.1f} %"


def _wider(box: tuple[slice, slice], by: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    rows, columns = (slice(max(0, s.start - by), min(n, s.stop + by)) for s, n in zip(box, shape, strict=True))
    return rows, columns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of acdc_cine and pig_cine_sax")
    parser.add_argument("--patients", help="ACDC patients, as 21-25, instead of the test cases; no pig")
    parser.add_argument("--models", nargs="*", default=["cine-crnn-fast", "cine-crnn"], help="bundles, name or folder")
    parser.add_argument("--adapt-steps", type=int, help="the first bundle tuned to each scan as well")
    parser.add_argument("--columns", type=int, help="only so many in the middle of the readout")
    parser.add_argument("--skip-tv", action="store_true")
    parser.add_argument("--json", type=Path, help="write everything here")
    options = parser.parse_args()
    first, last = map(int, (options.patients or "41-50").split("-"))
    cases = quality.read_cases(options.data, range(first, last + 1), with_pig=options.patients is None)
    cases = {name: middle(magnitude_TYX, options.columns) for name, magnitude_TYX in cases.items()}
    total_variation = None if options.skip_tv else baselines.temporal_tv()
    methods = [] if total_variation is None else [total_variation]
    methods += [baselines.bundle(name, None, Path(name).name) for name in options.models]
    methods += [tuned(options.models[0], options.adapt_steps)] if options.adapt_steps else []
    insertions: list[Insertion] = []
    wholes: list[Whole] = []
    with torch.inference_mode():
        for case, magnitude_TYX in cases.items():
            for result in run(case, magnitude_TYX, methods):
                (insertions if isinstance(result, Insertion) else wholes).append(result)  # type: ignore[arg-type]
                print(result, file=sys.stderr)
    print(tables(insertions, wholes))
    if options.json:
        found = {"insertions": [asdict(each) for each in insertions], "wholes": [asdict(each) for each in wholes]}
        options.json.write_text(json.dumps({"protocol": quality.VERSION, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
