"""Speed and memory of CRNN-MRI on this machine: ratios to the loops of the paper, share of what it can do, growth.

Network   of the published size (64 features, 5 iterations, one set of weights), random weights and data: the time does
          not depend on them.
Loops     `tests/reference/crnn_mri_loops.py`: the formulas of the paper as they read, frame by frame, float32.
Times     wall clock, the forms taking turns; median, and the least and largest of the repeats. Ratios are of medians.
Rate      multiply-adds of the convolutions that the form computes, over the time of all of it, data consistency too;
          beside it that of a plain 64-to-64 convolution of two frames and of a matrix product in the same precision,
          measured after every round of the forms; medians.
Error     norm of the difference from the loops over theirs.
Bundles   --bundles: published models as `crnn reconstruct` uses them, start image and scale too, in both precisions,
          beside the same loops of the network of the paper.
Memory    the most that a process of its own held, less what it held after importing, GiB.

python benchmarks/speed.py [--sizes 128x16 256x30] [--repeats 3] [--bundles NAME] [--growth] [--memory] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from crnn_cli.bundles.store import find_bundle, load_reconstruction
from crnn_cli.mri.consistency import SingleCoilConsistency
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
from crnn_cli.networks.engines.cpu import CpuSchedule
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.reconstruction.reconstruct import NetworkReconstructor
from crnn_cli.reconstruction.settings import InferenceSettings

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.reference import crnn_mri_loops

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
FORMS = ("fp32", "fp32 sparing", "bf16")


def data(size: int, frames: int) -> SliceMeasurement:
    """Return random data, 4-fold."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(1, frames, size, 1, generator=generator) < 0.25
    kspace = torch.randn(1, frames, size, size, dtype=torch.complex64, generator=generator) * mask
    return SliceMeasurement(kspace[:, None], mask)


def problem(size: int, frames: int) -> tuple[Tensor, SingleCoilConsistency]:
    """Return a start image and its operator."""
    measured = data(size, frames)
    operator = SingleCoilConsistency(measured.kspace_BCTYX[:, 0], measured.mask_BTYX)
    return operator.zero_filled(), operator


def whole(name: str, half: bool) -> Callable[[int, int], Tensor]:
    """Return what reconstructs random data of a size with a published model."""
    bundle = find_bundle(name, "reconstruct")
    net = load_reconstruction(bundle, torch.device("cpu"))
    method = NetworkReconstructor(
        net, InferenceSettings(bundle.initial_image, bundle.input_rms, net.config.iterations, bfloat16=half)
    )
    return lambda size, frames: method(data(size, frames), lambda: None).images_BTYX


def network(iterations: int = 5) -> CRNNMRI:
    """Return the network of the paper with random weights."""
    torch.manual_seed(0)
    return CRNNMRI(CRNNMRIConfig(iterations=iterations)).eval()


def run(net: CRNNMRI, size: int, frames: int, form: str) -> Tensor:
    """Return the images that a form of the network makes.

    "fp32 sparing" is for scarce memory, the others as where there is plenty; "fp32 on disk" has all states in files.
    """
    image, operator = problem(size, frames)
    if form == "loops":
        return crnn_mri_loops.reconstruct(net.state_dict(), 64, image, operator, net.config.iterations)
    net.on_disk = CpuSchedule.SEQUENCES if form.endswith("on disk") else 0
    net.ample_memory = form in PRECISIONS
    with torch.autocast("cpu", torch.bfloat16, enabled=form.startswith("bf16")):
        return net(image, operator)


def multiply_adds(net: CRNNMRI, size: int, frames: int) -> float:
    """Return those of the convolutions that the fast forms compute: nothing for states that are zero."""
    features = net.config.features
    square, ends = features * features * 9, 2 * (2 * features * 9)
    recurrent = 2 * square * (frames - 1) / frames
    first, other = ends + recurrent + 3 * square, ends + recurrent + 7 * square
    return (first + (net.config.iterations - 1) * other) * frames * size * size


def seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def plain_rates(size: int, kind: torch.dtype) -> dict[str, float]:
    """Return multiply-adds a second of a convolution and of a matrix product."""
    features = torch.randn(2, 64, size, size).to(kind, memory_format=torch.channels_last)
    layer = nn.Conv2d(64, 64, 3, padding=1).to(kind, memory_format=torch.channels_last)
    matrix = torch.randn(2048, 2048).to(kind)
    times = {"convolution": [], "matrix product": []}
    for _ in range(6):
        times["convolution"].append(seconds(lambda: layer(features)))
        times["matrix product"].append(seconds(lambda: matrix @ matrix))
    work = {"convolution": 2 * size * size * 64 * 64 * 9, "matrix product": 2048**3}
    return {name: work[name] / statistics.median(found[1:]) for name, found in times.items()}


def compared(size: int, frames: int, repeats: int, bundles: list[str]) -> list[dict]:
    """Return what the forms need for one size, and how far they are from the loops."""
    net = network()
    forms: dict[str, Callable[[int, int], Tensor]] = {
        form: lambda size, frames, form=form: run(net, size, frames, form) for form in ("loops", *FORMS)
    }
    forms |= {f"{name} {kind}": whole(name, kind == "bf16") for name in bundles for kind in PRECISIONS}
    made, times = {}, {form: [] for form in forms}
    plain: dict[str, list[dict[str, float]]] = {kind: [] for kind in PRECISIONS}
    for _ in range(repeats):
        for form, function in forms.items():
            began = time.perf_counter()
            made[form] = function(size, frames)
            times[form].append(time.perf_counter() - began)
        for kind, found in plain.items():
            found.append(plain_rates(size, PRECISIONS[kind]))
    median = {form: statistics.median(found) for form, found in times.items()}
    rows = []
    for form in forms:
        row = {"size": size, "frames": frames, "form": form, "seconds": round(median[form], 3)}
        row |= {"least": round(min(times[form]), 3), "largest": round(max(times[form]), 3)}
        row["faster"] = round(median["loops"] / median[form], 2)
        if form in FORMS:
            row["error"] = float(f"{float((made[form] - made['loops']).norm() / made['loops'].norm()):.1e}")
            rate, found = multiply_adds(net, size, frames) / median[form], plain[form[:4]]
            row["GMAC/s"] = round(rate / 1e9)
            row |= {f"of {name}": round(rate / statistics.median(each[name] for each in found), 3) for name in found[0]}
        rows.append(row)
    return rows


def growth(repeats: int) -> list[dict]:
    """Return times as one thing is doubled and the others stay."""
    base = {"size": 96, "frames": 8, "iterations": 3}
    rows = []
    for name, values in {"frames": (8, 16, 32), "size": (96, 192), "iterations": (3, 6)}.items():
        for value in values:
            at = base | {name: value}
            net = network(at["iterations"])
            found = [seconds(lambda n=net, a=at: run(n, a["size"], a["frames"], "fp32")) for _ in range(repeats + 1)][
                1:
            ]
            rows.append({"doubled": name, **at, "seconds": round(statistics.median(found), 3)})
    return rows


def peak(size: int, frames: int, form: str) -> float:
    """Return GiB that a run in a process of its own needs beyond its imports."""
    command = [sys.executable, __file__, "--child", f"{size}x{frames}", form]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(said)


def child(size: int, frames: int, form: str) -> None:
    before = resident()
    run(network(), size, frames, form)
    print((most_resident() - before) / 2**20)


def resident() -> int:
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line)


def most_resident() -> int:
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)


def parsed(size: str) -> tuple[int, int]:
    side, frames = size.split("x")
    return int(side), int(frames)


def table(rows: list[dict]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    print("\n| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(str(row.get(name, "")) for name in names) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=parsed, default=[(128, 16), (256, 30)], help="side x frames")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--bundles", nargs="+", default=[], help="names or folders of models")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    if options.child:
        child(*parsed(options.child[0]), options.child[1])
        return
    machine = f"{torch.backends.cpu.get_cpu_capability()}, {platform.machine()}"
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()}, {machine}")
    forms = [compared(*size, options.repeats, options.bundles) for size in options.sizes]
    found = {"forms": [row for rows in forms for row in rows]}
    table(found["forms"])
    if options.growth:
        found["growth"] = growth(options.repeats)
        table(found["growth"])
    if options.memory:
        found["memory"] = [
            {"size": size, "frames": frames, "form": form, "GiB": round(peak(size, frames, form), 2)}
            for size, frames in options.sizes
            for form in (*FORMS, "fp32 on disk")
        ]
        table(found["memory"])
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
