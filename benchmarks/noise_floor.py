"""The noise level that is estimated from raw k-space, over the true one; needs no data.

Cases     phantoms of `crnn simulate` that just fit into the field of view, of 48 to 256 lines, 1 to 32 coils, SNR of
          blood 20 to 1000; undersampled with variable density, and fully sampled single frames.
Measure   `crnn_cli.mri.noise.noise_deviation` over the standard deviation of the noise that was added; - where it is
          unknown. The table has the least and the greatest over two phantoms; the last line counts those outside 0.8 to
          1.25.

python benchmarks/noise_floor.py [--lines 48 256] [--coils 1 8] [--snr 20 1000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from crnn_cli.mri.noise import noise_deviation
from crnn_cli.mri.phantom.ellipses import Grid
from crnn_cli.mri.phantom.scan import PhantomScan, simulate_slice
from crnn_cli.mri.sampling import variable_density
from crnn_cli.workflows.simulate import fitting_spacing

SAMPLING = {48: (12, 4), 64: (25, 6), 96: (12, 6), 128: (1, 1), 160: (1, 2), 192: (16, 8), 256: (8, 4)}
LEAST, MOST = 0.8, 1.25


def ratios(lines: int, coils: int, snrs: list[float], seed: int) -> dict[float, float]:
    """Return estimate over truth for each SNR; 0 where it is unknown."""
    frames, acceleration = SAMPLING[lines]
    scan = PhantomScan(Grid(lines, lines, fitting_spacing(lines, lines)), frames, 1, coils, seed=100 * seed + coils)
    clean = simulate_slice(scan, 0).kspace_CTYX
    found = {}
    for snr in snrs:
        generator = torch.Generator().manual_seed(int(snr) + seed)
        deviation = 2**0.5 / snr
        mask = torch.ones(frames, lines)
        if acceleration > 1:
            mask = variable_density(frames, lines, acceleration, generator)
        noise = torch.randn(clean.shape, dtype=clean.dtype, generator=generator) * deviation
        kspace = (clean + noise) * mask[:, :, None]
        found[snr] = noise_deviation(kspace[None], mask[None, :, :, None]) / deviation
    return found


def shown(values: list[float]) -> str:
    known = [value for value in values if value]
    text = f"{min(known):.2f} to {max(known):.2f}" if known else "-"
    return text + (f", {len(values) - len(known)} -" if known and len(known) < len(values) else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", nargs="+", type=int, default=list(SAMPLING), choices=list(SAMPLING))
    parser.add_argument("--coils", nargs="+", type=int, default=[1, 2, 3, 4, 8, 32])
    parser.add_argument("--snr", nargs="+", type=float, default=[20, 60, 200, 1000])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows, began = [], time.monotonic()
    print("| lines | frames | acceleration | coils |" + "".join(f" SNR {snr:g} |" for snr in options.snr))
    print("|---|---|---|---|" + "---|" * len(options.snr))
    with torch.no_grad():
        for lines in options.lines:
            for coils in options.coils:
                both = [ratios(lines, coils, options.snr, seed) for seed in (1, 2)]
                cells = [shown([each[snr] for each in both]) for snr in options.snr]
                frames, acceleration = SAMPLING[lines]
                print(f"| {lines} | {frames} | {acceleration} | {coils} | " + " | ".join(cells) + " |", flush=True)
                rows += [
                    {"lines": lines, "coils": coils, "snr": snr, "ratio": round(each[snr], 4)}
                    for each in both
                    for snr in options.snr
                ]
                if options.json:
                    options.json.write_text(json.dumps(rows, indent=1) + "\n")
    known = [row["ratio"] for row in rows if row["ratio"]]
    outside = sum(not LEAST <= ratio <= MOST for ratio in known)
    print(f"\n{len(rows)} cases: {len(rows) - len(known)} unknown, {outside} outside {LEAST} to {MOST}")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
