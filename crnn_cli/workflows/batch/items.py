"""Inputs of a batch: which there are, in which share, and where the outputs of each go."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from crnn_cli import notices
from crnn_cli.errors import CrnnError, OutputExistsError, OutputNameError, Param, UnreadableError, UsageError
from crnn_cli.notices import STREAM, Progress
from crnn_cli.report.sidecar import sidecar_path

NAME = "{name}"
"""Stands for the name of each input in names of files."""


class BatchCommand(Protocol):
    """Module with the steps of a command, such as `crnn_cli.workflows.reconstruct.steps`.

    A run, which `compute` returns, is a frozen dataclass with a ``report``; the data, which `read` returns, have a
    ``source`` (files and their sha256); an engine has ``weights`` (sha256, None where there are none).

    Attributes
    ----------
    READS_RAW, READS_LABELS : whether raw k-space is an input, and whether label maps are.
    OUTPUTS, INPUTS : options that name what is written, and what is read, beside the main file.
    """

    READS_RAW: bool
    READS_LABELS: bool
    OUTPUTS: tuple[str, ...]
    INPUTS: tuple[str, ...]

    def output_name(self, stem: str, options: Any, /) -> str:
        """Name of the main output of an input called ``stem``."""
        ...

    def plan(self, path: Path, options: Any, /) -> Any:
        """Check input, options and outputs; nothing heavy is read."""
        ...

    def prepare(self, options: Any, /) -> Any:
        """Load the engine: the method or the model.

        Once for all inputs of the same options; an engine is not changed by what is computed with it.
        """
        ...

    def read(self, plan: Any, engine: Any, /) -> Any:
        """Read the data."""
        ...

    def compute(self, plan: Any, engine: Any, data: Any, progress: Progress, /) -> Any:
        """Compute the run: results and report.

        Parameters
        ----------
        progress : called with (steps done, steps in all).
        """
        ...

    def save(self, plan: Any, run: Any, /) -> dict[str, Any]:
        """Write everything, and return the report as written."""
        ...

    def check_threshold(self, plan: Any, report: dict[str, Any], /) -> None:
        """Raise QualityError if a required quality is not met."""
        ...


def command_of(name: str) -> BatchCommand:
    """Steps of ``reconstruct``, ``segment`` or ``function``."""
    from crnn_cli.workflows.function import steps as function_steps
    from crnn_cli.workflows.reconstruct import steps as reconstruct_steps
    from crnn_cli.workflows.segment import steps as segment_steps

    commands: dict[str, BatchCommand] = {
        "reconstruct": reconstruct_steps, "segment": segment_steps, "function": function_steps,
    }  # fmt: skip
    return commands[name]


@dataclass(frozen=True)
class BatchItem:
    """An input of a batch.

    Parameters
    ----------
    path : file or DICOM folder.
    target : the main output.
    name : of the input, in names of outputs.
    plan : of the command for one input; None where it could not be made.
    refusal : why the input cannot be read, or its output not be named; None where both can.
    """

    path: Path
    target: Path
    name: str = ""
    plan: Any = None
    refusal: CrnnError | None = None


def collect_inputs(inputs: Sequence[Path], out: Path, raw: bool, labels: bool = False) -> dict[Path, str]:
    """List all inputs that the names stand for, each once, with its name in those of outputs; see `io.discover`.

    The folder of the outputs is left out: a pattern for all names of a folder takes it in at the second run.

    Parameters
    ----------
    out : folder of the outputs.
    raw, labels : whether raw k-space is an input, and whether label maps are.

    Raises
    ------
    UsageError
        If the outputs would lie among the inputs.
    UnreadableError
        If a folder holds no input.
    """
    from crnn_cli.io.discover import find_inputs, is_output, name_of

    own = out.resolve()
    names: dict[Path, str] = {}
    known: dict[str, Path] = {}
    for given in inputs:
        if given == STREAM:
            raise UsageError("a batch reads files and folders, not standard input")
        if given.resolve() == own and len(inputs) > 1 and is_output(given):
            continue
        paths = find_inputs(given, {own}, raw, labels)
        if given.is_dir() and (given.resolve() == own or (paths == [given] and given.resolve() in own.parents)):
            raise UsageError(
                Param("out", str(out)), f" lies among the inputs in {given}", remedy=("give a folder of its own",)
            )
        for path in paths:
            first = known.setdefault(os.path.realpath(path), path)
            if first is path:
                names[path] = name_of(path, given)
            elif path.name != first.name:
                notices.note("one-input-twice", f"{path} is left out: it is the same file as {first}")
    return names


def parse_shard(text: str | None) -> tuple[int, int]:
    """Split a share such as 2/8 into its number, counted from 1, and how many there are.

    >>> parse_shard("2/8"), parse_shard(None)
    ((2, 8), (1, 1))

    Raises
    ------
    UsageError
        If the text is not such a share.
    """
    if text is None:
        return 1, 1
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(
            Param("shard", text), " is not understood", remedy=("give I/N, such as 2/8, I from 1 to N",)
        )  # fmt: skip
    return int(match[1]), int(match[2])


def assign_outputs(
    names: Mapping[Path, str], out: Path, command: BatchCommand, options: Any, tables: Collection[Path] = ()
) -> list[BatchItem]:
    """Name the outputs of each input; sorted by the main one, so that every task of an array job sees the same order.

    Parameters
    ----------
    tables : files that the batch itself writes.

    Raises
    ------
    UsageError
        If two of them would be written to the same name.
    """
    owners: dict[Path, Path | str] = dict.fromkeys(map(_place, tables), "the table of the batch")
    items = []
    for path, name in names.items():
        item = BatchItem(path, out / command.output_name(name, options), name)
        others = _output_paths(item, command, options).values()
        for target in dict.fromkeys((item.target, sidecar_path(item.target), *others)):
            owner = owners.setdefault(_place(target), path)
            if owner != path:
                raise UsageError(
                    f"{owner} and {path} would both be written to {target}",
                    remedy=("rename one of them, or give each a batch of its own",)
                    if isinstance(owner, Path)
                    else ("rename the input, or give its outputs other names",),
                )
        items.append(item)
    return sorted(items, key=lambda item: item.target)


def _place(path: Path) -> Path:
    return path.parent.resolve() / path.name


def _output_paths(item: BatchItem, command: BatchCommand, options: Any) -> dict[str, Path]:
    """Names of the outputs of an input beside the main one, by the options that ask for them.

    Raises
    ------
    UsageError
        If all inputs would have the same.
    """
    asked = {option: getattr(options, option) for option in command.OUTPUTS}
    for option, path in asked.items():
        if path is not None and NAME not in str(path):
            remedy = (f"write {NAME} in it, which stands for the name of each",)
            raise UsageError(Param(option, str(path)), " would be one file for all inputs", remedy=remedy)
    return {
        option: item.target.parent / str(path).replace(NAME, item.name)
        for option, path in asked.items()
        if path is not None
    }


def plan_item(item: BatchItem, command: BatchCommand, options: Any, force: bool) -> BatchItem:
    """Plan an input, or note why it cannot be read, or its output not be named.

    Parameters
    ----------
    options : of the command; ``{name}`` in names of files stands for the name of the input.
    force : replace outputs that exist.

    Raises
    ------
    UsageError
        If options contradict each other.
    OutputError
        If an output exists and not ``force``, or cannot be written.
    """
    paths = {
        option: Path(str(path).replace(NAME, item.name))
        for option in command.INPUTS
        if (path := getattr(options, option)) is not None
    } | _output_paths(item, command, options)
    try:
        return replace(item, plan=command.plan(item.path, replace(options, out=item.target, force=force, **paths)))
    except UnreadableError as error:
        return replace(item, refusal=error)
    except OutputNameError as error:
        return replace(item, refusal=OutputNameError(*error.parts, remedy=("rename the input",)))
    except OutputExistsError as error:
        remedy_too = (*error.remedy, "; ", Param("resume"), " goes on with an earlier batch")
        raise OutputExistsError(*error.parts, remedy=remedy_too) from None
