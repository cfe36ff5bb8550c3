"""What a batch is to do: which inputs, in which share, and where what is made of each goes."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from crnn_cli.errors import CrnnError, OutputExistsError, Param, UnreadableError, UsageError
from crnn_cli.notices import STREAM, Progress

NAME = "{name}"


class BatchCommand(Protocol):
    """The module with the steps of a command; see `crnn_cli.workflows.reconstruct.steps`."""

    READS_RAW: bool
    OUTPUTS: tuple[str, ...]
    INPUTS: tuple[str, ...]

    def output_name(self, stem: str, options: Any, /) -> str:
        """Return the name of what is made of an input."""
        ...

    def plan(self, place: Path, options: Any, /) -> Any:
        """Return what is to be done."""
        ...

    def prepare(self, options: Any, /) -> Any:
        """Return what does it."""
        ...

    def read(self, plan_item: Any, engine: Any, /) -> Any:
        """Return the data."""
        ...

    def compute(self, planned: Any, engine: Any, data: Any, progress: Progress, /) -> Any:
        """Return what is made of them."""
        ...

    def save(self, planned: Any, made: Any, /) -> dict[str, Any]:
        """Write it, and return the report as written."""
        ...

    def check_threshold(self, planned: Any, report: dict[str, Any], /) -> None:
        """Raise QualityError if it is not what was asked for."""
        ...


def command_of(name: str) -> BatchCommand:
    """Return the steps of ``reconstruct`` or ``segment``."""
    from crnn_cli.workflows.reconstruct import steps as reconstruct_job
    from crnn_cli.workflows.segment import steps as segment_job

    commands: dict[str, BatchCommand] = {"reconstruct": reconstruct_job, "segment": segment_job}
    return commands[name]


@dataclass(frozen=True)
class BatchItem:
    """An input of a batch: what is to be done with it, or why that cannot be."""

    place: Path
    target: Path
    planned: Any = None
    refused: CrnnError | None = None


def collect_inputs(inputs: Sequence[Path], out: Path, raw: bool) -> list[Path]:
    """Return the places of all inputs, each once; see `crnn_cli.io.discover`.

    The folder of the outputs is left out, as it comes with all names of a folder at the second run.

    Raises
    ------
    UsageError
        If the outputs would lie among the inputs.
    UnreadableError
        If a folder holds no input.
    """
    from crnn_cli.io.discover import find_inputs, is_output

    own = out.resolve()
    found: dict[str, Path] = {}
    for given in inputs:
        if given == STREAM:
            raise UsageError("a batch reads files and folders, not standard input")
        if given.resolve() == own and len(inputs) > 1 and is_output(given):
            continue
        places = find_inputs(given, {own}, raw)
        if given.is_dir() and (given.resolve() == own or (places == [given] and given.resolve() in own.parents)):
            raise UsageError(f"-o {out} lies among the inputs in {given}: give a folder of its own")
        for place in places:
            found.setdefault(os.path.realpath(place), place)
    return list(found.values())


def parse_shard(text: str | None) -> tuple[int, int]:
    """Return which share, counted from 1, of how many; the whole is 1 of 1.

    Raises
    ------
    UsageError
        If the text is not such as 2/8.
    """
    if text is None:
        return 1, 1
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard {text} is not understood: give I/N, such as 2/8, I from 1 to N")
    return int(match[1]), int(match[2])


def assign_outputs(places: Sequence[Path], out: Path, command: BatchCommand, options: Any) -> list[BatchItem]:
    """Return the inputs with where their main output goes, sorted by its name.

    Raises
    ------
    UsageError
        If two of them would be written to the same name.
    """
    from crnn_cli.io.formats import stem

    items: dict[Path, BatchItem] = {}
    for place in places:
        target = out / command.output_name(stem(place).name, options)
        if target in items:
            raise UsageError(
                f"{items[target].place} and {place} would both be written to {target}: rename one of them, or give "
                "each a batch of its own"
            )
        items[target] = BatchItem(place, target)
    return [items[target] for target in sorted(items)]


def plan_item(item: BatchItem, command: BatchCommand, options: Any, force: bool) -> BatchItem:
    """Return an input with its plan, or with the reason why it cannot be read.

    Raises
    ------
    UsageError
        If options contradict each other.
    OutputError
        If an output exists and not ``force``, or cannot be written.
    """
    from crnn_cli.io.formats import stem

    name = stem(item.place).name
    named: dict[str, Any] = {}
    for option in (*command.INPUTS, *command.OUTPUTS):
        path = getattr(options, option)
        if path is None:
            continue
        if option in command.OUTPUTS and NAME not in str(path):
            raise UsageError(
                f"--{option.replace('_', '-')} {path} would be one file for all inputs: write {NAME} in it, which "
                "stands for the name of each"
            )
        named[option] = Path(str(path).replace(NAME, name))
        if option in command.OUTPUTS:
            named[option] = item.target.parent / named[option]
    try:
        return replace(item, planned=command.plan(item.place, replace(options, out=item.target, force=force, **named)))
    except UnreadableError as reason:
        return replace(item, refused=reason)
    except OutputExistsError as reason:
        remedy = (*reason.remedy, "; ", Param("resume"), " goes on with an earlier batch")
        raise OutputExistsError(*reason.parts, remedy=remedy) from None
