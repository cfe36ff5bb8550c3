"""Provenance: tool, versions, command, model and input of a result, for reports and pictures."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crnn_cli.bundles.store import Bundle
    from crnn_cli.data.image import Image


def input_facts(report: dict[str, Any]) -> dict[str, Any]:
    """The ``input`` of a report; empty where a damaged report has none."""
    return report["input"] if isinstance(report.get("input"), dict) else {}


def slice_label(source: dict[str, Any], z: int, slices: int) -> str:
    """Name slice z of the images by its number in the scan, counted from 1.

    >>> slice_label({}, 2, 12), slice_label({"slice": 7, "slices": 12}, 0, 1)
    ('slice 3 of 12', 'slice 7 of 12')
    """
    return f"slice {source.get('slice', z + 1)} of {source.get('slices', slices)}"


def ensemble_label(report: dict[str, Any]) -> str:
    """Words for an ensemble, to follow the name of the method; empty without one.

    >>> ensemble_label({"ensemble": 4}), ensemble_label({})
    (', mean over 4 flipped copies', '')
    """
    count = report.get("ensemble", 1)
    return f", mean over {count} flipped copies" if count > 1 else ""


def command_line() -> list[str]:
    """Words of the command as it was typed."""
    return ["crnn", *sys.argv[1:]]


def command_facts() -> dict[str, Any]:
    """The command as it was typed, and when: local time with its distance from UTC."""
    return {"command": command_line(), "date": time.strftime("%Y-%m-%dT%H:%M:%S%z")}


def grid_facts(images: Image) -> dict[str, Any]:
    """Grid of images for the report.

    Returns
    -------
    dict
        ``images`` with ``shape`` (x, y, z, t), ``spacing_mm``, ``orientation`` (letters that the axes run to; None
        where no header says it) and ``frame_time_s`` (None where unknown).
    """
    from crnn_cli.data.geometry import knows_orientation
    from crnn_cli.data.orientation import axis_codes

    orientation = axis_codes(images.affine) if knows_orientation(images) else None
    spacing = [round(v, 4) for v in images.spacing]
    facts = {"shape": list(images.shape), "spacing_mm": spacing, "orientation": orientation}
    return {"images": facts | {"frame_time_s": images.frame_time}}


def tool_facts() -> dict[str, Any]:
    """Facts that every report begins with: its format, the tool, the versions."""
    import numpy as np
    import torch

    from crnn_cli.report.sidecar import FORMAT
    from crnn_cli.version import __version__

    return {
        "format": FORMAT,
        "tool": f"crnn {__version__}",
        "not_for": "diagnostic use",
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__, "numpy": np.__version__},
    }


def model_facts(bundle: Bundle) -> dict[str, Any]:
    """Facts about a model for the report: name, sha256 and licence of its weights."""
    return {"model": {"name": bundle.name, "sha256": bundle.sha256, "licence": bundle.licence}}


def made_by() -> dict[str, Any]:
    """`tool_facts`, and the command as it was typed."""
    return tool_facts() | {"command": command_line()}


def provenance(bundle: Bundle) -> dict[str, Any]:
    """`made_by`, and the model."""
    return made_by() | model_facts(bundle)
