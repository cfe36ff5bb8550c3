"""Function of many hearts: a row a case in one table, mean and standard deviation over the cases."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crnn_cli.io.atomic_write import Output
from crnn_cli.report.function.table import TITLES, record_of, refusals_of
from crnn_cli.report.label_table import csv_text

SUMMARISED = (
    ("left", "ejection_fraction"), ("left", "edv"), ("left", "esv"), ("left", "mass_ed"),
    ("right", "ejection_fraction"), ("right", "edv"), ("right", "esv"),
)  # fmt: skip
"""Quantities of the summary."""
COLUMNS = ("", "n", "mean", "SD")
"""Headings of `summary_rows`."""
_DOUBTFUL = "doubtful"


@dataclass(frozen=True)
class Case:
    """A case of a cohort.

    Attributes
    ----------
    name : of the case. source : the file or folder that it is from.
    status : ``done``, ``skipped`` (done before) or ``failed``.
    report : of `crnn function`; None where it failed.
    error : why it failed. exit_code : that a single run would have had.
    verdict, note : of a review; empty where there is none.
    """

    name: str
    source: str
    status: str
    report: dict[str, Any] | None = None
    error: str = ""
    exit_code: int = 0
    verdict: str = ""
    note: str = ""

    @property
    def counts(self) -> bool:
        """Whether its numbers are in the summary: it was measured, and no reviewer doubts it."""
        return self.report is not None and self.verdict != _DOUBTFUL

    def record(self) -> dict[str, str | int | float | None]:
        """Row of the table: the case, how it went, and its numbers; empty where a number is refused."""
        refused = {} if self.report is None else refusals_of(self.report)
        row: dict[str, str | int | float | None] = {
            "case": self.name, "input": self.source, "status": self.status,
            "in_summary": "yes" if self.counts else "no", "review": self.verdict, "review_note": self.note,
            "error": self.error,
            "refused": "; ".join(f"no {', '.join(names)}: {reason}" for reason, names in refused.items()),
            "doubts": " ".join(each["code"] for each in (self.report or {}).get("doubts", ())),
        }  # fmt: skip
        return row if self.report is None else row | record_of(self.report)


@dataclass(frozen=True)
class Statistic:
    """A quantity over the cases that count: how many have it, mean, standard deviation (n - 1; None of one case)."""

    side: str
    name: str
    unit: str
    n: int
    mean: float | None
    deviation: float | None


@dataclass(frozen=True)
class Cohort:
    """Cases of a cohort in the order of their names.

    Attributes
    ----------
    unused : reviews that belong to no case, by the names of their files.
    missing : inputs that the batch did not come to, as it was interrupted or a case failed.
    """

    cases: Sequence[Case]
    unused: Sequence[str] = field(default=())
    missing: int = 0

    def statistics(self) -> list[Statistic]:
        """Mean and standard deviation of each of `SUMMARISED` over the cases that count and have it."""
        reports = [case.report for case in self.cases if case.counts and case.report is not None]
        return [_statistic(side, name, reports) for side, name in SUMMARISED]

    def groups(self) -> dict[str, list[Case]]:
        """Cases that are not in the summary: ``failed`` and ``doubtful``."""
        return {
            "failed": [case for case in self.cases if case.report is None],
            _DOUBTFUL: [case for case in self.cases if case.report is not None and not case.counts],
        }

    def refused(self) -> dict[str, list[Case]]:
        """Cases that count but lack a number of the summary, by the reason."""
        reasons: dict[str, list[Case]] = {}
        for case in self.cases:
            quantities = case.report["quantities"] if case.counts and case.report is not None else {}
            found = [quantities.get(side, {}).get(name, {}).get("reason") for side, name in SUMMARISED]
            for reason in dict.fromkeys(each for each in found if each):
                reasons.setdefault(reason, []).append(case)
        return reasons


def _statistic(side: str, name: str, reports: Sequence[dict[str, Any]]) -> Statistic:
    found = [report["quantities"].get(side, {}).get(name) for report in reports]
    known = [each for each in found if each is not None and each["value"] is not None]
    values = [float(each["value"]) for each in known]
    unit = str(known[0]["unit"]) if known else ""
    mean = statistics.fmean(values) if values else None
    return Statistic(side, name, unit, len(values), mean, statistics.stdev(values) if len(values) > 1 else None)


def summary_rows(cohort: Cohort) -> list[list[str]]:
    """Statistics for people; a hyphen where there is none."""

    def text(value: float | None, unit: str) -> str:
        return "-" if value is None else f"{value:.1f} {unit}"

    return [
        [f"{each.side} {TITLES[each.name]}", str(each.n), text(each.mean, each.unit), text(each.deviation, each.unit)]
        for each in cohort.statistics()
    ]


def case_rows(cohort: Cohort) -> list[list[str]]:
    """How many cases there are, which are left out of the summary, and why."""
    groups = cohort.groups()
    counted = sum(case.counts for case in cohort.cases)
    rows = [["cases", f"{len(cohort.cases)}, of them {counted} in the summary"]]
    rows += [["not finished", f"{cohort.missing} more, not in the table"]] if cohort.missing else []
    rows += [[f"failed: {case.name}", f"{case.error} ({case.exit_code})"] for case in groups["failed"]]
    rows += [[f"doubtful, left out: {case.name}", case.note or "no note"] for case in groups[_DOUBTFUL]]
    rows += [
        [f"refused: {', '.join(case.name for case in cases)}", reason] for reason, cases in cohort.refused().items()
    ]
    rows += [["review of no case here", name] for name in cohort.unused]
    return rows


def cohort_outputs(cohort: Cohort, table: Path, summary: Path, facts: dict[str, Any]) -> list[Output]:
    """Prepare the table of all cases (CSV) and the summary (JSON) for writing.

    Parameters
    ----------
    facts : that the summary begins with: tool, command.
    """
    records = [case.record() for case in cohort.cases]
    return [
        Output(table, csv_text(records).encode("utf-8", "backslashreplace")),
        Output(summary, (json.dumps(facts | summary_facts(cohort), indent=2, allow_nan=False) + "\n").encode()),
    ]


def summary_facts(cohort: Cohort) -> dict[str, Any]:
    """The summary as plain values."""

    def digits(value: float | None) -> float | None:
        return None if value is None else float(f"{value:.6g}")

    groups = cohort.groups()
    return {
        "cases": len(cohort.cases), "in_summary": sum(case.counts for case in cohort.cases),
        "statistics": {
            f"{each.side}_{each.name}": {
                "unit": each.unit, "n": each.n, "mean": digits(each.mean), "sd": digits(each.deviation)
            }
            for each in cohort.statistics()
        },
        "failed": [{"case": each.name, "error": each.error, "exit_code": each.exit_code} for each in groups["failed"]],
        "doubtful": [{"case": each.name, "note": each.note} for each in groups[_DOUBTFUL]],
        "refused": [
            {"reason": reason, "cases": [each.name for each in cases]} for reason, cases in cohort.refused().items()
        ],
        "reviews_of_no_case": list(cohort.unused), "not_finished": cohort.missing,
    }  # fmt: skip
