"""One reconstruction of a scan that is loaded: method, reliability, uncertainty, report. No file is touched."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.workflows.reconstruct.adapt import AdaptBudget, tune_to_scan
from crnn_cli.workflows.reconstruct.interrupt import Interruptible, no_interrupt
from crnn_cli.workflows.reconstruct.methods import NETWORK, MethodRequest, PreparedMethod, prepare_method
from crnn_cli.workflows.reconstruct.result import ReconstructionRun, decide_folds, verdict
from crnn_cli.workflows.reconstruct.scan import Scan

if TYPE_CHECKING:
    import torch

    from crnn_cli.assessment.reliability import SliceReliability
    from crnn_cli.reconstruction.reconstruct import Reconstruction


@dataclass(frozen=True)
class ReconstructEngine:
    """A method on its device, loaded once for all scans of the same settings.

    Attributes
    ----------
    method : network or classical method.
    device : where it runs.
    """

    method: PreparedMethod
    device: torch.device

    @property
    def weights(self) -> str | None:
        """Sha256 of the network's weights; None of a classical method."""
        model = self.method.facts.get("model")
        return None if model is None else str(model["sha256"])


@dataclass(frozen=True)
class RunSettings:
    """Settings of one reconstruction beside its method.

    Attributes
    ----------
    hold_out_folds : further runs without some of the lines, to measure the held-out residual: 0, 1 or 2. None: 1 for
        small scans, or if ``assess``, else 0.
    assess : the held-out residual is wanted however large the scan is.
    uncertainty_runs : runs for a map of the uncertainty; 0 for none. They take the place of the folds.
    adapt : budget of a fine-tuning to the scan; None for none.
    max_residual : threshold of the held-out residual (without folds: at the samples), for ``passed`` in the report.
    min_psnr : threshold of the expected PSNR in dB, for the same.
    seed : of the simulated pattern, and of the fine-tuning.
    keep_runs : keep the images of the runs for the map.
    """

    hold_out_folds: int | None = None
    assess: bool = False
    uncertainty_runs: int = 0
    adapt: AdaptBudget | None = None
    max_residual: float | None = None
    seed: int | None = None
    keep_runs: bool = False
    min_psnr: float | None = None

    @property
    def judged(self) -> bool:
        """Whether the residual at lines held out is wanted however large the scan is."""
        return self.assess or self.max_residual is not None or self.min_psnr is not None


def prepare_engine(request: MethodRequest, device: str = "auto") -> ReconstructEngine:
    """Load the method on a device: auto, cpu, cuda or cuda:N.

    Raises
    ------
    DeviceError
        If the device is absent.
    CrnnError
        As `prepare_method`.
    """
    from crnn_cli.compute.device import choose_device

    chosen = choose_device(device)
    return ReconstructEngine(prepare_method(request, chosen), chosen)


def reconstruct_scan(
    scan: Scan, settings: RunSettings, engine: ReconstructEngine,
    progress: notices.Progress = lambda done, total: None, interruptible: Interruptible = no_interrupt,
) -> ReconstructionRun:  # fmt: skip
    """Reconstruct a scan and write its report; `ReconstructionRun.images` are the images.

    Parameters
    ----------
    scan : see `crnn_cli.workflows.reconstruct.scan`: `load_scan`, `scan_from_image`, `scan_from_raw`.
    settings : reliability, uncertainty and fine-tuning.
    engine : see `prepare_engine`.
    progress : called with (steps done, steps in all), of the fine-tuning first.
    interruptible : how the fine-tuning can be ended early; see `crnn_cli.workflows.reconstruct.interrupt`.

    Raises
    ------
    CrnnError
        As the source of the scan and the method.
    MemoryError
        If the network needs more memory than there is, even with its states on disk.
    """
    from crnn_cli.assessment.reliability import AssessedReconstructor
    from crnn_cli.compute.threads import thread_count
    from crnn_cli.reconstruction.ensemble import Ensemble
    from crnn_cli.reconstruction.measurement import ValidationSource
    from crnn_cli.reconstruction.memory_estimate import estimate_memory
    from crnn_cli.reconstruction.reconstruct import reconstruct
    from crnn_cli.report.provenance import grid_facts
    from crnn_cli.workflows.reconstruct.memory import format_memory_estimate, memory_facts
    from crnn_cli.workflows.reconstruct.quality import doubt_field_of_view, doubt_gate, expect_quality, measure_quality
    from crnn_cli.workflows.reconstruct.uncertainty import uncertainty_map

    method, slices, device = engine.method, scan.slices, engine.device
    folds = settings.uncertainty_runs or decide_folds(settings.hold_out_folds, scan.geometry.shape, settings.judged)
    if scan.raw is not None:
        scan.raw.calibration_frames = method.calibration_frames
    if settings.adapt is not None:
        method, unseen = tune_to_scan(
            method, slices, device, settings.adapt, settings.seed or 0, progress, interruptible
        )  # fmt: skip
        slices = ValidationSource(slices, unseen)
    whole = Ensemble(method.method, method.copies)
    sets = 1 if scan.raw is None else scan.raw.map_sets
    kept = folds if settings.keep_runs else 0
    estimate = estimate_memory(
        whole, slices.shape, folds, device, slices=slices.count, map_sets=sets, kept_runs=kept
    )  # fmt: skip
    notices.detail(format_memory_estimate(estimate))
    assessed = AssessedReconstructor(
        whole, folds, slices.to_output_grid, settings.uncertainty_runs > 0, kept > 0, banded=method.name == NETWORK
    )
    began = time.perf_counter()
    result = reconstruct(slices, assessed, device, progress)
    seconds = round(time.perf_counter() - began, 2)
    doubt_field_of_view(result)
    report = {**method.facts, "input": scan.source, **scan.facts(result), **grid_facts(scan.geometry)}
    report |= measure_quality(scan, result, method.name == NETWORK) | {"device": str(device), "seconds": seconds}
    report["threads"] = thread_count()
    report |= expect_quality(result, method.psnr_law, report["acceleration"])
    report |= {"memory": memory_facts(estimate, result)}
    report |= _judge(result, folds, assessed.share) | {"seed": settings.seed}
    if settings.max_residual is not None and folds:
        doubt_gate(report["reliability"])
    limits = {"max_residual": settings.max_residual, "min_psnr": settings.min_psnr}
    report |= limits | {"passed": verdict(report | limits)}
    deviation_ZTYX = None
    if settings.uncertainty_runs:
        deviation_ZTYX, report["uncertainty"] = uncertainty_map(scan, result, folds, assessed.share, method.scale)
    return ReconstructionRun(scan, result, report | notices.recorded(), method.method, deviation_ZTYX)


def _judge(result: Reconstruction[SliceReliability], folds: int, share: float) -> dict[str, Any]:
    """Facts for the report on reliability and weights."""
    from crnn_cli.assessment.reliability import reliability_summary
    from crnn_cli.workflows.reconstruct.quality import doubt_prediction

    facts: dict[str, Any] = {"reliability": reliability_summary(result.assessments, result.filled, folds, share)}
    if result.regularisation_weights:
        facts["regularisation_weights_used"] = list(result.regularisation_weights)
    doubt_prediction(facts["reliability"])
    return facts
