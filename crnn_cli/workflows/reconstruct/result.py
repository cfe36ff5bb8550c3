"""Result of one reconstruction, and whether it meets the threshold that was asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crnn_cli.errors import Param, QualityError
from crnn_cli.report.verdict import thresholds
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

    A fold costs up to as much as the reconstruction: seconds for a slice, but minutes for a whole heart. The size
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


def verdict(report: dict[str, Any]) -> bool | None:
    """Whether the thresholds in a report are met; None without any. A value that is not known fails.

    >>> reliability = {"residual": {"overall": 0.01}, "held_out": {"overall": 0.3}}
    >>> report = {"reliability": reliability, "expected_quality": {"counted_db": 33.1}}
    >>> verdict(report | {"max_residual": 0.5, "min_psnr": 30}), verdict(report | {"min_psnr": 34}), verdict(report)
    (True, False, None)
    """
    checks = thresholds(report)
    return all(check.met for check in checks) if checks else None


def require_thresholds(report: dict[str, Any]) -> None:
    """Check the residual and the expected PSNR of a report against the thresholds in it; see `thresholds`.

    Raises
    ------
    QualityError
        If one is not met, or its value is not known.
    """
    for check in thresholds(report):
        if not check.met:
            raise QualityError(
                f"{check.subject} is {check.found}, and ", Param(check.option), f" asks for {check.asked}; the images "
                "were written: look at them before you use them",
            )  # fmt: skip
