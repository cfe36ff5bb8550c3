"""What ``crnn train`` says: problems of the data, where the run stands, what it came to."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.cli import console
from crnn_cli.errors import UnsupportedDataError

if TYPE_CHECKING:
    from crnn_cli.bundles.store import Bundle
    from crnn_cli.training.datasets.checks import CheckedVolume
    from crnn_cli.training.job import TrainingReport
    from crnn_cli.training.session import TrainingRequest

_LISTED = 40  # problems in the table


def is_main_process() -> bool:
    """Return whether this is the first of several processes, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


def silence_later_processes() -> None:
    """Let only the first of several processes speak."""
    if not is_main_process():
        console.Verbosity.level = 0


@contextmanager
def training(out: Path) -> Iterator[notices.Progress]:
    """Yield the bar; an interruption says how to go on."""
    try:
        with console.progress_bar("training") as bar:
            yield bar
    except (KeyboardInterrupt, SystemExit):
        console.say(f"the run is kept in {out}.run: the same command with --resume goes on with it")
        raise


class TrainingProgress:
    """Moves the bar, and says where a run stands: at every validation, and once a minute between them."""

    def __init__(self, bar: notices.Progress) -> None:
        self._bar, self._last = bar, 0.0

    def __call__(self, report: TrainingReport) -> None:
        """Tell of a report."""
        import time

        self._bar(report.step, report.steps)
        if report.validation is None and time.monotonic() - self._last < 60:
            return
        self._last = time.monotonic()
        share = f"{report.stage}, step {report.step} of {report.steps}"
        left = f"about {_minutes(report.seconds_left)} left"
        if report.validation is None:
            console.say(f"{share}: loss {report.loss:.4f}, {report.items_per_second:.1f} items/s, {left}")
        else:
            console.say(f"{share}: validation {_words(report.validation)}, {left}")


def usable_items(
    checked: Sequence[CheckedVolume], others: Sequence[tuple[str, str]], skip_bad: bool
) -> list[CheckedVolume]:
    """Return what can be trained on; list all problems at once.

    Raises
    ------
    UnsupportedDataError
        If there are problems and they are not to be skipped, or nothing is left.
    """
    good = [each for each in checked if not each.problems]
    problems = [*others, *((each.name, text) for each in checked for text in each.problems)]
    for each in checked:
        for note in each.notes:
            notices.warn(f"{each.name}: {note}")
    if problems:
        listed = problems[:_LISTED]
        console.table("Problems", ("data", "what is wrong"), listed)
        if len(problems) > len(listed):
            console.say(f"... and {len(problems) - len(listed)} more")
    console.say(f"{len(good)} of {len(checked)} are good")
    if problems and not skip_bad:
        first = f"{problems[0][0]}: {problems[0][1]}"
        raise UnsupportedDataError(
            f"{len(problems)} problem(s) in the data, the first: {first}; nothing was trained: mend them, or train on "
            f"the rest with --skip-bad"
        )
    if checked and not good:
        raise UnsupportedDataError("none of the data can be trained on")
    return good


def finish(request: TrainingRequest, bundle: Bundle | None, as_json: bool) -> None:
    """Say what was made and how good it is."""
    from crnn_cli.training.run import RunFolder

    if bundle is None:  # one of the later processes
        return
    figures = RunFolder(request.folder).figures()
    console.say(f"{request.out}: {_words(figures) or 'nothing was held out'}; the run is in {request.folder}")
    if as_json:
        console.print_json({"bundle": str(request.out), "sha256": bundle.sha256, "figures": figures})


def _words(figures: dict[str, Any]) -> str:
    """Return validation figures in a line."""
    parts = []
    for name, value in figures.items():
        if isinstance(value, dict):
            parts.append(f"{name.replace('_', ' ')} {', '.join(f'{k}: {v}' for k, v in value.items())}")
    return "; ".join(parts)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
