"""The steps of `crnn reconstruct`, one after the other: plan, prepare, read, compute, save.

The command takes them in a row for one scan; `crnn batch` takes them for many, some at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crnn_cli import notices
from crnn_cli.data.host_memory import memory_limit
from crnn_cli.errors import Param, UsageError
from crnn_cli.notices import STREAM
from crnn_cli.report.sidecar import require_apart, sidecar_path
from crnn_cli.workflows.reconstruct.adapt import AdaptBudget, plan_adaptation, write_adapted
from crnn_cli.workflows.reconstruct.expectation import plan_expectation, require_law
from crnn_cli.workflows.reconstruct.interrupt import first_interrupt
from crnn_cli.workflows.reconstruct.methods import MethodRequest, parse_bytes
from crnn_cli.workflows.reconstruct.options import ReconstructOptions
from crnn_cli.workflows.reconstruct.paths import plan_output
from crnn_cli.workflows.reconstruct.result import ReconstructionRun, require_thresholds
from crnn_cli.workflows.reconstruct.run import ReconstructEngine, RunSettings, prepare_engine, reconstruct_scan
from crnn_cli.workflows.reconstruct.scan import Scan, ScanRequest, Simulation, load_scan, select_slice
from crnn_cli.workflows.reconstruct.uncertainty import map_output, number_of_runs, plan_uncertainty

READS_RAW, READS_LABELS = True, False
OUTPUTS: tuple[str, ...] = ("uncertainty", "save_runs", "preview", "save_maps", "report", "save_adapted")
"""Options that name outputs beside the images."""
INPUTS: tuple[str, ...] = ("mask", "phase", "maps", "calibration")
"""Options that name inputs beside the scan."""


@dataclass(frozen=True)
class ReconstructPlan:
    """A reconstruction that was checked before any work is done.

    Attributes
    ----------
    request : the input.
    target : the images: a file, a folder of a DICOM series, or `STREAM`.
    options : all options of the command.
    budget : of the fine-tuning; None for none.
    """

    request: ScanRequest
    target: Path
    options: ReconstructOptions
    budget: AdaptBudget | None = None

    @property
    def outputs(self) -> list[Path]:
        """All files that are written, the images first."""
        others = (getattr(self.options, name) for name in OUTPUTS)
        return [self.target, sidecar_path(self.target), *(path for path in others if path is not None)]


def output_name(stem: str, options: ReconstructOptions) -> str:
    """Name of the images of a scan, where the options do not say it.

    >>> output_name("scan", ReconstructOptions()), output_name("scan", ReconstructOptions(format_name="dicom"))
    ('scan_crnn.nii.gz', 'scan_crnn')
    """
    return f"{stem}_crnn" if options.format_name == "dicom" else f"{stem}_crnn.nii.gz"


def plan(scan: Path, options: ReconstructOptions, as_json: bool = False) -> ReconstructPlan:
    """Check that the scan is there, the options agree, and all outputs can be written.

    Parameters
    ----------
    scan : file, DICOM folder, or `STREAM`.
    options : of the command.
    as_json : whether the report is printed to standard output.

    Raises
    ------
    UsageError
        If options contradict each other.
    UnreadableError
        If the scan is missing.
    OutputError
        If an output cannot be written.
    """
    target = plan_output(scan, options, output_name, as_json)
    if options.format_name == "dicom" and options.complex_output:
        raise UsageError(Param("complex_output"), " images are written as NIfTI: DICOM images here are magnitudes")
    if STREAM in (options.phase, options.mask, options.maps, options.calibration):
        raise UsageError("only the scan itself can come from standard input")
    require_apart(
        [scan, options.phase, options.mask, options.maps, options.calibration],
        [target, sidecar_path(target), *(getattr(options, name) for name in OUTPUTS)],
    )
    plan_uncertainty(options)
    plan_expectation(options)
    budget = plan_adaptation(options)
    return replace(plan_input(scan, options), target=target, budget=budget)


def plan_input(scan: Path, options: ReconstructOptions) -> ReconstructPlan:
    """Plan the reading of a scan alone; the target is `STREAM`.

    Raises
    ------
    UsageError
        If options about the input contradict each other.
    """
    simulation = _simulation(options)
    if simulation is not None and options.mask is not None:
        both = " draws a pattern and ", Param("mask"), " gives one"
        raise UsageError(Param("undersample"), *both, remedy=("use one of them",))
    request = ScanRequest(
        scan, options.axes, options.series, options.slice_tolerance, options.phase, options.mask, simulation,
        options.coils, options.maps, options.phases, options.variable, options.slice_number,
        parse_map_sets(options.map_sets), options.raw_choices(), options.calibration,
    )  # fmt: skip
    return ReconstructPlan(request, STREAM, options)


def prepare(options: ReconstructOptions) -> ReconstructEngine:
    """Load the method, and its model, on its device.

    Raises
    ------
    CrnnError
        As `crnn_cli.workflows.reconstruct.run.prepare_engine`; UsageError where a PSNR is asked for, and the model
        does not say what to expect.
    """
    request = MethodRequest(
        options.method, options.model, options.iterations, options.regularisation, options.noise_ratio,
        options.precision, options.memory, options.ensemble, options.calibration_frames,
    )  # fmt: skip
    engine = prepare_engine(request, options.device)
    require_law(options, engine.method)
    return engine


def read(planned: ReconstructPlan, engine: ReconstructEngine) -> Scan:
    """Open the scan; of raw k-space the slices are read one by one, while they are reconstructed.

    Raises
    ------
    CrnnError
        As `load_scan`; UsageError or UnsupportedDataError where an output does not go with this input.
    """
    del engine
    with memory_limit(parse_bytes(planned.options.memory)):
        scan = load_scan(planned.request)
    if planned.options.slice_number is not None:
        scan = select_slice(scan, planned.options.slice_number)
    if planned.options.format_name == "dicom":
        from crnn_cli.io.dicom.write import require_source

        require_source(scan.geometry, scan.series)
    if planned.options.save_maps is not None and scan.raw is None:
        raise UsageError(Param("save_maps"), " belongs to raw k-space of several coils")
    return scan


def compute(
    planned: ReconstructPlan, engine: ReconstructEngine, scan: Scan, progress: notices.Progress
) -> ReconstructionRun:
    """Reconstruct the scan; the first Ctrl-C ends a fine-tuning only."""
    options, simulation = planned.options, planned.request.simulation
    settings = RunSettings(
        options.hold_out_folds, options.report is not None, number_of_runs(options), planned.budget,
        options.max_residual, simulation.seed if simulation else None, options.save_runs is not None,
        options.min_psnr,
    )  # fmt: skip
    return reconstruct_scan(scan, settings, engine, progress, first_interrupt)


def save(planned: ReconstructPlan, run: ReconstructionRun) -> dict[str, Any]:
    """Write the images, the report, and the other outputs; the report comes back as it was written.

    The report gets the command as it was typed, unless the run says another one, as that of a batch does.
    """
    from crnn_cli.report.provenance import command_facts
    from crnn_cli.report.reconstruction_page import reconstruction_page
    from crnn_cli.workflows.reconstruct.pictures import page_pictures, preview_content, preview_picture
    from crnn_cli.workflows.reconstruct.write import coil_maps_output, write_images

    options, target = planned.options, planned.target
    report = command_facts() | run.report | notices.recorded()
    if options.save_adapted is not None:
        adapted = write_adapted(options.save_adapted, options.model, run.method, report, options.force)
        report |= {"adapted": adapted}
    content = preview_content(run) if options.preview or options.report else None
    others = [preview_picture(options.preview, content)] if options.preview and content else []
    others += [] if options.save_maps is None else [coil_maps_output(options.save_maps, run.scan)]
    if options.uncertainty is not None:
        output, uncertainty = map_output(options.uncertainty, run)
        others.append(output)
        saved = {} if options.save_runs is None else {"saved_runs": str(options.save_runs)}
        report |= {"uncertainty": uncertainty | saved}
    if options.report and content:
        named = report | {"output": None if target == STREAM else str(target)}
        others.append(reconstruction_page(options.report, named, run.images, page_pictures(run, content)))
    return write_images(target, run, report, others, options)


def check_threshold(planned: ReconstructPlan, report: dict[str, Any]) -> None:
    """Check residual and expected PSNR against the thresholds that were asked for.

    Raises
    ------
    QualityError
        If one is not met.
    """
    del planned
    require_thresholds(report)


def parse_map_sets(text: str | None) -> int | None:
    """Read the number of sets of sensitivities; None where it is to be found out.

    Raises
    ------
    UsageError
        If it is none of 1, 2 and auto.

    >>> parse_map_sets("2"), parse_map_sets("auto")
    (2, None)
    """
    if text not in (None, "1", "2", "auto"):
        raise UsageError(Param("map_sets", text), " is not known", remedy=("use 1, 2 or auto",))
    return None if text in (None, "auto") else int(text)


def _simulation(options: ReconstructOptions) -> Simulation | None:
    """Simulation that is asked for, if any."""
    phase_axis = options.phase_axis
    if options.undersample is None:
        for name in ("pattern", "centre_lines", "phase_axis", "seed"):
            if getattr(options, name) is not None:
                raise UsageError(Param(name), " belongs to a simulation: it needs ", Param("undersample"))
        return None
    if phase_axis not in (None, "x", "y"):
        raise UsageError(Param("phase_axis", phase_axis), " is not known", remedy=("use x or y",))
    pattern = options.pattern or "variable-density"
    return Simulation(options.undersample, pattern, options.centre_lines, phase_axis or "y", options.seed or 0)
