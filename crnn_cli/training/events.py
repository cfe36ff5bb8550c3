"""TensorBoard events of a run, where the extra is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from crnn_cli.training.job import TrainingReport


def with_events(tell: Callable[[TrainingReport], None], folder: Path, done: int) -> Callable[[TrainingReport], None]:
    """Return a function that also writes loss, speed and validation to ``folder``; ``tell`` itself without TensorBoard.

    Parameters
    ----------
    done : steps already done: later events of an earlier attempt are dropped.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 (an extra)
    except ImportError:
        return tell
    writer = SummaryWriter(str(folder), purge_step=done + 1)

    def told(report: TrainingReport) -> None:
        for name, value in scalars(report).items():
            writer.add_scalar(name, value, report.step)
        writer.flush()
        tell(report)

    return told


def scalars(report: TrainingReport) -> dict[str, float]:
    """Return the numbers of a report by their names."""
    if report.validation is None:
        return {"loss": report.loss, "items per second": report.items_per_second}
    return dict(flat(report.validation))


def flat(figures: dict[str, Any]) -> list[tuple[str, float]]:
    """Return validation figures as (name, number), nested ones as ``group, name``; what is not defined is left out."""
    found: list[tuple[str, float]] = []
    for group, value in figures.items():
        named = {f"{group}, {name}": v for name, v in value.items()} if isinstance(value, dict) else {group: value}
        found += [(name, number) for name, number in named.items() if number is not None]
    return found
