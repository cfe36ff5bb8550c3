"""Results of the Python API: images of a scan, and how far they can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crnn_cli.data.image import Image
    from crnn_cli.workflows.forecast.run import ForecastRun
    from crnn_cli.workflows.reconstruct.result import ReconstructionRun


@dataclass(frozen=True)
class Residual:
    """Relative data residual ||A x - y|| / ||y||.

    Attributes
    ----------
    overall : of all slices and frames; None where the samples are zero.
    per_frame : the same of each frame.
    noise_floor : residual that the noise of the data alone would give; None where the noise is not known.
    samples : complex samples that it was measured at, in one coil.
    """

    overall: float | None
    per_frame: tuple[float | None, ...] = field(repr=False)
    noise_floor: float | None
    samples: int

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Residual:
        """Take the residual out of a report."""
        return cls(facts["overall"], tuple(facts["per_frame"]), facts["noise_floor"], facts["samples"])


@dataclass(frozen=True)
class Reliability:
    """How far a reconstruction can be trusted; `crnn_cli.assessment.reliability` says how each figure is made.

    Attributes
    ----------
    residual : at the samples that the method was shown: how far the images follow the data.
    held_out : at lines that were left out and predicted; None where none were. 1 is no better than zeros.
    null_space_energy_fraction : share of the images' energy that the data do not determine, 0 to 1.
    outlier_frames : frames whose error stands out, each with slice (from 1), frame (from 0), measure, value and
        ratio_to_expected.
    """

    residual: Residual
    held_out: Residual | None
    null_space_energy_fraction: float | None
    outlier_frames: tuple[dict[str, Any], ...]

    @classmethod
    def from_report(cls, report: dict[str, Any]) -> Reliability:
        """Take the reliability out of a report of format 2."""
        facts = report["reliability"]
        held = facts["held_out"]
        return cls(
            Residual.from_facts(facts["residual"]),
            Residual.from_facts(held) if held["folds"] else None,
            facts["null_space_energy_fraction"]["overall"],
            tuple(facts["outlier_frames"]),
        )


@dataclass(frozen=True)
class ExpectedPSNR:
    """PSNR that images are expected to have against the truth, which is not known.

    Attributes
    ----------
    psnr, low, high : expected, and from where to where, dB.
    nmse : expected normalised mean squared error.
    level : share of the cases that the interval held.
    outside : in what the scan differs from the cases that the expectation was fitted on, in words.
    """

    psnr: float
    low: float
    high: float
    nmse: float
    level: float
    outside: tuple[str, ...] = ()

    @classmethod
    def from_report(cls, report: dict[str, Any]) -> ExpectedPSNR | None:
        """Take the expected PSNR out of a report; None where none is stated."""
        facts = report.get("expected_quality") or {"psnr_db": None}
        if facts["psnr_db"] is None:
            return None
        return cls(
            facts["psnr_db"], facts["low_db"], facts["high_db"], facts["nmse"], facts["level"], tuple(facts["outside"])
        )


@dataclass(frozen=True)
class ReconstructionResult:
    """Images of a scan, and what is known about them.

    Attributes
    ----------
    images : complex (x, y, z, t) with the geometry of the scan.
    zero_filled : images of the measured samples alone, with the same geometry.
    reliability : residuals, null-space energy, outlier frames.
    uncertainty : standard deviation of the magnitude of each pixel; None unless ``uncertainty_runs`` was given.
    report : what the command writes to OUT.json, as a dict (docs/reference/report-json.md).
    runs : complex images of each run without some of the lines; () unless ``keep_runs`` was given.
    expected : PSNR that the images are expected to have; None where the model states none, or no lines were held out.
    """

    images: Image
    zero_filled: Image
    reliability: Reliability
    uncertainty: Image | None
    report: dict[str, Any]
    runs: tuple[Image, ...] = ()
    expected: ExpectedPSNR | None = None

    @classmethod
    def from_run(cls, run: ReconstructionRun) -> ReconstructionResult:
        """Take the result of a workflow."""
        reliability, expected = Reliability.from_report(run.report), ExpectedPSNR.from_report(run.report)
        return cls(run.images, run.zero_filled, reliability, run.uncertainty, run.report, tuple(run.runs), expected)

    def _repr_png_(self) -> bytes:
        """Picture of the images, for a notebook."""
        return self.images._repr_png_()


@dataclass(frozen=True)
class ForecastResult:
    """Next frames of a series, and how far off they are expected to be.

    Attributes
    ----------
    images : (x, y, z, t), float32, with the geometry of the series.
    expected_rms : root mean square error of earlier forecasts by frame ahead, in the units of the series; None where no
        forecast so far ahead could be compared.
    report : what the command writes beside the frames, as a dict (docs/reference/report-json.md).
    """

    images: Image
    expected_rms: tuple[float | None, ...]
    report: dict[str, Any]

    @classmethod
    def from_run(cls, run: ForecastRun) -> ForecastResult:
        """Take the result of a workflow."""
        return cls(run.images, tuple(frame["expected_rms"] for frame in run.report["frames"]), run.report)

    def _repr_png_(self) -> bytes:
        """Picture of the frames, for a notebook."""
        return self.images._repr_png_()
