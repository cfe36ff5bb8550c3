"""What tuning to the scan at hand brings where the scan is not like what the network was trained on.

    python benchmarks/shifts.py --data DATA [--cases acdc-045 pig-5] [--kinds inverted doubled noise brain prospective]
        [--seconds 180 | --steps 60] [--threads 1] [--json FILE]

Of cases of `quality.py`, at 8x:
inverted     the magnitude less than its maximum: what was bright is dark.
doubled      every second frame: twice the motion between frames, half as many of them.
noise        noise in k-space of 15 dB, as in `robustness.py`.
Of other scans:
brain        a static brain scan of 8 coils, its combined image made to move by a smooth periodic warp, 12 frames, 6x,
             with the sensitivities that ESPIRiT finds, in the scan and in the reconstruction.
prospective  a hyperpolarised scan that was undersampled when it was measured: no truth, the residual only.

Tuning, residual and columns are those of `adapt.py`.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import adapt as tuning_of
import numpy as np
import quality
import torch
from adapt import How, Result, result
from robustness import with_noise
from torch import Tensor
from torch.nn.functional import grid_sample

from crnn_cli.adaptation.adapt import adapt
from crnn_cli.mri.coils import calibration_block
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.espirit import espirit
from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.mri.sampling import variable_density
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.workflows.reconstruct.scan import ScanRequest, load_scan

ACCELERATION, DECIBELS = 8.0, 15.0
BRAIN_ACCELERATION, BRAIN_FRAMES, BRAIN_WARP = 6.0, 12, 0.02
PROSPECTIVE_ACCELERATION = 4.0  # as published
OF_CASES = ("inverted", "doubled", "noise")
NAN = math.nan, math.nan


@dataclass(frozen=True)
class Coils:
    """A problem of several coils, as those of `baselines.py`."""

    truth_BTYX: Tensor
    kspace_BCTYX: Tensor
    mask_BTYX: Tensor
    maps_BCYX: Tensor

    def measured(self) -> SliceMeasurement:
        return SliceMeasurement(self.kspace_BCTYX, self.mask_BTYX, self.maps_BCYX)


def of_case(name: str, magnitude: np.ndarray, kind: str) -> quality.Problem:
    """Return a case that was changed."""
    changed = {"inverted": magnitude.max() - magnitude, "doubled": magnitude[::2]}.get(kind, magnitude)
    problem = quality.make_problem(name, np.ascontiguousarray(changed / changed.max()), ACCELERATION)
    return with_noise(problem, DECIBELS, name) if kind == "noise" else problem


def brain(data: Path) -> Coils:
    """Return the static scan, made to move."""
    kspace_CYX = torch.from_numpy(np.load(data / "kspace/cartesian_ksp.npy"))
    _, lines, samples = kspace_CYX.shape
    everywhere = torch.ones(1, 1, lines, 1)
    maps_CYX, _ = espirit(calibration_block(kspace_CYX[:, None], everywhere[0]), (lines, samples))
    still_YX = Encoding(everywhere, maps_CYX[None]).zero_filled(kspace_CYX[None, :, None])[0, 0]
    truth_TYX = torch.stack([warped(still_YX, 2 * math.pi * t / BRAIN_FRAMES) for t in range(BRAIN_FRAMES)])
    truth_TYX = truth_TYX / truth_TYX.abs().max()
    dice = torch.Generator().manual_seed(1)
    mask = variable_density(BRAIN_FRAMES, lines, BRAIN_ACCELERATION, dice)[None, :, :, None]
    kspace = image_to_kspace(truth_TYX[None, None] * maps_CYX[None, :, None]) * mask[:, None]
    return Coils(truth_TYX[None], kspace, mask, maps_CYX[None])


def warped(image_YX: Tensor, phase: float) -> Tensor:
    """Return an image moved by up to 2 % of the field of view, another way in each place."""
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in image_YX.shape), indexing="ij")
    by_x = 2 * BRAIN_WARP * torch.sin(math.pi * y + phase)
    by_y = 2 * BRAIN_WARP * torch.sin(math.pi * x - phase)
    places = torch.stack([x + by_x, y + by_y], -1)[None]
    parts = torch.view_as_real(image_YX).permute(2, 0, 1)[None]
    moved = grid_sample(parts, places, mode="bicubic", padding_mode="zeros", align_corners=True)
    return torch.view_as_complex(moved[0].permute(1, 2, 0).contiguous())


def prospective(data: Path, how: How) -> Result:
    """Return what becomes of the residual of the hyperpolarised scan."""
    file = data / "kspace/hp13c_lactate_prospective.mat"
    _, found = adapt(load_scan(ScanRequest(file, axes="kx,ky,kz,t")).slices, how.method, how.tuning, how.device)
    return result("prospective", PROSPECTIVE_ACCELERATION, NAN, NAN, found)


def jobs(data: Path, cases: list[str], kinds: list[str], how: How) -> dict[str, Callable]:
    """Return what is to be run, by name."""
    wanted: dict[str, Callable] = {}
    magnitudes = quality.read_cases(data, range(41, 51), with_pig=True) if set(kinds) & set(OF_CASES) else {}
    for kind in kinds:
        for case in cases if kind in OF_CASES else ():
            wanted[f"{case}, {kind}"] = lambda case=case, kind=kind: tuning_of.run(
                f"{case}, {kind}", ACCELERATION, of_case(case, magnitudes[case], kind), how
            )
    if "brain" in kinds:
        wanted["brain"] = lambda: tuning_of.run("brain", BRAIN_ACCELERATION, brain(data), how)
    if "prospective" in kinds:
        wanted["prospective"] = lambda: prospective(data, how)
    return wanted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of acdc_cine, pig_cine_sax and kspace")
    parser.add_argument("--cases", nargs="+", default=["acdc-045", "pig-5"])
    parser.add_argument("--kinds", nargs="+", default=[*OF_CASES, "brain", "prospective"])
    tuning_of.add_options(parser)
    options = parser.parse_args()
    how = tuning_of.prepared(options)
    results = tuning_of.earlier(options.json)
    for name, job in jobs(options.data, options.cases, options.kinds, how).items():
        if name in {r.case for r in results}:
            continue
        results.append(job())
        print(f"{name}: {results[-1]}", file=sys.stderr)
        tuning_of.keep(results, options.json)
    print("\n".join(tuning_of.case_lines(results)))


if __name__ == "__main__":
    main()
