"""Make a bundle of a training run: ``python -m crnn_cli.training.publish RUN BUNDLE --card CARD --licence LICENCE``.

RUN is the folder that `crnn_cli.training.reconstruction` or `crnn_cli.training.segmentation` wrote; the averaged
weights of its last save are taken. Segmentation weights are stored in half precision, the normalisation statistics in
single.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from crnn_cli.bundles import Bundle, write_bundle
from crnn_cli.training.segmentation import TASKS, Task


def publish(run: Path, bundle: Path, card: str, licence: str, summary: str) -> Bundle:
    """Write the bundle of a run, whole or not at all.

    Raises
    ------
    OutputError
        If the bundle folder exists or cannot be written.
    """
    described = json.loads((run / "run.json").read_text(encoding="utf-8"))
    weights = load_file(run / "weights.safetensors")
    if "task" in described:
        own = segmentation_config(TASKS[described["task"]])
        weights = {name: halved(name, tensor) for name, tensor in weights.items()}
    else:
        own = {
            "task": "reconstruct", "network": "crnn-mri", "settings": described["network"],
            "start": "view-shared", "amplitude": 1.0,
        }  # fmt: skip
    return write_bundle(bundle, own | {"licence": licence, "summary": summary}, weights, card)


def segmentation_config(task: Task) -> dict[str, Any]:
    """Return what config.json says of a segmentation task: the network of its last stage and how it is fed."""
    config = replace(task.config, directions=task.stages[-1].directions)
    recipe = task.recipe
    return {
        "task": "segment",
        "network": "slice-clstm",
        "settings": {name: getattr(config, name) for name in config.__dataclass_fields__},
        "plane": task.plane or "thickest",
        "spacing": recipe.spacing,
        "intensity": {"rule": recipe.rule, "low": recipe.low, "high": recipe.high},
        "labels": [
            {"value": value, "name": name, "colour": list(colour)}
            for value, (name, colour) in enumerate(task.structures, start=1)
        ],
        "plausible": {"in_slice": list(task.in_slice), "between_slices": list(task.between_slices)},
    }


def halved(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return a weight in half precision; running statistics and counters stay as they are."""
    kept = "running_" in name or not tensor.is_floating_point()
    return tensor if kept else tensor.half()


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
