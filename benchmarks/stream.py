"""A causal network on streams: quality with one coil and with several, latency, memory.

    python benchmarks/stream.py quality --data DATA [--model NAME] [--patients 21-30] [--acceleration 8] [--json FILE]
        [--tv-every 1]
    python benchmarks/stream.py coils --data DATA [--model NAME] [--coils 8] [--acceleration 8]
    python benchmarks/stream.py latency [--model NAME] [--threads 2] [--sizes 128 192] [--coils 1 8] [--frames 120]
    python benchmarks/stream.py memory [--model NAME] [--frames 10000]

quality   Cases, phase and sampling of `quality.py` (13 test cases, or the patients named), PSNR as there, without the
          first frames. Methods: the bundle as a stream; `cine-crnn-fast`, which sees all frames; running images, whose
          missing samples are those of the frames before (a sliding window); causal total variation of the last frames
          up to each, at its best weight of a ladder per case, chosen with the truth. A frame of it needs no other, so
          with --tv-every 5 every fifth is made, and compared with the same frames of the bundle.
coils     Cases, coils and noise of `multicoil.py` (phantom and pig), sensitivities by all frames; PSNR as there,
          without the first frames. Methods: the bundle, `cine-crnn-fast`, running images.
latency   From the last line of a frame to its image, as `crnn reconstruct --stream` does it, output grid included.
          Random images: the time does not depend on what is in them.
memory    Resident memory of the process over a long stream, at frame 64, half-way and at the end.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import baselines
import multicoil
import numpy as np
import quality
import torch
from baselines import Problem

from crnn_cli.bundles.store import find_bundle, load_reconstruction
from crnn_cli.compute.clock import Latency, now
from crnn_cli.data.host_memory import resident_bytes
from crnn_cli.data.raw_scan import RawSlice
from crnn_cli.mri.classical import run_method
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.sampling import variable_density
from crnn_cli.networks.live_crnn import LiveCRNN
from crnn_cli.reconstruction.coil_preparation import CoilRequest
from crnn_cli.reconstruction.frames import RunningImage, frame_of
from crnn_cli.reconstruction.settings import InferenceSettings
from crnn_cli.reconstruction.stream import StreamedSlice, StreamMethod

LEFT_OUT = 5
WINDOW = 8  # frames that causal total variation sees
WEIGHTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # of total variation, relative to its default


def causal_tv(every: int) -> baselines.Method:
    """Total variation of the frames up to each, for every so many frames; the others are not a number."""

    def reconstruct(problem: Problem, factor: float) -> torch.Tensor:
        images = torch.full_like(problem.truth_BTYX, float("nan"))
        for t in range(LEFT_OUT, images.shape[1], every):
            part = slice(max(0, t + 1 - WINDOW), t + 1)
            kspace, mask = problem.kspace_BTYX[:, None, part], problem.mask_BTYX[:, part]
            made = run_method("tv", Encoding(mask), kspace, lambda _: 1e-3 * factor, None, lambda done, total: None)
            images[:, t] = made[:, -1]
        return images

    return baselines.Method("causal total variation", reconstruct, WEIGHTS)


def psnr_later(problem: Problem, image_BTYX: torch.Tensor, made: torch.Tensor | None = None) -> float:
    """PSNR without the first frames, and without those that are not a number.

    Parameters
    ----------
    made : other images, whose frames count in place of those of the image.
    """
    frames = (image_BTYX if made is None else made).isfinite().all((0, 2, 3))
    frames[:LEFT_OUT] = False
    parts = (each[:, frames] for each in (problem.truth_BTYX, problem.kspace_BTYX, problem.mask_BTYX))
    return quality.psnr(image_BTYX[:, frames], Problem(*parts))


def measure_quality(options: argparse.Namespace) -> None:
    first, last = map(int, (options.patients or "41-50").split("-"))
    cases = quality.read_cases(options.data, range(first, last + 1), with_pig=options.patients is None)
    methods = [
        baselines.bundle(options.model, None, Path(options.model).name, options.bf16, options.ensemble),
        baselines.bundle("cine-crnn-fast", None, "cine-crnn-fast, all frames", options.bf16),
        baselines.Method("running (sliding window)", lambda problem, _: problem.consistency().running()),
        *([] if options.skip_tv else [causal_tv(options.tv_every)]),
    ]
    found: dict[str, dict[str, float]] = {method.name: {} for method in methods}
    gains: dict[str, dict[str, float]] = {method.name: {} for method in methods}
    with torch.inference_mode():
        for case, magnitude in cases.items():
            problem = quality.make_problem(case, magnitude, options.acceleration)
            for method in methods:
                made = baselines.best_setting(method, problem, partial(psnr_later, problem))
                if method is methods[0]:
                    ours_BTYX = made.image_BTYX
                found[method.name][case] = psnr_later(problem, made.image_BTYX)
                gains[method.name][case] = psnr_later(problem, ours_BTYX, made.image_BTYX) - found[method.name][case]
                print(f"{case} {method.name} {found[method.name][case]:.2f} {made.setting or ''}", file=sys.stderr)
    print(
        f"| method, {options.acceleration:g}x, frames from {LEFT_OUT + 1} on | PSNR, dB | stream above, mean (least) |"
    )
    print("|---|--:|--:|")
    for name, values in found.items():
        above = list(gains[name].values())
        print(f"| {name} | {np.mean(list(values.values())):.2f} | {np.mean(above):+.2f} ({min(above):+.2f}) |")
    if options.json:
        figures = {"acceleration": options.acceleration, "psnr": found, "above": gains}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure_coils(options: argparse.Namespace) -> None:
    names = ["phantom", "pig-2", "pig-5", "pig-7"]
    shown = [Path(options.model).name, "cine-crnn-fast", "running (sliding window)"]
    print(f"| case, coils | {' | '.join(shown)} |\n|---|--:|--:|--:|")
    found, networks = (
        [],
        [
            baselines.reconstructor(options.model, half=options.bf16, copies=options.ensemble),
            baselines.reconstructor("cine-crnn-fast", half=options.bf16),
        ],
    )
    for name, truth_BTYX in multicoil.truths(options.data, names).items():
        for coils in options.coils:
            measured = multicoil.scanned(name, truth_BTYX, coils, options.acceleration, False)
            frames, running = range(truth_BTYX.shape[1]), RunningImage()
            with torch.inference_mode():
                made = [network(measured, lambda: None).images_BTYX for network in networks]
                made.append(torch.cat([running.next(frame_of(measured, number)) for number in frames], 1))
            found.append([multicoil.psnr(each[:, LEFT_OUT:], truth_BTYX[:, LEFT_OUT:]) for each in made])
            print(f"| {name}, {coils} | {' | '.join(f'{value:.2f}' for value in found[-1])} |", flush=True)
    print(f"| mean | {' | '.join(f'{value:.2f}' for value in np.mean(found, 0))} |")


def method_of(options: argparse.Namespace) -> StreamMethod:
    bundle = find_bundle(options.model, "reconstruct")
    network = load_reconstruction(bundle, torch.device(options.device))
    if not isinstance(network, LiveCRNN):
        raise SystemExit(f"{options.model} is not causal")
    settings = InferenceSettings(
        bundle.initial_image, bundle.input_rms, network.config.iterations, bfloat16=options.bf16
    )
    return StreamMethod(network, settings, torch.device(options.device), CoilRequest(), copies=options.ensemble)


def random_frame(lines: int, coils: int, generator: torch.Generator) -> RawSlice:
    """Undersampled k-space of noise whose energy lies in the middle, 8x."""
    mask = variable_density(2, lines, 8.0, generator)[:1, :, None].bool()
    y = torch.arange(lines) - lines // 2
    falls = 1 / (1 + (y[:, None] ** 2 + y[None] ** 2).float().sqrt())
    kspace = torch.randn(coils, 1, lines, lines, dtype=torch.complex64, generator=generator) * falls * mask
    return RawSlice(kspace.numpy(), mask.numpy())


def measure_latency(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    print(f"| lines x samples, coils ({options.threads} threads) | median, ms | 99 % | worst |\n|---|--:|--:|--:|")
    for size in options.sizes:
        for coils in options.coils:
            stream, latency = StreamedSlice(method_of(options), "slice 1"), Latency()
            generator = torch.Generator().manual_seed(0)
            for number in range(options.frames):
                raw = random_frame(size, coils, generator)
                calibrating, began = stream.calibrating, now()
                for measurement in stream.push(raw):
                    stream.reconstruct(measurement).image_B1YX.abs().cpu()
                if not calibrating and number > 10:
                    latency.add(now() - began)
            ms = [1000 * value for value in (latency.quantile(0.5), latency.quantile(0.99), latency.worst)]
            print(f"| {size} x {size}, {coils} | {' | '.join(f'{value:.0f}' for value in ms)} |", flush=True)


def measure_memory(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    stream, generator = StreamedSlice(method_of(options), "slice 1"), torch.Generator().manual_seed(0)
    frames, steady = [random_frame(options.sizes[0], 1, generator) for _ in range(32)], 0
    for number in range(options.frames):
        for measurement in stream.push(frames[number % 32]):
            stream.reconstruct(measurement)
        if number in (63, options.frames // 2, options.frames - 1):
            steady = steady or resident_bytes()
            grown = 100 * (resident_bytes() / steady - 1)
            print(f"frame {number + 1}: {resident_bytes() / 2**20:.1f} MiB, {grown:+.2f} %", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["quality", "coils", "latency", "memory"])
    parser.add_argument("--model", default="cine-crnn-live", help="a causal bundle, by name or folder")
    parser.add_argument("--bf16", action="store_true", help="convolutions in bfloat16")
    parser.add_argument("--ensemble", type=int, default=1, help="flipped copies of each frame that are averaged")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path, help="folder of acdc_cine and pig_cine_sax")
    parser.add_argument("--patients", help="ACDC patients, as 21-30, instead of the test cases; no pig")
    parser.add_argument("--acceleration", type=float, default=8.0)
    parser.add_argument("--tv-every", type=int, default=1, help="make every so many frames of causal total variation")
    parser.add_argument("--skip-tv", action="store_true", help="leave causal total variation out")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128])
    parser.add_argument("--coils", type=int, nargs="+", default=[1])
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--json", type=Path, help="write the figures of every case here")
    options = parser.parse_args()
    measures = {
        "quality": measure_quality, "coils": measure_coils, "latency": measure_latency, "memory": measure_memory,
    }  # fmt: skip
    measures[options.what](options)


if __name__ == "__main__":
    main()
