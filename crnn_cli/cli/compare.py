"""``crnn compare``: one scan, several methods, a table and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crnn_cli.cli import console, values
from crnn_cli.cli.options import (
    INPUT,
    METHOD,
    OUTPUT,
    RELIABILITY,
    SIMULATION,
    AsJson,
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
    SeriesChoice,
    SetNumber,
    SliceNumber,
    SliceTolerance,
    Undersample,
    Variable,
    View,
)

ScanFile = Annotated[
    Path,
    typer.Argument(metavar="SCAN", help="Raw k-space, NIfTI series or DICOM, as crnn reconstruct takes it."),
]
Axes = Annotated[
    str | None,
    typer.Option(metavar="NAMES", rich_help_panel=INPUT, help="Stored axes, such as coil,t,ky,kx."),
]
Methods = Annotated[
    str,
    typer.Option(
        metavar="NAMES", rich_help_panel=METHOD, autocompletion=values.complete(values.METHODS),
        help="Methods with commas between them, or all.",
    ),
]  # fmt: skip
Reference = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", rich_help_panel=RELIABILITY,
        help="Fully sampled images on the grid of the scan: adds PSNR and SSIM, after the factor that fits best.",
    ),
]  # fmt: skip
HoldOutShare = Annotated[
    float,
    typer.Option(
        min=0, max=0.5, metavar="SHARE", rich_help_panel=RELIABILITY,
        help="Share of the outer lines that a second run must predict; 0: no second run.",
    ),
]  # fmt: skip
Seed = Annotated[
    int,
    typer.Option(
        min=0, max=2**62, metavar="INTEGER", rich_help_panel=SIMULATION,
        help="Seed of the simulated pattern and of the lines held out.",
    ),
]  # fmt: skip
Preview = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", rich_help_panel=OUTPUT, help="Picture of all methods: .png montage, or .gif of the series."
    ),
]  # fmt: skip


def compare(
    scan: ScanFile,
    axes: Axes = None,
    variable: Variable = None,
    kind: DataKind = None,
    set_number: SetNumber = None,
    contrast: Contrast = None,
    repetition: Repetition = None,
    phase_number: PhaseNumber = None,
    view: View = None,
    drop_empty: DropEmpty = False,
    series: SeriesChoice = None,
    slice_number: SliceNumber = None,
    slice_tolerance: SliceTolerance = None,
    coils: Coils = None,
    maps: Maps = None,
    map_sets: MapSets = None,
    calibration: Calibration = None,
    phases: Phases = None,
    undersample: Undersample = None,
    seed: Seed = 0,
    methods: Methods = "zero-filled,sense,tv,llr,crnn",
    model: ReconstructionModel = None,
    device: DeviceName = "auto",
    reference: Reference = None,
    hold_out_share: HoldOutShare = 0.1,
    preview: Preview = None,
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Reconstruct one scan by several methods, each at its default weight, and show how they differ.

    Residuals are ||A x - y|| / ||y||: at the measured samples, and at a tenth of the outer lines that a second run does
    not see. A small residual at the measured samples alone proves nothing; at lines held out it does.

    Examples: crnn compare raw.h5 --slice 4 --preview methods.png;
    crnn compare cine.nii.gz --undersample 8 --methods tv,crnn --json
    """
    from crnn_cli.io.kspace.choices import RawChoices
    from crnn_cli.workflows.compare import CompareOptions, compare_methods, comparison_picture, comparison_table
    from crnn_cli.workflows.reconstruct.scan import ScanRequest, Simulation
    from crnn_cli.workflows.reconstruct.steps import parse_map_sets

    _require_preview(preview, force)
    simulation = Simulation(undersample, seed=seed) if undersample else None
    raw = RawChoices(kind, set_number, contrast, repetition, phase_number, view, drop_empty)
    request = ScanRequest(
        scan, axes, series, slice_tolerance, None, None, simulation, coils, maps, phases, variable, slice_number,
        parse_map_sets(map_sets), raw, calibration,
    )  # fmt: skip
    options = CompareOptions(methods, model, device, reference, slice_number, hold_out_share, seed)
    with console.progress_bar("comparing") as progress:
        comparison = compare_methods(request, options, progress)
    if not as_json:
        console.table("crnn compare", *comparison_table(comparison.report), result=True)
    comparison.require_images()
    if preview is not None:
        from crnn_cli.io.atomic_write import write_together

        write_together([comparison_picture(comparison, preview)], force)
    if as_json:
        console.print_json(comparison.report)


def _require_preview(preview: Path | None, force: bool) -> None:
    from crnn_cli.io.atomic_write import require_writable
    from crnn_cli.report.montage import require_preview_name

    if preview is not None:
        require_preview_name(preview)
        require_writable(preview, force)
