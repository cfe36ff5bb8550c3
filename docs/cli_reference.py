"""Sphinx extension: one page for each command of crnn, made from the program itself.

Pages go to docs/_generated/cli/ before the build: usage, what the command does, and its options in the panels that
``--help`` shows, with defaults. Nothing here is written by hand, so nothing can differ from the program.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import Any

import typer
from repository_pages import GENERATED, write
from sphinx.application import Sphinx

FOLDER = GENERATED / "cli"
KINDS = {"Path": "PATH", "str": "TEXT", "int": "N", "float": "X"}
LARGEST_SHOWN = 10**6  # a limit that nobody reaches is not worth reading


def commands(command: Any, name: str = "crnn") -> Iterator[tuple[str, Any]]:
    """Full names and commands, groups left out."""
    if hasattr(command, "commands"):
        for part, inner in command.commands.items():
            if not inner.hidden:
                yield from commands(inner, f"{name} {part}")
    else:
        yield name, command


def write_pages(app: Sphinx) -> None:
    """Write a page for each command, and the list of them."""
    from crnn_cli.cli.app import app as program

    root = typer.main.get_command(program)
    found = dict(commands(root))
    if FOLDER.exists():
        for stale in {*FOLDER.glob("*.md")} - {FOLDER / f"{file_name(name)}.md" for name in found}:
            stale.unlink()
    for name, command in found.items():
        write(FOLDER / f"{file_name(name)}.md", page(name, command))
    write(GENERATED / "options_of_all.md", all_options(root))
    shutil.rmtree(FOLDER / "__pycache__", ignore_errors=True)


def file_name(name: str) -> str:
    """The page of a command: its words with hyphens between them."""
    return "-".join(name.split()[1:])


def page(name: str, command: Any) -> str:
    """The page of one command."""
    arguments = [part for part in command.params if part.param_type_name == "argument"]
    usage = " ".join([name, "[OPTIONS]", *(argument_usage(part) for part in arguments)])
    parts = [f"# {name}", *description(command.help or ""), f"```text\n{usage}\n```"]
    panels: dict[str, list[Any]] = {}
    for part in command.params:
        if not getattr(part, "hidden", False):
            plain = "Arguments" if part in arguments else "Options"
            panels.setdefault(getattr(part, "rich_help_panel", None) or plain, []).append(part)
    for title, group in panels.items():
        parts += [f"## {title}", table(group)]
    return "\n\n".join(parts) + "\n"


def all_options(root: Any) -> str:
    """The table of the options that stand before the command."""
    return table([part for part in root.params if not getattr(part, "hidden", False)]) + "\n"


def argument_usage(part: Any) -> str:
    """An argument as the usage line shows it."""
    word = (part.metavar or part.name).upper() + ("..." if part.nargs == -1 else "")
    return word if part.required else f"[{word}]"


def description(text: str) -> list[str]:
    """The paragraphs of a help text; its examples as a block to copy."""
    paragraphs: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.replace("\b", "").strip()):
        flat = " ".join(paragraph.split())
        examples = re.match(r"Examples?: (.*)$", flat)
        if examples:
            lines = [part.strip().removeprefix("then ") for part in examples.group(1).split(";")]
            paragraphs.append("```console\n" + "\n".join(f"$ {line}" for line in lines if line) + "\n```")
        elif flat:
            paragraphs.append(escaped(flat))
    return paragraphs


def table(params: list[Any]) -> str:
    """A table of arguments or options."""
    defaults = [shown_default(part) for part in params]
    column = any(defaults)
    rows = ["| | default | meaning |", "|---|---|---|"] if column else ["| | meaning |", "|---|---|"]
    for part, default in zip(params, defaults, strict=True):
        text = escaped(" ".join((part.help or "").split()))
        required = " **Required.**" if part.required and part.param_type_name == "option" else ""
        cell = f" {default} |" if column else ""
        rows.append(f"| {names(part)} |{cell} {text}{limits(part)}{required} |")
    return "\n".join(rows)


def names(part: Any) -> str:
    """The names of an option with what it takes."""
    if part.param_type_name == "argument":
        return f"`{argument_usage(part)}`"
    taken = "" if part.is_flag or part.count else f" {part.metavar or kind(part)}"
    options = ", ".join(f"`{name}`" for name in sorted(part.opts, key=len))
    bar = "\\|"  # a bar would end the cell, even in code
    return options + (f"&nbsp;`{taken.strip().replace('|', bar)}`" if taken else "")


def kind(part: Any) -> str:
    """The word for what an option takes."""
    annotation = getattr(getattr(part, "type_descriptor", None), "annotation", None)
    name = getattr(annotation, "__name__", None) or getattr(getattr(part, "type", None), "name", "")
    choices = getattr(getattr(part, "type", None), "choices", None)
    return "|".join(choices) if choices else KINDS.get(str(name), "VALUE")


def limits(part: Any) -> str:
    """The range of a number, where it has one that matters and its name does not say it."""
    if any(letter.isdigit() for letter in part.metavar or ""):
        return ""
    low, high = getattr(part, "min", None), getattr(part, "max", None)
    high = None if high is not None and high >= LARGEST_SHOWN else high
    if high is None:
        return f" (at least {low:g})" if low is not None and low > 1 else ""
    return f" ({low:g} to {high:g})" if low is not None else f" (at most {high:g})"


def shown_default(part: Any) -> str:
    """The default, empty where there is none or the text says it."""
    value = part.default
    if value is None or value is False or callable(value) or getattr(part, "is_eager", False) or value == ():
        return ""
    return "yes" if value is True else f"`{value}`"


def escaped(text: str) -> str:
    """Text without Markdown of its own; options in code."""
    text = re.sub(r"([\\*_<>\[\]|#])", r"\\\1", text)
    text = text.replace("{", "&#123;").replace("}", "&#125;")
    return re.sub(r"(?<![\w-])(--[a-z][\w-]*)", r"`\1`", text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
