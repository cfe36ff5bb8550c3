"""Time of `crnn reconstruct` on a machine that is busy, over its time on an idle one; needs no data.

Writes a simulated scan, reconstructs it alone, and again while other processes keep every core at full load. The bar
is 2.5: with as many busy processes as cores, each gets half of the time; what is above 2 is waiting. Runs alternate,
and the ratio is of medians, so that a machine that is not quite idle changes both. Say so where it was not.

python benchmarks/busy.py [--model cine-crnn-fast] [--size 256] [--frames 30] [--repeats 3] [--spins 10000 1000 0]
                          [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BAR = 2.5
LOAD = "x = 0\nwhile True:\n    x += 1"


def seconds(scan: Path, model: str, environment: dict[str, str]) -> float:
    """Return the seconds of one run of the command."""
    command = [sys.executable, "-m", "crnn_cli", "-q", "reconstruct", str(scan), "--model", model, "--force"]
    command += ["--hold-out-folds", "0", "-o", str(scan.with_name("images.nii"))]
    began = time.monotonic()
    subprocess.run(command, check=True, env=environment, capture_output=True)
    return time.monotonic() - began


def under_load(scan: Path, model: str, environment: dict[str, str], cores: int) -> float:
    """Return the seconds of one run while a process for each core computes."""
    busy = [subprocess.Popen([sys.executable, "-c", LOAD]) for _ in range(cores)]
    try:
        return seconds(scan, model, environment)
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cine-crnn-fast")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--spins", nargs="+", type=int, help="values of GOMP_SPINCOUNT to try; default: the command's")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    print(f"{cores} cores, load {load:.1f} before the first run" + (": NOT IDLE" if load > 0.5 * cores else ""))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "crnn_cli", "-q", "simulate", "-o", f"{folder}/p", "--size", str(options.size)]
        subprocess.run([*command, "--frames", str(options.frames)], check=True, capture_output=True)
        scan = Path(folder) / "p_zerofilled.nii.gz"
        print("| GOMP_SPINCOUNT | alone (s) | busy (s) | ratio |\n|---|---|---|---|")
        for spin in options.spins or [None]:
            environment = clean | ({} if spin is None else {"GOMP_SPINCOUNT": str(spin)})
            alone, busy = [], []
            for _ in range(options.repeats):
                alone.append(seconds(scan, options.model, environment))
                busy.append(under_load(scan, options.model, environment, cores))
            row = {"spins": spin, "alone": statistics.median(alone), "busy": statistics.median(busy)}
            rows.append(row | {"ratio": row["busy"] / row["alone"], "load_before": load, "cores": cores})
            verdict = "" if rows[-1]["ratio"] <= BAR else f" (above {BAR})"
            name = "of the command" if spin is None else str(spin)
            print(f"| {name} | {row['alone']:.1f} | {row['busy']:.1f} | {rows[-1]['ratio']:.2f}{verdict} |", flush=True)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
