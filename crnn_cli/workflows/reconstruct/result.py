"""Result of one reconstruction, and whether it meets the threshold that was asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crnn_cli.errors import Param, QualityError
from crnn_cli.report.rows import MEASURES, decisive_residual
from crnn_cli.workflows.reconstruct.scan import Scan

if TYPE_CHECKING:
    from crnn_cli.assessment.reliability import SliceReliability
    from crnn_cli.assessment.uncertainty import Map
    from crnn_cli.data.image import Image
    from crnn_cli.reconstruction.reconstruct import Reconstruction, Reconstructor


@dataclass(frozen=True)
class ReconstructionRun:
    """A finished reconstruction.

    Attributes
    ----------
    scan : the measured data.
    result : images (Z, T, Y, X) of all slices, and the reliability of each.
    report : what OUT.json says, but for what is only known once files are written. It is not changed afterwards.
    method : network or classical method that made the images; tuned, if it was tuned to the scan.
    deviation_ZTYX : standard deviation of the magnitude; None where no map was asked for.
    """

    scan: Scan
    result: Reconstruction[SliceReliability]
    report: dict[str, Any]
    method: Reconstructor[None]
    deviation_ZTYX: Map | None = None

    @property
    def images(self) -> Image:
        """Complex images (x, y, z, t) with the geometry of the scan."""
        return self.scan.to_image(self.result.images_ZTYX)

    @property
    def zero_filled(self) -> Image:
        """Complex images of the measured samples alone, with the same geometry."""
        return self.scan.to_image(self.result.zero_filled_ZTYX)

    @property
    def runs(self) -> Iterator[Image]:
        """Complex images of the runs without some of the lines, one after the other; none where they were not kept."""
        return (self.scan.to_image(run_ZTYX) for run_ZTYX in self.result.runs_ZTYX)

    @property
    def uncertainty(self) -> Image | None:
        """Standard deviation of the magnitude with the same geometry; None where no map was asked for."""
        return None if self.deviation_ZTYX is None else self.scan.to_map(self.deviation_ZTYX)


def decide_folds(asked: int | None, shape: Sequence[int], wanted: bool) -> int:
    """Number of folds of held-out lines: as asked, else 1 if the residual is wanted or the scan is small, else 0.

    A fold costs as much as the reconstruction itself: seconds for a slice, but minutes for a whole heart. The size
    decides, not the clock, so that a run does not depend on how busy a machine is.

    Parameters
    ----------
    asked : folds asked for; None where nothing was said.
    shape : of the images.
    wanted : a page or a threshold was asked for.

    >>> decide_folds(None, (192, 192, 1, 30), False), decide_folds(None, (192, 192, 12, 30), False)
    (1, 0)
    """
    from crnn_cli.assessment.reliability import SMALL

    if asked is not None:
        return asked
    return 1 if wanted or math.prod(shape) <= SMALL else 0


def residual_verdict(report: dict[str, Any], limit: float | None) -> bool | None:
    """Whether the residual that counts is at most ``limit``; None without a limit. A residual not known fails.

    >>> report = {"reliability": {"residual": {"overall": 0.01}, "held_out": {"overall": 0.3}}}
    >>> residual_verdict(report, 0.5), residual_verdict(report, 0.1), residual_verdict(report, None)
    (True, False, None)
    """
    _, value = decisive_residual(report)
    return None if limit is None else value is not None and value <= limit


def require_residual(report: dict[str, Any], limit: float | None) -> None:
    """Check the residual that counts against a limit; see `residual_verdict`.

    Raises
    ------
    QualityError
        If it is above the limit, or not known.
    """
    if residual_verdict(report, limit) in (None, True):
        return
    measure, value = decisive_residual(report)
    text = "not known" if value is None else f"{value:.4g}"
    raise QualityError(
        f"the residual at {MEASURES[measure]} is {text}, and ", Param("max_residual"), f" asks for at most {limit:g}; "
        "the images were written: look at them before you use them",
    )  # fmt: skip
