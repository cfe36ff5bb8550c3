"""Whether what a batch is to make of an input is there already, made of the same things in the same way."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from crnn_cli.errors import UnreadableError
from crnn_cli.report.sidecar import sidecar_path, upgrade_report

_NOT_OF_THE_RESULT = ("out", "force")


def batch_stamp(options: Any) -> dict[str, Any]:
    """Return the options that differ from their defaults, as a report keeps them."""
    given = {
        field.name: getattr(options, field.name) for field in fields(options) if field.name not in _NOT_OF_THE_RESULT
    }
    plain = {field.name: field.default for field in fields(options)}
    return {
        name: str(value) if isinstance(value, Path) else value for name, value in given.items() if value != plain[name]
    }


def earlier_report(target: Path, options: dict[str, Any], weights: str | None) -> dict[str, Any] | None:
    """Return the report of an earlier run of a batch, if it says the same options and weights and its files are whole.

    What it was made of is still to be compared, by `same_input`.
    """
    from crnn_cli.io.atomic_write import digest_tree

    try:
        report = upgrade_report(json.loads(sidecar_path(target).read_text(encoding="utf-8")))
        said = report["batch"]
        outputs = said["outputs"]
        if said["options"] != options or (report.get("model") or {}).get("sha256") != weights or not outputs:
            return None
        whole = all(digest_tree(target.parent / name) == found for name, found in outputs.items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError, UnreadableError):
        return None
    return report if whole else None


def same_input(report: dict[str, Any], source: dict[str, Any]) -> bool:
    """Return whether a report is about files of the same content, wherever they lie."""
    said, found = report.get("input"), _hashes(source)
    return isinstance(said, dict) and bool(found) and _hashes(said) == found


def _hashes(source: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in source.items() if key.endswith("sha256")}
