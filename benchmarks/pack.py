"""A trained bundle as it is published: convolutions in 8 bits, a third of the size or less.

    python benchmarks/pack.py my-model packed/my-model [--summary TEXT] [--begun-from BUNDLE --share 0.5]

Nothing is trained; `crnn_cli/bundles/int8.py` says what packing does. The card is copied and wants editing. With
--begun-from the weights are interpolated between those that the training began with and those that it ended with, which
keeps what the former did well while it takes on what the latter learned (Wortsman et al., "Robust fine-tuning of
zero-shot models", CVPR 2022).
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("out", type=Path, help="a new folder, named as the bundle is to be called")
    parser.add_argument("--summary", help="one line for lists, in place of the bundle's own")
    parser.add_argument("--begun-from", help="segmentation bundle that the training began with, of the same sizes")
    parser.add_argument("--share", type=float, default=0.5, help="of the trained weights in the interpolation")
    options = parser.parse_args()
    config = read_config(options.bundle)
    config = {key: value for key, value in config.items() if key not in ("format", "sha256")}
    config["summary"] = options.summary or config["summary"]
    weights = load_file(options.bundle / "weights.safetensors")
    if options.begun_from:
        weights = interpolated(options.begun_from, weights, options.share)
    card = (options.bundle / "README.md").read_text(encoding="utf-8")
    made = write_bundle(options.out, config, quantize(weights), card)
    size = (options.out / "weights.safetensors").stat().st_size
    print(
        f"{made.name}: {sum(w.numel() for w in weights.values())} parameters, {size / 1e6:.2f} MB, sha256 {made.sha256}"
    )


if __name__ == "__main__":
    main()
