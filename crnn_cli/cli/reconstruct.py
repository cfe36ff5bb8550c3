"""``crnn reconstruct``: an undersampled dynamic scan becomes images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crnn_cli.cli import console
from crnn_cli.cli.options import Coils, Maps, Phases, SeriesChoice, SliceNumber, Uneven, Variable
from crnn_cli.workflows.reconstruct import steps as job
from crnn_cli.workflows.reconstruct.options import ReconstructOptions

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
    int | None, typer.Option(min=0, max=100, help="Other than the model's own; 0: the image it starts from.")
]
Noise = Annotated[
    float | None,
    typer.Option(
        min=0, max=1e6, help="0 keeps the samples as measured; more trusts them less. Raw data: by its noise."
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="Of the network: fp32, or bf16: faster, in half the memory, less exact; on a GPU also tf32. Default: bf16 "
        "where the device computes in it and the model was measured to be as good to 0.05 dB, else fp32."
    ),
]
Memory = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Use at most so much, such as 8G; states go to disk if need be.")
]
Ensemble = Annotated[
    int | None, typer.Option(min=1, max=4, help="Average over so many flipped copies of the scan; so much slower.")
]
Adapt = Annotated[
    str | None, typer.Option(metavar="TIME", help="Tune the network to this scan first: 90s, 5m, or auto for 3m.")
]
AdaptSteps = Annotated[
    int | None, typer.Option(min=1, max=1_000_000, help="The same by steps: repeats what a report says exactly.")
]
SaveAdapted = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Tune for other slices too, and write a bundle for them (--model).")
]
DeviceName = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Preview = Annotated[Path | None, typer.Option(help="Picture: .png montage, or .gif of the beating heart.")]
HeldOut = Annotated[
    int | None, typer.Option(min=0, max=2, help="Leave lines out and predict them, so many times; 0: never.")
]
Uncertainty = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the standard deviation of each pixel, NIfTI; some runs more.")
]
UncertaintyRuns = Annotated[
    int | None, typer.Option(min=2, max=16, help="Runs for --uncertainty, each as long as the reconstruction; 4.")
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
    slice_number: SliceNumber = None,
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
    noise: Noise = None,
    precision: Precision = None,
    memory: Memory = None,
    ensemble: Ensemble = None,
    adapt: Adapt = None,
    adapt_steps: AdaptSteps = None,
    save_adapted: SaveAdapted = None,
    device: DeviceName = "auto",
    preview: Preview = None,
    held_out: HeldOut = None,
    uncertainty: Uncertainty = None,
    uncertainty_runs: UncertaintyRuns = None,
    report: Page = None,
    max_residual: MaxResidual = None,
    complex_output: ComplexOutput = False,
    format_name: FormatName = "nifti",
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Reconstruct an undersampled dynamic scan.

    The sampling pattern is found from the zeros of the k-space, or given by --mask. A report goes to OUT.json.
    --ensemble 4 gives the network the scan flipped as well, and averages: a little better everywhere, 4 times as long.
    --adapt tunes the network on the scan's own lines and keeps the result only if lines that it was never tuned on are
    predicted better; Ctrl-C ends the tuning and goes on with the best so far.
    --uncertainty leaves a quarter of the outer lines out, a few times, and maps how far the images move, scaled to a
    standard deviation of the magnitude on cases with a known truth. It cannot show what no measured line shows: a
    structure that is missing in all runs alike, or a blur that they share.
    Raw k-space: ISMRMRD, BART .cfl, fastMRI and CMRxRecon HDF5, MATLAB, NumPy with --axes.

    Examples: crnn reconstruct scan.nii -o images.nii.gz --preview heart.gif;
    crnn reconstruct cine.nii.gz --undersample 8 --preview test.png;
    crnn reconstruct DICOM_FOLDER --undersample 8 -o out_folder --format dicom;
    crnn reconstruct scan.nii --adapt 5m --save-adapted tuned; crnn reconstruct raw.h5 --coils 8 -o images.nii.gz;
    crnn reconstruct scan.nii --slice 6 --ensemble 4; crnn reconstruct scan.nii --uncertainty sd.nii.gz;
    crnn reconstruct k.npy --axes coil,t,ky,kx --method tv
    """
    options = ReconstructOptions(
        out=out, mask=mask, phase=phase, axes=axes, series=series, slice_tolerance=uneven, slice_number=slice_number,
        undersample=undersample, pattern=pattern, centre_lines=centre_lines, phase_axis=phase_axis, seed=seed,
        method=method, weight=weight, coils=coils, maps=maps, save_maps=save_maps, phases=phases, variable=variable,
        model=model, iterations=iterations, noise=noise, precision=precision, memory=memory, ensemble=ensemble,
        adapt=adapt, adapt_steps=adapt_steps, save_adapted=save_adapted, device=device, preview=preview,
        held_out=held_out, uncertainty=uncertainty, uncertainty_runs=uncertainty_runs, report=report,
        max_residual=max_residual, complex_output=complex_output, format_name=format_name, force=force,
    )  # fmt: skip
    planned = job.plan(scan, options, as_json)
    engine = job.prepare(options)
    data = job.read(planned, engine)
    with console.progress_bar("reconstructing") as progress:
        made = job.compute(planned, engine, data, progress)
    job.save(planned, made)
    from crnn_cli.report.rows import reconstruction_rows

    rows = reconstruction_rows(planned.target, engine.chosen.title, made.report)
    console.table("crnn reconstruct", ["", ""], rows)
    if as_json:
        console.print_json(made.report)
    job.check_threshold(planned, made.report)
