"""Memory and time of one training step of the reconstruction network.

python benchmarks/training_memory.py [--checkpoint 3] [--size 256] [--frames 30] [--iterations 10]

One forward and one backward pass of the logarithmic loss, float32, on the CPU, with the published number of features,
on random complex data. Prints a Markdown table. Peak memory is the maximum resident set size of the process less what
it was once the libraries were loaded.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time

import torch

from crnn_cli.mri.consistency import SingleCoilConsistency
from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
from crnn_cli.training.reconstruct.losses import reconstruction_loss

BAR_GIB = 16


def peak_gib() -> float:
    """Return the maximum resident set size of this process so far; the system counts in KiB, on macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def step(size: int, frames: int, iterations: int, checkpoint: int) -> float:
    """Run one step on random data; return its seconds."""
    torch.manual_seed(0)
    network = CRNNMRI(CRNNMRIConfig(iterations=iterations))
    network.checkpoint = checkpoint
    truth = torch.randn(1, frames, size, size, dtype=torch.complex64)
    mask = torch.rand(1, frames, size, 1) < 0.125
    consistency = SingleCoilConsistency(image_to_kspace(truth) * mask, mask)
    began = time.perf_counter()
    reconstruction_loss(network(consistency.view_shared(), consistency), truth).backward()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=int, default=3, help="iterations per activation checkpoint, 0 for none")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--iterations", type=int, default=10)
    arguments = parser.parse_args()
    libraries = peak_gib()
    seconds = step(arguments.size, arguments.frames, arguments.iterations, arguments.checkpoint)
    used = peak_gib() - libraries
    shape = f"{arguments.size} x {arguments.size} x {arguments.frames}"
    print("| what | figure | bar |\n|---|---|---|")
    print(
        f"| peak memory of a training step, {shape}, {arguments.iterations} iterations, checkpoint "
        f"{arguments.checkpoint}, float32, CPU | {used:.2f} GiB | {BAR_GIB} GiB |"
    )
    print(f"| its time ({os.cpu_count()} cores, shared) | {seconds:.1f} s | - |")


if __name__ == "__main__":
    main()
