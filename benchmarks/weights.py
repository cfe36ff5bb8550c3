"""Which weight a classical method needs at which noise: where the defaults of `crnn_cli.mri.classical` come from.

Cases     ACDC patients for choices (21-30, never the test cases 41-50), middle slice, 48 columns of the readout; the
          phantom of `crnn simulate`, seed 11; phase as in quality.py, coils, noise and maps as in multicoil.py.
Noise     deviation of each part of a sample over the brightest pixel; the table gives what was found in the data,
          complex, over the bright parts (`energy_weighted_rms` of the view-shared image): what a default can know.
Measure   PSNR with the truth at each weight of a ladder by factors of 2 (sense 10).

python benchmarks/weights.py --data DATA [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from classical import LADDERS
from multicoil import psnr, scanned
from quality import make_problem, read_cases
from torch import Tensor

from crnn_cli.mri.classical import METHODS, run_method
from crnn_cli.mri.consistency import energy_weighted_rms, share_views
from crnn_cli.mri.fourier import image_to_kspace, kspace_to_image
from crnn_cli.mri.phantom.ellipses import Grid
from crnn_cli.mri.phantom.scan import PhantomScan, simulate_slice
from crnn_cli.reconstruction.measurement import SliceMeasurement

COLUMNS = 48


def truths(data: Path) -> dict[str, Tensor]:
    """Return complex sequences (1, T, Y, X) that peak at 1."""
    phantom = simulate_slice(PhantomScan(Grid(160, 160, 2.2), 16, seed=11), 0).truth_TYX
    found = {"phantom-11": (phantom / phantom.abs().max())[None]}
    cases = read_cases(data, (21, 26), with_pig=False)
    return found | {name: make_problem(name, case, 8).truth_BTYX[:, :20] for name, case in cases.items()}


def cut(values: Tensor) -> Tensor:
    """Return the columns in the middle."""
    first = (values.shape[-1] - COLUMNS) // 2
    return values[..., first : first + COLUMNS].contiguous()


def cut_scan(measured: SliceMeasurement) -> SliceMeasurement:
    """Return the data of the columns in the middle."""
    kspace = image_to_kspace(cut(kspace_to_image(measured.kspace_BCTYX, (-1,))), (-1,))
    maps = None if measured.maps_BCYX is None else cut(measured.maps_BCYX)
    return SliceMeasurement(kspace, measured.mask_BTYX, maps, measured.deviation)


def relative_noise(measured: SliceMeasurement) -> float:
    """Return the deviation found over the bright parts, as weights are relative to them."""
    encoding = measured.encoding()
    return measured.deviation / float(
        energy_weighted_rms(share_views(encoding, encoding.to_data_space(measured.kspace_BCTYX)))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--coils", nargs="+", type=int, default=[8, 1])
    parser.add_argument("--accelerations", nargs="+", type=float, default=[8])
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0, 0.0025, 0.01, 0.03])
    parser.add_argument("--methods", nargs="+", default=["sense", "tv", "llr", "l+s"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for name, truth in truths(options.data).items():
        for coils in options.coils:
            for acceleration in options.accelerations:
                for noise in options.noise:
                    measured = cut_scan(scanned(name, truth, coils, acceleration, False, noise))
                    sigma, known = relative_noise(measured), cut(truth)
                    for method in options.methods:
                        if coils == 1 and method == "sense":
                            continue
                        iterations = METHODS[method].iterations
                        found = {
                            weight: psnr(
                                run_method(method, measured.encoding(), measured.kspace_BCTYX, weight, iterations),
                                known,
                            )
                            for weight in LADDERS[method]
                        }
                        best = max(found, key=found.__getitem__)
                        row = {
                            "case": name, "coils": coils, "acceleration": acceleration, "noise": noise,
                            "found": round(sigma, 5), "method": method, "best": best,
                            "psnr": {f"{weight:g}": round(value, 2) for weight, value in found.items()},
                        }  # fmt: skip
                        rows.append(row)
                        print(row, flush=True)
                        if options.json:
                            options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    with torch.no_grad():
        main()
