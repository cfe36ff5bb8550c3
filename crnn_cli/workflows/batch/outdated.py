"""Outputs of an earlier run whose input fails now: moved aside, as they would look like those of this run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from crnn_cli.errors import CrnnError, DeviceError
from crnn_cli.report.sidecar import DAMAGE, is_ours, read_sidecar, sidecar_path
from crnn_cli.workflows.batch.resume import earlier_report, made_of_file


def set_aside(
    source: Path, target: Path, options: dict[str, Any], weights: str | None, exit_code: int
) -> str | None:  # fmt: skip
    """Move the outputs of an earlier run into a folder beside them, unless they may still be right.

    They may be if they are whole, of the same options and weights, and the input is not there (a drive that is not
    mounted), has the same content as then, or only the device or memory failed. Nothing is ever removed.

    Parameters
    ----------
    source : the input that failed.
    target : its main output.
    options, weights : as of `earlier_report`.
    exit_code : of the failure.

    Returns
    -------
    What was done, in words; None where there is no earlier output.
    """
    report_path = sidecar_path(target)
    if not os.path.lexists(target) and not os.path.lexists(report_path):
        return None
    kept = f"{target} is of an earlier run"
    if os.path.lexists(report_path) and not is_ours(report_path):
        return kept
    earlier = earlier_report(target, options, weights)
    if earlier is not None and (
        exit_code == DeviceError.exit_code or not source.exists() or made_of_file(earlier, source)
    ):
        return kept
    try:
        place = _moved([target, *_beside(target), report_path])
    except OSError as error:
        return f"{kept}, and cannot be moved: {error.strerror}"
    return f"its output of an earlier run was moved to {place}"


def _beside(target: Path) -> list[Path]:
    """Other outputs that the report beside an output lists, as far as they are still what it says."""
    from crnn_cli.io.atomic_write import digest

    found: dict[Path, bool] = {}
    try:
        outputs = read_sidecar(sidecar_path(target))["batch"]["outputs"]
        for name, stated in outputs.items():
            first = Path(name).parts[0]
            path = target.parent / first
            if first not in (target.name, "..", os.sep) and path.exists():
                found[path] = found.get(path, True) and digest(target.parent / name) == stated
    except (CrnnError, OSError, *DAMAGE):
        return []
    return [path for path, same in found.items() if same]


def _moved(paths: list[Path]) -> Path:
    """Move files and folders into the first folder for it in which none has the name of one of them."""
    from crnn_cli.io.discover import OUTDATED

    there = [path for path in dict.fromkeys(paths) if os.path.lexists(path)]
    number = 1
    while True:
        place = there[0].parent / (OUTDATED if number == 1 else f"{OUTDATED}_{number}")
        if not any(os.path.lexists(place / path.name) for path in there):
            break
        number += 1
    place.mkdir(exist_ok=True)
    for path in there:
        path.rename(place / path.name)
    return place
