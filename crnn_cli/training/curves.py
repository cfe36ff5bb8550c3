"""Plot of a training run: loss and validation figures over the steps."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crnn_cli.io.atomic_write import Output, write_together
from crnn_cli.training.events import flatten_figures


def draw_curves(lines: Sequence[dict[str, Any]], target: Path) -> bool:
    """Draw the log of a run as a PNG file.

    Parameters
    ----------
    lines : of the log, in order.
    target : the file.

    Returns
    -------
    Whether it was drawn: not without Matplotlib, nor where the log has no loss yet.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 (an extra)
    except ImportError:
        return False
    losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    scores = [(line["step"], line["validation"]) for line in lines if "validation" in line]
    if not losses:
        return False
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    left = figure.add_subplot()
    left.plot(*zip(*losses, strict=True), color="0.35", label="loss (left)")
    left.set(xlabel="step", ylabel="training loss")
    drawn = [left]
    if scores:
        right = left.twinx()
        for name, curve in _curves(scores).items():
            right.plot(*zip(*curve, strict=True), marker=".", label=name)
        right.set_ylabel("validation")
        drawn.append(right)
    handles = [handle for axes in drawn for handle in axes.get_legend_handles_labels()[0]]
    left.legend(handles=handles, fontsize=8, loc="center right")
    left.grid(alpha=0.3)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    write_together([Output(target, content.getvalue())])
    return True


def _curves(scores: Sequence[tuple[int, dict[str, Any]]]) -> dict[str, list[tuple[int, float]]]:
    """Every figure of the validations by its name, as points (step, value)."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for step, figures in scores:
        for name, number in flatten_figures(figures):
            curves.setdefault(name, []).append((step, number))
    return curves
