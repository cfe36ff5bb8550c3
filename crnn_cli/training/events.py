"""TensorBoard events of a run, where the extra is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from crnn_cli.training.job import TrainingReport


def with_events(tell: Callable[[TrainingReport], None], folder: Path, done: int) -> Callable[[TrainingReport], None]:
    """Extend a callback so that it also writes loss, speed and validation to TensorBoard.

    Parameters
    ----------
    tell : the callback.
    folder : of the events.
    done : steps already done; later events of an earlier attempt are dropped.

    Returns
    -------
    The extended callback; ``tell`` itself without TensorBoard.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 (an extra)
    except ImportError:
        return tell
    writer = SummaryWriter(str(folder), purge_step=done + 1)

    def tell_and_write(report: TrainingReport) -> None:
        for name, value in scalars(report).items():
            writer.add_scalar(name, value, report.step)
        writer.flush()
        tell(report)

    return tell_and_write


def scalars(report: TrainingReport) -> dict[str, float]:
    """Numbers of a report by their names.

    Returns
    -------
    Validation figures in a report of validation, else loss and speed.
    """
    if report.validation is None:
        return {"loss": report.loss, "items per second": report.items_per_second}
    return dict(flatten_figures(report.validation))


def flatten_figures(figures: dict[str, Any]) -> list[tuple[str, float]]:
    """Flatten validation figures to (name, number) pairs; undefined figures are left out.

    >>> flatten_figures({"score": 0.8, "dice": {"wall": 0.7, "cavity": None}})
    [('score', 0.8), ('dice, wall', 0.7)]
    """
    pairs: list[tuple[str, float]] = []
    for group, value in figures.items():
        named = {f"{group}, {name}": v for name, v in value.items()} if isinstance(value, dict) else {group: value}
        pairs += [(name, number) for name, number in named.items() if number is not None]
    return pairs
