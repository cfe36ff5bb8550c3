"""Files of a training run, each written beside its place and then moved there.

run.json             description: command, data, versions, settings
log.jsonl            loss, validation, time, a line each
checkpoint.pt        state to resume from
weights.safetensors  averaged weights of that state
best.safetensors     averaged weights of the best validation, with best.json
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
    """The folder of a training run; it is created where it is missing.

    Parameters
    ----------
    folder : the path.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def describe(self, described: dict[str, Any]) -> None:
        """Write run.json."""
        self._write_json("run.json", described)

    def description(self) -> dict[str, Any] | None:
        """Content of run.json, None where there is none."""
        return self._json("run.json")

    def log_lines(self) -> list[dict[str, Any]]:
        """Lines of the log; one that a kill cut off is left out."""
        file = self.folder / "log.jsonl"
        kept = []
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
            try:
                kept.append(json.loads(line))
            except ValueError:
                continue
        return kept

    def drop_log_after(self, step: int) -> None:
        """Drop lines of the log of later steps, which will be repeated."""
        if not (self.folder / "log.jsonl").exists():
            return
        kept = "".join(json.dumps(line) + "\n" for line in self.log_lines() if line.get("step", 0) <= step)
        self._write("log.jsonl", lambda file: file.write_text(kept, encoding="utf-8"))

    def log(self, line: dict[str, Any]) -> None:
        """Append a line to the log."""
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")

    def save(self, state: dict[str, Any], weights: dict[str, Tensor]) -> None:
        """Write the checkpoint and the averaged weights.

        Raises
        ------
        OutputError
            If that fails, as on a full disk; the earlier checkpoint stays.
        """
        self._write("checkpoint.pt", lambda file: torch.save(state, file))
        self._write_weights("weights.safetensors", weights)

    def save_best(self, weights: dict[str, Tensor], figures: dict[str, Any]) -> None:
        """Write the weights of the best validation so far, and their figures."""
        self._write_weights("best.safetensors", weights)
        self._write_json("best.json", figures)

    def best(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read the weights to publish.

        Returns
        -------
        Weights and figures of the best validation; the last weights, and {}, where nothing was validated.
        """
        figures = self.figures()
        return load_file(self.folder / f"{'best' if figures else 'weights'}.safetensors"), figures

    def figures(self) -> dict[str, Any]:
        """Figures of the best weights, {} where nothing was validated."""
        return self._json("best.json") or {}

    def state(self) -> dict[str, Any] | None:
        """The last checkpoint, None where there is none."""
        file = self.folder / "checkpoint.pt"
        if not file.exists():
            return None
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        return state

    def _json(self, name: str) -> dict[str, Any] | None:
        file = self.folder / name
        found: dict[str, Any] | None = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
        return found

    def _write_json(self, name: str, value: dict[str, Any]) -> None:
        self._write(name, lambda file: file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8"))

    def _write_weights(self, name: str, weights: dict[str, Tensor]) -> None:
        self._write(name, lambda file: save_file({k: v.contiguous() for k, v in weights.items()}, file))

    def _write(self, name: str, write: Callable[[Path], object]) -> None:
        """Write a file beside its place and move it there; OutputError if that fails, and the earlier file stays."""
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
