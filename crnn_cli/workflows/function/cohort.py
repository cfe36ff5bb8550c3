"""Cohort: the reports of many hearts and the reviews of their pages, put together after a batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crnn_cli import notices
from crnn_cli.errors import OutputError, OutputExistsError, Param, UnreadableError
from crnn_cli.report.function.cohort import Case, Cohort, cohort_outputs
from crnn_cli.report.page.review import SUFFIX, Review, read_review
from crnn_cli.report.provenance import made_by
from crnn_cli.report.sidecar import read_sidecar
from crnn_cli.workflows.batch.run import Outcome
from crnn_cli.workflows.function.steps import case_of


def read_reviews(folder: Path | None) -> list[Review]:
    """Read the reviews in a folder; of several of one input and model the latest, with a note.

    Browsers number a second file of one name, so that ``anna.review (1).json`` is a review too.

    Raises
    ------
    UnreadableError
        If the folder is not there or cannot be read, or a file that is called a review is none.
    """
    if folder is None:
        return []
    if not folder.is_dir():
        raise UnreadableError(f"{folder} is no folder of reviews", remedy=("name one with ", Param("reviewed", "DIR")))
    begins, ends = SUFFIX.rsplit(".", 1)
    latest: dict[tuple[str, str | None], Review] = {}
    for review in map(read_review, sorted(folder.glob(f"*{begins}*.{ends}"))):
        key = review.sha256, review.model
        other = latest.get(key)
        if other is None or other.date < review.date:
            latest[key] = review
        if other is not None:
            newer = latest[key]
            text = (
                f"{other.path.name} and {review.path.name} are of one input: {newer.path.name} is the later and counts"
            )
            notices.note("reviewed-twice", text)
    return [*latest.values()]


def table_names(out: Path, share: str = "") -> tuple[Path, Path]:
    """Names of the table and the summary of a batch in the folder of its outputs.

    Parameters
    ----------
    share : ending of the names of one share of an array job; empty of all.
    """
    return out / f"cohort{share}.csv", out / f"cohort{share}_summary.json"


def require_tables(names: tuple[Path, Path], replace: bool) -> tuple[Path, Path]:
    """Names of table and summary, which can be written.

    Raises
    ------
    OutputError
        If they cannot be written, or exist and are not to be replaced.
    """
    from crnn_cli.io.atomic_write import require_writable

    for path in names:
        try:
            require_writable(path, replace)
        except OutputExistsError as error:
            remedy = (*error.remedy, "; ", Param("resume"), " goes on with an earlier batch")
            raise OutputExistsError(*error.parts, remedy=remedy) from None
    return names


def collect_case(outcome: Outcome, reviews: Sequence[Review]) -> Case:
    """Case of an outcome, with its report and its review; a review of another input under its name is a doubt."""
    name = case_of(Path(str(outcome.output)))
    if outcome.status == "failed":
        return Case(name, outcome.input, outcome.status, None, outcome.error or "", outcome.exit_code)
    report = read_sidecar(Path(str(outcome.output)))
    review = review_of(report, reviews)
    verdict, note = ("", "") if review is None else (review.verdict, review.note)
    return Case(name, outcome.input, outcome.status, report, verdict=verdict, note=note)


def review_of(report: dict[str, Any], reviews: Sequence[Review]) -> Review | None:
    """The latest review of a case, by the sha256 of its input and of the model that labelled it."""
    return max((each for each in reviews if each.is_of(report)), key=lambda each: each.date, default=None)


def cohort_of(cases: Sequence[Case], reviews: Sequence[Review], missing: int = 0) -> Cohort:
    """Put the cases together, by name, and tell which reviews are of no case.

    Parameters
    ----------
    missing : inputs that the batch did not come to.
    """
    reports = [case.report for case in cases if case.report is not None]
    unused = [each.path.name for each in reviews if not any(map(each.is_of, reports))]
    if unused:
        names = ", ".join(unused[:5]) + (" ..." if len(unused) > 5 else "")
        text = "are of no input of this batch, or it was changed, or labelled by another model"
        notices.warn("review-of-no-case", f"{len(unused)} reviews {text}: {names}")
    return Cohort(sorted(cases, key=lambda case: case.name), unused, missing)


def write_cohort(cohort: Cohort, tables: tuple[Path, Path]) -> None:
    """Write table and summary.

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    from crnn_cli.io.atomic_write import write_together

    try:
        write_together(cohort_outputs(cohort, *tables, made_by()))
    except OutputError as error:
        remedy = ("the reports of all cases are kept, and ", Param("resume"), " makes the tables of them")
        raise OutputError(*error.parts, remedy=remedy) from None
