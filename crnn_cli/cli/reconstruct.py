"""``crnn reconstruct``: an undersampled dynamic scan becomes images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crnn_cli.cli import console, values
from crnn_cli.cli.options import (
    ADAPTATION,
    INPUT,
    METHOD,
    NETWORK,
    OUTPUT,
    RELIABILITY,
    SIMULATION,
    STREAMING,
    Calibration,
    Coils,
    Contrast,
    DataKind,
    DeviceName,
    DropEmpty,
    Force,
    Maps,
    MapSets,
    PhaseNumber,
    Phases,
    ReconstructionModel,
    Repetition,
    ReportAsJson,
    ScanSeed,
    SeriesChoice,
    SetNumber,
    SliceNumber,
    SliceTolerance,
    Undersample,
    Variable,
    View,
)
from crnn_cli.cli.series.stream import require_file, run_streaming
from crnn_cli.workflows.reconstruct import steps
from crnn_cli.workflows.reconstruct.options import ReconstructOptions
from crnn_cli.workflows.stream.options import StreamOptions

ScanFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="SCAN", show_default=False,
        help="NIfTI series (x, y, z, t), - for standard input, DICOM, or raw k-space. Left out with --listen.",
    ),
]  # fmt: skip
MaskFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", rich_help_panel=INPUT,
        help="Sampling mask, 0/1 over centred k-space, NIfTI or .npy (x, y, z, t). Default: the zeros of the k-space.",
    ),
]  # fmt: skip
PhaseFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", rich_help_panel=INPUT, help="Phase of a magnitude series, in radians or scanner units."
    ),
]  # fmt: skip
Axes = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES", rich_help_panel=INPUT, help="Stored axes, such as x,y,t; or coil,t,ky,kx of k-space."
    ),
]  # fmt: skip
Pattern = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", rich_help_panel=SIMULATION, callback=values.one_of("--pattern", values.PATTERNS),
        autocompletion=values.complete(values.PATTERNS),
        help="Sampling pattern of --undersample: variable-density (default) or sheared-grid.",
    ),
]  # fmt: skip
CentreLines = Annotated[
    int | None,
    typer.Option(
        min=0, metavar="INTEGER", rich_help_panel=SIMULATION,
        help="Fully sampled central lines of --undersample (default: 8, at most 2/3 of the lines).",
    ),
]  # fmt: skip
PhaseAxis = Annotated[
    str | None,
    typer.Option(
        metavar="x|y", rich_help_panel=SIMULATION, callback=values.one_of("--phase-axis", {"x": "", "y": ""}),
        help="Array axis that --undersample thins out (default: y).",
    ),
]  # fmt: skip
MethodName = Annotated[
    str,
    typer.Option(
        "--method", metavar="NAME", rich_help_panel=METHOD, callback=values.one_of("--method", values.METHODS),
        autocompletion=values.complete(values.METHODS),
        help="crnn (network), zero-filled, sliding-window, sense, tv, llr or l+s; see crnn compare.",
    ),
]  # fmt: skip
Regularisation = Annotated[
    float | None,
    typer.Option(
        "--regularisation", "--lambda", min=0, metavar="FLOAT", rich_help_panel=METHOD,
        help="Regularisation weight of a classical method, relative to the data. Default: the method's own.",
    ),
]  # fmt: skip
Iterations = Annotated[
    int | None,
    typer.Option(
        min=0, max=100, metavar="INTEGER 0-100", rich_help_panel=METHOD,
        help="Unrolled iterations (default: the model's). 0 returns the initial image.",
    ),
]  # fmt: skip
NoiseRatio = Annotated[
    float | None,
    typer.Option(
        "--noise-ratio", min=0, max=1e6, metavar="FLOAT", rich_help_panel=METHOD,
        help="Noise variance of the samples relative to the network's error. 0: hard data consistency. "
        "Default: estimated for raw data, else 0.",
    ),
]  # fmt: skip
Ensemble = Annotated[
    int | None,
    typer.Option(
        min=1, max=4, metavar="INTEGER 1-4", rich_help_panel=METHOD,
        help="Test-time augmentation over N flipped copies (N times slower, +0.1 to 0.4 dB).",
    ),
]  # fmt: skip
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", rich_help_panel=NETWORK, callback=values.one_of("--precision", values.PRECISIONS),
        autocompletion=values.complete(values.PRECISIONS),
        help="fp32, bf16 (faster, half the memory, less exact) or tf32 (GPU). Default: bf16 where the device computes "
        "in it and the model was measured to lose less than 0.05 dB, else fp32.",
    ),
]  # fmt: skip
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE", rich_help_panel=NETWORK,
        help="Memory limit, e.g. 8G; hidden states spill to disk when needed.",
    ),
]  # fmt: skip
Adapt = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", rich_help_panel=ADAPTATION,
        help="Fine-tune the network to this scan first: 90s, 5m, or auto for 3m.",
    ),
]  # fmt: skip
AdaptSteps = Annotated[
    int | None,
    typer.Option(
        min=1, max=1_000_000, metavar="INTEGER", rich_help_panel=ADAPTATION,
        help="Fine-tune for exactly N steps (reproduces a reported run bit for bit).",
    ),
]  # fmt: skip
SaveAdapted = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", rich_help_panel=ADAPTATION, help="Write the tuned network as a bundle, for --model."
    ),
]  # fmt: skip
Generalise = Annotated[
    bool,
    typer.Option(
        "--generalise", rich_help_panel=ADAPTATION,
        help="Tune for other slices too: better on those, slightly worse on this one.",
    ),
]  # fmt: skip
HoldOutFolds = Annotated[
    int | None,
    typer.Option(
        "--hold-out-folds", min=0, max=2, metavar="INTEGER 0-2", rich_help_panel=RELIABILITY,
        help="Extra reconstructions that predict held-out lines. Default: 1 for small scans and where --report or "
        "--max-residual needs it, else 0.",
    ),
]  # fmt: skip
Uncertainty = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", rich_help_panel=RELIABILITY,
        help="Write a NIfTI map of the per-pixel standard deviation (costs --uncertainty-runs extra reconstructions).",
    ),
]  # fmt: skip
UncertaintyRuns = Annotated[
    int | None,
    typer.Option(
        min=2, max=16, metavar="INTEGER 2-16", rich_help_panel=RELIABILITY,
        help="Reconstructions for --uncertainty (default: 4).",
    ),
]  # fmt: skip
SaveRuns = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", rich_help_panel=RELIABILITY,
        help="Write the images of each of these reconstructions as NIfTI, for crnn function --runs (4 or more).",
    ),
]  # fmt: skip
MaxResidual = Annotated[
    float | None,
    typer.Option(
        min=0, metavar="FLOAT", rich_help_panel=RELIABILITY,
        help="Exit with code 6 if the residual at held-out lines is above this.",
    ),
]  # fmt: skip
MinPSNR = Annotated[
    float | None,
    typer.Option(
        min=0, metavar="DB", rich_help_panel=RELIABILITY, help="Exit with code 6 if the expected PSNR is below this."
    ),
]  # fmt: skip
Streamed = Annotated[
    bool,
    typer.Option(
        "--stream", rich_help_panel=STREAMING,
        help="Frame by frame, by a causal network: each image leaves when its last line has come. - is then a stream "
        "of MRD messages, or NIfTI.",
    ),
]  # fmt: skip
CalibrationFrames = Annotated[
    int | None,
    typer.Option(
        "--calibrate-frames", min=1, max=1000, metavar="INTEGER", rich_help_panel=STREAMING,
        help="First frames, which scale, noise and coil sensitivities are taken from (default: 8).",
    ),
]  # fmt: skip
RenewFrames = Annotated[
    int | None,
    typer.Option(
        "--renew-frames", min=0, max=100_000, metavar="INTEGER", rich_help_panel=STREAMING,
        help="Estimate coil sensitivities again every so many frames (default: 64; 0: never).",
    ),
]  # fmt: skip
Paced = Annotated[
    bool,
    typer.Option("--pace", rich_help_panel=STREAMING, help="Replay a file at its own speed; late frames are counted."),
]
Listen = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT", rich_help_panel=STREAMING,
        help="Serve MRD clients, one at a time, on this machine unless HOST says otherwise.",
    ),
]  # fmt: skip
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "--output", "-o", metavar="FILE", rich_help_panel=OUTPUT,
        help="Output NIfTI, - for standard output. Default: SCAN_crnn.nii.gz beside the scan.",
    ),
]  # fmt: skip
FormatName = Annotated[
    str | None,
    typer.Option(
        "--format", metavar="nifti|dicom|mrd", rich_help_panel=OUTPUT,
        callback=values.one_of("--format", values.STREAM_FORMATS),
        autocompletion=values.complete(values.STREAM_FORMATS),
        help="dicom writes a derived series; -o is then a folder (default: SCAN_crnn beside the scan). mrd: "
        "messages of a stream.",
    ),
]  # fmt: skip
ComplexOutput = Annotated[
    bool, typer.Option("--complex", rich_help_panel=OUTPUT, help="Write complex images instead of magnitudes.")
]
SaveMaps = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", rich_help_panel=OUTPUT, help="Write the coil sensitivities: .npy, or .png to look at."
    ),
]  # fmt: skip
Preview = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", rich_help_panel=OUTPUT, help="Picture: .png montage, or .gif of the beating heart."
    ),
]  # fmt: skip
Page = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="FILE", rich_help_panel=OUTPUT, help="Report to read, .html: figures, pictures, residuals."
    ),
]  # fmt: skip


def reconstruct(
    scan: ScanFile = None,
    mask: MaskFile = None,
    phase: PhaseFile = None,
    axes: Axes = None,
    series: SeriesChoice = None,
    slice_tolerance: SliceTolerance = None,
    slice_number: SliceNumber = None,
    coils: Coils = None,
    maps: Maps = None,
    map_sets: MapSets = None,
    calibration: Calibration = None,
    phases: Phases = None,
    variable: Variable = None,
    kind: DataKind = None,
    set_number: SetNumber = None,
    contrast: Contrast = None,
    repetition: Repetition = None,
    phase_number: PhaseNumber = None,
    view: View = None,
    drop_empty: DropEmpty = False,
    undersample: Undersample = None,
    pattern: Pattern = None,
    centre_lines: CentreLines = None,
    phase_axis: PhaseAxis = None,
    seed: ScanSeed = None,
    method: MethodName = "crnn",
    regularisation: Regularisation = None,
    iterations: Iterations = None,
    noise_ratio: NoiseRatio = None,
    ensemble: Ensemble = None,
    stream: Streamed = False,
    calibration_frames: CalibrationFrames = None,
    renew_frames: RenewFrames = None,
    pace: Paced = False,
    listen: Listen = None,
    model: ReconstructionModel = None,
    precision: Precision = None,
    memory: Memory = None,
    device: DeviceName = "auto",
    adapt: Adapt = None,
    adapt_steps: AdaptSteps = None,
    generalise: Generalise = False,
    save_adapted: SaveAdapted = None,
    hold_out_folds: HoldOutFolds = None,
    uncertainty: Uncertainty = None,
    uncertainty_runs: UncertaintyRuns = None,
    save_runs: SaveRuns = None,
    max_residual: MaxResidual = None,
    min_psnr: MinPSNR = None,
    out: Out = None,
    format_name: FormatName = None,
    complex_output: ComplexOutput = False,
    save_maps: SaveMaps = None,
    preview: Preview = None,
    report: Page = None,
    as_json: ReportAsJson = False,
    force: Force = False,
) -> None:
    """Reconstruct an undersampled dynamic scan.

    The images go to SCAN_crnn.nii.gz beside the scan, or to -o; a report in JSON goes beside them. The sampling mask is
    found from the zeros of the k-space, or given by --mask. Raw k-space: ISMRMRD, BART .cfl, fastMRI and CMRxRecon
    HDF5, MATLAB, and NumPy with --axes.

    --adapt tunes the network on the scan's own lines. The result is used only if it predicts lines better that it was
    never tuned on. Ctrl-C ends the tuning and goes on with the best so far.

    --stream reconstructs frame by frame, each from itself and those before, and says the latency. MRD messages on
    standard input become MRD images on standard output. What is done is kept on Ctrl-C.

    --uncertainty reconstructs again without a quarter of the outer lines, several times, and maps how far the images
    move, scaled to a standard deviation on cases with a known truth. It cannot show what no measured line shows: a
    structure that is missing in all runs alike, or a blur that they share.

    Examples: crnn reconstruct scan.nii -o images.nii.gz --preview heart.gif;
    crnn reconstruct cine.nii.gz --undersample 8 --preview test.png;
    crnn reconstruct DICOM_FOLDER --undersample 8 -o out_folder --format dicom;
    crnn reconstruct scan.nii --adapt 5m --save-adapted tuned; crnn reconstruct raw.h5 --coils 8 -o images.nii.gz;
    crnn reconstruct scan.nii --slice 6 --ensemble 4; crnn reconstruct scan.nii --uncertainty sd.nii.gz;
    crnn reconstruct scan.nii -o images.nii.gz --uncertainty sd.nii.gz --save-runs runs;
    crnn reconstruct scan.nii --min-psnr 30; crnn reconstruct k.npy --axes coil,t,ky,kx --method tv;
    crnn reconstruct raw.h5 --stream --pace -o images.nii.gz; scanner | crnn reconstruct - --stream -o - | viewer
    """
    options = ReconstructOptions(
        out=out, mask=mask, phase=phase, axes=axes, series=series, slice_tolerance=slice_tolerance,
        slice_number=slice_number, undersample=undersample, pattern=pattern, centre_lines=centre_lines,
        phase_axis=phase_axis, seed=seed, method=method, regularisation=regularisation, coils=coils, maps=maps,
        map_sets=map_sets, save_maps=save_maps, calibration=calibration, phases=phases, variable=variable, kind=kind,
        set_number=set_number, contrast=contrast, repetition=repetition, phase_number=phase_number, view=view,
        drop_empty=drop_empty, model=model, iterations=iterations,
        noise_ratio=noise_ratio, precision=precision, memory=memory, ensemble=ensemble, adapt=adapt,
        adapt_steps=adapt_steps, save_adapted=save_adapted, generalise=generalise, device=device, preview=preview,
        hold_out_folds=hold_out_folds, uncertainty=uncertainty, uncertainty_runs=uncertainty_runs, save_runs=save_runs,
        report=report, max_residual=max_residual, min_psnr=min_psnr, complex_output=complex_output, force=force,
        format_name=format_name or ("auto" if stream else "nifti"), calibration_frames=calibration_frames,
    )  # fmt: skip
    streaming = StreamOptions(pace, listen, renew_frames)
    if stream:
        run_streaming(scan, options, streaming, as_json)
        return
    scan = require_file(scan, streaming)
    plan = steps.plan(scan, options, as_json)
    engine = steps.prepare(options)
    data = steps.read(plan, engine)
    with console.progress_bar("reconstructing") as progress:
        run = steps.compute(plan, engine, data, progress)
    written = steps.save(plan, run)
    from crnn_cli.report.rows import reconstruction_rows

    console.table(
        "crnn reconstruct", ["", ""], reconstruction_rows(plan.target, engine.method.title, written, plan.outputs)
    )
    if as_json:
        console.print_json(written)
    steps.check_threshold(plan, written)
