"""A trained bundle as it is published: convolutions in 8 bits, a third of the size or less.

    python benchmarks/pack.py my-model packed/my-model [--summary TEXT] [--begun-from BUNDLE --share 0.5] [--sets 2]

Nothing is trained; `crnn_cli/bundles/int8.py` says what packing does. The card is copied and wants editing. With
--begun-from the weights are interpolated between those that the training began with and those that it ended with, which
keeps what the former did well while it takes on what the latter learned (Wortsman et al., "Robust fine-tuning of
zero-shot models", CVPR 2022). With --sets a `cine-crnn` of one set of weights for each iteration keeps the first ones
and as many iterations, where the others change nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from crnn_cli.bundles.config import read_config
from crnn_cli.bundles.int8 import quantize
from crnn_cli.bundles.store import find_bundle, load_segmentation, write_bundle


def interpolated(bundle: str, trained: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """(1 - share) of the weights of a bundle plus share of the trained ones; counters are those of the trained."""
    before = load_segmentation(find_bundle(bundle, "segment"), torch.device("cpu")).state_dict()
    return {
        name: torch.lerp(before[name], value.float(), share).contiguous() if value.is_floating_point() else value
        for name, value in trained.items()
    }


def first_sets(weights: dict[str, Tensor], sets: int, count: int) -> dict[str, Tensor]:
    """Weights of the first sets alone; the last of them takes the names of the network's own (`crnn_mri.CRNNMRI`)."""
    if count == sets:
        return weights
    last = f"earlier.{count - 1}."
    numbered = {name: value for name, value in weights.items() if name.startswith("earlier.")}
    kept = {name: value for name, value in numbered.items() if int(name.split(".")[1]) < count - 1}
    return kept | {name.removeprefix(last): value for name, value in numbered.items() if name.startswith(last)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("out", type=Path, help="a new folder, named as the bundle is to be called")
    parser.add_argument("--summary", help="one line for lists, in place of the bundle's own")
    parser.add_argument("--begun-from", help="segmentation bundle that the training began with, of the same sizes")
    parser.add_argument("--share", type=float, default=0.5, help="of the trained weights in the interpolation")
    parser.add_argument("--sets", type=int, help="keep the first sets of weights, and as many iterations")
    options = parser.parse_args()
    config = read_config(options.bundle)
    config = {key: value for key, value in config.items() if key not in ("format", "sha256")}
    config["summary"] = options.summary or config["summary"]
    weights = load_file(options.bundle / "weights.safetensors")
    if options.begun_from:
        weights = interpolated(options.begun_from, weights, options.share)
    settings = config["settings"]
    if options.sets:
        if not 1 <= options.sets <= settings["weight_sets"] == settings["iterations"]:
            parser.error(f"{options.bundle} has not {options.sets} sets or more, one for each iteration")
        weights = first_sets(weights, settings["weight_sets"], options.sets)
        config["settings"] = settings | {"weight_sets": options.sets, "iterations": options.sets}
    card = (options.bundle / "README.md").read_text(encoding="utf-8")
    made = write_bundle(options.out, config, quantize(weights), card)
    size = (options.out / "weights.safetensors").stat().st_size
    print(
        f"{made.name}: {sum(w.numel() for w in weights.values())} parameters, {size / 1e6:.2f} MB, sha256 {made.sha256}"
    )


if __name__ == "__main__":
    main()
