"""``crnn convert``: an image from the format it is in to NIfTI, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crnn_cli.cli import console
from crnn_cli.cli.console import STREAM
from crnn_cli.cli.report import require_apart
from crnn_cli.errors import UsageError

Source = Annotated[Path, typer.Argument(help="A DICOM folder, zip or file; or NIfTI, - for standard input.")]
Target = Annotated[Path, typer.Argument(help="NIfTI to write, .nii or .nii.gz; - for standard output.")]
SeriesChoice = Annotated[str | None, typer.Option("--series", help="Of a DICOM folder: its number, or its UID.")]
Axes = Annotated[str | None, typer.Option(help="What the stored axes of a NIfTI file are, such as x,y,t.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")]


def convert(
    source: Source,
    target: Target,
    series: SeriesChoice = None,
    axes: Axes = None,
    force: Force = False,
) -> None:
    """Convert an image to NIfTI: x, y, z, t, values and place as they are, the frame time from the headers.

    Examples: crnn convert DICOM_FOLDER cine.nii.gz; crnn convert DICOM_FOLDER t1.nii.gz --series 3
    """
    from crnn_cli.io.files import require_writable
    from crnn_cli.io.nifti import require_nifti_name, write_image, write_stream
    from crnn_cli.io.read import read, require_readable

    require_readable(source)
    if target == STREAM:
        console.protect_terminal()
    else:
        require_nifti_name(target)
        require_apart([source], [target])
        require_writable(target, force)
    image = read(source, axes, series).image
    for doubt in image.doubts():
        console.warn(doubt)
    if target == STREAM:
        import sys

        if sys.stdout is None:
            raise UsageError("standard output is closed: give a file name")
        write_stream(image, sys.stdout.buffer, "crnn convert")
        return
    write_image(image, target, "crnn convert")
    console.say(f"wrote {target}: {' x '.join(map(str, image.shape))}, {image.array.dtype}")
