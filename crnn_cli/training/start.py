"""What is asked of a training run, checked before anything is read: settings, fold, device, precision, data."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from crnn_cli import notices
from crnn_cli.bundles.store import find_bundle
from crnn_cli.compute.device import choose_device, note_emulated_bfloat16
from crnn_cli.errors import Param, UnsupportedDataError, UsageError
from crnn_cli.training.session import TrainingRequest, require_startable
from crnn_cli.training.settings import read_toml

if TYPE_CHECKING:
    from crnn_cli.training.datasets.checks import CheckedVolume

Settings = TypeVar("Settings")
_FOLD = re.compile(r"(\d{1,4})/(\d{1,4})")


def is_main_process() -> bool:
    """Whether this is the first of several processes, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


def require_monai() -> None:
    """Raise UsageError where the extra for training of segmentation is not installed."""
    if find_spec("monai") is None:
        raise UsageError("training of segmentation needs MONAI", remedy=["python3 -m pip install monai"])


def load_settings(kind: type[Settings], config: Path | None, epochs: int | None) -> Settings:
    """Settings of a task: the defaults, or those of a TOML file, with other epochs where they are given.

    Raises
    ------
    CrnnError
        If the file cannot be read, or has keys or values that do not fit.
    """
    settings = kind() if config is None else read_toml(kind, config)
    return settings if epochs is None else replace(settings, epochs=epochs)  # type: ignore[type-var]


def make_request(
    task: str,
    out: Path | None,
    *,
    epochs: int | None,
    minutes: float | None,
    fold: str,
    device: str,
    precision: str,
    init_from: str | None,
    workers: int | None,
    command: Sequence[str],
    **others: Any,
) -> TrainingRequest:
    """Check what is asked of a run, and that it can be written.

    Parameters
    ----------
    task : segment or reconstruct, for the bundle to begin from. command : as it was typed, for the card.
    others : fields of `TrainingRequest` that are taken as they are.

    Raises
    ------
    UsageError
        If the parameters contradict each other.
    CrnnError
        If the device or the bundle is not there, or the output cannot be written.
    """
    if out is None:
        raise UsageError(Param("out"), " is missing: the name of the bundle to make")
    if epochs is not None and minutes is not None:
        raise UsageError(Param("epochs"), " and ", Param("minutes"), " exclude each other")
    if minutes is not None and not 0 < minutes < 1e6:
        raise UsageError(Param("minutes", minutes), ": a time budget above 0")
    chosen = choose_device(device)
    request = TrainingRequest(
        out=out,
        device=chosen,
        precision=choose_precision(precision, chosen),
        minutes=minutes,
        workers=choose_workers(workers, chosen),
        command=command,
        fold=parse_fold(fold),
        start=None if init_from is None else find_bundle(init_from, task),
        **others,
    )
    if is_main_process():
        require_startable(request)
    return request


def parse_fold(text: str) -> tuple[int, int] | None:
    """Read (number, of how many) from ``0/5``; None from ``none``; UsageError otherwise.

    >>> parse_fold("0/5"), parse_fold("none")
    ((0, 5), None)
    """
    if text == "none":
        return None
    match = _FOLD.fullmatch(text)
    if match is None or not int(match[1]) < int(match[2]) or int(match[2]) < 2:
        raise UsageError(
            Param("fold", text), " is not understood: 0/5 holds out the first of 5 parts, 4/5 the last, none none"
        )
    return int(match[1]), int(match[2])


def choose_precision(name: str, device: torch.device) -> str:
    """``fp32`` or ``bf16``; ``auto`` is bf16 on a GPU that computes in it."""
    if name not in ("auto", "fp32", "bf16"):
        raise UsageError(Param("precision", name), ": auto, fp32 or bf16")
    if name == "bf16":
        note_emulated_bfloat16(device)
    if name != "auto":
        return name
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"


def choose_workers(number: int | None, device: torch.device) -> int:
    """Processes that draw items; by default some beside a GPU, and none on a CPU, which the training keeps busy."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if number is not None:
        return number
    return min(8, cores - 1) if device.type == "cuda" else 0


def list_problems(checked: Sequence[CheckedVolume], others: Sequence[tuple[str, str]] = ()) -> list[tuple[str, str]]:
    """All that is wrong with the data, as (name, sentence). others : found before the data were checked."""
    return [*others, *((each.name, text) for each in checked for text in each.problems)]


def usable_items(
    checked: Sequence[CheckedVolume], problems: Sequence[tuple[str, str]], skip_bad: bool
) -> list[CheckedVolume]:
    """The data that can be trained on; doubts about them are warned of.

    Raises
    ------
    UnsupportedDataError
        If there are problems and they are not to be skipped, or nothing is left.
    """
    good = [each for each in checked if not each.problems]
    for each in checked:
        for note in each.notes:
            notices.warn("unusual-training-volume", f"{each.name}: {note}")
    notices.say(f"{len(good)} of {len(checked)} can be trained on")
    if problems and not skip_bad:
        first = f"{problems[0][0]}: {problems[0][1]}"
        raise UnsupportedDataError(
            f"{len(problems)} problem(s) in the data, the first: {first}; nothing was trained",
            remedy=["mend them, or train on the rest with ", Param("skip_bad")],
        )
    if checked and not good:
        raise UnsupportedDataError("none of the data can be trained on")
    return good
