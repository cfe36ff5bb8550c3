"""What every training run keeps in its folder, each file written beside its place and moved there.

run.json             what the run is made of
log.jsonl            loss, validation, time, a line each
checkpoint.pt        where it stands, to go on from
weights.safetensors  the averaged weights of that moment
best.safetensors     the averaged weights of the best validation, with best.json
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from crnn_cli.errors import OutputError, Param


class RunFolder:
    """The folder of a training run."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def describe(self, described: dict[str, Any]) -> None:
        """Write run.json: what the run is made of."""
        self._place_json("run.json", described)

    def described(self) -> dict[str, Any] | None:
        """Return what run.json says, None where there is none."""
        return self._json("run.json")

    def lines(self) -> list[dict[str, Any]]:
        """Return the log; a line that a kill cut off is left out."""
        file = self.folder / "log.jsonl"
        kept = []
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
            try:
                kept.append(json.loads(line))
            except ValueError:
                continue
        return kept

    def forget_after(self, step: int) -> None:
        """Drop the log's lines of later steps: they will be done again."""
        if not (self.folder / "log.jsonl").exists():
            return
        kept = "".join(json.dumps(line) + "\n" for line in self.lines() if line.get("step", 0) <= step)
        self._place("log.jsonl", lambda file: file.write_text(kept, encoding="utf-8"))

    def log(self, line: dict[str, Any]) -> None:
        """Append a line to log.jsonl."""
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")

    def save(self, state: dict[str, Any], weights: dict[str, Tensor]) -> None:
        """Write the checkpoint and the weights to publish."""
        self._place("checkpoint.pt", lambda file: torch.save(state, file))
        self._place_weights("weights.safetensors", weights)

    def save_best(self, weights: dict[str, Tensor], figures: dict[str, Any]) -> None:
        """Write the best weights so far, and their figures."""
        self._place_weights("best.safetensors", weights)
        self._place_json("best.json", figures)

    def best(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the weights to publish and their figures: the best ones, or the last where nothing was validated."""
        figures = self.figures()
        return load_file(self.folder / f"{'best' if figures else 'weights'}.safetensors"), figures

    def figures(self) -> dict[str, Any]:
        """Return the figures of the best weights, {} where nothing was validated."""
        return self._json("best.json") or {}

    def state(self) -> dict[str, Any] | None:
        """Return the last checkpoint, None where there is none."""
        file = self.folder / "checkpoint.pt"
        if not file.exists():
            return None
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        return state

    def _json(self, name: str) -> dict[str, Any] | None:
        file = self.folder / name
        found: dict[str, Any] | None = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
        return found

    def _place_json(self, name: str, value: dict[str, Any]) -> None:
        self._place(name, lambda file: file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8"))

    def _place_weights(self, name: str, weights: dict[str, Tensor]) -> None:
        self._place(name, lambda file: save_file({k: v.contiguous() for k, v in weights.items()}, file))

    def _place(self, name: str, write: Callable[[Path], object]) -> None:
        """Write a file beside its place and move it there.

        Raises
        ------
        OutputError
            If that fails, as when the disk is full; what stood in the place stays.
        """
        temporary = self.folder / f"{name}.tmp"
        try:
            write(temporary)
            temporary.replace(self.folder / name)
        except (OSError, RuntimeError, SafetensorError) as error:  # torch.save says RuntimeError when the disk is full
            reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
            raise OutputError(
                f"cannot write {self.folder / name}: {reason}; what was saved before is still there",
                remedy=("make room, and go on with ", Param("resume")),
            ) from None
        finally:
            temporary.unlink(missing_ok=True)
