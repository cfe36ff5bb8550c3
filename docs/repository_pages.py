"""Sphinx extension: pages of the repository outside docs/ (cards, benchmarks, changelog) as pages of the manual.

They are copied to docs/_generated/ before the build; links to files that are no pages become text. Links to them are
written as on GitHub (``../models/cine-crnn/README.md``) and are redirected to the copies while Sphinx reads a page.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
GENERATED = ROOT / "docs" / "_generated"
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")


def sources() -> dict[str, str]:
    """Pages by their path in the repository, and the page of the manual that each becomes."""
    pages = {f"benchmarks/{name}.md": f"benchmarks/{name}" for name in ("README", "protocol", "results", "log")}
    pages |= {f"models/{card.parent.name}/README.md": f"models/{card.parent.name}" for card in cards()}
    return pages | {"CHANGELOG.md": "changelog", "CONTRIBUTING.md": "contributing"}


def cards() -> list[Path]:
    """Cards of the published models."""
    return sorted((ROOT / "models").glob("*/README.md"))


def copy_pages(app: Sphinx) -> None:
    """Write the copies."""
    for source, page in sources().items():
        text = (ROOT / source).read_text(encoding="utf-8")
        write(GENERATED / f"{page}.md", redirected(text, (ROOT / source).parent))


def write(file: Path, text: str) -> None:
    """Write a generated page, unless it is there already: Sphinx then does not read it again."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        file.write_text(text, encoding="utf-8")


def redirected(text: str, folder: Path) -> str:
    """The text of a page in ``folder``, with its links leading to pages of the manual."""

    def link(match: re.Match[str]) -> str:
        label, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or ":" in target:
            return match.group()
        try:
            inside = (folder / path).resolve().relative_to(ROOT).as_posix()
        except ValueError:
            return label
        page = sources().get(inside)
        if page:
            return f"[{label}](/_generated/{page}.md{'#' + anchor if anchor else ''})"
        if inside.startswith("docs/"):
            return f"[{label}](/{inside.removeprefix('docs/')}{'#' + anchor if anchor else ''})"
        return label if label == f"`{path}`" else f"{label} (`{inside}`)" if label != path else f"`{path}`"

    def image(match: re.Match[str]) -> str:
        label, target = match.groups()
        inside = (folder / target).resolve().relative_to(ROOT)
        return f"![{label}](/{'../' if inside.parts[0] != 'docs' else ''}{inside.as_posix().removeprefix('docs/')})"

    return LINK.sub(link, IMAGE.sub(image, text))


def redirect_links(app: Sphinx, page: str, content: list[str]) -> None:
    """Let links of a page in docs/ that lead out of it lead to the copies."""
    if not page.startswith("_generated/"):
        folder = (ROOT / "docs" / page).parent
        content[0] = re.sub(
            r"(?<!!)\[([^\]]*)\]\(((?:\.\./)+(?!sample_data)[^)\s]+)\)",
            lambda match: redirected(match.group(), folder),
            content[0],
        )


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", copy_pages)
    app.connect("source-read", redirect_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
