"""Review of a case: the form on its page, and the small JSON file that the form saves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crnn_cli.data.input_files import read_small
from crnn_cli.errors import UnreadableError
from crnn_cli.report.page.text import escaped
from crnn_cli.report.provenance import input_facts

SUFFIX = ".review.json"
"""End of the names of reviews."""
VERDICTS = ("good", "doubtful")
KIND = "review of a case by crnn"
LONGEST_NOTE = 2000
_LARGEST = 2**20


@dataclass(frozen=True)
class ReviewForm:
    """Form that marks a case as good or doubtful, with a note.

    Attributes
    ----------
    name : of the case.
    sha256 : of the input, so that a review is never taken for that of another file.
    model : sha256 of the weights that labelled it, so that it is none of other labels; None of a label map.
    """

    name: str
    sha256: str
    model: str | None = None


@dataclass(frozen=True)
class Review:
    """What a reader said of a case.

    Attributes
    ----------
    path : of the file.
    name, sha256 : of the case, as in `ReviewForm`.
    verdict : one of `VERDICTS`.
    note : perhaps empty.
    date : when it was saved, UTC, so that texts sort as times do.
    model : as in `ReviewForm`; None also where the review does not state it.
    """

    path: Path
    name: str
    sha256: str
    verdict: str
    note: str
    date: str
    model: str | None = None

    def is_of(self, report: dict[str, Any]) -> bool:
        """Whether it is of the case of a report of `crnn function`: of the same input, labelled by the same model."""
        model = (report.get("model") or {}).get("sha256")
        return self.sha256 == input_facts(report).get("sha256") and self.model in (None, model)


def draw_review(part: ReviewForm) -> str:
    """Draw the form as HTML; ``review.js`` saves what it holds."""
    about = json.dumps(
        {"kind": KIND, "format": 1, "case": part.name, "input_sha256": part.sha256, "model_sha256": part.model}
    )
    choices = "".join(
        f'<label><input type="radio" name="verdict" value="{verdict}" required="required"/>{verdict}</label>'
        for verdict in VERDICTS
    )
    return (
        f'<section class="screen-only"><h2>Review</h2><form class="review" data-about="{escaped(about)}" '
        f'data-name="{escaped(part.name + SUFFIX)}"><fieldset><legend>This case is</legend>{choices}</fieldset>'
        f'<label class="note-field">Note, without names of patients<textarea name="note" rows="3" '
        f'maxlength="{LONGEST_NOTE}"></textarea></label><button type="submit">Save the review</button><output></output>'
        '<p class="why">The file stays on this computer. <code>crnn batch function --reviewed FOLDER</code> reads it '
        "from the folder that it is put into.</p></form></section>"
    )


def read_review(path: Path) -> Review:
    """Read a review.

    Raises
    ------
    UnreadableError
        If it is none.
    """
    try:
        found: Any = json.loads(read_small(path, _LARGEST))
        values = [found[key] for key in ("case", "input_sha256", "verdict", "note", "date")]
        is_one = (
            found["kind"] == KIND
            and found["verdict"] in VERDICTS
            and all(isinstance(each, str) for each in values)
            and isinstance(found.get("model_sha256"), str | None)
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        is_one = False
    if not is_one:
        raise UnreadableError(
            f"{path} is no review of crnn", remedy=("save one on the page of a case, and do not change it",)
        )
    name, sha256, verdict, note, date = values
    return Review(path, name, sha256, verdict, note[:LONGEST_NOTE], date, found.get("model_sha256"))
