"""``crnn compare``: one scan, several methods, a table and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crnn_cli.cli import console
from crnn_cli.cli.options import Coils, Maps, Phases, SeriesChoice, SliceNumber, SliceTolerance, Variable

ScanFile = Annotated[Path, typer.Argument(help="Raw k-space, NIfTI series or DICOM, as crnn reconstruct takes it.")]
Methods = Annotated[str, typer.Option(help="Names with commas between them, or all.")]
Reference = Annotated[Path | None, typer.Option(help="Fully sampled images of the same grid, NIfTI or DICOM.")]
HoldOutShare = Annotated[
    float, typer.Option(min=0, max=0.5, help="Share of the outer lines to predict; 0: no such column.")
]
Preview = Annotated[Path | None, typer.Option(help="Picture: .png montage, or .gif of the beating heart.")]
Axes = Annotated[str | None, typer.Option(help="What the stored axes are, such as coil,t,ky,kx.")]
Undersample = Annotated[float | None, typer.Option(min=1, help="Of images: simulate a scan this many times faster.")]
Seed = Annotated[int, typer.Option(min=0, max=2**62, help="Of the simulated pattern and of what is held out.")]
Model = Annotated[str | None, typer.Option(help="Of crnn: a published model, or a bundle folder.")]
DeviceName = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures to standard output.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a picture that exists.")]


def compare(
    scan: ScanFile,
    methods: Methods = "zero-filled,sense,tv,llr,crnn",
    reference: Reference = None,
    slice_number: SliceNumber = None,
    hold_out_share: HoldOutShare = 0.1,
    preview: Preview = None,
    axes: Axes = None,
    variable: Variable = None,
    series: SeriesChoice = None,
    slice_tolerance: SliceTolerance = None,
    undersample: Undersample = None,
    seed: Seed = 0,
    coils: Coils = None,
    maps: Maps = None,
    phases: Phases = None,
    model: Model = None,
    device: DeviceName = "auto",
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Reconstruct one scan by several methods, each at its default weight, and show how they differ.

    Residuals are ||A x - y|| / ||y||: at the measured samples, and at a tenth of the outer lines that a second run does
    not see. A small residual at the measured samples alone proves nothing; at lines held out it does.

    Examples: crnn compare raw.h5 --slice 4 --preview methods.png;
    crnn compare cine.nii.gz --undersample 8 --methods tv,crnn --json
    """
    from crnn_cli.workflows.compare import CompareOptions, compare_methods, comparison_picture, comparison_table
    from crnn_cli.workflows.reconstruct.scan import ScanRequest, Simulation

    _require_preview(preview, force)
    simulation = Simulation(undersample, seed=seed) if undersample else None
    request = ScanRequest(scan, axes, series, slice_tolerance, None, None, simulation, coils, maps, phases, variable)
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
