"""Tuning of the network to the drawn slices of a scan: budget, progress, report."""

from __future__ import annotations

from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Tuning:
    """Outcome of a tuning.

    Attributes
    ----------
    network : the tuned network; None where the one of the bundle is to be used.
    better : numbers of the structures that it is used for.
    facts : for the report.
    dice : of drawn slices that were left out, before and after, by the number of the structure.
    """

    network: DrawnCLSTM | None
    better: frozenset[int]
    facts: dict[str, Any]
    dice: dict[int, tuple[float, float]] = field(default_factory=dict)

    def facts_of(self, number: int) -> dict[str, Any]:
        """Whether the tuned network is used for a structure, and what speaks for or against it."""
        dice = self.dice.get(number)
        judged = None if dice is None else {"before": round(dice[0], 4), "after": round(dice[1], 4)}
        return {"used": number in self.better, "left_out_dice": judged}


def tune_to_scan(series: DrawnSeries, engine: DrawnEngine, budget: TuneBudget, progress: notices.Progress) -> Tuning:
    """Tune the network to the drawn slices of a scan. The first Ctrl-C ends it with the best weights so far.

    Raises
    ------
    UnsupportedDataError
        If no frame has two drawn slices.
    """
    from crnn_cli.adaptation.drawn_slices import TuneSettings, tune
    from crnn_cli.adaptation.drawn_trials import better_tuned, gains

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
    numbers = range(1, series.structures + 1)
    better = better_tuned(numbers, result.trials) if result.used else frozenset()
    facts = _facts(result, budget) | {"used": bool(better)}
    return Tuning(result.network if better else None, better, facts, gains(result.trials))


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
