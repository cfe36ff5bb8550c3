"""Result of one reconstruction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crnn_cli.errors import QualityError
from crnn_cli.report.rows import MEASURES, decisive_residual
from crnn_cli.workflows.reconstruct.scan import Scan

if TYPE_CHECKING:
    from crnn_cli.assessment.reliability import SliceReliability
    from crnn_cli.assessment.uncertainty import Map
    from crnn_cli.reconstruction.reconstruct import Reconstruction, Reconstructor


@dataclass(frozen=True)
class ReconstructionRun:
    """A finished reconstruction: data, images, what was found of each slice, what the report says, what made it."""

    data: Scan
    result: Reconstruction
    slices: list[SliceReliability]
    report: dict[str, Any]
    method: Reconstructor
    deviation_ZTYX: Map | None = None


def number_of_folds(asked: int | None, data: Scan, wanted: bool) -> int:
    """Return how many times lines are held out: as asked, else once if somebody looks at it or the scan is small.

    A fold costs as much as the reconstruction itself. That is a few seconds for a slice, but minutes for a whole heart,
    which nobody asked for: the size decides, not the clock, so that a run does not depend on how busy a machine is.

    Parameters
    ----------
    wanted : a page or a threshold was asked for.
    """
    from crnn_cli.assessment.reliability import SMALL

    if asked is not None:
        return asked
    return 1 if wanted or math.prod(data.geometry.shape) <= SMALL else 0


def require_residual(found: dict[str, Any], limit: float | None) -> None:
    """Raise QualityError if the residual that counts is above the limit."""
    if limit is None:
        return
    where, value = decisive_residual(found)
    if value is None or value > limit:
        said = "not known" if value is None else f"{value:.4g}"
        raise QualityError(
            f"the residual at {MEASURES[where]} is {said}, and --max-residual asks for at most {limit:g}; the images "
            "were written: look at them before you use them"
        )
