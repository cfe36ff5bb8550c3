"""Sphinx extension: the reference of the Python API, made from the public names of crnn_cli and their docstrings."""

from __future__ import annotations

import inspect
import re

from repository_pages import GENERATED, write
from sphinx.application import Sphinx

import crnn_cli
from crnn_cli import errors


def write_page(app: Sphinx) -> None:
    """Write the directives that autodoc follows: functions, classes, errors."""
    functions, classes = [], []
    for name in getattr(crnn_cli, "__all__", ()):
        value = getattr(crnn_cli, name)
        if inspect.isclass(value) and not issubclass(value, Exception):
            classes += [f".. autoclass:: crnn_cli.{name}", "   :members:", ""]
        elif inspect.isroutine(value):
            functions += [f".. autofunction:: crnn_cli.{name}", ""]
    parts = ["## Functions", block(functions), "## Classes", block(classes)] if functions else []
    write(GENERATED / "api.md", "\n\n".join([*parts, "## Errors", block(tree())]) + "\n")


def tree() -> list[str]:
    """Directives for the error tree, root first."""
    lines = []
    for value in vars(errors).values():
        if inspect.isclass(value) and issubclass(value, errors.CrnnError):
            lines += [f".. autoexception:: crnn_cli.errors.{value.__name__}", "   :show-inheritance:", ""]
    return lines


def block(lines: list[str]) -> str:
    """Lines of reStructuredText in a page of Markdown."""
    return "```{eval-rst}\n" + "\n".join(lines) + "\n```"


HEADINGS = ("Parameters", "Attributes", "Returns", "Raises", "Examples", "Notes", "References")


def describe(app: Sphinx, kind: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Write ``name : description`` of our docstrings as NumPy style has it: the type comes from the annotation."""
    section, written = "", list[str]()
    for number, line in enumerate(lines):
        if line.strip() in HEADINGS and number + 1 < len(lines) and set(lines[number + 1].strip()) == {"-"}:
            section = line.strip()
        found = re.match(r"(\s*)([\w*]+(?:, [\w*]+)*) : (.*)", line)
        if section in ("Parameters", "Attributes") and found:
            written += [f"{found[1]}{found[2]}", f"{found[1]}    {found[3]}"]
        else:
            written.append(line)
    lines[:] = written


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", write_page)
    app.connect("autodoc-process-docstring", describe, priority=400)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
