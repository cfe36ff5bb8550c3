"""``crnn verify``: whether two files show the same thing in the same place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crnn_cli.cli import console
from crnn_cli.cli.options import INPUT, METHOD, AsJson, SeriesChoice

First = Annotated[Path, typer.Argument(metavar="FIRST", help="NIfTI or DICOM.")]
Second = Annotated[Path, typer.Argument(metavar="SECOND", help="NIfTI or DICOM, to compare it with.")]
SecondSeries = Annotated[
    str | None,
    typer.Option(
        "--other-series", metavar="NUMBER|UID", rich_help_panel=INPUT,
        help="Series of a DICOM folder that is the second.",
    ),
]  # fmt: skip
Millimetres = Annotated[
    float, typer.Option(min=0, metavar="MM", rich_help_panel=METHOD, help="How far apart a voxel may lie.")
]
Values = Annotated[
    float, typer.Option(min=0, metavar="FLOAT", rich_help_panel=METHOD, help="How far values may differ.")
]


def verify(
    first: First,
    second: Second,
    series: SeriesChoice = None,
    other_series: SecondSeries = None,
    tolerance: Millimetres = 1e-3,
    value_tolerance: Values = 0.0,
    as_json: AsJson = False,
) -> None:
    """Check that two files show the same values in the same places of the body, whatever their formats and axes.

    Axes that are stored in another order, or run the other way, are brought to agree first. Exit code 6 if the files
    differ by more than the tolerances, or one of them alone does not say where it lies; of two such files voxels are
    compared as stored.

    Examples: crnn verify DICOM_FOLDER cine.nii.gz; crnn verify a.nii.gz b.nii.gz --value-tolerance 1e-3
    """
    from crnn_cli.workflows.verify import verify_images

    verification = verify_images(first, second, series, other_series, tolerance, value_tolerance)
    if as_json:
        console.print_json(verification.as_json())
    else:
        console.table(f"{first} and {second}", ["", ""], verification.rows(), result=True)
    verification.require_passed()
    console.say(verification.words())
