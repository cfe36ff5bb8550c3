"""Speed, memory and exactness of CRNN-MRI on a GPU: milliseconds a sequence, share of what the card can do.

Networks   of the published size (64 features, one set of weights; random weights, which the time does not see), and
           the bundle `cine-crnn`. One sequence, one coil, hard data consistency, 4-fold, random data, all on the card.
Forms      precision: fp32, tf32 (convolutions may round what they multiply), bf16. How: launched one kernel after the
           other, replayed (CUDA graph, `networks.engines.cuda_graph`), compiled (torch.compile, with --compile). Frames
           at once: all of them, or fewer (`crnn_cli.networks.engines.gpu`).
Times      of CUDA events, after warm-up: median, least and largest of the repeats. First: the first run, with the
           choice of algorithms and, replayed, the recording.
Rate       multiply-adds of the convolutions over the time of everything, data consistency too. Beside it its share of
           a matrix product of 8192 x 8192 in the same precision, measured here, and of the data sheet where known.
Error      largest difference from the CPU's float32 images over their largest value (with --no-cpu not measured).
Memory     the most that PyTorch held beyond what it held before, GiB.
Training   forward and backward pass of a sequence, with and without activation checkpoints.
Tuning     200 steps of `--adapt`, a phantom 8-fold undersampled, one slice; the bar is 60 s for 256 x 256 x 30.
Command    a slice through `reconstruction.reconstruct.reconstruct`, start and transfers too, the first one left out.

The bar: 256 x 256 x 30, published size, 10 iterations, bf16: 60 ms on a card of the kind of an H200.

python benchmarks/gpu.py [--device cuda] [--sizes 256x30] [--repeats 20] [--compile] [--no-cpu] [--json FILE]
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crnn_cli.adaptation.adapt import AdaptSettings, adapt
from crnn_cli.bundles.store import find_bundle, load_reconstruction
from crnn_cli.compute.device import choose_device, tf32_convolutions
from crnn_cli.data.acquisition import from_fully_sampled
from crnn_cli.data.image import Image
from crnn_cli.mri.consistency import Consistency, SingleCoilConsistency
from crnn_cli.mri.phantom.ellipses import Grid
from crnn_cli.mri.phantom.scan import PhantomScan, simulate_slice
from crnn_cli.mri.sampling import variable_density
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
from crnn_cli.reconstruction.measurement import SingleCoilSource
from crnn_cli.reconstruction.reconstruct import NetworkReconstructor, reconstruct
from crnn_cli.reconstruction.settings import InferenceSettings

BAR = {"size": 256, "frames": 30, "network": "published size", "iterations": 10, "precision": "bf16"}, 60.0
KINDS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
SHEETS = {  # dense, 10^12 floating-point operations a second, by the maker's data sheets
    "H200": {"fp32": 67, "tf32": 494, "bf16": 989},
    "H100 80GB HBM3": {"fp32": 67, "tf32": 494, "bf16": 989},
    "A100": {"fp32": 19.5, "tf32": 156, "bf16": 312},
}
Run = Callable[[], object]


@dataclass(frozen=True)
class Form:
    """How a network is run. at_once : frames; 0 for all."""

    precision: str
    how: str
    at_once: int = 0


@dataclass(frozen=True)
class Timing:
    """Milliseconds of the first run and of the others."""

    first: float
    others: list[float]

    def row(self) -> dict:
        found = statistics.median(self.others), min(self.others), max(self.others)
        return {name: round(value, 3) for name, value in zip(("ms", "least", "largest"), found, strict=True)} | {
            "first": round(self.first, 1)
        }


def problem(size: int, frames: int, device: str | torch.device = "cpu") -> tuple[Tensor, SingleCoilConsistency]:
    """Return a start image and its operator on a device, 4-fold, scaled as the networks want them."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(1, frames, size, 1, generator=generator) < 0.25
    kspace = torch.randn(1, frames, size, size, dtype=torch.complex64, generator=generator) * mask
    operator = SingleCoilConsistency(kspace.to(device), mask.to(device))
    return operator.zero_filled(), operator


def published(iterations: int) -> CRNNMRI:
    """Return the network of the paper with random weights."""
    torch.manual_seed(0)
    return CRNNMRI(CRNNMRIConfig(iterations=iterations)).eval()


def networks(device: torch.device) -> Iterator[tuple[str, CRNNMRI]]:
    """Yield what is measured, on the device."""
    for iterations in (10, 5):
        yield "published size", published(iterations).to(device)
    yield "cine-crnn", load_reconstruction(find_bundle("cine-crnn"), device)


def forms(device: torch.device, frames: int, compiled: bool, parts: bool) -> Iterator[Form]:
    """Yield what there is on a device. parts : also with fewer frames at once."""
    cuda = device.type == "cuda"
    for kind in KINDS if cuda else ("fp32", "bf16"):
        yield Form(kind, "launched")
        if cuda:
            yield Form(kind, "replayed")
        if compiled:
            yield Form(kind, "compiled")
    for at_once in sorted({1, 2, 4, 8, max(1, frames // 2)}):
        if parts and at_once < frames:
            yield Form("bf16", "replayed" if cuda else "launched", at_once)


def ready(net: CRNNMRI, form: Form, image: Tensor, operator: Consistency) -> Callable[[], Tensor]:
    """Return a function that makes the images in a form."""
    net = copy.deepcopy(net)
    net.at_once, net.cuda_graph.enabled = form.at_once or image.shape[1], form.how == "replayed"
    function: Callable[..., Tensor] = net
    if form.how == "compiled":
        function = torch.compile(net, dynamic=False)

    def made() -> Tensor:
        with (
            torch.no_grad(),
            torch.autocast(image.device.type, torch.bfloat16, enabled=form.precision == "bf16"),
            tf32_convolutions(form.precision == "tf32"),
        ):
            found = function(image, operator)
        if form.how == "replayed" and net.cuda_graph.failure:
            raise RuntimeError(f"recording failed: {net.cuda_graph.failure}")
        return found

    return made


def milliseconds(run: Run, device: torch.device) -> float:
    """Return what one run takes, nothing else going on."""
    if device.type != "cuda":
        began = time.perf_counter()
        run()
        return 1000 * (time.perf_counter() - began)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start.record()
    run()
    end.record()
    torch.cuda.synchronize(device)
    return start.elapsed_time(end)


def timed(run: Run, device: torch.device, repeats: int) -> Timing:
    """Return times of a function; the first three runs, on a CPU one, are for warming up: the very first is told."""
    warm = 3 if device.type == "cuda" else 1
    found = [milliseconds(run, device) for _ in range(warm + repeats)]
    return Timing(found[0], found[warm:])


def held(run: Run, device: torch.device) -> float | None:
    """Return the GiB that PyTorch held at most in a run, beyond those before; None on a CPU."""
    if device.type != "cuda":
        run()
        return None
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    return (torch.cuda.max_memory_allocated(device) - before) / 2**30


def multiply_adds(net: CRNNMRI, size: int, frames: int) -> float:
    """Return those of the convolutions; nothing for states that are zero."""
    features, inputs = net.config.features, net.bcrnn.i2h.in_channels
    square, ends = features * features * 9, (inputs + 2) * features * 9
    recurrent = 2 * square * (frames - 1) / frames
    first, other = ends + recurrent + 3 * square, ends + recurrent + 7 * square
    return (first + (net.config.iterations - 1) * other) * frames * size * size


def peaks(device: torch.device) -> dict[str, float]:
    """Return multiply-adds a second of a large matrix product in each precision."""
    side, found = 8192 if device.type == "cuda" else 128, {}
    for name, kind in KINDS.items():
        matrix = torch.randn(side, side, device=device).to(kind)
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        times = timed(lambda m=matrix: m @ m, device, 10).others
        torch.backends.cuda.matmul.allow_tf32 = before
        found[name] = side**3 / statistics.median(times) * 1000
    return found


def sheet(device: torch.device, kind: str) -> float | None:
    """Return multiply-adds a second by the data sheet, None where it is not known here."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((rates[kind] * 1e12 / 2 for card, rates in SHEETS.items() if card in name), None)


def attempt(measure: Callable[[], dict]) -> dict:
    """Return what was measured, or why it could not be."""
    try:
        return measure()
    except Exception as reason:  # one form that fails must not take the others with it
        torch.cuda.empty_cache()
        return {"failed": f"{type(reason).__name__}: {str(reason).partition(chr(10))[0][:120]}"}


def inference(size: int, frames: int, options: argparse.Namespace) -> Iterator[dict]:
    """Yield what every network needs in every form."""
    device, limits = options.device, options.limits
    image, operator = problem(size, frames)
    there, data = problem(size, frames, device)
    for name, net in networks(device):
        wanted = None
        if not options.no_cpu:
            with torch.no_grad():
                wanted = copy.deepcopy(net).cpu()(image, operator)
        for form in forms(device, frames, options.compile, net.config.iterations == 10):
            row = {"size": size, "frames": frames, "network": name, "iterations": net.config.iterations}
            row |= {"precision": form.precision, "how": form.how, "at once": form.at_once or frames}

            def measure(net: CRNNMRI = net, form: Form = form, wanted: Tensor | None = wanted) -> dict:
                run = ready(net, form, there, data)
                memory = held(run, device)
                found = timed(run, device, options.repeats).row()
                rate = multiply_adds(net, size, frames) / found["ms"] * 1000
                found |= {"TMAC/s": round(rate / 1e12, 3), "of product": round(rate / limits[form.precision], 3)}
                known = sheet(device, form.precision)
                found |= {"of data sheet": None if known is None else round(rate / known, 3)}
                found |= {"GiB": None if memory is None else round(memory, 2)}
                if wanted is not None:
                    error = float((run().cpu() - wanted).abs().max() / wanted.abs().max())
                    found["error"] = float(f"{error:.1e}")
                return found

            yield row | attempt(measure)


def training(size: int, frames: int, options: argparse.Namespace) -> Iterator[dict]:
    """Yield what a training step needs."""
    device = options.device
    image, operator = problem(size, frames, device)
    for kind in ("fp32", "bf16"):
        for checkpoint in (0, 1):
            net = published(5).to(device).train()
            net.checkpoint = checkpoint

            def step(net: CRNNMRI = net, kind: str = kind) -> None:
                net.zero_grad(set_to_none=True)
                with torch.autocast(device.type, torch.bfloat16, enabled=kind == "bf16"), tf32_convolutions(False):
                    made = net(image, operator)
                (made - image).abs().mean().backward()

            def measure(step: Run = step) -> dict:
                memory = held(step, device)
                found = timed(step, device, max(1, options.repeats // 4)).row()
                return found | {"GiB": None if memory is None else round(memory, 2)}

            row = {"size": size, "frames": frames, "iterations": 5, "precision": kind, "checkpoint": checkpoint}
            yield row | attempt(measure)


def tuning(size: int, frames: int, options: argparse.Namespace) -> Iterator[dict]:
    """Yield what tuning to a scan needs."""
    truth_TYX = simulate_slice(PhantomScan(Grid(size, size, 1.5), frames, seed=1), 0).truth_TYX
    mask_TY = variable_density(frames, size, 8, torch.Generator().manual_seed(1))
    image = Image(truth_TYX.permute(1, 2, 0)[:, :, None].numpy(), np.eye(4))
    data = SingleCoilSource(from_fully_sampled(image, mask_TY[None].numpy() > 0, 1, "random"))
    bundle = find_bundle("cine-crnn")
    net = load_reconstruction(bundle, options.device)
    method = NetworkReconstructor(net, InferenceSettings(bundle.initial_image, 1.0, net.config.iterations))
    for kind in ("fp32", "bf16"):

        def measure(half: bool = kind == "bf16") -> dict:
            found = adapt(data, method, AdaptSettings(steps=200, bfloat16=half), options.device)[1]
            residuals = {"before": found.before, "after": found.after}
            return {"seconds": round(found.seconds, 1)} | {name: round(r or 0, 4) for name, r in residuals.items()}

        row = {"size": size, "frames": frames, "network": "cine-crnn", "precision": kind, "steps": 200}
        yield row | attempt(measure)


def command(size: int, frames: int, options: argparse.Namespace) -> Iterator[dict]:
    """Yield what a slice needs on the way of `crnn reconstruct`, without files."""
    device, slices = options.device, 6
    random = np.random.default_rng(0)
    truth = random.standard_normal((size, size, slices, frames)).astype(np.float32)
    mask = random.random((slices, frames, size)) < 0.25
    data = SingleCoilSource(from_fully_sampled(Image(truth, np.eye(4)), mask, 1, "random"))
    bundle = find_bundle("cine-crnn")
    for kind in KINDS if device.type == "cuda" else ("fp32", "bf16"):
        net = load_reconstruction(bundle, device)
        recipe = InferenceSettings(
            bundle.initial_image, 1.0, net.config.iterations, bfloat16=kind == "bf16", tf32=kind == "tf32"
        )
        ends, warned = [], []

        def told(done: int, total: int, net: CRNNMRI = net, ends: list[float] = ends) -> None:
            if done % net.config.iterations == 0:
                ends.append(time.perf_counter())

        def measure(
            net: CRNNMRI = net, recipe: InferenceSettings = recipe, ends: list[float] = ends, warn: list = warned
        ) -> dict:
            reconstruct(data, NetworkReconstructor(net, recipe, warn.append), device, told)
            return {"ms": round(1000 * statistics.median(np.diff(ends)[1:]), 1), "warnings": len(warn)}

        yield {"size": size, "frames": frames, "network": "cine-crnn", "precision": kind} | attempt(measure)


def verdict(rows: list[dict]) -> str:
    """Return how the best form stands to the bar."""
    wanted, most = BAR
    found = [row["ms"] for row in rows if "ms" in row and all(row[name] == value for name, value in wanted.items())]
    if not found:
        return f"bar of {most:g} ms: not measured"
    return f"bar of {most:g} ms: {'met' if min(found) <= most else 'missed'}, {min(found):g} ms"


def parsed(size: str) -> tuple[int, int]:
    side, frames = size.split("x")
    return int(side), int(frames)


def told(row: dict) -> dict:
    """Return a row, once it is on standard error: the whole takes minutes."""
    print(", ".join(f"{name} {value}" for name, value in row.items()), file=sys.stderr, flush=True)
    return row


def table(title: str, rows: list[dict]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    print(f"\n{title}\n\n| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join("" if row.get(name) is None else str(row[name]) for name in names) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=choose_device, default="cuda")
    parser.add_argument("--sizes", nargs="+", type=parsed, default=[(256, 30)], help="side x frames")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--compile", action="store_true", help="torch.compile too; it takes minutes")
    parser.add_argument("--no-cpu", action="store_true", help="no difference from the CPU's images")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cuda = options.device.type == "cuda"
    card = torch.cuda.get_device_name(options.device) if cuda else platform.processor() or platform.machine()
    print(f"PyTorch {torch.__version__}, {card}")
    limits = options.limits = peaks(options.device)
    found = {"card": card, "torch": torch.__version__, "product, TMAC/s": {k: v / 1e12 for k, v in limits.items()}}
    print("matrix product, TMAC/s: " + ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in limits.items()))
    for title, rows in (("inference", inference), ("training", training), ("tuning", tuning), ("command", command)):
        found[title] = [told(row) for size in options.sizes for row in rows(*size, options)]
        table(title, found[title])
    found["verdict"] = verdict(found["inference"])
    print(f"\n{found['verdict']}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
