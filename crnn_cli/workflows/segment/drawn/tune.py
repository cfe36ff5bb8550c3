"""Tuning of the network to the drawn slices of a scan: budget, progress, report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import Param, UnsupportedDataError
from crnn_cli.workflows.reconstruct.interrupt import first_interrupt

if TYPE_CHECKING:
    from crnn_cli.adaptation.drawn_slices import TuneResult
    from crnn_cli.networks.drawn_clstm import DrawnCLSTM
    from crnn_cli.segmentation.drawn.series import DrawnSeries
    from crnn_cli.segmentation.drawn.stack import DrawnStack
    from crnn_cli.workflows.segment.drawn.engine import DrawnEngine
    from crnn_cli.workflows.segment.drawn.request import TuneBudget


def tune_to_scan(
    series: DrawnSeries, engine: DrawnEngine, budget: TuneBudget, progress: notices.Progress
) -> tuple[DrawnCLSTM | None, dict[str, Any]]:
    """Tune the network to the drawn slices of a scan. The first Ctrl-C ends it with the best weights so far.

    Returns
    -------
    The tuned network, None where the one of the bundle is to be used; facts for the report.

    Raises
    ------
    UnsupportedDataError
        If no frame has two drawn slices.
    """
    from crnn_cli.adaptation.drawn_slices import TuneSettings, tune

    assert engine.network is not None  # checked with the options
    stacks, settings = _stacks(series), TuneSettings(budget.seconds, budget.steps, budget.seed)
    with first_interrupt() as stop:
        result = tune(engine.network, stacks, settings, engine.device, progress, stop)
    if not result.used:
        notices.note("not-adapted", f"the network was not tuned to this scan, and is used as it is: {result.why}")
    elif result.interrupted:
        notices.say(f"interrupted: going on with the best so far, of step {result.best_step}; once more ends it all")
    if result.before is None:
        notices.warn(
            "tuning-not-judged",
            "two slices are drawn: none can be left out, so nobody knows whether the tuning helped; draw a third",
        )
    return result.network if result.used else None, _facts(result, budget)


def _stacks(series: DrawnSeries) -> list[DrawnStack]:
    """Frames of which two slices or more are drawn."""
    chosen = [t for t in series.drawn_frames if int(series.known_TS[t].sum()) > 1 and series.numbers_TSYX[t].any()]
    if not chosen:
        raise UnsupportedDataError(
            "no frame has two drawn slices, which tuning needs", remedy=("draw more, or leave out ", Param("minutes"))
        )
    return [series.stack(t) for t in chosen]


def _facts(result: TuneResult, budget: TuneBudget) -> dict[str, Any]:
    """Facts about a tuning for the report."""
    judged = None
    if result.before is not None and result.after is not None:
        judged = {"before": round(result.before, 4), "after": round(result.after, 4), "slices": result.left_out}
    return {
        "steps": result.steps, "best_step": result.best_step, "seconds": round(result.seconds, 2), "seed": budget.seed,
        "left_out_dice": judged, "used": result.used, "why": result.why,
    }  # fmt: skip
