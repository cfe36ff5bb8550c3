"""``crnn info``: what a file is, and which series a DICOM folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crnn_cli import notices
from crnn_cli.cli import console
from crnn_cli.cli.options import INPUT, AsJson, SeriesChoice, SliceTolerance, Variable
from crnn_cli.cli.remedies import spell_option

if TYPE_CHECKING:
    from crnn_cli.workflows.info import FolderDescription

File = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="NIfTI, - for standard input, DICOM (folder, zip, file), raw k-space."),
]
Axes = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES", rich_help_panel=INPUT, help="Stored axes, such as x,y,t; or coil,t,ky,kx of k-space."
    ),
]  # fmt: skip


def info(
    file: File,
    axes: Axes = None,
    series: SeriesChoice = None,
    slice_tolerance: SliceTolerance = None,
    variable: Variable = None,
    as_json: AsJson = False,
) -> None:
    """Describe a file: axes, geometry, sampling pattern, doubts, and what to do with it.

    Of a DICOM folder, the series in it and what is wrong with each, from the headers alone; --series reads one.

    Of raw k-space, also coils, calibration lines and noise scan; --axes coil,t,ky,kx where the file does not say.

    Examples: crnn info scan.nii.gz --json; crnn info DICOM_FOLDER; crnn info DICOM_FOLDER --series 2;
    crnn info raw.h5; crnn info k.npy --axes coil,t,ky,kx
    """
    from crnn_cli.workflows import info as workflow

    description = workflow.describe(file, axes, series, slice_tolerance, variable)
    if as_json:
        console.print_json(workflow.as_json(description, spell_option))
    elif isinstance(description, workflow.FolderDescription):
        _print_folder(file, description)
    else:
        from crnn_cli.io.describe import FileDescription
        from crnn_cli.report.description_rows import image_rows, raw_rows

        if isinstance(description, FileDescription):
            rows = image_rows(description, spell_option)
        else:
            rows = raw_rows(description, spell_option)
        console.table(description.file, ["", ""], rows, result=True)


def _print_folder(file: Path, description: FolderDescription) -> None:
    """Print the series of a DICOM folder, what is wrong with them, and a command to go on with."""
    import shlex

    from crnn_cli.report.description_rows import SERIES_COLUMNS, series_rows
    from crnn_cli.workflows.info import next_series, problems_of

    listing = description.listing
    console.table(description.file, SERIES_COLUMNS, series_rows(listing), prose=["description", "kind"], result=True)
    for problem in problems_of(listing, spell_option):
        notices.LOGGER.warning(problem)
    series = next_series(listing)
    if series is not None:
        choice = f" --series {series.number}" if sum(bool(each.grid) for each in listing.series) > 1 else ""
        command, more = ("reconstruct", " --undersample 8") if series.frames > 1 else ("segment", " --slices")
        console.say(f"next: crnn {command} {shlex.quote(str(file))}{choice}{more}")
