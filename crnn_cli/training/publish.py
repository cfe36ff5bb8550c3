"""Make a bundle of a training run: ``python -m crnn_cli.training.publish RUN BUNDLE --card CARD --licence LICENCE``.

RUN is the folder that `crnn_cli.training.reconstruction` wrote; the averaged weights of its last save are taken.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from safetensors.torch import load_file

from crnn_cli.bundles import Bundle, write_bundle


def publish(run: Path, bundle: Path, card: str, licence: str, summary: str) -> Bundle:
    """Write the bundle of a run, whole or not at all.

    Raises
    ------
    OutputError
        If the bundle folder exists or cannot be written.
    """
    described = json.loads((run / "run.json").read_text(encoding="utf-8"))
    config = {
        "task": "reconstruct",
        "network": "crnn-mri",
        "settings": described["network"],
        "start": "view-shared",
        "amplitude": 1.0,
        "licence": licence,
        "summary": summary,
    }
    return write_bundle(bundle, config, load_file(run / "weights.safetensors"), card)


def main() -> None:
    """Read the arguments and write the bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--card", type=Path, required=True)
    parser.add_argument("--licence", required=True)
    parser.add_argument("--summary", required=True)
    arguments = parser.parse_args()
    card = arguments.card.read_text(encoding="utf-8")
    publish(arguments.run, arguments.bundle, card, arguments.licence, arguments.summary)


if __name__ == "__main__":
    main()
