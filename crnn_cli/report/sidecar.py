"""The report beside an output: its name, what every report says, and that no output falls on an input."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.errors import UsageError
from crnn_cli.notices import STREAM

if TYPE_CHECKING:
    from crnn_cli.io.atomic_write import Output


def sidecar_path(target: Path) -> Path:
    """Return the name of the report beside an output."""
    return target.with_name(target.name.removesuffix(".gz").removesuffix(".nii").removesuffix(".dcm") + ".json")


def require_apart(inputs: Sequence[Path | None], outputs: Sequence[Path | None]) -> None:
    """Refuse to write over what is read, and to write two things to one file."""
    read = {os.path.realpath(path) for path in inputs if path not in (None, STREAM)}
    written = [path for path in outputs if path is not None and path != STREAM]
    for path in written:
        if os.path.realpath(path) in read:
            raise UsageError(f"{path} is the input: give another name")
    places = [os.path.realpath(path) for path in written]
    for path, place in zip(written, places, strict=True):
        if places.count(place) > 1:
            raise UsageError(f"{path} would be written twice: give each output a name of its own")


def report_output(target: Path, report: dict[str, Any], others: Sequence[Output]) -> Output:
    """Return the report as a file beside the target; in a batch, with the sha256 of everything else written.

    others : what is written together with it; a target that is a folder is there already.
    """
    from crnn_cli.io.atomic_write import Output, digest_tree

    if "batch" in report:
        written = {os.path.relpath(each.target, target.parent): each.sha256() for each in others}
        written |= {target.name: digest_tree(target)} if target.is_dir() else {}
        report = report | {"batch": report["batch"] | {"outputs": written}}
    return Output(sidecar_path(target), (json.dumps(report, indent=2) + "\n").encode())
