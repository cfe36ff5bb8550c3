"""``crnn verify``: whether two files show the same thing in the same place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crnn_cli.cli import console
from crnn_cli.cli.options import SeriesChoice
from crnn_cli.errors import QualityError

First = Annotated[Path, typer.Argument(help="NIfTI or DICOM.")]
Second = Annotated[Path, typer.Argument(help="NIfTI or DICOM, to compare it with.")]
SecondSeries = Annotated[str | None, typer.Option("--other-series", help="Of a DICOM folder as the second.")]
Millimetres = Annotated[float, typer.Option(min=0, help="How far apart a voxel may lie, in mm.")]
Values = Annotated[float, typer.Option(min=0, help="How far values may differ.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures to standard output.")]


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
    differ by more than the tolerances.

    Examples: crnn verify DICOM_FOLDER cine.nii.gz; crnn verify a.nii.gz b.nii.gz --value-tolerance 1e-3
    """
    from dataclasses import asdict

    from crnn_cli.data.alignment import compare_images
    from crnn_cli.io.images import load_image

    found = compare_images(load_image(first, None, series).image, load_image(second, None, other_series).image)
    differs = found.differs(tolerance, value_tolerance)
    if as_json:
        console.print_json({"first": str(first), "second": str(second), **asdict(found), "same": not differs})
    else:
        rows = [
            ["shapes", " and ".join(" x ".join(map(str, shape)) for shape in found.shapes)],
            ["farthest voxels apart", "-" if found.distance_mm is None else f"{found.distance_mm:.3g} mm"],
            ["largest difference of values", "-" if found.difference is None else f"{found.difference:.6g}"],
            ["voxels that differ", "-" if found.voxels is None else str(found.voxels)],
            ["frame times", " and ".join("unknown" if t is None else f"{1000 * t:g} ms" for t in found.frame_times)],
        ]
        console.table(f"{first} and {second}", ["", ""], rows)
    if differs:
        raise QualityError(f"{first} and {second} are not the same: {'; '.join(differs)}")
    console.say("the same values in the same places")
