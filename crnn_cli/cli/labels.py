"""``crnn labels``: volumes, table and outlines of a label map that exists already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crnn_cli.cli import console, values
from crnn_cli.cli.options import INPUT, AsJson, Force, LabelPreview, LabelStatistics

File = Annotated[Path, typer.Argument(metavar="LABELS", help="Label map: NIfTI, - for standard input, or DICOM SEG.")]
ImageFile = Annotated[
    Path | None,
    typer.Option(
        "--image", metavar="FILE", rich_help_panel=INPUT, help="The image that was labelled, on the same grid."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|DIR", rich_help_panel=INPUT, autocompletion=values.complete_model,
        help="Model whose names the values have. Default: the names beside the file, OUT.json.",
    ),
]  # fmt: skip
Slices = Annotated[
    str,
    typer.Option(
        metavar="auto|axial|coronal|sagittal", rich_help_panel=INPUT,
        callback=values.one_of("--slices", values.PLANES), help="Planes of the picture.",
    ),
]  # fmt: skip


def labels(
    file: File,
    image: ImageFile = None,
    model: Model = None,
    slices: Slices = "auto",
    statistics: LabelStatistics = None,
    preview: LabelPreview = None,
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Measure a label map that exists already, of crnn segment or drawn by hand: volumes, and what is asked for.

    Intensities are those of --image, and its slices lie under the outlines.

    Examples: crnn labels labels.nii.gz --image cine.nii.gz --statistics volumes.csv --preview outlines.png;
    crnn labels drawn.nii.gz --model cardiac-sax-clstm --json
    """
    from crnn_cli.io.atomic_write import require_writable, write_together
    from crnn_cli.io.images import require_readable
    from crnn_cli.report.label_table import require_statistics_name
    from crnn_cli.report.montage import require_preview_name
    from crnn_cli.report.sidecar import require_apart
    from crnn_cli.workflows.labels import COLUMNS, LabelsOptions, measure_labels, outputs_of, rows_of

    options = LabelsOptions(image, model, slices, statistics, preview, force)
    for target, require_name in ((statistics, require_statistics_name), (preview, require_preview_name)):
        if target is not None:
            require_name(target)
            require_writable(target, force)
    require_readable(file)
    require_apart([file, image], [statistics, preview])
    measured = measure_labels(file, options)
    write_together(outputs_of(measured, options), force)
    if as_json:
        console.print_json(measured.report)
    else:
        console.table(str(file), COLUMNS, rows_of(measured.report), result=True)
