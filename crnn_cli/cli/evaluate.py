"""``crnn evaluate``: how near an image, or a label map, is to a reference."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crnn_cli import notices
from crnn_cli.cli import console
from crnn_cli.cli.evaluate_labels import are_label_maps, evaluate_labels, require_fitting
from crnn_cli.cli.evaluate_uncertainty import covered, read_map, show
from crnn_cli.cli.options import SeriesChoice
from crnn_cli.errors import CrnnError, QualityError, UnsupportedDataError, UsageError
from crnn_cli.notices import STREAM

if TYPE_CHECKING:
    from torch import Tensor

    from crnn_cli.data.image import Image
    from crnn_cli.io.images import LoadedImage
    from crnn_cli.mri.metrics import Quality

ImageFile = Annotated[Path, typer.Argument(help="The image or label map to judge: NIfTI, DICOM, or -.")]
Reference = Annotated[Path, typer.Option("--reference", "-r", help="What to compare it with: NIfTI, DICOM, or -.")]
ReferenceSeries = Annotated[str | None, typer.Option(help="Of a DICOM folder as the reference.")]
Axes = Annotated[str | None, typer.Option(help="What the stored axes of NIfTI files are, such as x,y,t.")]
ReferenceAxes = Annotated[str | None, typer.Option(help="The reference's axes, where they are not those of --axes.")]
IgnoreGeometry = Annotated[
    bool, typer.Option("--ignore-geometry", help="Compare as stored, wherever it lies in space.")
]
FitScale = Annotated[bool, typer.Option("--fit-scale", help="First multiply the image by the factor that fits best.")]
PerFrame = Annotated[bool, typer.Option("--per-frame", help="Show every frame; JSON always has them.")]
AsLabels = Annotated[bool, typer.Option("--labels", help="Both files are label maps, whatever they look like.")]
AsImages = Annotated[bool, typer.Option("--images", help="Both files are images, whatever they look like.")]
Uncertainty = Annotated[Path | None, typer.Option(help="Map by crnn reconstruct --uncertainty of the image: judge it.")]
RequirePsnr = Annotated[float | None, typer.Option(help="Exit with 6 if PSNR is below this, in dB.")]
RequireSsim = Annotated[float | None, typer.Option(help="Exit with 6 if SSIM is below this.")]
RequireDice = Annotated[
    float | None, typer.Option(help="Exit with 6 if a label of the reference has a Dice below this, 0 to 1.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to standard output, which is empty otherwise.")]


def evaluate(
    image: ImageFile,
    reference: Reference,
    series: SeriesChoice = None,
    reference_series: ReferenceSeries = None,
    axes: Axes = None,
    reference_axes: ReferenceAxes = None,
    ignore_geometry: IgnoreGeometry = False,
    fit_scale: FitScale = False,
    per_frame: PerFrame = False,
    labels: AsLabels = False,
    images: AsImages = False,
    uncertainty: Uncertainty = None,
    require_psnr: RequirePsnr = None,
    require_ssim: RequireSsim = None,
    require_dice: RequireDice = None,
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
    other file is a label map. --labels and --images overrule that for both files.

    Surfaces are the voxels of a label with a face neighbour outside it. HD95 is the larger of the 95th percentiles of
    the distances from either surface to the other (as in MONAI); the mean is over the distances of both surfaces.

    Where a label is in one map only, its Dice and Jaccard are 0 and its distances undefined (null in JSON). Where it
    is in neither, all four are undefined. What is undefined is left out of means over labels.

    In a series each frame is measured on its own. For all frames together, voxels are added up before Dice, Jaccard
    and the difference in %; volumes are means over all frames, distances over the frames that have the label in both.

    Differences are image minus reference. Volumes and distances are those of the reference's grid; distances are not
    measured on a sheared one. Names of labels are taken from the report beside the image, if there is one.
    """
    if [image, reference, uncertainty].count(STREAM) > 1:
        raise UsageError("image and reference cannot both be standard input, nor one and the uncertainty: name them")
    if labels and images:
        raise UsageError("--labels and --images exclude each other")
    if require_dice is not None and not 0 <= require_dice <= 1:
        raise UsageError(f"--require-dice {require_dice:g}: a Dice lies between 0 and 1")
    names = tuple("standard input" if path == STREAM else str(path) for path in (image, reference))
    files = _read_both((image, reference), (axes, reference_axes), (series, reference_series))
    labels = labels or (not images and are_label_maps(files, names))
    thresholds = {"--require-psnr": require_psnr is not None, "--require-ssim": require_ssim is not None}
    given = {"--fit-scale": fit_scale, "--uncertainty": uncertainty is not None, **thresholds}
    require_fitting(labels, given, {"--require-dice": require_dice is not None})
    pair = files[0].image, files[1].image
    turned = None if ignore_geometry else _turned(pair, names, labels)
    pair = (turned or pair[0], pair[1])
    _require_same_grid(pair, names, ignore_geometry)
    grid = {"geometry_ignored": ignore_geometry, "axes_turned": turned is not None}
    if labels:
        evaluate_labels(pair, names, image, grid, require_dice, per_frame, as_json)
    else:
        stated = None if uncertainty is None else (uncertainty, read_map(uncertainty, pair[0], axes))
        _evaluate_images(pair, names, grid, stated, fit_scale, require_psnr, require_ssim, per_frame, as_json)


def _read_both(
    places: tuple[Path, Path], axes: tuple[str | None, str | None], series: tuple[str | None, str | None]
) -> tuple[LoadedImage, LoadedImage]:
    """Return image and reference; the axes of the image are also those of the reference, unless it has its own."""
    from crnn_cli.io.images import is_dicom, load_image

    image = load_image(places[0], axes[0], series[0])
    inherited = None if is_dicom(places[1]) else axes[0]
    try:
        return image, load_image(places[1], axes[1] or inherited, series[1])
    except CrnnError as error:  # in the words of the options for the reference
        raise type(error)(re.sub(r"(?<![\w-])--(series|axes)\b", r"--reference-\1", str(error))) from None


def _turned(pair: tuple[Image, Image], names: tuple[str, ...], labels: bool) -> Image | None:
    """Return the first image on the axes of the second, None if they are so already or the two lie apart."""
    from crnn_cli.data.alignment import SAME_PLACE_MM, reorient_to
    from crnn_cli.labels.overlap import as_labels

    image, reference = pair
    shapes = [(*one.shape[:3], one.frames) for one in pair]
    if shapes[0] == shapes[1] and _millimetres_apart(*pair) <= SAME_PLACE_MM:
        return None
    turned = reorient_to(image, reference.affine, shapes[1])
    if turned is None:
        return None
    if labels:
        as_labels(image.array, names[0])  # while an index in a message is still that of the file
    else:
        image.require_finite(names[0])
    console.say(f"the axes of {names[0]} are turned to those of {names[1]}: both lie in the same place")
    return turned


def _evaluate_images(
    pair: tuple[Image, Image], names: tuple[str, ...], grid: dict[str, bool], stated: tuple[Path, Image] | None,
    fit_scale: bool, require_psnr: float | None, require_ssim: float | None, per_frame: bool, as_json: bool,
) -> None:  # fmt: skip
    """Compare two images on one grid and print what was found; QualityError where a threshold is missed.

    stated : the uncertainty of the first, and its file.
    """
    from crnn_cli.mri.metrics import quality

    tested, truth = (_frames(one, name) for one, name in zip(pair, names, strict=True))
    measured = quality(tested, truth, "least-squares" if fit_scale else "none")
    missed = _missed(measured, require_psnr, require_ssim)
    within = {} if stated is None else covered(tested, truth, _frames(stated[1], str(stated[0])), measured.scale)
    if as_json:
        files = {"image": names[0], "reference": names[1], **grid, "compared": "images"}
        required = {"psnr_db": _finite(require_psnr), "ssim": _finite(require_ssim), "met": not missed}
        said = {"uncertainty": {"file": str(stated[0]), **within}} if stated else {}
        console.print_json({**files, **measured.summary(), "required": required, **said, "frames": measured.frames()})
    else:
        _show(names, measured.summary(), measured.frames() if per_frame else [])
        if stated is not None:
            show(within, stated[0])
    if missed:
        raise QualityError(f"{names[0]} against {names[1]}: {' and '.join(missed)}")


def _require_same_grid(pair: tuple[Image, Image], names: tuple[str, ...], ignore_geometry: bool) -> None:
    from crnn_cli.data.alignment import SAME_PLACE_MM

    shapes = [(*one.shape[:3], one.frames) for one in pair]
    if shapes[0] != shapes[1]:
        first, second = (f"{name} is {' x '.join(map(str, s))}" for name, s in zip(names, shapes, strict=True))
        raise UnsupportedDataError(
            f"{first}, {second} (x, y, z, t): only images on one grid can be compared. Resample or crop one of them; "
            "if one is a time series stored in 3-D, say so with --axes or --reference-axes x,y,t"
        )
    apart = _millimetres_apart(*pair)
    if apart > SAME_PLACE_MM:
        first, second = (f"{name} has {_geometry(one)}" for name, one in zip(names, pair, strict=True))
        difference = f"{first}, {second}; corresponding corners lie up to {apart:.4g} mm apart"
        if not ignore_geometry:
            raise UnsupportedDataError(
                f"{difference}. Resample one of them onto the other's grid, or compare voxel by voxel as stored with "
                "--ignore-geometry"
            )
        notices.warn(f"{difference}; ignored as asked")
    times = [one.frame_time for one in pair]
    if None not in times and abs((times[0] or 0) - (times[1] or 0)) > 1e-6:
        notices.warn(f"the frame times differ, {times[0]:g} s and {times[1]:g} s; frames are compared one by one")


def _millimetres_apart(first: Image, second: Image) -> float:
    """Return the largest distance between corresponding corner voxels of two images of one shape."""
    import itertools

    import numpy as np

    corners = np.array([(*c, 1) for c in itertools.product(*((0, n - 1) for n in first.shape[:3]))])
    return float(np.linalg.norm(corners @ (first.affine - second.affine).T, axis=1).max())


def _geometry(image: Image) -> str:
    from crnn_cli.data.orientation import axis_codes

    origin = ", ".join(f"{v:.4g}" for v in image.affine[:3, 3])
    size = " x ".join(f"{v:.4g}" for v in image.spacing)
    return f"voxels of {size} mm running to {axis_codes(image.affine)} from ({origin})"


def _frames(image: Image, name: str) -> Tensor:
    """Return the magnitude as (Z, T, Y, X), saying what was done to get there."""
    import numpy as np
    import torch

    image.require_finite(name)
    array = image.array
    if image.is_complex:
        console.say(f"{name} is complex: its magnitude is compared")
        array = np.abs(array)
    else:
        array = array.astype(np.float32, copy=False)
    if bool(np.less(array, 0).any()):
        notices.warn(f"{name} has negative values; they are compared as they are, not as magnitudes")
    if array.ndim == 3:
        array = array[..., None]
        if array.shape[2] > 1:
            console.say(f"{name} is 3-D: each of its {array.shape[2]} slices along the third axis is one frame")
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 3, 1, 0)))


def _finite(threshold: float | None) -> float | None:
    """Return a threshold for JSON, which has no infinity and nothing that is not a number."""
    return threshold if threshold is not None and math.isfinite(threshold) else None


def _missed(measured: Quality, require_psnr: float | None, require_ssim: float | None) -> list[str]:
    psnr, ssim = measured.psnr.whole, measured.ssim.whole
    missed = []
    if require_psnr is not None and not psnr >= require_psnr:
        missed.append(f"PSNR is {psnr:.4g} dB, {require_psnr:g} dB or more was required")
    if require_ssim is not None and not ssim >= require_ssim:
        missed.append(f"SSIM is {ssim:.4g}, {require_ssim:g} or more was required")
    return missed


def _show(names: tuple[str, ...], summary: dict[str, Any], frames: list[dict[str, Any]]) -> None:
    psnr, ssim, nmse, hfen = _cells(summary)
    rows = [
        ["PSNR", psnr if summary["identical"] else f"{psnr} dB", f"data range {summary['data_range']:.6g}"],
        ["SSIM", ssim, "1 is identical"],
        ["NMSE", nmse, "0 is identical"],
        ["HFEN", hfen, "0 is identical"],
    ]
    if summary["scale"] is not None:
        rows.append(["scale", f"{summary['scale']:.6g}", "the image was multiplied by this first"])
    console.table(f"{names[0]} against {names[1]}", ["measure", "value", ""], rows)
    if frames:
        cells = [[str(f["slice"]), str(f["frame"]), *_cells(f)] for f in frames]
        console.table("per frame", ["slice", "frame", "PSNR (dB)", "SSIM", "NMSE", "HFEN"], cells)


def _cells(entry: dict[str, Any]) -> Iterable[str]:
    yield "identical" if entry["identical"] else f"{entry['psnr_db']:.2f}"
    for name, form in (("ssim", ".4f"), ("nmse", ".4g"), ("hfen", ".4g")):
        yield "undefined" if entry[name] is None else format(entry[name], form)
