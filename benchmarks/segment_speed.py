"""Speed of labelling a stack on this machine, and whether the labels are those of the straightforward module.

Straightforward   `SliceCLSTM.forward` in evaluation mode, without gradients, and softmax: the layers of the published
                  method as PyTorch has them, float32.
label             `SliceCLSTM.label`, in float32 and bfloat16.
Times             the forms taking turns in one process; the least of the repeats, wall clock and processor time (all
                  threads). Ratios are of processor times: on a busy machine they are the steadier ones.
Same              greatest difference of probabilities, and voxels whose likeliest class is another one.

python benchmarks/segment_speed.py [--size 256] [--slices 12] [--repeats 3] [--data FOLDER --volumes 5]

The stack is the pig heart of `sample_data/`, stretched to the size. With --data, the folder of the shared data, both
bundles label the volumes they are made for, as `crnn segment` does, and Dice is that of the labels in bfloat16 to those
in float32.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import Tensor

from crnn_cli.bundles.store import find_bundle, load_segmentation
from crnn_cli.io.images import load_image
from crnn_cli.networks.slice_clstm import SliceCLSTM
from crnn_cli.segmentation.preprocessing import SlicePreprocessing
from crnn_cli.segmentation.segment import choose_order, class_probabilities, labels_from_probabilities

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
VOLUMES = {
    "cardiac-sax-clstm": "acdc_labelled/*/*_frame[0-9][0-9].nii.gz",
    "hippocampus-clstm": "hippocampus/images/*.nii.gz",
}


class Straightforward:
    """The module as it is, behind the interface of `SliceNetwork`."""

    def __init__(self, network: SliceCLSTM) -> None:
        self.network = network

    def label(self, image_SYX: Tensor, progress: Callable[[int, int], None] = lambda done, total: None) -> Tensor:
        return torch.softmax(self.network(image_SYX[None])[0][0], 1)


def stack(size: int, slices: int) -> Tensor:
    """Return the pig heart, 0 to 1 between the percentiles 1 and 99."""
    array = np.asarray(nib.load(ROOT / "sample_data" / "pig_stack.nii.gz").dataobj, np.float32)
    array = array.reshape((*array.shape[:3], -1))[..., 0]
    low, high = np.percentile(array, (1, 99))
    image = torch.from_numpy(((array - low) / (high - low)).clip(-0.25, 1.5).transpose(2, 1, 0).astype(np.float32))
    return torch.nn.functional.interpolate(image[None, None], (slices, size, size), mode="trilinear")[0, 0]


def compared(name: str, image: Tensor, repeats: int) -> list[str]:
    """Return rows of the table for a bundle."""
    network = load_segmentation(find_bundle(name, "segment"), CPU)
    forms = {
        "straightforward": (Straightforward(network), False),
        "label": (network, False),
        "label, bf16": (network, True),
    }
    wall: dict[str, list[float]] = {form: [] for form in forms}
    processor: dict[str, list[float]] = {form: [] for form in forms}
    made = {}
    for _ in range(repeats + 1):
        for form, (labeller, half) in forms.items():
            began, used = time.perf_counter(), time.process_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                made[form] = labeller.label(image)
            wall[form].append(time.perf_counter() - began)
            processor[form].append(time.process_time() - used)
    rows, truth = [], made["straightforward"]
    for form in forms:
        least, other = min(processor[form]), int((made[form].argmax(1) != truth.argmax(1)).sum())
        ratio = min(processor["straightforward"]) / least
        apart = float((made[form] - truth).abs().max())
        figures = (
            f"{min(wall[form]):.2f} s | {least:.2f} s | {ratio:.2f} | {apart:.1e} | {other} of {truth[:, 0].numel()}"
        )
        rows.append(f"| {name} | {form} | {figures} |")
    return rows


def on_volumes(name: str, files: list[Path]) -> list[str]:
    """Return a row for a bundle: how labels of real volumes differ."""
    bundle = find_bundle(name, "segment")
    network, use = load_segmentation(bundle, CPU), bundle.slices
    recipe = SlicePreprocessing(use.spacing, use.rule, use.low, use.high)
    apart, others, lower, voxels, dice = 0.0, 0, 0, 0, []
    for file in files:
        image = load_image(file, None, None).image
        order, _ = choose_order(image, None, use.plane)
        truth = class_probabilities(image.array, order, Straightforward(network), recipe, CPU)
        found = class_probabilities(image.array, order, network, recipe, CPU)
        with torch.autocast("cpu", torch.bfloat16):
            half = class_probabilities(image.array, order, network, recipe, CPU)
        apart = max(apart, float(np.abs(found - truth).max()))
        wanted, labels, rough = (labels_from_probabilities(p, 0.5) for p in (truth, found, half))
        others, lower, voxels = others + (labels != wanted).sum(), lower + (rough != labels).sum(), voxels + labels.size
        for value in range(1, len(truth)):
            one, two = labels == value, rough == value
            dice.append(2 * (one & two).sum() / max(1, one.sum() + two.sum()) if one.any() or two.any() else 1.0)
    half_said = f"{lower / voxels:.1e} | {np.mean(dice):.4f} | {min(dice):.4f}"
    return [f"| {name} | {len(files)} | {apart:.1e} | {others} of {voxels} | {half_said} |"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--slices", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--volumes", type=int, default=5)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    machine = f"{torch.backends.cpu.get_cpu_capability()}, {platform.machine()}"
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()}, {machine}\n")
    print("| bundle | form | wall clock | processor time | times as fast | probabilities apart | other labels |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for name in VOLUMES:
        print(*compared(name, stack(options.size, options.slices), options.repeats), sep="\n", flush=True)
    if options.data:
        print("\n| bundle | volumes | float32: apart | other labels | bf16: share of other labels | Dice | lowest |")
        print("|---|--:|--:|--:|--:|--:|--:|")
        for name, pattern in VOLUMES.items():
            files = sorted(options.data.glob(pattern))[: options.volumes]
            print(*on_volumes(name, files), sep="\n", flush=True)


if __name__ == "__main__":
    main()
