"""Self-contained HTML page: one file with its pictures, well-formed as XML so that it can be checked.

Light or dark as the reader's system is; black on white in print. A viewer and a review form bring their script into the
page; its policy lets these scripts run, by their sha256, and lets nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from crnn_cli.errors import OutputError, UsageError
from crnn_cli.io.atomic_write import Output
from crnn_cli.report.page.plot import Plot, draw_plot
from crnn_cli.report.page.review import ReviewForm, draw_review
from crnn_cli.report.page.text import escaped
from crnn_cli.report.page.viewer import Viewer, draw_viewer

SUFFIXES = (".html", ".htm")
_FILES = Path(__file__).parent


@dataclass(frozen=True)
class Table:
    """Table of a page.

    Attributes
    ----------
    heading : above the table.
    rows : (name, value) or (name, value, meaning).
    columns : headings of all columns; then every row has a value for each.
    """

    heading: str
    rows: Sequence[Sequence[str]]
    columns: Sequence[str] = ()


@dataclass(frozen=True)
class Picture:
    """Picture of a page: a PNG file and its caption."""

    png: bytes
    caption: str


@dataclass(frozen=True)
class Drawing:
    """Drawing of a page: SVG that this program made, and its caption."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Notes:
    """Sentences that must not be overlooked, each in a paragraph with a coloured bar."""

    lines: Sequence[str]


Part = Table | Picture | Drawing | Plot | Notes | Viewer | ReviewForm
_SCRIPTS: dict[type, str] = {Viewer: "viewer.js", ReviewForm: "review.js"}


def require_page_name(target: Path) -> None:
    """Raise UsageError unless the name ends in .html or .htm."""
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(f"cannot write {target}: a report is a page, give a name that ends in .html")


def page_output(target: Path, title: str, parts: Sequence[Part]) -> Output:
    """Prepare a page for writing; it is read back and parsed before it counts.

    Parameters
    ----------
    title : heading of the page.
    parts : in order.

    Raises
    ------
    OutputError
        When it is written, if the file differs or is not well-formed.
    """
    content = render_page(title, parts).encode("utf-8", "replace")

    def check(written: Path) -> None:
        """Raise OutputError unless the file has the content of the page, and is well-formed."""
        again = written.read_bytes()
        try:
            ElementTree.fromstring(again)
        except ElementTree.ParseError as error:
            raise OutputError(f"{target} was not written: the page is not well-formed, {error}") from None
        if again != content:
            raise OutputError(f"{target} was not written: read back, it differs")

    return Output(target, content, check)


def render_page(title: str, parts: Sequence[Part]) -> str:
    """Draw the page as HTML.

    Texts are shown as they are, never taken as markup: names in a DICOM header are not trusted.
    """
    body = "\n".join(_draw(part) for part in parts)
    kinds = dict.fromkeys(type(part) for part in parts)
    scripts = [_script(_SCRIPTS[kind]) for kind in kinds if kind in _SCRIPTS]
    allowed = " ".join(_source(script) for script in scripts) or "'none'"
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}; form-action 'none'"
    style = (_FILES / "page.css").read_text("utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{escaped(title)}</title>\n<style>{style}</style>\n</head>\n"
        f"<body>\n<h1>{escaped(title)}</h1>\n{body}\n"
        f"{''.join(f'<script>{script}</script>' for script in scripts)}</body>\n</html>\n"
    )


def _script(name: str) -> str:
    """A script, as text that HTML and XML take for the same."""
    return f"/*<![CDATA[*/\n{(_FILES / name).read_text('utf-8')}/*]]>*/"


def _source(script: str) -> str:
    """A script as the policy of a page names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _draw(part: Part) -> str:
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Picture):
        data = base64.b64encode(part.png).decode()
        text = escaped(part.caption)
        image = f'<img alt="{text}" src="data:image/png;base64,{data}"/>'
        return f"<section><figure>{image}<figcaption>{text}</figcaption></figure></section>"
    if isinstance(part, Viewer):
        return draw_viewer(part)
    if isinstance(part, ReviewForm):
        return draw_review(part)
    if isinstance(part, Notes):
        return "\n".join(f'<p class="note">{escaped(line)}</p>' for line in part.lines)
    svg = part.svg if isinstance(part, Drawing) else draw_plot(part)
    return f"<section><figure>{svg}<figcaption>{escaped(part.caption)}</figcaption></figure></section>"


def _table(part: Table) -> str:
    heading = f"<section><h2>{escaped(part.heading)}</h2>\n"
    if part.columns:
        head = "".join(f'<th scope="col">{escaped(text)}</th>' for text in part.columns)
        lines = "\n".join(
            f'<tr><th scope="row">{escaped(name)}</th>{"".join(f"<td>{escaped(text)}</td>" for text in values)}</tr>'
            for name, *values in part.rows
        )
        table = f'<table class="grid"><thead><tr>{head}</tr></thead><tbody>\n{lines}\n</tbody></table>'
        return f"{heading}{table}</section>"
    rows = []
    for name, value, *meaning in part.rows:
        wide = f' colspan="{1 + len(meaning)}"' if meaning and not any(meaning) else ""
        more = "" if wide else "".join(f'<td class="why">{escaped(text)}</td>' for text in meaning)
        rows.append(f'<tr><th scope="row">{escaped(name)}</th><td{wide}>{escaped(value)}</td>{more}</tr>')
    lines = "\n".join(rows)
    return f"{heading}<table><tbody>\n{lines}\n</tbody></table></section>"
