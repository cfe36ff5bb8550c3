"""``crnn convert``: an image from the format it is in to NIfTI or DICOM, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crnn_cli.cli import console, values
from crnn_cli.cli.options import INPUT, OUTPUT, Force, SeriesChoice, SliceTolerance
from crnn_cli.notices import STREAM

Source = Annotated[
    Path,
    typer.Argument(metavar="SOURCE", help="DICOM folder, zip or file; NIfTI, - for standard input; NRRD, MetaImage."),
]
Target = Annotated[
    Path,
    typer.Argument(
        metavar="TARGET", help="NAME.nii or .nii.gz, - for standard output; a name without a suffix is a DICOM folder."
    ),
]
Axes = Annotated[
    str | None,
    typer.Option(metavar="NAMES", rich_help_panel=INPUT, help="Stored axes of a NIfTI file, such as x,y,t."),
]
ReferenceDicom = Annotated[
    Path | None,
    typer.Option(
        "--reference-dicom", metavar="DICOM", rich_help_panel=OUTPUT,
        help="DICOM whose patient, study, places and times the new series takes.",
    ),
]  # fmt: skip
ReferenceSeries = Annotated[
    str | None,
    typer.Option(
        "--reference-series", metavar="NUMBER|UID", rich_help_panel=OUTPUT,
        help="Series of --reference-dicom: its number in crnn info, or its UID.",
    ),
]  # fmt: skip
Modality = Annotated[
    str | None,
    typer.Option(
        metavar="MR|CT|PT|...", rich_help_panel=OUTPUT, autocompletion=values.complete(values.MODALITIES),
        help="Modality of a DICOM series without --reference-dicom: MR (default), CT, PT, NM, XA, US or OT.",
    ),
]  # fmt: skip

Bids = Annotated[
    bool,
    typer.Option(
        "--bids", rich_help_panel=OUTPUT,
        help="Write a BIDS sidecar beside NIfTI, NAME.json: times of the frames, modality, scan parameters.",
    ),
]  # fmt: skip


def convert(
    source: Source,
    target: Target,
    series: SeriesChoice = None,
    slice_tolerance: SliceTolerance = None,
    axes: Axes = None,
    reference_dicom: ReferenceDicom = None,
    reference_series: ReferenceSeries = None,
    modality: Modality = None,
    bids: Bids = False,
    force: Force = False,
) -> None:
    """Convert an image to NIfTI (x, y, z, t), or to a folder of DICOM images: values, place and times as they are.

    A DICOM series belongs to a patient and a study: --reference-dicom names the DICOM that they are copied from. On the
    same grid, every image also gets the place, the times and the scan parameters of its original. Without
    --reference-dicom the patient is left empty and the study is new. Values that are integers of 16 bits, or were under
    the rescale of --reference-dicom, are kept to the last bit; others are stored in 65,536 steps.

    Examples: crnn convert DICOM_FOLDER cine.nii.gz; crnn convert DICOM_FOLDER t1.nii.gz --series 3;
    crnn convert filtered.nii.gz out_folder --reference-dicom DICOM_FOLDER
    """
    from crnn_cli.workflows.convert import ConvertOptions, convert_image

    options = ConvertOptions(axes, series, slice_tolerance, reference_dicom, reference_series, modality, bids, force)
    written = convert_image(source, target, options)
    if target != STREAM:
        console.say(f"wrote {written}")
