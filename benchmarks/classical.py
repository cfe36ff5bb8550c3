"""Classical methods against BART: total variation of cine, one coil and eight, and CG-SENSE of a measured brain.

Cine      ACDC patients for choices (21-30, never the test cases 41-50), the truth, phase and masks of quality.py:
          middle slice, no noise. Eight coils: `coil_maps`, smooth, normalised to 1; both programs are given them.
Methods   of crnn_cli.mri.classical, at their default weight and at the best of a ladder; BART `pics -R T:1024:0:w`,
          temporal total variation, 100 iterations, best of a ladder; both choices look at the truth (PSNR).
          Nothing is put back at the end, for either.
Time      processor seconds of a run on one thread, the programs taking turns; BART's includes its start and files.
Brain     8 coils, 230 x 180, its own samples and one line in two, maps by `bart ecalib`: CG-SENSE against
          `bart pics -l2 -r w`, the distance of the images over their norm.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from quality import make_problem, psnr, read_cases
from torch import Tensor

from crnn_cli.mri.classical import METHODS, run_method
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.fourier import image_to_kspace

LADDERS = {
    "sense": tuple(10.0**rung for rung in (-4, -3, -2, -1)),
    "tv": tuple(0.0005 * 2**rung for rung in range(8)),
    "llr": tuple(0.000125 * 2**rung for rung in range(8)),
    "l+s": tuple(0.0005 * 2**rung for rung in range(8)),
    "BART temporal TV": tuple(0.0005 * 2**rung for rung in range(9)),
}
BART_ITERATIONS = 100


def coil_maps(coils: int, lines: int, columns: int) -> Tensor:
    """Return sensitivities (1, C, Y, X) of coils around the field of view: Gaussian, oblique phase, normalised."""
    y, x = np.meshgrid(np.linspace(-1, 1, lines), np.linspace(-1, 1, columns), indexing="ij")
    found = []
    for angle in 2 * np.pi * np.arange(coils) / coils:
        far = (y - 1.3 * np.sin(angle)) ** 2 + (x - 1.3 * np.cos(angle)) ** 2
        found.append(np.exp(-far / 2 + 1j * (angle + y * np.cos(angle) - x * np.sin(angle))))
    maps = np.stack(found)
    return torch.from_numpy((maps / np.sqrt((np.abs(maps) ** 2).sum(0))).astype(np.complex64))[None]


def bart(command: str, arrays: dict[str, np.ndarray], shape: tuple[int, ...], split: bool) -> np.ndarray:
    """Run BART on named arrays (C, T, Y, X) and return its `out`, as the shape given.

    With `split`, x is in image space and in BART's slice dimension, so that y alone is transformed: for BART 0.8 the
    lengths that it transforms should be divisible by four, or signs change.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, array in arrays.items():
            dims = [1] * 16
            places = (3, 10, 1, 13 if split else 2)
            for place, length in zip(places, array.shape, strict=True):
                dims[place] = length
            order = np.argsort(places)[::-1]  # the last dimension is the slowest
            Path(folder, f"{name}.hdr").write_text("# Dimensions\n" + " ".join(map(str, dims)) + "\n")
            np.ascontiguousarray(array.transpose(order), np.complex64).tofile(Path(folder, f"{name}.cfl"))
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(["bart", *command.split()], cwd=folder, env=one_thread, check=True, capture_output=True)
        flat = np.fromfile(Path(folder, "out.cfl"), np.complex64)
    order = np.argsort(places)[::-1]
    return flat.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))


def bart_tv(encoding: Encoding, kspace_BCTYX: Tensor, weight: float) -> Tensor:
    data = encoding.to_data_space(kspace_BCTYX)[0].numpy()
    _, frames, lines, columns = data.shape
    maps = np.ones((1, lines, columns)) if encoding.maps_BCYX is None else encoding.maps_BCYX[0].numpy()
    pattern = encoding.mask_BTYX[0].expand(frames, lines, columns).numpy()[None]
    arrays = {"kspace": data, "pattern": pattern, "maps": maps[:, None]}
    command = f"pics -w 1 -i {BART_ITERATIONS} -R T:1024:0:{weight:g} -p pattern kspace maps out"
    image = bart(command, arrays, (1, frames, lines, columns), len(encoding.axes) == 1)
    return torch.from_numpy(np.ascontiguousarray(image))


def timed(run: Callable[[], Tensor]) -> tuple[Tensor, float]:
    before = _processor_seconds()
    image = run()
    return image, _processor_seconds() - before


def _processor_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def ladder(run: Callable[[float], Tensor], score: Callable[[Tensor], float], rungs: tuple[float, ...]) -> dict:
    """Climb from the middle to the first weight that neither neighbour betters; PSNR and seconds of all tried."""
    tried: dict[float, tuple[float, float]] = {}
    best = len(rungs) // 2
    while True:
        for rung in (best, best - 1, best + 1):
            if 0 <= rung < len(rungs) and rungs[rung] not in tried:
                image, seconds = timed(lambda rung=rung: run(rungs[rung]))
                tried[rungs[rung]] = (score(image), seconds)
        top = rungs.index(max(tried, key=lambda weight: tried[weight][0]))
        if top == best:
            quality, seconds = tried[rungs[best]]
            return {"weight": rungs[best], "psnr": quality, "seconds": seconds, "tried": tried}
        best = top


def cine(options: argparse.Namespace) -> list[dict]:
    first, last = map(int, options.patients.split("-"))
    results = []
    for case, whole in read_cases(options.data, range(first, last + 1, options.step), with_pig=False).items():
        first_column = (whole.shape[2] - options.columns) // 2 if options.columns else 0
        magnitude = whole[:, :, first_column : first_column + (options.columns or whole.shape[2])]
        for acceleration in options.accelerations:
            for coils in options.coils:
                problem = make_problem(case, magnitude, acceleration)
                maps = None if coils == 1 else coil_maps(coils, *magnitude.shape[1:])
                encoding = Encoding(problem.mask_BTYX, maps)
                kspace = image_to_kspace(encoding.coil_images(problem.truth_BTYX)) * problem.mask_BTYX[:, None]
                common = {"case": case, "acceleration": acceleration, "coils": coils}
                for name in options.methods:

                    def run(weight: float | None, name: str = name) -> Tensor:
                        if name not in METHODS:
                            return bart_tv(encoding, kspace, weight)  # noqa: B023
                        return run_method(name, encoding, kspace, weight)  # noqa: B023

                    found = {**common, "method": name}
                    if name in METHODS:
                        image, found["default_seconds"] = timed(lambda: run(None))
                        found["default"] = psnr(image, problem)
                    if name in LADDERS and not options.defaults:
                        found |= ladder(run, lambda image: psnr(image, problem), LADDERS[name])  # noqa: B023
                    results.append(found)
                    print({key: value for key, value in found.items() if key != "tried"}, flush=True)
    return results


def table(results: list[dict]) -> str:
    """Return means over cases: PSNR at the default weight and at the best, processor seconds."""
    rows = ["| coils | R | method | default | best | best weights | seconds |", "|---|---|---|---|---|---|---|"]
    keys = dict.fromkeys((r["coils"], r["acceleration"], r["method"]) for r in results)
    for key in sorted(keys, key=lambda key: key[:2]):
        some = [r for r in results if (r["coils"], r["acceleration"], r["method"]) == key]
        default, best = (_mean([r[name] for r in some if name in r]) for name in ("default", "psnr"))
        weights = ", ".join(f"{w:g}" for w in sorted({r["weight"] for r in some if "weight" in r}))
        seconds = _mean([r.get("default_seconds", r.get("seconds")) for r in some])
        rows.append("| {} | {:g} | {} | ".format(*key) + f"{default} | {best} | {weights} | {seconds} |")
    return "\n".join(rows)


def _mean(values: list[float]) -> str:
    return f"{np.mean(values):.2f}" if values else ""


def brain(file: Path, weight: float) -> str:
    """Return how far CG-SENSE is from BART's, of the same samples and maps."""
    kspace = np.load(file)[:, None]
    shape = kspace.shape
    lines = np.abs(kspace).sum((0, 1, 3)) > 0
    lines[1 : shape[2] // 2 - 12 : 2] = lines[shape[2] // 2 + 13 :: 2] = False
    kspace = kspace / np.abs(kspace).max()
    maps = bart("ecalib -m 1 kspace out", {"kspace": kspace}, (shape[0], 1, *shape[2:]), split=False)
    pattern = np.broadcast_to(lines[:, None], (1, *shape[1:]))
    arrays = {"kspace": kspace * lines[:, None], "maps": maps, "pattern": pattern}
    theirs = bart(
        f"pics -w 1 -l2 -r {weight:g} -i 100 -p pattern kspace maps out", arrays, (1, *shape[1:]), split=False
    )
    encoding = Encoding(torch.from_numpy(pattern[..., :1].copy()), torch.from_numpy(maps[None, :, 0].copy()))
    ours = run_method("sense", encoding, torch.from_numpy(arrays["kspace"][None]), weight, 100).numpy()
    unit = np.vdot(theirs, ours) / np.abs(np.vdot(theirs, ours))
    apart = np.linalg.norm(ours - unit * theirs) / np.linalg.norm(theirs)
    return f"brain, {lines.sum()} of {lines.size} lines, w {weight:g}: {100 * apart:.2g} % apart, phase {unit:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of acdc_cine and kspace")
    parser.add_argument("--patients", default="21-30", help="ACDC patients")
    parser.add_argument("--step", type=int, default=1, help="every so many-th patient")
    parser.add_argument("--columns", type=int, help="so many of the readout, from the middle, to save time")
    parser.add_argument("--accelerations", type=float, nargs="+", default=[4.0, 8.0, 12.0])
    parser.add_argument("--coils", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--methods", nargs="+", default=[*METHODS, "BART temporal TV"])
    parser.add_argument("--defaults", action="store_true", help="the default weights only")
    parser.add_argument("--no-brain", action="store_true", help="leave the brain out")
    parser.add_argument("--json", type=Path, help="write everything here")
    options = parser.parse_args()
    if shutil.which("bart") is None:
        parser.error("no `bart` on the PATH")
    torch.set_num_threads(1)
    if not options.no_brain:
        for weight in (0.001, 0.01, 0.1):
            print(brain(options.data / "kspace/cartesian_ksp.npy", weight))
    with torch.inference_mode():
        results = cine(options)
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
