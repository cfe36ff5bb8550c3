"""Outputs of an earlier run of a batch: skipped if they are whole and made of the same input in the same way."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from crnn_cli.errors import UnreadableError
from crnn_cli.report.sidecar import DAMAGE, digest_content, read_sidecar, sidecar_path

_NOT_OF_THE_RESULT = ("out", "force")


def batch_stamp(options: Any) -> dict[str, Any]:
    """Options that differ from their defaults, as the report of each output keeps them.

    ``out`` and ``force`` are left out, as they do not change the result; paths become text.
    """
    given = {
        field.name: getattr(options, field.name) for field in fields(options) if field.name not in _NOT_OF_THE_RESULT
    }
    defaults = {field.name: field.default for field in fields(options)}
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in given.items()
        if value != defaults[name]
    }


def earlier_report(target: Path, options: dict[str, Any], weights: str | None) -> dict[str, Any] | None:
    """Read the report of an earlier run of a batch, if it counts for this one.

    It counts if it has the same options and weights, and the files that it lists have the sha256 that it states.
    Reports of format 1 are read as well. That the input is the same is still to be compared, by `same_input`.

    Parameters
    ----------
    target : the main output.
    options : see `batch_stamp`.
    weights : sha256 of the model's weights; None for a method without.
    """
    try:
        report = read_sidecar(sidecar_path(target))
        stamp = report["batch"]
        outputs = stamp["outputs"]
        made_with = (report.get("model") or {}).get("sha256")
        if (
            stamp["options"] != options
            or not _is_main(target, outputs)
            or (made_with != weights and not _needs_no_model(target, report))
        ):
            return None
        whole = all(_digest(target, name, report) == stated for name, stated in outputs.items())
    except (OSError, UnreadableError, *DAMAGE):
        return None
    return report if whole else None


def _is_main(target: Path, outputs: dict[str, Any]) -> bool:
    """Whether the main output is among those of a report: the file, the folder, or files in it."""
    return any(Path(name).parts[:1] == (target.name,) for name in outputs)


def _needs_no_model(target: Path, report: dict[str, Any]) -> bool:
    """Whether an output is a report alone, and of labels that were there: no model was asked."""
    return sidecar_path(target) == target and report.get("model") is None


def _digest(target: Path, name: str, report: dict[str, Any]) -> str:
    """SHA-256 of an output; only the main one may be a folder, whatever a report names."""
    from crnn_cli.io.atomic_write import digest, digest_tree

    path = target.parent / name
    if path == target == sidecar_path(target):
        return digest_content(report)
    return digest_tree(path) if path == target else digest(path)


def same_input(report: dict[str, Any], source: dict[str, Any]) -> bool:
    """Whether a report is about files of the same content as ``source`` states, wherever they lie."""
    earlier, now = report.get("input"), _hashes(source)
    try:
        return isinstance(earlier, dict) and bool(now) and _hashes(earlier) == now
    except RecursionError:  # a damaged report
        return False


def made_of_file(report: dict[str, Any], file: Path) -> bool:
    """Whether a report is about a file of the content that this one has; False for a folder."""
    from crnn_cli.io.atomic_write import digest

    try:
        return file.is_file() and digest(file) in _hashes(report["input"]).values()
    except (UnreadableError, OSError, *DAMAGE):
        return False


def _hashes(source: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in source.items() if key.endswith("sha256")}
