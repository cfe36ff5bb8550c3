"""Files of a training run; each appears whole, on the disk, or not at all (`crnn_cli.data.write_set`).

run.json               description: command, data, versions, settings
log.jsonl              loss, validation, time, a line each
checkpoint.pt          state to resume from, with its sha256
checkpoint.before.pt   the one before, for the case that the last is damaged
weights.safetensors    averaged weights of the state
best.safetensors       averaged weights of the best validation; best.json has their figures and sha256
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from crnn_cli import notices
from crnn_cli.bundles.checkpoint_file import digest_of_state, load_checkpoint
from crnn_cli.bundles.config import read_object
from crnn_cli.data.write_set import WriteSet, recover
from crnn_cli.errors import OutputError, Param, UnreadableError

CHECKPOINT, BEFORE = "checkpoint.pt", "checkpoint.before.pt"
_DIGEST = "sha256"
_MOST_THREADS = 4096
_PRECISIONS = ("fp32", "bf16")
_DESCRIBED: dict[str, type] = {
    "command": list, "versions": dict, "device": str, "precision": str, "seed": int, "threads": int, "licence": str,
    "data": dict, "stages": list, "settings": dict, "settings_toml": str, "bundle": dict,
}  # fmt: skip
_OF_STAGE: dict[str, tuple[type, ...]] = {
    "name": (str,), "steps": (int,), "batch": (int,), "learning_rate": (int, float),
}  # fmt: skip
_STATE: dict[str, type | tuple[type, ...]] = {
    "network": dict, "averaged": dict, "optimiser": dict, "stage": int, "step": int, "fingerprint": dict,
    "seconds": (int, float), "best": (int, float),
}  # fmt: skip


class RunFolder:
    """The folder of a training run; it is created where it is missing.

    Parameters
    ----------
    folder : the path.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        recover(folder)
        self.folder = folder

    def describe(self, described: dict[str, Any]) -> None:
        """Write run.json."""
        self._write({"run.json": _as_json(described)})

    def description(self) -> dict[str, Any] | None:
        """Content of run.json, None where there is none.

        Raises
        ------
        UnreadableError
            If it is no JSON object.
        """
        file = self.folder / "run.json"
        return read_object(file) if file.exists() else None

    def earlier(self) -> dict[str, Any] | None:
        """Content of run.json to resume the run with, None where there is none.

        Raises
        ------
        UnreadableError
            If it is damaged: something is missing, or cannot be.
        """
        file, described = self.folder / "run.json", self.description()
        if described is None:
            return None
        wrong = [name for name, kind in _DESCRIBED.items() if not _is(described.get(name), kind)]
        if not wrong and not all(map(_is_stage, described["stages"])):
            wrong = ["stages"]
        if not wrong and not (described["precision"] in _PRECISIONS and 1 <= described["threads"] <= _MOST_THREADS):
            wrong = ["precision or threads"]
        if wrong:
            raise UnreadableError(
                f"{file} is damaged: {wrong[0]} is missing or no such thing", remedy=("train anew, under another name",)
            )
        return described

    def log_lines(self) -> list[dict[str, Any]]:
        """Lines of the log; those that a kill cut off, or that are damaged, are left out."""
        file = self.folder / "log.jsonl"
        kept = []
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []:
            with suppress(ValueError, RecursionError):
                read = json.loads(line)
                if _is_log_line(read):
                    kept.append(read)
        return kept

    def drop_log_after(self, step: int) -> None:
        """Drop lines of the log of later steps, which will be repeated."""
        if (self.folder / "log.jsonl").exists():
            kept = "".join(json.dumps(line) + "\n" for line in self.log_lines() if line["step"] <= step)
            self._write({"log.jsonl": kept.encode()})

    def log(self, line: dict[str, Any]) -> None:
        """Append a line to the log; OutputError if that fails."""
        try:
            with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
        except OSError as error:
            raise self._not_written(error) from None

    def save(self, state: dict[str, Any], weights: dict[str, Tensor]) -> None:
        """Write the checkpoint and the averaged weights; the checkpoint before is kept.

        Raises
        ------
        OutputError
            If that fails, as on a full disk; the earlier checkpoint stays.
        """
        stamped = state | {_DIGEST: digest_of_state(state)}
        earlier = self.folder / CHECKPOINT

        def link(file: Path) -> None:
            os.link(earlier, file)

        def keep(file: Path) -> None:
            with file.open("xb") as stream:
                torch.save(stamped, stream)

        made: dict[str, Callable[[Path], None]] = {CHECKPOINT: keep}
        if earlier.exists():
            made[BEFORE] = link
        self._write({"weights.safetensors": _as_safetensors(weights)}, made)

    def save_best(self, weights: dict[str, Tensor], figures: dict[str, Any]) -> None:
        """Write the weights of the best validation so far, and their figures."""
        content = _as_safetensors(weights)
        stamped = figures | {_DIGEST: hashlib.sha256(content).hexdigest()}
        self._write({"best.safetensors": content, "best.json": _as_json(stamped)})

    def best(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read the weights to publish.

        Returns
        -------
        Weights and figures of the best validation; the last weights, and {}, where nothing was validated.

        Raises
        ------
        UnreadableError
            If they are missing or damaged.
        """
        figures, stated = self._best_figures()
        file = self.folder / f"{'best' if figures else 'weights'}.safetensors"
        try:
            content = file.read_bytes()
            weights = load(content)
        except (OSError, SafetensorError) as error:
            raise UnreadableError(f"{file} is damaged or missing: {error}", remedy=("train anew",)) from None
        if stated is not None and hashlib.sha256(content).hexdigest() != stated:
            raise UnreadableError(f"{file} is damaged: its sha256 is another than best.json states")
        return weights, figures

    def figures(self) -> dict[str, Any]:
        """Figures of the best weights, {} where nothing was validated.

        Raises
        ------
        UnreadableError
            If best.json is damaged.
        """
        return self._best_figures()[0]

    def _best_figures(self) -> tuple[dict[str, Any], str | None]:
        """Figures of the best weights, and the sha256 of these; None in runs of earlier versions."""
        file = self.folder / "best.json"
        figures = read_object(file) if file.exists() else {}
        if figures and not _is(figures.get("step"), int):
            raise UnreadableError(f"{file} is damaged: it names no step", remedy=("train anew",))
        return figures, figures.pop(_DIGEST, None)

    def state(self) -> dict[str, Any] | None:
        """The last checkpoint that is whole; None where there is none.

        Raises
        ------
        UnreadableError
            If there are some, and none is whole.
        """
        refusals = []
        for file in (self.folder / CHECKPOINT, self.folder / BEFORE):
            if not file.exists():
                continue
            try:
                state = _whole(file)
            except UnreadableError as error:
                refusals.append(error)
                continue
            if refusals:
                notices.warn("checkpoint-damaged", f"{refusals[0]}; the checkpoint before, {file.name}, is used")
            return state
        if refusals:
            raise UnreadableError(*refusals[0].parts, remedy=("train anew, under another name",))
        return None

    def _write(self, contents: dict[str, bytes], made: dict[str, Callable[[Path], None]] | None = None) -> None:
        """Write files by their names, together; OutputError if that fails, and the earlier files stay.

        Parameters
        ----------
        contents : of files.
        made : files that a function makes where it is told to.
        """
        try:
            with WriteSet() as files:
                for name, content in contents.items():
                    files.add_file(self.folder / name, [content])
                for name, make in (made or {}).items():
                    make(files.add_path(self.folder / name))
                files.commit()
        except (OSError, RuntimeError, OutputError) as error:  # torch.save says RuntimeError when the disk is full
            raise self._not_written(error) from None

    def _not_written(self, error: Exception) -> OutputError:
        """The error of a write that failed, with its reason."""
        cause = error.__cause__ if isinstance(error, OutputError) else error
        reason = getattr(cause, "strerror", None) or str(error).partition("\n")[0]
        return OutputError(
            f"cannot write to {self.folder}: {reason}; what was saved before is still there",
            remedy=("make room, and go on with ", Param("resume")),
        )


def _whole(file: Path) -> dict[str, Any]:
    """State in a checkpoint; UnreadableError if it is damaged. Those of earlier versions have no sha256."""
    state = load_checkpoint(file)
    if not isinstance(state, dict):
        raise UnreadableError(f"{file} is no checkpoint of a training run")
    stated = state.pop(_DIGEST, None)
    if stated is not None and stated != digest_of_state(state):
        raise UnreadableError(f"{file} is damaged: its sha256 is another than it states")
    return state


def require_state(state: dict[str, Any], stages: int, folder: Path) -> None:
    """Check what a checkpoint states, apart from the weights.

    Parameters
    ----------
    stages : how many the run has.
    folder : of the run, for the message.

    Raises
    ------
    UnreadableError
        If something is missing, or cannot be.
    """
    wrong = [name for name, kind in _STATE.items() if not _is(state.get(name), kind)]
    if not wrong and not (0 <= state["stage"] < stages and state["step"] >= 0):
        wrong = ["stage or step"]
    if wrong:
        raise UnreadableError(f"the checkpoint in {folder} is damaged: {wrong[0]} is missing, or cannot be so")


def _is(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_stage(stage: Any) -> bool:
    return (
        isinstance(stage, dict)
        and set(stage) == set(_OF_STAGE)
        and all(_is(stage[name], kind) for name, kind in _OF_STAGE.items())
        and stage["steps"] >= 1
        and stage["batch"] >= 1
    )


def _is_log_line(line: Any) -> bool:
    numbers = ("loss", "minutes")
    return (
        isinstance(line, dict)
        and _is(line.get("step"), int)
        and all(_is(line[name], (int, float)) for name in numbers if name in line)
        and isinstance(line.get("validation", {}), dict)
    )


def _as_json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _as_safetensors(weights: dict[str, Tensor]) -> bytes:
    return save({name: value.contiguous() for name, value in weights.items()})
