"""What ``crnn batch function`` adds to a batch: the numbers of each case, their table, and a summary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.cli import console
from crnn_cli.cli.batch.reporter import BatchReporter
from crnn_cli.workflows.batch.run import Outcome

if TYPE_CHECKING:
    from crnn_cli.report.function.cohort import Case
    from crnn_cli.report.page.review import Review


class CohortReporter(BatchReporter):
    """Reporter that keeps the numbers of each case.

    tables : names of the table of all cases and of the summary. reviews : of their pages.
    """

    def __init__(
        self, out: Path, shard: tuple[int, int], total: int, as_json: bool, began: float, *,
        tables: tuple[Path, Path], reviews: Sequence[Review],
    ) -> None:  # fmt: skip
        super().__init__(out, shard, total, as_json, began)
        self._tables, self._reviews = tables, reviews
        self._cases: list[Case] = []

    def line_of(self, outcome: Outcome) -> dict[str, Any]:
        """The line of the outcome, with the row of the case in ``case``."""
        from crnn_cli.workflows.function.cohort import collect_case

        case = collect_case(outcome, self._reviews)
        self._cases.append(case)
        return outcome.line() | {"case": case.record()}

    def summary(self) -> None:
        """Print what every batch prints and the summary, and write both tables: on a full disk the numbers are seen."""
        from crnn_cli.report.function.cohort import COLUMNS, case_rows, summary_rows
        from crnn_cli.workflows.function.cohort import cohort_of, write_cohort

        super().summary()
        cohort = cohort_of(self._cases, self._reviews, self.total - len(self._cases))
        console.table("crnn batch function", COLUMNS, summary_rows(cohort), result=not self.as_json)
        console.table("", ["", ""], case_rows(cohort), result=not self.as_json)
        write_cohort(cohort, self._tables)
        console.say(f"written: {self._tables[0]} and {self._tables[1]}")
