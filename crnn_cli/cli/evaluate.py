"""``crnn evaluate``: an image, or a label map, measured against a reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crnn_cli.cli import console
from crnn_cli.cli.options import INPUT, METHOD, OUTPUT, RELIABILITY, AsJson, SeriesChoice
from crnn_cli.errors import Param, UsageError

ImageFile = Annotated[
    Path, typer.Argument(metavar="IMAGE", help="The image or label map to measure: NIfTI, DICOM, or -.")
]
Reference = Annotated[
    Path,
    typer.Option(
        "--reference", "-r", metavar="FILE", rich_help_panel=INPUT, help="What to compare it with: NIfTI, DICOM, or -."
    ),
]
ReferenceSeries = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER|UID", rich_help_panel=INPUT, help="Series of a DICOM folder as the reference."
    ),
]  # fmt: skip
Axes = Annotated[
    str | None,
    typer.Option(metavar="NAMES", rich_help_panel=INPUT, help="Stored axes of NIfTI files, such as x,y,t."),
]
ReferenceAxes = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES", rich_help_panel=INPUT, help="Stored axes of the reference, where they differ from --axes."
    ),
]
AsLabels = Annotated[
    bool,
    typer.Option("--as-labels", rich_help_panel=INPUT, help="Both files are label maps, whatever they look like."),
]
AsImages = Annotated[
    bool, typer.Option("--as-images", rich_help_panel=INPUT, help="Both files are images, whatever they look like.")
]
IgnoreGeometry = Annotated[
    bool,
    typer.Option(
        "--ignore-geometry", rich_help_panel=METHOD, help="Compare voxel by voxel as stored, wherever they lie."
    ),
]
FitScale = Annotated[
    bool,
    typer.Option(
        "--fit-scale", rich_help_panel=METHOD, help="First multiply the image by the factor that fits best."
    ),
]  # fmt: skip
Uncertainty = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", rich_help_panel=RELIABILITY,
        help="Map by crnn reconstruct --uncertainty of the image: measure its coverage.",
    ),
]  # fmt: skip
RequirePsnr = Annotated[
    float | None,
    typer.Option(metavar="DB", rich_help_panel=RELIABILITY, help="Exit with 6 if PSNR is below DB."),
]
RequireSsim = Annotated[
    float | None,
    typer.Option(metavar="SSIM", rich_help_panel=RELIABILITY, help="Exit with 6 if SSIM is below this."),
]
RequireDice = Annotated[
    float | None,
    typer.Option(
        metavar="DICE", rich_help_panel=RELIABILITY,
        help="Exit with 6 if a label of the reference has a Dice below this, 0 to 1.",
    ),
]  # fmt: skip
PerFrame = Annotated[
    bool, typer.Option("--per-frame", rich_help_panel=OUTPUT, help="Show every frame; JSON always has them.")
]


def evaluate(
    image: ImageFile,
    reference: Reference,
    series: SeriesChoice = None,
    reference_series: ReferenceSeries = None,
    axes: Axes = None,
    reference_axes: ReferenceAxes = None,
    as_labels: AsLabels = False,
    as_images: AsImages = False,
    ignore_geometry: IgnoreGeometry = False,
    fit_scale: FitScale = False,
    uncertainty: Uncertainty = None,
    require_psnr: RequirePsnr = None,
    require_ssim: RequireSsim = None,
    require_dice: RequireDice = None,
    per_frame: PerFrame = False,
    as_json: AsJson = False,
) -> None:
    """Measure how near an image or a label map is to a reference on the same grid.

    Example: crnn evaluate reconstructed.nii.gz --reference full.nii.gz --require-psnr 30

    Example: crnn evaluate labels.nii.gz --reference manual.nii.gz --require-dice 0.85

    Example: crnn evaluate reconstructed.nii.gz --reference DICOM_FOLDER --reference-series 2

    Axes of the image that are stored in another order than those of the reference, or run the other way, as they do
    between DICOM and most NIfTI files, are turned first: what is compared lies in one place. Nothing is resampled.

    IMAGES: PSNR, SSIM, NMSE, HFEN.

    PSNR is 10 log10(R^2 / mean squared error) in dB, null in JSON where the images are identical. Its data range R,
    and SSIM's, is the largest magnitude in the reference over all slices and frames.

    SSIM is that of Wang et al. 2004: Gaussian windows of 11 x 11 pixels, mean over frames; 1 is identical.

    NMSE is the squared norm of the error over that of the reference. HFEN is the norm of the error's edges over that
    of the reference's edges, found by a Laplacian of Gaussian. 0 is identical.

    Complex images are compared by magnitude. A frame is one x-y plane at one time: each slice of a 3-D volume is one.
    No brightness is fitted unless --fit-scale is given, which never lowers PSNR: report it along.

    --uncertainty measures how often the reference lies within 1, 1.64 and 2 standard deviations of the image, in the
    body: where the mean over time of the reference is at least a tenth of its 99th percentile. Of errors that are
    normally distributed it would be 68, 90 and 95 %.

    LABEL MAPS: Dice, Jaccard, distances in mm, volumes in ml, for each label in either map; 0 is background.

    A file is a label map if its intent code says so (1002), if it is a DICOM SEG, whose labels are its segment numbers,
    or if it holds integers from 0 to 65535 with at most 64 distinct values; such numbers in floating point count if the
    other file is a label map. --as-labels and --as-images overrule that for both files.

    Surfaces are the voxels of a label with a face neighbour outside it. HD95 is the larger of the 95th percentiles of
    the distances from either surface to the other (as in MONAI); the mean is over the distances of both surfaces.

    Where a label is in one map only, its Dice and Jaccard are 0 and its distances undefined (null in JSON). Where it
    is in neither, all four are undefined. What is undefined is left out of means over labels.

    In a series each frame is measured on its own. For all frames together, voxels are added up before Dice, Jaccard
    and the difference in %; volumes are means over all frames, distances over the frames that have the label in both.

    Differences are image minus reference. Volumes and distances are those of the reference's grid; distances are not
    measured on a sheared one. Names of labels are taken from the report beside the image, if there is one.
    """
    if as_labels and as_images:
        raise UsageError(Param("as_labels"), " and ", Param("as_images"), " exclude each other")
    from crnn_cli.workflows.evaluate.options import EvaluateOptions, Kind

    kind: Kind = "labels" if as_labels else "images" if as_images else "auto"
    options = EvaluateOptions(kind, ignore_geometry, fit_scale, require_psnr, require_ssim, require_dice)
    from crnn_cli.workflows.evaluate.evaluate import EvaluateFiles, evaluate_files

    files = EvaluateFiles(image, reference, uncertainty, axes, reference_axes, series, reference_series)
    evaluation = evaluate_files(files, options)
    if as_json:
        console.print_json(evaluation.report)
    else:
        from crnn_cli.report.evaluation_tables import evaluation_tables

        for table in evaluation_tables(evaluation.report, evaluation.title, per_frame):
            console.table(table.title, table.columns, table.rows, prose=table.prose, result=True)
    evaluation.require_passed()
