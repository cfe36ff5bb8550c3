"""``crnn info``: what a file is, and which series a DICOM folder holds."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crnn_cli import notices
from crnn_cli.cli import console
from crnn_cli.cli.command import spell_in
from crnn_cli.cli.options import (
    INPUT,
    AsJson,
    Contrast,
    DataKind,
    DropEmpty,
    PhaseNumber,
    Repetition,
    SeriesChoice,
    SetNumber,
    SliceTolerance,
    Variable,
    View,
)
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
    kind: DataKind = None,
    set_number: SetNumber = None,
    contrast: Contrast = None,
    repetition: Repetition = None,
    phase_number: PhaseNumber = None,
    view: View = None,
    drop_empty: DropEmpty = False,
    as_json: AsJson = False,
) -> None:
    """Describe a file: axes, geometry, sampling pattern, doubts, and what to do with it.

    Of a DICOM folder, the series in it and what is wrong with each, from the headers alone; --series reads one. Series
    of one slice each are joined to a stack of slices and cardiac phases, which is one row.

    Of raw k-space, also coils, calibration lines and noise scan; --axes coil,t,ky,kx where the file does not say.

    Examples: crnn info scan.nii.gz --json; crnn info DICOM_FOLDER; crnn info DICOM_FOLDER --series 2;
    crnn info raw.h5; crnn info k.npy --axes coil,t,ky,kx
    """
    from crnn_cli.io.kspace.choices import RawChoices
    from crnn_cli.workflows import info as workflow

    chosen = RawChoices(kind, set_number, contrast, repetition, phase_number, view, drop_empty)
    description = workflow.describe(file, axes, series, slice_tolerance, variable, chosen)
    if as_json:
        console.print_json(workflow.as_json(description, spell_option))
        return
    if isinstance(description, workflow.FolderDescription):
        _print_folder(description)
    else:
        from crnn_cli.io.describe import FileDescription
        from crnn_cli.report.description_rows import image_rows, raw_rows

        rows = image_rows(description) if isinstance(description, FileDescription) else raw_rows(description)
        console.table(description.file, ["", ""], rows, result=True)
    from crnn_cli.io.describe import advice_lines

    console.lines(advice_lines(description.next_step, spell_option))


def _print_folder(description: FolderDescription) -> None:
    """Print the series of a DICOM folder, and what is wrong with them."""
    from crnn_cli.report.description_rows import SERIES_COLUMNS, series_rows
    from crnn_cli.workflows.info import problems_of

    listing = description.listing
    console.table(description.file, SERIES_COLUMNS, series_rows(listing), prose=["description", "kind"], result=True)
    for problem in problems_of(listing, partial(spell_in, info)):
        notices.LOGGER.warning(problem)
