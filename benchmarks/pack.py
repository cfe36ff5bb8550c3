"""A trained bundle as it is published: convolutions in 8 bits, a third of the size or less.

    python benchmarks/pack.py my-model packed/my-model [--summary TEXT]

Nothing is trained; `crnn_cli/bundles/int8.py` says what packing does. The card is copied and wants editing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors.torch import load_file

from crnn_cli.bundles.config import read_config
from crnn_cli.bundles.int8 import quantize
from crnn_cli.bundles.store import write_bundle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("out", type=Path, help="a new folder, named as the bundle is to be called")
    parser.add_argument("--summary", help="one line for lists, in place of the bundle's own")
    options = parser.parse_args()
    config = read_config(options.bundle)
    config = {key: value for key, value in config.items() if key not in ("format", "sha256")}
    config["summary"] = options.summary or config["summary"]
    weights = load_file(options.bundle / "weights.safetensors")
    card = (options.bundle / "README.md").read_text(encoding="utf-8")
    made = write_bundle(options.out, config, quantize(weights), card)
    size = (options.out / "weights.safetensors").stat().st_size
    print(
        f"{made.name}: {sum(w.numel() for w in weights.values())} parameters, {size / 1e6:.2f} MB, sha256 {made.sha256}"
    )


if __name__ == "__main__":
    main()
