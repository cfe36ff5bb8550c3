"""``crnn reconstruct``: an undersampled dynamic scan becomes images."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from crnn_cli.cli import console
from crnn_cli.cli.console import STREAM
from crnn_cli.cli.options import Coils, Maps, Phases, SeriesChoice, Uneven, Variable
from crnn_cli.cli.reconstruct_input import Asked, Simulation, load
from crnn_cli.cli.report import require_apart, sidecar
from crnn_cli.errors import UsageError

ScanFile = Annotated[
    Path,
    typer.Argument(help="NIfTI series (x, y, z, t), - for standard input, DICOM, or raw k-space."),
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Output NIfTI; - for standard output.")]
MaskFile = Annotated[Path | None, typer.Option(help="Sampling pattern, 0/1 over centred k-space.")]
PhaseFile = Annotated[Path | None, typer.Option(help="Phase of a magnitude file, radians or scanner units.")]
Axes = Annotated[str | None, typer.Option(help="What the stored axes are, such as x,y,t, or coil,t,ky,kx of k-space.")]
Undersample = Annotated[float | None, typer.Option(min=1, help="Simulate a scan this many times faster.")]
Pattern = Annotated[str | None, typer.Option(help="Of the simulation: variable-density (default) or sheared-grid.")]
CentreLines = Annotated[int | None, typer.Option(min=0, help="Of the simulation; 8, or two thirds of the lines.")]
PhaseAxis = Annotated[str | None, typer.Option(help="Array axis that the simulation undersamples: x or y (default).")]
Seed = Annotated[int | None, typer.Option(min=0, max=2**62, help="Of the simulated pattern; 0 by default.")]
MethodName = Annotated[
    str, typer.Option("--method", help="crnn, or zero-filled, sliding-window, sense, tv, llr, l+s; see crnn compare.")
]
Weight = Annotated[
    float | None, typer.Option(min=0, help="Of a classical method's regularisation; relative to the data.")
]
SaveMaps = Annotated[
    Path | None, typer.Option("--save-maps", help="Write the sensitivities: .npy, or .png to look at.")
]
Model = Annotated[str | None, typer.Option(help="A published model, or a bundle folder.")]
Iterations = Annotated[
    int | None, typer.Option(min=0, max=100, help="Other than the model's own; 0: its linear start.")
]
Noise = Annotated[float, typer.Option(min=0, max=1e6, help="0 keeps every sample as measured; more trusts it less.")]
DeviceName = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Preview = Annotated[Path | None, typer.Option(help="Picture: .png montage, or .gif of the beating heart.")]
HeldOut = Annotated[
    int | None, typer.Option(min=0, max=2, help="Leave lines out and predict them, so many times; 0: never.")
]
Page = Annotated[Path | None, typer.Option("--report", help="Page to read: table, pictures, residuals; .html.")]
MaxResidual = Annotated[
    float | None, typer.Option(min=0, help="Exit with 6 if the residual at lines held out is above this.")
]
ComplexOutput = Annotated[bool, typer.Option("--complex", help="Write complex images instead of magnitudes.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report to standard output too.")]
FormatName = Annotated[str, typer.Option("--format", help="nifti, or dicom: a derived series, -o a folder.")]
Force = Annotated[bool, typer.Option("--force", help="Replace outputs that exist.")]


def reconstruct(
    scan: ScanFile,
    out: Out = None,
    mask: MaskFile = None,
    phase: PhaseFile = None,
    axes: Axes = None,
    series: SeriesChoice = None,
    uneven: Uneven = None,
    undersample: Undersample = None,
    pattern: Pattern = None,
    centre_lines: CentreLines = None,
    phase_axis: PhaseAxis = None,
    seed: Seed = None,
    method: MethodName = "crnn",
    weight: Weight = None,
    coils: Coils = None,
    maps: Maps = None,
    save_maps: SaveMaps = None,
    phases: Phases = None,
    variable: Variable = None,
    model: Model = None,
    iterations: Iterations = None,
    noise: Noise = 0.0,
    device: DeviceName = "auto",
    preview: Preview = None,
    held_out: HeldOut = None,
    page: Page = None,
    max_residual: MaxResidual = None,
    complex_output: ComplexOutput = False,
    format_name: FormatName = "nifti",
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Reconstruct an undersampled dynamic scan.

    The sampling pattern is found from the zeros of the k-space, or given by --mask. A report goes to OUT.json.
    Raw k-space: ISMRMRD, BART .cfl, fastMRI and CMRxRecon HDF5, MATLAB, NumPy with --axes.

    Examples: crnn reconstruct scan.nii -o images.nii.gz --preview heart.gif;
    crnn reconstruct cine.nii.gz --undersample 8 --preview test.png;
    crnn reconstruct DICOM_FOLDER --undersample 8 -o out_folder --format dicom;
    crnn reconstruct raw.h5 --coils 8 -o images.nii.gz; crnn reconstruct k.npy --axes coil,t,ky,kx --method tv
    """
    target = _plan(scan, out, preview, save_maps, as_json, force, format_name)
    _plan_page(page, force)
    if format_name == "dicom" and complex_output:
        raise UsageError("--complex images are written as NIfTI: DICOM images here are magnitudes")
    if STREAM in (phase, mask, maps):
        raise UsageError("only the scan itself can come from standard input")
    require_apart([scan, phase, mask, maps], [target, sidecar(target), preview, save_maps, page])
    simulation = _simulation(undersample, pattern, centre_lines, phase_axis, seed)
    if simulation is not None and mask is not None:
        raise UsageError("--undersample draws a pattern and --mask gives one: use one of them")

    from crnn_cli.cli.methods import NETWORK, choose
    from crnn_cli.cli.page import page_of, pictures_of
    from crnn_cli.cli.reconstruct_output import maps_of, measures, panels, picture, save, tell
    from crnn_cli.cli.trust import folds_of, require_residual
    from crnn_cli.io.dicom_write import require_source
    from crnn_cli.reconstruction import choose_device
    from crnn_cli.reconstruction import reconstruct as run
    from crnn_cli.trust import Watched, summary

    place = choose_device(device)
    chosen = choose(method, model, iterations, weight, noise, place)
    data = load(Asked(scan, axes, series, uneven, phase, mask, simulation, coils, maps, phases, variable))
    if format_name == "dicom":
        require_source(data.geometry, data.series)
    if save_maps is not None and data.raw is None:
        raise UsageError("--save-maps belongs to raw k-space of several coils")
    folds = folds_of(held_out, data, page is not None or max_residual is not None)
    watched = Watched(chosen.method, folds, data.slices.finished)
    began = time.perf_counter()
    with console.progress_bar("reconstructing") as progress:
        result = run(data.slices, watched, place, progress)
    seconds = round(time.perf_counter() - began, 2)
    found = chosen.facts | measures(data, result, chosen.name == NETWORK)
    found |= {"input": data.source, "device": str(place), "seconds": seconds, "max_residual": max_residual}
    found |= {"seed": simulation.seed if simulation else None, "trust": summary(watched.slices, result.filled, folds)}
    shown = panels(data, result, found) if preview or page else None
    beside = [picture(preview, shown)] if preview and shown else []
    beside += [] if save_maps is None else [maps_of(save_maps, data)]
    if page and shown:
        named = found | {"output": None if target == STREAM else str(target)}
        beside.append(page_of(page, named, pictures_of(data, result, shown, watched.slices)))
    save(target, beside, data, result, complex_output, found, force, format_name)
    tell(target, chosen.title, found)
    if as_json:
        console.print_json(found)
    require_residual(found, max_residual)


def _plan_page(page: Path | None, force: bool) -> None:
    """Check that the page can be written."""
    from crnn_cli.io.files import require_writable
    from crnn_cli.io.page import require_page_name

    if page is not None:
        require_page_name(page)
        require_writable(page, force)


def _plan(
    scan: Path, out: Path | None, preview: Path | None, save_maps: Path | None, as_json: bool, force: bool,
    format_name: str,
) -> Path:  # fmt: skip
    """Return where the images go, after checking that the scan is there and everything can be written."""
    from crnn_cli.io.files import require_writable
    from crnn_cli.io.maps import require_maps_name
    from crnn_cli.io.nifti import require_nifti_name
    from crnn_cli.io.preview import require_preview_name
    from crnn_cli.io.read import require_readable, stem

    require_readable(scan)
    if out is None:
        suffix = "" if format_name == "dicom" else ".nii.gz"
        out = STREAM if scan == STREAM else stem(scan).with_name(f"{stem(scan).name}_crnn{suffix}")
    if preview is not None:
        require_preview_name(preview)
        require_writable(preview, force)
    if save_maps is not None:
        require_maps_name(save_maps)
        require_writable(save_maps, force)
    if format_name not in ("nifti", "dicom"):
        raise UsageError(f"--format {format_name} is not known: use nifti or dicom")
    if format_name == "dicom":
        return _plan_folder(out, force)
    if out == STREAM:
        if as_json:
            raise UsageError("--json and images cannot both go to standard output: give -o FILE")
        console.protect_terminal()
        return out
    require_nifti_name(out)
    require_writable(out, force)
    require_writable(sidecar(out), force)
    return out


def _plan_folder(out: Path, force: bool) -> Path:
    """Return the folder of a DICOM series, after checking that it can be written."""
    from crnn_cli.io.dicom_folder import require_folder
    from crnn_cli.io.files import require_writable

    if out == STREAM:
        raise UsageError("a DICOM series is a folder and cannot go to standard output: give -o FOLDER")
    require_folder(out, force)
    require_writable(sidecar(out), force)
    return out


def _simulation(
    acceleration: float | None, pattern: str | None, centre_lines: int | None, phase_axis: str | None, seed: int | None
) -> Simulation | None:
    """Return the simulation asked for, if any."""
    given = {"--pattern": pattern, "--centre-lines": centre_lines, "--phase-axis": phase_axis, "--seed": seed}
    if acceleration is None:
        for option, value in given.items():
            if value is not None:
                raise UsageError(f"{option} belongs to a simulation: it needs --undersample")
        return None
    if phase_axis not in (None, "x", "y"):
        raise UsageError(f"--phase-axis {phase_axis} is not known: use x or y")
    return Simulation(acceleration, pattern or "variable-density", centre_lines, phase_axis or "y", seed or 0)
