"""The steps of `crnn reconstruct`, one after the other: plan, prepare, read, compute, save.

The command takes them in a row for one scan; `crnn batch` takes them for many, some at the same time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import UsageError
from crnn_cli.notices import STREAM
from crnn_cli.report.sidecar import require_apart, sidecar_path
from crnn_cli.workflows.reconstruct.adapt import AdaptBudget, plan_adaptation, tune_to_scan, write_adapted
from crnn_cli.workflows.reconstruct.options import ReconstructOptions
from crnn_cli.workflows.reconstruct.paths import plan_output
from crnn_cli.workflows.reconstruct.result import ReconstructionRun
from crnn_cli.workflows.reconstruct.scan import Scan, ScanRequest, Simulation, load, one_slice
from crnn_cli.workflows.reconstruct.uncertainty import map_outputs, number_of_runs, plan_uncertainty, uncertainty_map

if TYPE_CHECKING:
    import torch

    from crnn_cli.workflows.reconstruct.methods import PreparedMethod

READS_RAW = True
OUTPUTS: tuple[str, ...] = ("uncertainty", "preview", "save_maps", "report", "save_adapted")
"""Options that name what is written, beside the images."""
INPUTS: tuple[str, ...] = ("mask", "phase", "maps")
"""Options that name what is read, beside the scan."""


@dataclass(frozen=True)
class ReconstructPlan:
    """What is to be read, and where the images go."""

    asked: ScanRequest
    target: Path
    options: ReconstructOptions
    budget: AdaptBudget | None = None

    @property
    def outputs(self) -> list[Path]:
        """Return everything that is written, the images first."""
        beside = (getattr(self.options, name) for name in OUTPUTS)
        return [self.target, sidecar_path(self.target), *(path for path in beside if path is not None)]


@dataclass(frozen=True)
class ReconstructEngine:
    """What reconstructs, loaded once for all scans of the same options."""

    chosen: PreparedMethod
    place: torch.device

    @property
    def weights(self) -> str | None:
        """Return the sha256 of the weights; None of a classical method."""
        model = self.chosen.facts.get("model")
        return None if model is None else str(model["sha256"])


def output_name(stem: str, options: ReconstructOptions) -> str:
    """Return the name of the images of a scan."""
    return f"{stem}_crnn" if options.format_name == "dicom" else f"{stem}_crnn.nii.gz"


def plan(scan: Path, options: ReconstructOptions, as_json: bool = False) -> ReconstructPlan:
    """Return what is to be done, after checking that the scan is there, the options agree, and all can be written."""
    target = plan_output(scan, options, output_name, as_json)
    if options.format_name == "dicom" and options.complex_output:
        raise UsageError("--complex images are written as NIfTI: DICOM images here are magnitudes")
    if STREAM in (options.phase, options.mask, options.maps):
        raise UsageError("only the scan itself can come from standard input")
    require_apart(
        [scan, options.phase, options.mask, options.maps],
        [target, sidecar_path(target), *(getattr(options, name) for name in OUTPUTS)],
    )
    plan_uncertainty(options)
    budget = plan_adaptation(options)
    simulation = _simulation(options)
    if simulation is not None and options.mask is not None:
        raise UsageError("--undersample draws a pattern and --mask gives one: use one of them")
    asked = ScanRequest(
        scan, options.axes, options.series, options.slice_tolerance, options.phase, options.mask, simulation, options.coils,
        options.maps, options.phases, options.variable,
    )  # fmt: skip
    return ReconstructPlan(asked, target, options, budget)


def prepare(options: ReconstructOptions) -> ReconstructEngine:
    """Return the method, its model loaded, on its device."""
    from crnn_cli.compute.device import choose_device
    from crnn_cli.workflows.reconstruct.methods import MethodRequest, prepare_method

    place = choose_device(options.device)
    wanted = MethodRequest(
        options.method, options.model, options.iterations, options.regularisation, options.noise_ratio, options.precision,
        options.memory, options.ensemble,
    )  # fmt: skip
    return ReconstructEngine(prepare_method(wanted, place), place)


def read(planned: ReconstructPlan, engine: ReconstructEngine) -> Scan:
    """Return the data; of raw k-space the slices are read one by one, while they are reconstructed."""
    from crnn_cli.io.dicom.write import require_source

    del engine
    data = load(planned.asked)
    if planned.options.slice_number is not None:
        data = one_slice(data, planned.options.slice_number)
    if planned.options.format_name == "dicom":
        require_source(data.geometry, data.series)
    if planned.options.save_maps is not None and data.raw is None:
        raise UsageError("--save-maps belongs to raw k-space of several coils")
    return data


def compute(
    planned: ReconstructPlan, engine: ReconstructEngine, data: Scan, progress: notices.Progress
) -> ReconstructionRun:
    """Return the images and the report."""
    from crnn_cli.assessment.reliability import AssessedReconstructor, reliability_summary
    from crnn_cli.reconstruction.ensemble import Ensemble
    from crnn_cli.reconstruction.memory_estimate import estimate_memory
    from crnn_cli.reconstruction.reconstruct import reconstruct
    from crnn_cli.workflows.reconstruct.memory import format_memory_estimate, memory_facts
    from crnn_cli.workflows.reconstruct.methods import NETWORK
    from crnn_cli.workflows.reconstruct.result import number_of_folds
    from crnn_cli.workflows.reconstruct.write import measure_quality

    options, simulation = planned.options, planned.asked.simulation
    runs = number_of_runs(options)
    folds = runs or number_of_folds(
        options.hold_out_folds, data, options.report is not None or options.max_residual is not None
    )
    chosen, unseen, copies = engine.chosen, list[Any](), options.ensemble or 1
    if planned.budget is not None:
        seed = simulation.seed if simulation else 0
        chosen, unseen = tune_to_scan(chosen, data.slices, engine.place, planned.budget, seed, copies, progress)
    method = Ensemble(chosen.method, copies)
    expected = estimate_memory(method, data.slices.shape, folds, engine.place)
    notices.detail(format_memory_estimate(expected))
    watched = AssessedReconstructor(method, folds, data.slices.finished, unseen, mapped=runs > 0)
    chosen.weights.clear()
    began = time.perf_counter()
    result = reconstruct(data.slices, watched, engine.place, progress)
    seconds = round(time.perf_counter() - began, 2)
    found = chosen.facts | measure_quality(data, result, chosen.name == NETWORK)
    found |= {"input": data.source, "device": str(engine.place), "seconds": seconds}
    found |= {"weights": list(chosen.weights)} if chosen.weights else {}
    found |= {"max_residual": options.max_residual, "seed": simulation.seed if simulation else None}
    found |= {"memory": memory_facts(expected, result)}
    found |= {"trust": reliability_summary(watched.slices, result.filled, folds, watched.share)}
    deviation_ZTYX, facts = uncertainty_map(watched, result, chosen.scale, data)
    return ReconstructionRun(data, result, watched.slices, found | facts, chosen.method, deviation_ZTYX)


def save(planned: ReconstructPlan, made: ReconstructionRun) -> None:
    """Write the images, the report, and what was asked for beside them."""
    from crnn_cli.report.reconstruction_page import reconstruction_page
    from crnn_cli.workflows.reconstruct.pictures import picture, pictures_of, preview_content
    from crnn_cli.workflows.reconstruct.write import maps_of
    from crnn_cli.workflows.reconstruct.write import save as write

    options, data, result = planned.options, made.data, made.result
    if options.save_adapted is not None:
        write_adapted(options.save_adapted, options.model, made.method, made.report, options.force)
    shown = preview_content(data, result, made.report) if options.preview or options.report else None
    beside = [picture(options.preview, shown)] if options.preview and shown else []
    beside += [] if options.save_maps is None else [maps_of(options.save_maps, data)]
    beside += map_outputs(options, made)
    if options.report and shown:
        named = made.report | {"output": None if planned.target == STREAM else str(planned.target)}
        beside.append(reconstruction_page(options.report, named, pictures_of(made, shown)))
    write(
        planned.target, beside, data, result, options.complex_output, made.report, options.force, options.format_name
    )  # fmt: skip


def check_threshold(planned: ReconstructPlan, report: dict[str, Any]) -> None:
    """Raise QualityError if the residual is above what was asked for."""
    from crnn_cli.workflows.reconstruct.result import require_residual

    require_residual(report, planned.options.max_residual)


def _simulation(options: ReconstructOptions) -> Simulation | None:
    """Return the simulation asked for, if any."""
    centre_lines, phase_axis, seed = options.centre_lines, options.phase_axis, options.seed
    given = {"--pattern": options.pattern, "--centre-lines": centre_lines, "--phase-axis": phase_axis, "--seed": seed}
    if options.undersample is None:
        for option, value in given.items():
            if value is not None:
                raise UsageError(f"{option} belongs to a simulation: it needs --undersample")
        return None
    if phase_axis not in (None, "x", "y"):
        raise UsageError(f"--phase-axis {phase_axis} is not known: use x or y")
    pattern = options.pattern or "variable-density"
    return Simulation(options.undersample, pattern, centre_lines, phase_axis or "y", seed or 0)
