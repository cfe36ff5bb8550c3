"""One scan reconstructed by several methods: residuals, quality, images side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import CrnnError, Param, UnsupportedDataError, UsageError
from crnn_cli.report.provenance import slice_label
from crnn_cli.report.sidecar import FORMAT
from crnn_cli.workflows.reconstruct.methods import NETWORK, MethodRequest, PreparedMethod, method_names, prepare_method
from crnn_cli.workflows.reconstruct.quality import doubt_field_of_view
from crnn_cli.workflows.reconstruct.scan import Scan, ScanRequest, load_scan, select_slice

if TYPE_CHECKING:
    import torch

    from crnn_cli.data.image import Image
    from crnn_cli.io.atomic_write import Output
    from crnn_cli.reconstruction.reconstruct import Reconstruction

_STEPS = 1000  # of the progress: it has no natural unit over methods


@dataclass(frozen=True)
class CompareOptions:
    """Methods to be compared, and how they are measured.

    Parameters
    ----------
    methods : names separated by commas, or "all".
    model : of the network; None for the default.
    reference : fully sampled images on the grid of the scan; None where the scan is simulated, or none are known.
    slice_number : one slice only, counted from 1.
    hold_out_share : share of the outer lines that a second run does not see, 0 to 0.5; 0 for no second run.
    seed : of the lines that are held out.
    """

    methods: str
    model: str | None = None
    device: str = "auto"
    reference: Path | None = None
    slice_number: int | None = None
    hold_out_share: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Comparison:
    """Results of all methods.

    Parameters
    ----------
    report : as JSON says it; a method that could not reconstruct the scan has ``failed``, the reason.
    images : of the methods that could, by name.
    truth : fully sampled images, where they are known.
    """

    report: dict[str, Any]
    images: dict[str, Image]
    truth: Image | None
    scan: Scan

    def require_images(self) -> None:
        """Raise UnsupportedDataError where no method could reconstruct the scan."""
        if not self.images:
            raise UnsupportedDataError("no method could reconstruct this scan; the reasons are above")


def parse_methods(text: str) -> list[str]:
    """Names of methods, each once, in the order given.

    Raises
    ------
    UsageError
        If a name is not known, or there is none.
    """
    known = method_names()
    names = known if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
    remedy = (f"use {', '.join(known)}, or all",)
    for name in names:
        if name not in known:
            raise UsageError(Param("methods"), f": {name} is not known", remedy=remedy)
    if not names:
        raise UsageError(Param("methods"), " names none", remedy=remedy)
    return list(dict.fromkeys(names))


def compare_methods(request: ScanRequest, options: CompareOptions, progress: notices.Progress) -> Comparison:
    """Reconstruct a scan by each method at its default weight, and measure the results.

    A method that cannot reconstruct the scan is reported as failed, and the others go on.

    Raises
    ------
    UsageError
        If a method is not known, or a simulation is given a reference.
    UnsupportedDataError
        If the reference does not lie where the images of the scan do.
    CrnnError
        If the scan or the model cannot be read.
    """
    from crnn_cli.compute.device import choose_device

    names = parse_methods(options.methods)
    if options.reference is not None and request.simulation is not None:
        raise UsageError(
            Param("undersample"), " simulates, and knows the truth: it needs no ", Param("reference")
        )  # fmt: skip
    device = choose_device(options.device)
    whole = load_scan(request)
    methods = [_prepare(name, options.model, device) for name in names]
    truth = whole.truth if options.reference is None else _read_reference(options.reference, whole.geometry)
    scan = whole
    if options.slice_number is not None:
        scan = select_slice(whole, options.slice_number)
        truth = None if truth is None else truth.select_slice(options.slice_number - 1)
    rows: list[dict[str, Any]] = []
    images: dict[str, Image] = {}
    facts: dict[str, Any] = {}
    for number, method in enumerate(methods):
        share = _share_of_progress(progress, number, len(methods), 2 if options.hold_out_share else 1)
        row, result = _run(scan, method, device, options, share)
        if result is not None:
            if not facts:
                doubt_field_of_view(result)
            facts, images[method.name] = scan.facts(result), scan.to_image(result.images_ZTYX)
            row |= _quality(images[method.name], truth, fit_scale=options.reference is not None)
        rows.append(row)
    if options.reference is not None and truth is not None and images and any("ssim" in row for row in rows):
        _doubt_reference(list(images.values())[-1], truth)
    report = {
        "format": FORMAT,
        "scan": str(request.scan),
        "input": scan.source,
        **facts,
        "methods": rows,
    } | notices.recorded()
    return Comparison(report, images, truth, scan)


def comparison_table(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table of a comparison.

    Columns that no method has a value for are left out; a method that failed has hyphens.
    """
    rows = report["methods"]
    with_quality, with_held_out = (any(key in row for row in rows) for key in ("ssim", "residual_held_out"))
    headings = ["method", "time", "residual"]
    headings += (["held out"] if with_held_out else []) + (["PSNR", "SSIM"] if with_quality else [])
    cells = []
    for row in rows:
        if "failed" in row:
            cells.append([row["method"], *["-"] * (len(headings) - 1)])
            continue
        line = [row["method"], f"{row['seconds']:.1f} s", f"{row['residual']:.1e}"]
        line += [f"{row['residual_held_out']:.3f}"] if with_held_out else []
        if with_quality:
            psnr = row.get("psnr_db")
            line += ["-" if psnr is None else f"{psnr:.2f} dB", f"{row['ssim']:.4f}" if "ssim" in row else "-"]
        cells.append(line)
    return headings, cells


def comparison_picture(comparison: Comparison, target: Path) -> Output:
    """Draw the middle slice by every method, and its difference from the truth or from the last method.

    The truth is scaled to the last method, as methods may differ from it by a factor.

    Parameters
    ----------
    target : a name that ends in .png (montage) or .gif (movie).
    """
    import numpy as np

    from crnn_cli.data.geometry import displayed_directions, displayed_slice
    from crnn_cli.data.image import magnitude_of
    from crnn_cli.report.comparison_montage import MethodFrames, comparison_output

    images, truth = comparison.images, comparison.truth
    last = list(images)[-1]
    grid = images[last]
    z = grid.shape[2] // 2
    frames = {name: np.abs(displayed_slice(image, z)) for name, image in images.items()}
    against, base = last, frames[last]
    if truth is not None:
        against, base = "truth", magnitude_of(displayed_slice(truth, z))
        base = base * float((base * frames[last]).sum() / max(float((base**2).sum()), 1e-30))
    methods = [MethodFrames(against, base)]
    methods += [
        MethodFrames(name, shown, against, np.abs(shown - base)) for name, shown in frames.items() if name != against
    ]
    label = slice_label(comparison.scan.source, z, grid.shape[2])
    caption = f"{label}, not for diagnostic use, {displayed_directions(grid)}"
    return comparison_output(methods, (grid.spacing[1], grid.spacing[0]), grid.frame_time, target, caption)


def _prepare(name: str, model: str | None, device: torch.device) -> PreparedMethod:
    return prepare_method(MethodRequest(name, model if name == NETWORK else None), device)


def _read_reference(path: Path, grid: Image) -> Image:
    """Read images, and bring them onto the grid of the scan's; as stored where one does not say where it lies."""
    from crnn_cli.data.alignment import SAME_PLACE_MM, is_unplaced, max_distance_mm, turned_to
    from crnn_cli.io.images import load_image

    image = load_image(path).image
    shapes = [(*each.shape[:3], each.frames) for each in (image, grid)]
    if sorted(shapes[0][:3]) != sorted(shapes[1][:3]) or shapes[0][3] != shapes[1][3]:
        raise UnsupportedDataError(f"{path} is {image.shape}, the images of the scan are {grid.shape}")
    unplaced = shapes[0] == shapes[1] and (grid.codes == (0, 0) or is_unplaced(image, grid))
    turned = image if unplaced else turned_to(image, grid)
    if turned is None:
        raise UnsupportedDataError(f"{path} does not lie where the images of the scan do")
    if unplaced and max_distance_mm(image.affine, grid.affine, grid.shape) > SAME_PLACE_MM:
        unknown = "the scan" if grid.codes == (0, 0) else path
        notices.warn("position-unknown", f"{unknown} does not say where it lies: compared voxel by voxel, as stored")
    return turned if turned.array.ndim == 4 else replace(turned, array=turned.array[..., None])


def _share_of_progress(progress: notices.Progress, number: int, methods: int, runs: int) -> notices.Progress:
    """Progress of the first run of one method as a part of the whole."""

    def share(done: int, total: int) -> None:
        progress(round(_STEPS * (number / methods + done / max(1, total) / (methods * runs))), _STEPS)

    return share


def _run(
    scan: Scan, method: PreparedMethod, device: torch.device, options: CompareOptions,
    progress: Callable[[int, int], None],
) -> tuple[dict[str, Any], Reconstruction[None] | None]:  # fmt: skip
    """Figures and reconstruction of a method; of one that cannot reconstruct the scan, the reason."""
    from crnn_cli.assessment.held_out import HoldOutReconstructor, residual_of
    from crnn_cli.reconstruction.reconstruct import reconstruct

    row: dict[str, Any] = {"method": method.name, "title": method.title}
    began = time.perf_counter()
    try:
        result = reconstruct(scan.slices, method.method, device, progress)
        row |= {"seconds": round(time.perf_counter() - began, 2), "residual": result.residual}
        if options.hold_out_share:
            without = HoldOutReconstructor(method.method, options.hold_out_share, options.seed)
            row["residual_held_out"] = residual_of(reconstruct(scan.slices, without, device).assessments)
    except CrnnError as reason:
        notices.warn("method-failed", f"{method.name}: {reason}")
        return row | {"failed": str(reason)}, None
    return row, result


def _doubt_reference(image: Image, truth: Image) -> None:
    """Doubt a reference that does not belong to the scan as it is."""
    import torch

    from crnn_cli.workflows.evaluate.images import magnitude_frames
    from crnn_cli.workflows.evaluate.mismatch import doubt_mismatch

    tested, reference = (torch.from_numpy(magnitude_frames(each)) for each in (image, truth))
    doubt_mismatch(tested, reference, scale_fitted=True)


def _quality(image: Image, truth: Image | None, fit_scale: bool) -> dict[str, Any]:
    from crnn_cli.workflows.evaluate.images import image_quality

    return {} if truth is None else image_quality(image, truth, fit_scale)
