"""Where a result comes from, as reports and pictures say it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crnn_cli.bundles.store import Bundle


def input_facts(report: dict[str, Any]) -> dict[str, Any]:
    """Return what a report says of its input; nothing where that is damaged."""
    return report["input"] if isinstance(report.get("input"), dict) else {}


def slice_label(source: dict[str, Any], z: int, slices: int) -> str:
    """Return which slice of a scan slice z of its images is, in words. source : of the `Input`."""
    return f"slice {source.get('slice', z + 1)} of {source.get('slices', slices)}"


def ensemble_label(report: dict[str, Any]) -> str:
    """Return what people read of the copies that images are the mean of; nothing of one."""
    count = report.get("ensemble", 1)
    return f", mean over {count} flipped copies" if count > 1 else ""


def command_line() -> list[str]:
    """Return the command as it was typed."""
    return ["crnn", *sys.argv[1:]]


def made_by() -> dict[str, Any]:
    """Return what every report says: the tool, the command, the versions."""
    import numpy as np
    import torch

    from crnn_cli.version import __version__

    return {
        "tool": f"crnn {__version__}",
        "not_for": "diagnostic use",
        "command": command_line(),
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__, "numpy": np.__version__},
    }


def provenance(bundle: Bundle) -> dict[str, Any]:
    """Return the same, and the model."""
    return made_by() | {"model": {"name": bundle.name, "sha256": bundle.sha256, "licence": bundle.licence}}
