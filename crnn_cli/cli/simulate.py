"""``crnn simulate``: an undersampled scan of a beating heart, with the truth beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crnn_cli.cli import console, values
from crnn_cli.cli.options import OUTPUT, SIMULATION, Force, ReportAsJson

ANATOMY = "Heart and scanner"

Size = Annotated[
    str,
    typer.Option(
        metavar="X[xY]", rich_help_panel=ANATOMY, help="Pixels, such as 192 or 192x160 (readout x phase encoding)."
    ),
]  # fmt: skip
Frames = Annotated[
    int, typer.Option(metavar="INTEGER", rich_help_panel=ANATOMY, help="Frames of one cardiac cycle, at least 2.")
]
Slices = Annotated[
    int, typer.Option(metavar="INTEGER", rich_help_panel=ANATOMY, help="Slices from the apex to the base.")
]
Spacing = Annotated[
    float | None,
    typer.Option(metavar="MM", rich_help_panel=ANATOMY, help="Pixel size. Default: the body fits."),
]
FrameTime = Annotated[float, typer.Option(metavar="MS", rich_help_panel=ANATOMY, help="Milliseconds per frame.")]
Oblique = Annotated[
    bool, typer.Option("--oblique", rich_help_panel=ANATOMY, help="Lay the slices as a short-axis scan does.")
]
Breathing = Annotated[
    float, typer.Option(metavar="MM", rich_help_panel=ANATOMY, help="Drift of heart and liver, 0 to 10 mm.")
]
Coils = Annotated[
    int,
    typer.Option(metavar="INTEGER", rich_help_panel=ANATOMY, help="Receive coils; several add OUT_kspace.npy."),
]
Snr = Annotated[
    float,
    typer.Option(
        metavar="FLOAT", rich_help_panel=ANATOMY,
        help="Blood over the standard deviation of the noise (real part, one coil); inf for no noise.",
    ),
]  # fmt: skip
Undersample = Annotated[
    float, typer.Option(metavar="FACTOR", rich_help_panel=SIMULATION, help="Acceleration; 1 measures everything.")
]
Pattern = Annotated[
    str,
    typer.Option(
        metavar="NAME", rich_help_panel=SIMULATION, autocompletion=values.complete(values.PATTERNS),
        callback=values.one_of("--pattern", values.PATTERNS), help="variable-density or sheared-grid.",
    ),
]  # fmt: skip
CentreLines = Annotated[
    int | None,
    typer.Option(
        metavar="INTEGER", rich_help_panel=SIMULATION,
        help="Fully sampled central lines (default: 8, at most 2/3 of the lines).",
    ),
]  # fmt: skip
Seed = Annotated[
    int, typer.Option(metavar="INTEGER", rich_help_panel=SIMULATION, help="Of anatomy, phase, pattern and noise.")
]
Out = Annotated[
    Path,
    typer.Option(
        "--out", "--output", "-o", metavar="NAME", rich_help_panel=OUTPUT,
        help="Beginning of the output names, or a folder.",
    ),
]  # fmt: skip


def simulate(
    size: Size = "192",
    frames: Frames = 25,
    slices: Slices = 1,
    spacing: Spacing = None,
    frame_time: FrameTime = 40.0,
    oblique: Oblique = False,
    breathing: Breathing = 0.0,
    coils: Coils = 1,
    snr: Snr = 40.0,
    undersample: Undersample = 8.0,
    pattern: Pattern = "variable-density",
    centre_lines: CentreLines = None,
    seed: Seed = 0,
    out: Out = Path("phantom"),
    as_json: ReportAsJson = False,
    force: Force = False,
) -> None:
    """Simulate an undersampled scan of a beating heart, its k-space exact by formula.

    Writes OUT_truth.nii.gz (complex, no noise), OUT_zerofilled.nii.gz (complex, what reconstruct takes) and
    OUT_mask.nii.gz (0/1 over centred k-space; y, the second array axis, is undersampled).

    Several coils: OUT_zerofilled is only their sensitivity-weighted combination; the measured data are in
    OUT_kspace.npy (slice, coil, t, ky, kx), the sensitivities in OUT_coils.npy (coil, y, x).

    Example: crnn simulate -o heart --undersample 8 --seed 1
    """
    from crnn_cli.workflows.simulate import SimulateOptions, simulate_scan, summary_rows

    options = SimulateOptions(
        out=out, size=size, frames=frames, slices=slices, spacing=spacing, frame_time=frame_time,
        undersample=undersample, pattern=pattern, centre_lines=centre_lines, coils=coils, snr=snr,
        breathing=breathing, seed=seed, oblique=oblique, force=force,
    )  # fmt: skip
    with console.progress_bar("scanning") as progress:
        report = simulate_scan(options, progress)
    console.table("crnn simulate", ["", ""], summary_rows(report))
    if as_json:
        console.print_json(report)
