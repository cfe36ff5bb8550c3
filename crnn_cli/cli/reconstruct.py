"""``crnn reconstruct``: an undersampled dynamic scan becomes images."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crnn_cli.cli import console
from crnn_cli.cli.console import STREAM
from crnn_cli.cli.options import SeriesChoice, Uneven
from crnn_cli.cli.report import require_apart, sidecar
from crnn_cli.errors import UsageError

if TYPE_CHECKING:
    from crnn_cli.acquisition import Acquisition
    from crnn_cli.image import Image
    from crnn_cli.io.dicom_series import Series


@dataclass(frozen=True)
class Simulation:
    """How a scan is to be undersampled in simulation."""

    acceleration: float
    pattern: str
    centre_lines: int | None
    phase_axis: str
    seed: int


ScanFile = Annotated[Path, typer.Argument(help="NIfTI series (x, y, z, t), - for standard input, or DICOM.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Output NIfTI; - for standard output.")]
MaskFile = Annotated[Path | None, typer.Option(help="Sampling pattern, 0/1 over centred k-space.")]
PhaseFile = Annotated[Path | None, typer.Option(help="Phase of a magnitude file, radians or scanner units.")]
Axes = Annotated[str | None, typer.Option(help="What the stored axes are, such as x,y,t.")]
Undersample = Annotated[float | None, typer.Option(min=1, help="Simulate a scan this many times faster.")]
Pattern = Annotated[str | None, typer.Option(help="Of the simulation: variable-density (default) or sheared-grid.")]
CentreLines = Annotated[int | None, typer.Option(min=0, help="Of the simulation; 8, or two thirds of the lines.")]
PhaseAxis = Annotated[str | None, typer.Option(help="Array axis that the simulation undersamples: x or y (default).")]
Seed = Annotated[int | None, typer.Option(min=0, max=2**62, help="Of the simulated pattern; 0 by default.")]
Model = Annotated[str | None, typer.Option(help="A published model, or a bundle folder.")]
Iterations = Annotated[
    int | None, typer.Option(min=0, max=100, help="Other than the model's own; 0: its linear start.")
]
Noise = Annotated[float, typer.Option(min=0, max=1e6, help="0 keeps every sample as measured; more trusts it less.")]
DeviceName = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Preview = Annotated[Path | None, typer.Option(help="Picture: .png montage, or .gif of the beating heart.")]
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
    model: Model = None,
    iterations: Iterations = None,
    noise: Noise = 0.0,
    device: DeviceName = "auto",
    preview: Preview = None,
    complex_output: ComplexOutput = False,
    format_name: FormatName = "nifti",
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Reconstruct an undersampled dynamic scan.

    The sampling pattern is found from the zeros of the k-space, or given by --mask. A report goes to OUT.json.

    Examples: crnn reconstruct scan.nii -o images.nii.gz --preview heart.gif;
    crnn reconstruct cine.nii.gz --undersample 8 --preview test.png;
    crnn reconstruct DICOM_FOLDER --undersample 8 -o out_folder --format dicom
    """
    target = _plan(scan, out, preview, as_json, force, format_name)
    if format_name == "dicom" and complex_output:
        raise UsageError("--complex images are written as NIfTI: DICOM images here are magnitudes")
    if STREAM in (phase, mask):
        raise UsageError("only the scan itself can come from standard input")
    require_apart([scan, phase, mask], [target, sidecar(target), preview])
    simulation = _simulation(undersample, pattern, centre_lines, phase_axis, seed)
    if simulation is not None and mask is not None:
        raise UsageError("--undersample draws a pattern and --mask gives one: use one of them")

    from crnn_cli.bundles import find_bundle, load_reconstruction
    from crnn_cli.cli.reconstruct_output import report, save, tell
    from crnn_cli.reconstruction import ByNetwork, OneCoil, Recipe, choose_device
    from crnn_cli.reconstruction import reconstruct as run

    place = choose_device(device)
    bundle = find_bundle(model, "reconstruct")
    image, source, origin = _load(scan, phase, axes, series, uneven)
    if format_name == "dicom":
        from crnn_cli.io.dicom_write import require_source

        origin = require_source(image, origin)
    acquisition = _acquire(image, _load_mask(mask, axes, source), simulation)
    network = load_reconstruction(bundle, place)
    recipe = Recipe(
        bundle.start, bundle.amplitude, network.config.iterations if iterations is None else iterations, noise
    )
    began = time.perf_counter()
    with console.progress_bar("reconstructing") as progress:
        result = run(OneCoil(acquisition), ByNetwork(network, recipe), place, progress)
    seconds = round(time.perf_counter() - began, 2)
    truth = image if simulation else None
    found = {**report(bundle, acquisition, result, truth), "input": source, "device": str(place), "seconds": seconds}
    found |= {"iterations": recipe.iterations, "noise": noise, "seed": simulation.seed if simulation else None}
    save(target, preview, acquisition, result, truth, complex_output, found, force, origin, format_name)
    tell(target, found)
    if as_json:
        console.print_json(found)


def _plan(scan: Path, out: Path | None, preview: Path | None, as_json: bool, force: bool, format_name: str) -> Path:
    """Return where the images go, after checking that the scan is there and everything can be written."""
    from crnn_cli.io.files import require_writable
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


def _load(
    scan: Path, phase: Path | None, axes: str | None, series: str | None, uneven: float | None
) -> tuple[Image, dict[str, Any], Series | None]:
    """Return the image, complex if its phase is known, what was read, and the DICOM series if it was one."""
    from crnn_cli.io.phase import join_phase, phase_sibling
    from crnn_cli.io.read import read

    found = read(scan, axes, series, uneven=uneven)
    image, source = found.image, dict(found.source)
    phase = phase or phase_sibling(scan)
    if phase is not None:
        if image.is_complex:
            raise UsageError(f"{scan} is complex already: --phase belongs to a magnitude file")
        second = read(phase, axes)
        image = join_phase(image, second.image, str(phase))
        source |= {"phase": str(phase), "phase_sha256": second.source["sha256"]}
    for doubt in found.doubts():
        console.warn(doubt)
    console.say(f"read {scan}: {image.shape}, {'complex' if image.is_complex else 'magnitude'}", level=2)
    return image, source, found.series


def _load_mask(mask: Path | None, axes: str | None, source: dict[str, Any]) -> Image | None:
    """Return the mask in a file, if one is given; its axes are those of ``--axes`` if it has as many."""
    if mask is None:
        return None
    from crnn_cli.io.read import read

    found = read(mask)
    same = axes is not None and found.stored_axes == axes.count(",") + 1
    source |= {"mask": str(mask), "mask_sha256": found.source["sha256"]}
    return read(mask, axes).image if same else found.image


def _acquire(image: Image, mask: Image | None, simulation: Simulation | None) -> Acquisition:
    from crnn_cli.acquisition import from_fully_sampled, from_zero_filled, require_dynamic

    if simulation is None:
        acquisition = from_zero_filled(image, mask)
        if acquisition.undersampled_axes == 2:
            console.warn(
                "both spatial axes are undersampled, and the models here were trained with one: look at the linear "
                "start, --iterations 0, too; on regular patterns it may be better"
            )
        return acquisition
    import torch

    from crnn_cli.mri.sampling import draw_pattern

    require_dynamic(image)
    axis = "xy".index(simulation.phase_axis)
    generator = torch.Generator().manual_seed(simulation.seed)
    masks = [
        draw_pattern(
            simulation.pattern, image.frames, image.shape[axis], simulation.acceleration, generator,
            simulation.centre_lines,
        )
        for _ in range(image.shape[2])
    ]  # fmt: skip
    kind = "complex" if image.is_complex else "magnitude (phase taken as zero)"
    origin = f"SIMULATED from a fully sampled {kind} series, {simulation.pattern}, seed {simulation.seed}"
    return from_fully_sampled(image, torch.stack(masks).numpy(), axis, origin)
