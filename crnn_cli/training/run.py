"""What every training run keeps in its folder: run.json, log.jsonl, checkpoint.pt, weights.safetensors.

Each file is written beside its place and moved there, so that a run that is killed can always go on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn


class RunFolder:
    """The folder of a training run."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def describe(self, described: dict[str, Any]) -> None:
        """Write run.json: what the run is made of."""
        self._place("run.json", lambda file: file.write_text(json.dumps(described, indent=2) + "\n"))

    def log(self, line: dict[str, Any]) -> None:
        """Append a line to log.jsonl."""
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")

    def save(self, state: dict[str, Any], weights: dict[str, Tensor]) -> None:
        """Write the checkpoint and the weights to publish."""
        self._place("checkpoint.pt", lambda file: torch.save(state, file))
        self._place(
            "weights.safetensors", lambda file: save_file({k: v.contiguous() for k, v in weights.items()}, file)
        )

    def state(self) -> dict[str, Any] | None:
        """Return the last checkpoint, None where there is none."""
        file = self.folder / "checkpoint.pt"
        if not file.exists():
            return None
        state: dict[str, Any] = torch.load(file, weights_only=True)
        return state

    def _place(self, name: str, write: Callable[[Path], object]) -> None:
        temporary = self.folder / f"{name}.tmp"
        write(temporary)
        temporary.replace(self.folder / name)


def follow(averaged: nn.Module, network: nn.Module, step: int, slowest: float) -> None:
    """Move the running average of parameters and buffers towards the network's; early steps count more."""
    decay = min(slowest, (1 + step) / (10 + step))
    with torch.no_grad():
        for mean, now in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)
